"""`peg run`: builds, boots, and runs the demo."""

import pathlib

import build
import display
import image
import packages
import qemu
import timebase
from console import PegError, UsageError, say, step
from paths import ARCHIVE, BUILD, DISK_IMAGE, KERNEL, shown

NAME = "run"
SUMMARY = "build, boot and run the demo"
# Host seconds for each second of virtual time, at most, in a headless run.
HOST_SECONDS_PER_SECOND = 120


def add_arguments(parser):
    parser.add_argument("--headless", action="store_true",
                        help="no picture; virtual time is counted, a PNG each virtual second")
    parser.add_argument("--seconds", type=int, metavar="N",
                        help="end after N seconds of virtual time (headless: 20)")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR",
                        help="where pictures, logs, trace and report.json go (out)")
    parser.add_argument("--display", choices=("auto", "window", "vnc", "none"), default="auto")
    parser.add_argument("--uefi", action="store_true",
                        help="boot the disk image through UEFI firmware")
    parser.add_argument("--disk", choices=qemu.DISK_BUSES, default="nvme",
                        help="what the disk image hangs on, with --uefi (nvme)")
    parser.add_argument("--machine", choices=qemu.CHIPSETS, default="q35")
    parser.add_argument("--accel", choices=("tcg", "kvm"), default="tcg",
                        help="kvm is tried out first, and emulation taken if it fails")
    parser.add_argument("--memory", type=int, default=1024, metavar="MIB")
    parser.add_argument("--no-serial", action="store_true", help="a machine without a serial port")
    parser.add_argument("--append", default="", metavar="TEXT", help="options for the kernel")
    parser.add_argument("--manifest", type=pathlib.Path, metavar="FILE",
                        help="what the machine runs (the demo)")
    parser.add_argument("--no-build", action="store_true", help="take what is built already")


def build_machine(options, clock, screen):
    """The machine that the options describe."""
    append = options.append.split()
    if options.seconds:
        append.append(f"seconds={options.seconds}")
    if options.headless:
        append.append("headless")
    machine = qemu.Machine(time=clock, append=" ".join(append), chipset=options.machine,
                           memory_mib=options.memory, display=screen,
                           serial="none" if options.no_serial else "file",
                           archive=ARCHIVE)
    if options.uefi:
        machine.boot = "uefi"
        machine.disk_bus = options.disk
        machine.disk = image.ensure(DISK_IMAGE)
    return machine


def take_picture(run, name):
    """While the machine stands still: write its picture under the name it gave."""
    safe = "".join(c for c in name if c.isalnum() or c in "-_.") or "screenshot"
    run.qmp.screenshot(run.folder / f"{safe}.png")


def run(options):
    packages.need("run", *(["image"] if options.uefi else []))
    if options.seconds is not None and options.seconds < 1:
        raise UsageError("--seconds must be at least 1")
    if options.headless:
        options.seconds = options.seconds or 20
    if not options.no_build:
        build.build("x86_64")
    if not KERNEL.exists():
        raise PegError(f"there is no kernel yet ({shown(KERNEL)})")
    image.make_archive(options.manifest)
    if options.headless:
        clock = timebase.counted(timebase.FIRMWARE_SHIFT if options.uefi else 0)
        screen = ("-display", "none")
    else:
        clock = timebase.choose(options.accel, say)
        screen = display.choose(options.display, say)
    say(f"time: {clock.text}")
    out = options.out or (pathlib.Path("out") if options.headless else BUILD / "run")
    machine = build_machine(options, clock, screen)
    limit = options.seconds * HOST_SECONDS_PER_SECOND if options.headless else 1e9
    with qemu.Run(machine, out) as emulator:
        if "-vnc" in screen:
            display.announce_vnc(emulator, say)
        step("booting; Ctrl-C ends it" if not options.headless else "booting")
        outcome = emulator.until_end(limit, on_stop=take_picture,
                                     on_text=lambda text: print(text, end="", flush=True))
    say(f"peg: {outcome.reason}, after {outcome.seconds:.0f} s; files are in {shown(out)}")
    if options.headless or options.seconds:
        return 0 if outcome.passed else 1
    return 0 if outcome.passed or outcome.code is None and not outcome.timed_out else 1
