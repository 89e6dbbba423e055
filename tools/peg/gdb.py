"""`peg gdb`: boots a machine that waits, and starts gdb with the symbols of every image."""

import json
import pathlib
import subprocess
import tempfile

import archives
import build
import packages
import qemu
import timebase
from console import PegError, step
from paths import BUILD, IMAGES_REGISTER, KERNEL, ROOT, shown

NAME = "gdb"
SUMMARY = "boot a machine under gdb, with symbols of kernel and domains"


def add_arguments(parser):
    parser.add_argument("--append", default="", metavar="TEXT", help="options for the kernel")
    parser.add_argument("--manifest", type=pathlib.Path, metavar="FILE",
                        help="what the machine runs (the demo)")
    parser.add_argument("--no-build", action="store_true", help="take what is built already")
    parser.add_argument("--commands", type=pathlib.Path, metavar="FILE",
                        help="run gdb's commands from FILE and end")


def image_files():
    """The images of this build, each linked at the address it runs at."""
    if not IMAGES_REGISTER.exists():
        return []
    register = json.loads(IMAGES_REGISTER.read_text())
    files = [pathlib.Path(entry["file"]) for _, entry in sorted(register.items())]
    return [file for file in files if file.exists()]


def script(socket):
    """What gdb is told first."""
    # The images name their sources as the tree does, from the folder they were built in.
    lines = ["set pagination off", "set confirm off",
             f"set substitute-path build/x86_64 {ROOT}", f"file {KERNEL}"]
    lines += [f"add-symbol-file {file}" for file in image_files()]
    return "\n".join([*lines, f"target remote {socket}"]) + "\n"


def run(options):
    if options.commands and not options.commands.is_file():
        raise PegError(f"there is no file {options.commands}")
    manifest = archives.manifest_file(options.manifest)
    packages.need("run", "debug")
    if not options.no_build:
        build.build("x86_64")
    if not KERNEL.exists():
        raise PegError(f"there is no kernel yet ({shown(KERNEL)})")
    archive = archives.make("gdb", manifest, built=True, folder=BUILD / "gdb")
    machine = qemu.Machine(time=timebase.waiting(), append=options.append, gdb=True, archive=archive)
    with qemu.Run(machine, BUILD / "gdb") as emulator, \
            tempfile.NamedTemporaryFile("w", suffix=".gdb") as commands:
        commands.write(script(emulator.sockets / "gdb.sock"))
        commands.flush()
        step(f"the machine waits at its first instruction; its serial log is "
             f"{shown(emulator.serial_log)}")
        command = ["gdb", "-q", "-nx", "-x", commands.name]
        if options.commands:
            command += ["-batch", "-x", str(options.commands)]
        return subprocess.run(command, check=False).returncode
