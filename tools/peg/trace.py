"""`peg trace`: a trace as a picture.

Writes beside TRACE (or into DIR): trace.html, a timeline that needs nothing but a browser, and
trace.perfetto, which https://ui.perfetto.dev loads.
"""

import argparse
import pathlib
import subprocess

import build
from console import PegError, say
from paths import BUILD, shown

NAME = "trace"
SUMMARY = "turn a trace into Perfetto's form and an HTML timeline"
FORMS = {"html": "trace.html", "perfetto": "trace.perfetto"}


def add_arguments(parser):
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("trace", nargs="?", type=pathlib.Path, metavar="TRACE",
                        help="a trace.bin, or the folder of a run (that of the last run)")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="where the two files go")
    parser.add_argument("--names", type=pathlib.Path, metavar="FILE",
                        help="names of domains, `NUMBER NAME` a line, for a trace that has lost them")


def last_run():
    """The trace of the last run with the default folders."""
    found = [path for path in (pathlib.Path("out") / "trace.bin", BUILD / "run" / "trace.bin") if path.is_file()]
    if not found:
        raise PegError("there is no trace of a run here: name one, or make one with ./peg run --headless")
    return max(found, key=lambda path: path.stat().st_mtime)


def run(options):
    trace = options.trace or last_run()
    if trace.is_dir():
        trace = trace / "trace.bin"
    if not trace.is_file():
        raise PegError(f"there is no file {trace}")
    if options.names and not options.names.is_file():
        raise PegError(f"there is no file {options.names}")
    out = options.out or trace.parent
    out.mkdir(parents=True, exist_ok=True)
    tool = build.host_program("trace_convert")
    for form, name in FORMS.items():
        command = [tool, form, trace, out / name, *([options.names] if options.names else [])]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise PegError(f"{shown(trace)}: {result.stderr.strip()}")
        say(f"peg: {shown(out / name)}")
    return 0
