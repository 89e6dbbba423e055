"""Emulators that peg starts, and how none of them is ever left behind.

Three nets: the emulator asks the system to be killed when peg ends (PR_SET_PDEATHSIG: when the
thread that started it ends, so start it from a thread that stays); peg kills its process group on
the way out, also on Ctrl-C and SIGTERM; and a file in build/running names it, for `peg stop`.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

from paths import RUNNING

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def start_time(pid):
    """When a process began, in clock ticks since boot, or None: tells a process from a later one
    with the same number."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rsplit(")", 1)[1].split()
    return None if fields[0] == "Z" else int(fields[19])


def die_with_parent(parent):
    """In a new process: end when `parent` ends."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def start(command, what, scratch=None, **options):
    """Start a process in a group of its own and write it down. `scratch` is a temporary folder of
    its, to be removed if peg itself is killed."""
    parent = os.getpid()
    process = subprocess.Popen(command, start_new_session=True,
                               preexec_fn=lambda: die_with_parent(parent), **options)
    RUNNING.mkdir(parents=True, exist_ok=True)
    record = {"pid": process.pid, "started": start_time(process.pid), "what": what,
              "peg": parent, "scratch": str(scratch) if scratch else None}
    (RUNNING / f"{process.pid}.json").write_text(json.dumps(record))
    return process


def forget(pid):
    """Strike a process off the list."""
    with contextlib.suppress(FileNotFoundError):
        (RUNNING / f"{pid}.json").unlink()


def finish(process, grace=2.0):
    """End a process that `start` began, gently and then not."""
    if process.poll() is None:
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    if process.poll() is None:
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()
    forget(process.pid)


def _signal_group(pid, number):
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def running():
    """Records of the processes on the list that are alive; the others are struck off."""
    alive = []
    for path in sorted(RUNNING.glob("*.json")):
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if record["started"] is not None and start_time(record["pid"]) == record["started"]:
            alive.append(record)
        else:
            if record.get("scratch"):
                shutil.rmtree(record["scratch"], ignore_errors=True)
            forget(path.stem)
    return alive


def stop_all():
    """End every process on the list; return their records."""
    stopped = running()
    for record in stopped:
        _signal_group(record["pid"], signal.SIGTERM)
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline and running():
        time.sleep(0.05)
    for record in running():
        _signal_group(record["pid"], signal.SIGKILL)
    for record in stopped:
        forget(record["pid"])
    return stopped


def leave_on_signals():
    """Make SIGTERM and SIGHUP end peg as Ctrl-C does, through all `finally` blocks; and Ctrl-C also
    where a shell has told its background jobs to ignore it."""
    def interrupt(_number, _frame):
        raise KeyboardInterrupt
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
