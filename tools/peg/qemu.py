"""A virtual machine: what it is made of, and one run of it.

    machine = Machine(time=timebase.counted(), append="seconds=5")
    with Run(machine, folder) as run:
        outcome = run.until_end(seconds=60, on_stop=take_picture)

Files of a run, in its folder: serial.log (COM1), trace.bin (what the guest writes to port 0xe9),
emulator.log (QEMU's own messages).

How the guest ends: isa-debug-exit at port 0xf4; 0x10 written there means success.

How the guest stops itself: it has no timer armed (local APIC timer 0, PIT counted out, which the
firmware leaves running), writes a line "@screenshot NAME" (or "@stop NAME") to COM1 and then the
byte 1 to port 0x505 (pvpanic; the port reads with bit 0 set where the device exists). The machine
stands still right after that instruction until the host lets it go on, and then takes pictures and
presses keys, which the guest sees as the first thing afterwards. (The device is meant for reporting
panics; QEMU is told to pause on it.)
  Virtual time stands still with it: with the counted time base the guest cannot tell how long the
host took (30 runs alike, with the host busy and idle; about 470 instructions between the stamps
before and after). With a timer armed that is not so: the emulator then often jumps to that
timer's time, because a stopped processor looks idle to it. With idle time waited for, each stop
adds up to 0.2 ms of jitter. A guest that wants more takes the stamps' difference off its clock.
"""

import dataclasses
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

import processes
import timebase
from console import PegError
from paths import ARCHIVE, DISK_IMAGE, KERNEL
from qmp import Qmp, QmpClosed

FIRMWARE = "/usr/share/ovmf/OVMF.fd"
DISK_BUSES = ("nvme", "ahci", "virtio", "usb")
CHIPSETS = ("q35", "pc")
SUCCESS = 0x10
STOP_PREFIXES = ("@screenshot ", "@stop ")


@dataclasses.dataclass
class Machine:
    """What is in the box, and how it starts."""

    time: timebase.TimeBase
    boot: str = "direct"                # or "uefi": from `disk`, through the firmware
    kernel: pathlib.Path = KERNEL
    archive: pathlib.Path | None = ARCHIVE
    append: str = ""                    # options for the kernel, also at fw_cfg opt/nemesis/options
    disk: pathlib.Path = DISK_IMAGE
    disk_bus: str = "nvme"
    chipset: str = "q35"
    memory_mib: int = 512
    processors: int = 1
    la57: bool = False                  # 5-level paging offered
    serial: str = "file"                # "file", "stdio" (with a log in the file too), "none"
    screen: bool = True                 # QEMU's standard VGA
    display: tuple = ("-display", "none")
    gdb: bool = False                   # a stub at RUN/gdb.sock, and the machine waits for it
    extra: tuple = ()                   # further QEMU arguments


@dataclasses.dataclass
class Outcome:
    """How a run ended."""

    code: int | None        # what the guest wrote to isa-debug-exit, or None
    reason: str             # one sentence
    seconds: float          # of the host
    timed_out: bool = False

    @property
    def passed(self):
        return self.code == SUCCESS


def disk_arguments(machine):
    """The boot disk on the bus wanted. Writes go to a temporary file."""
    drive = ["-drive", f"file={machine.disk},format=raw,if=none,id=boot,snapshot=on"]
    ahci = [] if machine.chipset == "q35" else ["-device", "ahci,id=ahci"]
    ahci_bus = "ide.0" if machine.chipset == "q35" else "ahci.0"
    device = {
        "nvme": ["-device", "nvme,drive=boot,serial=nemesis,bootindex=0"],
        "ahci": [*ahci, "-device", f"ide-hd,drive=boot,bus={ahci_bus},bootindex=0"],
        "ide": ["-device", "ide-hd,drive=boot,bus=ide.0,bootindex=0"],  # the pc machine's own
        "virtio": ["-device", "virtio-blk-pci,drive=boot,bootindex=0"],
        "usb": ["-device", "qemu-xhci,id=xhci", "-device",
                "usb-storage,bus=xhci.0,drive=boot,bootindex=0"],
    }[machine.disk_bus]
    return drive + device


def command_line(machine, folder, sockets):
    """QEMU's arguments for a run with its files in `folder` and its sockets in `sockets`."""
    if machine.processors > 1 and "-icount" in machine.time.arguments:
        raise PegError("a counted clock works with one processor only")
    cpu = machine.time.cpu
    if machine.la57:
        cpu = cpu.replace(",-la57", "")
    command = [timebase.QEMU, "-S", "-nodefaults", "-no-user-config", "-machine", machine.chipset,
               *machine.time.arguments, "-cpu", cpu, "-smp", str(machine.processors),
               "-m", str(machine.memory_mib), "-no-reboot", "-seed", "1",
               # Not clock=vm: its alarm would be an armed timer of the virtual clock (see above).
               "-rtc", "base=2026-01-01T00:00:00,clock=rt",
               "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
               "-device", "pvpanic,ioport=0x505", "-action", "panic=pause",
               "-chardev", f"file,id=trace,path={folder}/trace.bin",
               "-device", "isa-debugcon,iobase=0xe9,chardev=trace",
               "-qmp", f"unix:{sockets}/qmp.sock,server=on,wait=off", *machine.display]
    if machine.screen:
        command += ["-vga", "std"]
    if machine.serial == "file":
        command += ["-chardev", f"file,id=serial,path={folder}/serial.log"]
    elif machine.serial == "stdio":
        command += ["-chardev",
                    f"stdio,id=serial,signal=off,mux=off,logfile={folder}/serial.log"]
    if machine.serial != "none":
        command += ["-serial", "chardev:serial"]
    if machine.append:
        text = machine.append.replace(",", ",,")
        command += ["-fw_cfg", f"name=opt/nemesis/options,string={text}"]
    if machine.boot == "uefi":
        command += ["-bios", FIRMWARE, *disk_arguments(machine)]
    else:
        command += ["-kernel", str(machine.kernel)]
        if machine.archive:
            command += ["-initrd", str(machine.archive)]
        if machine.append:
            command += ["-append", machine.append]
    if machine.gdb:
        command += ["-gdb", f"unix:{sockets}/gdb.sock,server=on,wait=off"]
    return command + list(machine.extra)


class Run:
    """One run of a machine, from start to end. Use as a context: leaving it ends the emulator."""

    def __init__(self, machine, folder):
        self.machine = machine
        self.folder = pathlib.Path(folder).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.serial_log = self.folder / "serial.log"
        self.trace_file = self.folder / "trace.bin"
        self.process = None
        self.qmp = None
        self.sockets = None
        self.serial_read = 0
        self.shutdown = None

    def __enter__(self):
        for path in (self.machine.kernel if self.machine.boot == "direct" else self.machine.disk,
                     self.machine.archive if self.machine.boot == "direct" else None):
            if path and not pathlib.Path(path).exists():
                raise PegError(f"{path} does not exist")
        for path in (self.serial_log, self.trace_file):
            path.unlink(missing_ok=True)
        # A socket's path may have 108 characters at most.
        self.sockets = pathlib.Path(tempfile.mkdtemp(prefix="peg-"))
        try:
            with open(self.folder / "emulator.log", "wb") as log:
                stdio = self.machine.serial == "stdio"
                self.process = processes.start(
                    command_line(self.machine, self.folder, self.sockets), str(self.folder),
                    scratch=self.sockets, stdin=None if stdio else subprocess.DEVNULL,
                    stdout=None if stdio else log, stderr=log)
            self.qmp = Qmp(self.sockets / "qmp.sock", time.monotonic() + 60,
                           lambda: self.process.poll() is None)
        except BaseException as failure:
            self.__exit__()
            if isinstance(failure, QmpClosed):
                raise PegError(f"the emulator did not start: {self.complaint()}") from None
            raise
        return self

    def __exit__(self, *_):
        if self.qmp:
            self.qmp.close()
        if self.process:
            processes.finish(self.process)
        shutil.rmtree(self.sockets, ignore_errors=True)

    def complaint(self):
        """QEMU's last own message."""
        lines = (self.folder / "emulator.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.process.returncode}"

    def new_serial_text(self):
        """What the guest has written to COM1 since the last call."""
        if not self.serial_log.exists():
            return ""
        with open(self.serial_log, "rb") as file:
            file.seek(self.serial_read)
            data = file.read()
        self.serial_read += len(data)
        return data.decode(errors="replace")

    def until_end(self, seconds, on_stop=None, on_text=None, until=None):
        """Let the machine run until it ends, or for `seconds` of the host; with `until`, a regular
        expression, until a second after COM1 has said something that matches it.

        on_stop(run, name) is called while the machine stands still because it stopped itself, with
        the rest of its last "@screenshot " or "@stop " line. on_text(text) gets what it writes to
        COM1, a few times a second and before every on_stop.
        """
        began = time.monotonic()
        deadline = began + seconds
        stop_name = ""
        said = ""

        def take_text():
            nonlocal stop_name, said, until, deadline
            text = self.new_serial_text()
            said += text
            if until and re.search(until, said):
                until = None
                deadline = time.monotonic() + 1
            if text and on_text:
                on_text(text)
            for line in text.splitlines():
                for prefix in STOP_PREFIXES:
                    if line.startswith(prefix):
                        stop_name = line[len(prefix):].strip()

        try:
            if not self.machine.gdb:
                self.qmp.command("cont")
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    self._end()
                    take_text()
                    return Outcome(None, f"did not end within {seconds:g} s",
                                   time.monotonic() - began, timed_out=True)
                event = self.qmp.next_event(min(left, 0.25))
                if event is None or event["event"] == "GUEST_PANICKED":
                    take_text()
                if event is None:
                    continue
                if event["event"] == "SHUTDOWN":
                    self.shutdown = event.get("data", {}).get("reason")
                elif event["event"] == "GUEST_PANICKED":
                    if on_stop:
                        on_stop(self, stop_name)
                    stop_name = ""
                    self.qmp.command("cont")
        except QmpClosed:
            pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self._end()
        take_text()
        return self._outcome(time.monotonic() - began)

    def _end(self):
        processes.finish(self.process)

    def _outcome(self, seconds):
        code = self.process.returncode
        if code > 0 and code % 2:
            value = code // 2
            text = f"the guest ended with {value:#x}"
            if value == SUCCESS:
                text = "the guest reported success"
            if code == 1 and self.shutdown is None:
                text = f"the emulator failed: {self.complaint()}"
                value = None
            return Outcome(value, text, seconds)
        if code == 0:
            why = {"guest-reset": "the guest reset the machine (a triple fault does that too)",
                   "guest-shutdown": "the guest switched the machine off",
                   "host-ui": "the window was closed",
                   "host-qmp-quit": "ended by request"}.get(self.shutdown, "the emulator ended")
            return Outcome(None, why, seconds)
        return Outcome(None, f"the emulator was ended by signal {-code}" if code < 0
                       else f"the emulator failed: {self.complaint()}", seconds)
