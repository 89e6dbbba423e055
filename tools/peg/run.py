"""`peg run`: builds, boots, and runs the demo.

With --headless the demo runs by its script, in counted virtual time: a picture each virtual second,
the trace, and report.json, whose verdict is the exit code. Without, keys are for the one who looks:
h switches the hogs, g the guarantees, q ends it.
"""

import json
import pathlib
import re
import subprocess

import archives
import build
import demo
import display
import frames
import image
import packages
import qemu
import report
import run_nodes
import timebase
from console import PegError, UsageError, say, step
from paths import ARCHIVE, BUILD, DISK_IMAGE, KERNEL, shown

NAME = "run"
SUMMARY = "build, boot and run the demo"
# Host seconds for each second of virtual time, at most, in a headless run.
HOST_SECONDS_PER_SECOND = 120
# Firmware waits by counting.
HOST_SECONDS_FIRMWARE = 600
# Where the director says that the trace lies.
TRACE_LINE = re.compile(r"^@trace (\d+)\s*$", re.M)


def add_arguments(parser):
    parser.add_argument("--headless", action="store_true",
                        help="no picture; virtual time is counted, a PNG each virtual second")
    parser.add_argument("--seconds", type=int, metavar="N",
                        help="end after N seconds of virtual time (headless: 20)")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR",
                        help="where pictures, logs, trace and report.json go (out)")
    parser.add_argument("--clip", type=pathlib.Path, metavar="FILE",
                        help="a video file to play, converted on the host (its first 20 s)")
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
    parser.add_argument("--nodes", type=int, default=1, metavar="N",
                        help="2: two machines that work for each other, joined by a private link")
    parser.add_argument("--no-build", action="store_true", help="take what is built already")


def build_machine(options, clock, screen, archive):
    """The machine that the options describe."""
    append = options.append.split()
    if options.seconds:
        append.append(f"seconds={options.seconds}")
    if options.headless:
        append.append("headless")
    machine = qemu.Machine(time=clock, append=" ".join(append), chipset=options.machine,
                           memory_mib=options.memory, display=screen,
                           serial="none" if options.no_serial else "file",
                           archive=archive)
    if options.uefi:
        machine.boot = "uefi"
        machine.disk_bus = options.disk
        machine.disk = image.ensure(DISK_IMAGE)
    return machine


class Watcher:
    """Takes pictures and the trace while the machine stands still."""

    def __init__(self):
        self.capture = demo.TraceCapture()
        self.pictures = []
        self.trouble = []
        self.text = ""
        self.piece = ""

    def on_text(self, text):
        """What the guest says goes to the terminal, but for its words to the host."""
        self.text += text
        found = TRACE_LINE.search(self.text)
        if found and self.capture.address is None:
            self.capture.address = int(found.group(1))
        # Whole lines: what begins with @ may come in pieces.
        *lines, self.piece = (self.piece + text).split("\n")
        print("".join(f"{line}\n" for line in lines if not line.startswith("@")), end="",
              flush=True)

    def on_stop(self, run, name):
        """While the machine stands still: write its picture under the name it gave."""
        try:
            self.capture.fetch(run)
        except PegError as error:
            self.trouble.append(str(error))
        words = name.split()
        if words[:1] == ["trace"]:
            return
        safe = "".join(c for c in (words or [""])[0] if c.isalnum() or c in "-_.") or "screenshot"
        path = run.folder / f"{safe}.png"
        run.qmp.screenshot(path)
        time_ns = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        self.pictures.append({"name": path.name, "time_ns": time_ns})


def phases_of(trace):
    """The host's analysis of a trace, each phase with its begin and end."""
    tool = build.host_program("trace_convert")
    result = subprocess.run([tool, "report", trace, "-"], capture_output=True, text=True,
                            check=False)
    if result.returncode:
        raise PegError(result.stderr.strip())
    return json.loads(result.stdout)["phases"]


def add_times(phases, trace):
    """Give each phase its begin and end: they lie end to end, from the first record on."""
    data = trace.read_bytes()
    begin = int.from_bytes(data[64:72], "little") if len(data) >= 72 else 0
    for phase in phases:
        phase["begin_ns"] = begin
        phase["end_ns"] = begin = begin + round(phase["seconds"] * 1e9)


def examine(run, watcher, outcome, players):
    """Judge a scripted run and write what was found; return the report."""
    trouble = list(watcher.trouble)
    if outcome.code not in (qemu.SUCCESS, report.BROKEN):
        trouble.append(outcome.reason)
    if watcher.capture.lost:
        trouble.append(f"{watcher.capture.lost} records of the trace were overwritten unseen")
    phases = []
    if watcher.capture.taken:
        watcher.capture.write(run.trace_file)
        phases = phases_of(run.trace_file)
        add_times(phases, run.trace_file)
    else:
        trouble.append("the machine gave no trace")
    for picture in watcher.pictures:
        name, settled = report.phase_at(phases, picture["time_ns"])
        picture |= {"phase": name, "settled": settled,
                    "players": frames.look(run.folder / picture["name"], players)}
        for player in players:
            seen = picture["players"][player.name]
            if seen["number"] is not None:
                seen["expected"] = frames.expected(player, picture["time_ns"])
                seen["behind"] = frames.distance(player, seen["number"], picture["time_ns"])
    made = report.compose(phases, watcher.pictures, watcher.text, outcome.code, trouble)
    report.write(run.folder / "report.json", made)
    return made


def choose_manifest(options):
    """The manifest, and whether it is one that a director runs by script."""
    manifest = archives.manifest_file(options.manifest)
    return manifest, bool(re.search(r"(?m)^\s*domain\s+director\b", manifest.read_text()))


def check(options):
    """Refuse what makes no sense."""
    if options.seconds is not None and options.seconds < 1:
        raise UsageError("--seconds must be at least 1")
    if options.headless and options.no_serial:
        raise UsageError("--headless needs the serial port: the pictures' names come through it")
    if options.memory < 128:
        raise UsageError("--memory must be at least 128 MiB")
    if options.clip and not options.clip.is_file():
        raise PegError(f"there is no file {options.clip}")
    if options.headless:
        options.seconds = options.seconds or 20


def choose_clock(options):
    """What drives the machine's clock.

    Under emulation an instruction takes 1 ns, on every host: contracts are made for work that fits
    them at that pace. A host that is slower slows the machine's time, and nothing is missed for it.
    """
    if options.headless:
        return timebase.counted()
    return timebase.choose(options.accel, say)


def run(options):
    check(options)
    if options.nodes != 1:
        return run_nodes.run(options)
    packages.need("run", *(["image"] if options.uefi else []), *(["clip"] if options.clip else []))
    manifest, scripted = choose_manifest(options)
    if not options.no_build:
        build.build("x86_64")
    if not KERNEL.exists():
        raise PegError(f"there is no kernel yet ({shown(KERNEL)})")
    out = options.out or (pathlib.Path("out") if options.headless else BUILD / "run")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PegError(f"no folder {shown(out)}: {error.strerror}") from error
    films = {}
    if options.clip:
        step(f"converting {options.clip.name}")
        films = demo.convert(options.clip, demo.players_of(manifest), out.resolve())
    # What firmware boots lies in a fixed place; other runs may be going on beside this one.
    archive = archives.make(ARCHIVE.stem, manifest, data=films.items(), built=True,
                            folder=ARCHIVE.parent if options.uefi else out.resolve())
    players = demo.players_of(manifest, films) if scripted and options.headless else []
    clock = choose_clock(options)
    screen = ("-display", "none") if options.headless else display.choose(options.display, say)
    say(f"time: {clock.text}")
    if clock.name == "waiting":
        say("time: a host that runs fewer than 1000 M instructions a second slows the machine's "
            "time; nothing is missed for that")
    if scripted and not options.headless:
        say("keys: h hogs, g guarantees, q quit")
    machine = build_machine(options, clock, screen, archive)
    limit = 1e9
    if options.headless:
        limit = options.seconds * HOST_SECONDS_PER_SECOND
        limit += HOST_SECONDS_FIRMWARE if options.uefi else 0
    watcher = Watcher()
    with qemu.Run(machine, out) as emulator:
        if "-vnc" in screen:
            display.announce_vnc(emulator, say)
        step("booting" if options.headless else "booting; Ctrl-C ends it")
        outcome = emulator.until_end(limit, on_stop=watcher.on_stop, on_text=watcher.on_text)
    say(f"peg: {outcome.reason}, after {outcome.seconds:.0f} s; files are in {shown(out)}")
    if options.headless and scripted:
        made = examine(emulator, watcher, outcome, players)
        for line in report.summary(made):
            say(line)
        return 0 if made["passed"] else 1
    if options.headless and watcher.capture.taken:
        watcher.capture.write(emulator.trace_file)
    if options.headless or options.seconds:
        return 0 if outcome.passed else 1
    return 0 if outcome.passed or outcome.code is None and not outcome.timed_out else 1
