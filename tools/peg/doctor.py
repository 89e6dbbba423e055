"""`peg doctor`: what this host can do."""

import os
import pathlib
import shutil
import subprocess

import display
import packages
import processes
import timebase
from console import PegError, say
from paths import BUILD, ROOT

NAME = "doctor"
SUMMARY = "say what this host can do, and what is missing"


def add_arguments(parser):
    parser.add_argument("--quick", action="store_true", help="no trial runs of the emulator")


def version_of(*command):
    """The first line that a program says of itself, or None."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    lines = (result.stdout or result.stderr).splitlines()
    return lines[0] if lines and not result.returncode else None


def report_packages():
    """Missing packages, group by group."""
    absent = []
    for group in packages.GROUPS:
        try:
            lacking = packages.missing([group])
        except PegError as error:
            say(f"packages      {error}")
            return False
        optional = group in ("window", "debug")
        say(f"packages      {group:9} " + ("all there" if not lacking else
                                           f"missing: {' '.join(lacking)}"
                                           + (" (optional)" if optional else "")))
        if not optional:
            absent += lacking
    if absent:
        how = packages.may_install()
        say("              " + ("peg installs them when it needs them"
                                if how is not None else f"as root: {packages.apt_line(absent)}"))
    return not absent or packages.may_install() is not None


def report_accelerators(quick):
    """What may run guests here, and how fast."""
    if not shutil.which(timebase.QEMU):
        say("emulator      not installed")
        return False
    say(f"emulator      {version_of(timebase.QEMU, '--version')}")
    if quick:
        return True
    try:
        rate = timebase.calibrate()
    except PegError as error:
        say(f"emulation     {error}")
        return False
    say(f"emulation     {rate / 1e6:.0f} M instructions/s; each takes 1 ns of the machine's time, "
        "which goes slower when the host cannot follow")
    works, reason = timebase.probe_kvm()
    say(f"KVM           {'works' if works else 'not usable'}: {reason}"
        + ("; used only when asked for (--accel kvm)" if works else ""))
    return True


def report_display():
    """How a machine can be looked at."""
    backend, why = None, "no emulator"
    if shutil.which(timebase.QEMU):
        backend, why = display.window_backend()
    say("display       " + (f"window ({backend})" if backend else f"VNC or headless: {why}"))


def report_kernel_services():
    """Loop devices and FUSE: for mounting what guests write."""
    loop = pathlib.Path("/dev/loop-control")
    say("loop devices  " + ("usable" if os.access(loop, os.R_OK | os.W_OK) else
                            "not usable (not needed: images are made without)"))
    fuse = pathlib.Path("/dev/fuse")
    tool = shutil.which("fusermount3")
    usable = os.access(fuse, os.R_OK | os.W_OK) and (tool or os.geteuid() == 0)
    why = "no fusermount3 or no right to it" if fuse.exists() else "no /dev/fuse"
    say("FUSE          " + ("usable" if usable else f"not usable: {why}"))


def run(options):
    good = report_packages()
    say(f"compiler      {version_of('clang++-19', '--version') or 'not installed'}")
    good &= report_accelerators(options.quick)
    report_display()
    report_kernel_services()
    free = shutil.disk_usage(ROOT).free / 1e9
    say(f"disk          {free:.1f} GB free" + ("" if free > 5 else " (a full build takes about 3)"))
    say(f"processors    {len(os.sched_getaffinity(0))}")
    stamp = BUILD / "sysroot" / "stamp"
    say("sysroot       " + ("built" if stamp.exists() else "not built yet (about two minutes)"))
    alive = processes.running()
    if alive:
        say(f"running       {len(alive)} emulators that peg started; ./peg stop ends them")
    return 0 if good and free > 1 else 1
