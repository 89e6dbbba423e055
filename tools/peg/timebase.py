"""What drives the machine's clock, and with what accelerator it runs.

counted      one processor, the clock is the count of its instructions (1 ns each), idle time is
             skipped: every run is the same. For measurements and tests.
waiting      as counted, and idle time is waited for: near real time. A host too slow for it slows
             the machine's time, and no deadline is missed for that (docs/decisions/0018).
parallel     several processors, the host's clock. For tests of correctness only.
kvm          only if asked for, and if a tiny guest proves that it works here.
"""

import dataclasses
import os
import pathlib
import struct
import subprocess
import tempfile
import time

import processes
from console import PegError

QEMU = "qemu-system-x86_64"
CPU = "max,-erms,-fsrm,-la57"
CPU_LA57 = "max,-erms,-fsrm"
PASSED = 33  # what QEMU returns after the guest wrote 0x10 to isa-debug-exit


@dataclasses.dataclass(frozen=True)
class TimeBase:
    """QEMU's arguments, and a line for people."""

    name: str
    arguments: tuple
    text: str
    cpu: str = CPU


def counted(shift=0):
    """The clock counts instructions and skips idle time. Same run, same times."""
    return TimeBase("counted", ("-accel", "tcg", "-icount", f"shift={shift},sleep=off"),
                    f"emulated; 1 instruction = {1 << shift} ns of virtual time, idle time skipped")


# Firmware waits for times, not for events: at 1 ns for each instruction it takes minutes.
FIRMWARE_SHIFT = 3


def waiting(shift=0):
    """As counted, but idle time is waited for: where the guest waits for the host or a peer."""
    return TimeBase("waiting", ("-accel", "tcg", "-icount", f"shift={shift},sleep=on"),
                    f"emulated; 1 instruction = {1 << shift} ns of virtual time, idle time "
                    "waited for")


def parallel():
    """Emulation with a host thread for each processor."""
    return TimeBase("parallel", ("-accel", "tcg,thread=multi"), "emulated, on the host's clock")


def kvm():
    """The host's processor."""
    return TimeBase("kvm", ("-accel", "kvm"), "KVM, on the host's clock", "host,-arch-capabilities")


def probe_guest(iterations):
    """An ELF file, entered in 32-bit mode, that uses the floating-point unit once, runs a loop of
    5 instructions `iterations` times, and writes 0x10 to isa-debug-exit."""
    base, headers = 0x100000, 64 + 2 * 56
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", base + headers + 20)
    counter = base + 0x1000
    body = b"\xa1" + struct.pack("<I", counter) + b"\x40\xa3" + struct.pack("<I", counter) + b"\x49"
    code = (b"\xdb\xe3" + b"\xb9" + struct.pack("<I", iterations)
            + body + b"\x75" + struct.pack("b", -(len(body) + 2))
            + b"\x66\xba\xf4\x00" + b"\xb8\x10\x00\x00\x00" + b"\xef\xf4\xeb\xfd")
    size = headers + len(note) + len(code)
    entry = base + headers + len(note)
    elf = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, entry, 64, 0, 0, 64,
                      56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 7, 0, base, base, size, 0x2000, 4096)
    notes = struct.pack("<IIQQQQQQ", 4, 4, headers, base + headers, base + headers, len(note),
                        len(note), 4)
    return elf + load + notes + note + code


def run_probe(accelerator, iterations, seconds):
    """Run the probe guest; return (passed, seconds taken, what went wrong)."""
    with tempfile.TemporaryDirectory(prefix="peg-") as folder:
        kernel = pathlib.Path(folder) / "probe.elf"
        kernel.write_bytes(probe_guest(iterations))
        command = [QEMU, *accelerator, "-machine", "q35", "-m", "64", "-nodefaults", "-display",
                   "none", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
                   "-kernel", str(kernel)]
        began = time.monotonic()
        process = processes.start(command, "probe", stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            _, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False, seconds, f"a tiny guest did not end within {seconds} s"
        finally:
            processes.finish(process)
        taken = time.monotonic() - began
        if process.returncode == PASSED:
            return True, taken, ""
        lines = errors.decode(errors="replace").strip().splitlines()
        return False, taken, lines[-1] if lines else f"a tiny guest ended with {process.returncode}"


def calibrate():
    """Instructions per second that emulation with counting reaches on this host: the median of
    three runs, each less what starting takes."""
    accelerator = ["-accel", "tcg", "-icount", "shift=0,sleep=off", "-cpu", "max"]
    few, many = 1_000, 60_000_000
    rates = []
    for _ in range(3):
        passed, start, reason = run_probe(accelerator, few, 30)
        if passed:
            passed, whole, reason = run_probe(accelerator, many, 60)
        if not passed:
            raise PegError(f"emulation does not work here: {reason}")
        # A host that is busy may have been slower to start than to run.
        rates.append(5 * (many - few) / max(whole - start, whole / 10))
    return sorted(rates)[1]


def probe_kvm(seconds=5):
    """Whether KVM runs a guest at a useful speed; (works, reason)."""
    if not os.path.exists("/dev/kvm"):
        return False, "there is no /dev/kvm"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False, "/dev/kvm may not be opened by this user"
    if os.path.isdir("/sys/module/kvm_pvm"):
        return False, "this KVM (kvm_pvm) interprets kernels"
    passed, taken, reason = run_probe(["-accel", "kvm", "-cpu", kvm().cpu], 100_000_000, seconds)
    if passed:
        return True, f"a tiny guest ended after {taken:.1f} s"
    return False, reason


def choose(wanted, say):
    """The time base for an interactive run: `wanted` is "tcg" or "kvm"."""
    if wanted == "kvm":
        works, reason = probe_kvm()
        if works:
            return kvm()
        say(f"KVM is not used: {reason}; emulating instead")
    return waiting()
