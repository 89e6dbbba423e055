"""Building: sysroot, then one configuration of CMake."""

import functools
import subprocess
import sys
import time

import packages
from console import PegError, say, step
from paths import BUILD, ROOT

CONFIGURATIONS = ("host", "host-asan", "host-tsan", "x86_64")


def groups_for(configuration):
    """The package groups that a configuration needs."""
    if configuration == "x86_64":
        return ("build", "sources", "host")
    if configuration == "host":
        return ("build", "host")
    return ("build", "host", "sanitize")


def sysroot():
    """Build the target's C and C++ libraries, unless that has been done."""
    result = subprocess.run([sys.executable, ROOT / "tools" / "sysroot" / "build.py"], check=False)
    if result.returncode:
        raise PegError("the target's libraries could not be built (build/sysroot.log)")


def run_logged(command, log, title):
    """Run a command with its output in a log; show progress lines and, on failure, the end."""
    began = last = time.monotonic()
    lines = []
    with open(log, "a", encoding="utf-8", errors="replace") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
                                   errors="replace")
        for line in process.stdout:
            file.write(line)
            lines.append(line)
            now = time.monotonic()
            if now - last > 10:
                last = now
                say(f"  {title}: {line.strip()[:90]}")
        process.wait()
    if process.returncode:
        sys.stderr.write("".join(lines[-60:]))
        raise PegError(f"{title} failed (whole log: {log.relative_to(ROOT)})")
    return time.monotonic() - began


def build(configuration, targets=()):
    """Configure and build one configuration; return the seconds it took."""
    packages.need(*groups_for(configuration))
    if configuration == "x86_64":
        sysroot()
    BUILD.mkdir(exist_ok=True)
    log = BUILD / f"{configuration}.log"
    log.write_text("")
    seconds = 0
    if not (BUILD / configuration / "build.ninja").exists():
        step(f"configuring {configuration}")
        seconds += run_logged(["cmake", "--preset", configuration], log,
                              f"configuring {configuration}")
    step(f"building {configuration}" + (f" ({' '.join(targets)})" if targets else ""))
    command = ["cmake", "--build", "--preset", configuration]
    if targets:
        command += ["--target", *targets]
    seconds += run_logged(command, log, f"building {configuration}")
    return seconds


@functools.cache
def host_program(name):
    """The path of a program of the host configuration, built if need be; None if there is none.
    Once in each process: nobody changes a program that others run meanwhile."""
    if not (BUILD / "host" / "build.ninja").exists():
        build("host", ["help"])
    known = subprocess.run(["ninja", "-C", BUILD / "host", "-t", "query", f"bin/{name}"],
                           capture_output=True, check=False)
    if known.returncode:
        return None
    build("host", [name])
    return BUILD / "host" / "bin" / name
