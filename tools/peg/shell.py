"""`peg shell`: boots a machine with the domain manager and a shell on its serial line.

With -c the commands are run by a machine without a screen, in counted time; what they print is
printed, and the code of the last one is the exit code. Without, the terminal is the serial line;
with --screen the same shell is in a region of the machine's screen too, and hears its keyboard.
`exit` ends the machine. `help` lists the commands.
"""

import argparse
import re
import sys

import archives
import build
import display
import packages
import qemu
import timebase
from console import PegError, say, step
from paths import BUILD, ROOT

NAME = "shell"
SUMMARY = "boot a shell: names, programs, contracts; -c runs commands"

MANIFEST = "domains/shell/shell.manifest"
# What is added to it for a machine with a screen.
SCREEN_MANIFEST = "domains/shell/screen.manifest"
# Programs that a machine of the shell can load.
PROGRAMS = ("burn", "clock", "crash", "echo", "first_use", "grasp", "lookup", "tenant", "tenant_cxx")
SCRIPT_MAX = 60_000


def add_arguments(parser):
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("-c", dest="commands", metavar="COMMANDS", help="run these, print, and end")
    parser.add_argument("--screen", action="store_true",
                        help="a screen and a keyboard too, in a window or by VNC")
    parser.add_argument("--display", choices=("auto", "window", "vnc", "none"), default="auto",
                        help="how to look at the screen")
    parser.add_argument("--seconds", type=float, default=300, metavar="N",
                        help="end after N seconds of the host (with -c: 300)")
    parser.add_argument("--no-build", action="store_true", help="take what is built already")


def make_archive(folder, script=None, name="shell", screen=False):
    """The boot archive of the shell's machine; with `script`, of one that runs it; with `screen`,
    of one with a screen and a keyboard."""
    folder.mkdir(parents=True, exist_ok=True)
    programs = folder / f"{name}.programs"
    archives.run([build.host_program("archive"), "pack", programs,
                  *(f"image:{program}={archives.find(program)}" for program in PROGRAMS)])
    text = (ROOT / MANIFEST).read_text()
    if screen:
        text += (ROOT / SCREEN_MANIFEST).read_text()
    data = [("programs_archive", programs)]
    if script is not None:
        text, count = re.subn(r"(privileges \{ control_machine binder \})", r"\1  data script", text)
        if count != 1:
            raise PegError(f"{MANIFEST} has no place for a script")
        commands = folder / f"{name}.script"
        # No data is no script; an empty line at the end would be the last command.
        commands.write_text(script if script.endswith("\n") else script + "\n")
        data.append(("script", commands))
    manifest = folder / f"{name}.manifest.txt"
    manifest.write_text(text)
    return archives.make(name, manifest, data=data, built=True, folder=folder)


def output_of(text):
    """(what the commands printed, their code) from all that a machine said; the code may be None."""
    text = text.replace("\r\n", "\n")
    _, begun, rest = text.partition("shell: begin\n")
    printed, ended, tail = rest.partition("shell: end ")
    if not begun:
        return text, None
    code = re.match(r"(\d+)\n", tail) if ended else None
    return printed, int(code.group(1)) if code else None


def run_script(script, seconds, folder):
    """Boot, run, print; the exit code."""
    machine = qemu.Machine(time=timebase.counted(), archive=make_archive(folder, script),
                           screen=False)
    with qemu.Run(machine, folder / "run") as run:
        outcome = run.until_end(seconds)
        text = run.serial_log.read_text(errors="replace")
    printed, code = output_of(text)
    sys.stdout.write(printed)
    sys.stdout.flush()
    if code is None:
        raise PegError(f"the shell did not come to its end: {outcome.reason}")
    return min(code, 255)


def run(options):
    packages.need("run")
    if not options.no_build:
        build.build("x86_64")
    folder = BUILD / "shell" / ("script" if options.commands is not None else "terminal")
    if options.commands is not None:
        if options.screen:
            raise PegError("-c is for a machine without a screen")
        if len(options.commands) > SCRIPT_MAX:
            raise PegError("the commands are longer than 60,000 characters")
        return run_script(options.commands, options.seconds, folder)
    shown = display.choose(options.display, say) if options.screen else ("-display", "none")
    machine = qemu.Machine(time=timebase.waiting(), serial="stdio", screen=options.screen,
                           display=shown, archive=make_archive(folder, screen=options.screen))
    step("the terminal is the serial line; exit ends the machine")
    with qemu.Run(machine, folder / "run") as run_:
        if "-vnc" in shown:
            display.announce_vnc(run_, say)
        run_.qmp.command("cont")
        return 0 if run_.process.wait() in (0, timebase.PASSED) else 1
