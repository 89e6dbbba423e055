"""peg: the one command of Pegasus/Nemesis. This file knows the verbs; each has a module."""

import argparse
import sys

import bench
import build_verb
import doctor
import flash
import gdb
import image
import processes
import run
import shell
import stop
import test
import trace
from console import PegError, UsageError
from delegate import Delegate


def simulators(arguments):
    """Row 11 of the file server's proof is a program of its own."""
    eleven = "--row=11" in arguments or ("--row", "11") in zip(arguments, arguments[1:])
    return ["fs_mutants"] if eleven and "simulate" in arguments else []


VERBS = [run, shell, test, bench, image, flash, gdb, trace,
         Delegate("fs", "look after the file server's disks from the host", "pegasus_fs",
                  simulators),
         build_verb, doctor, stop]


class Parser(argparse.ArgumentParser):
    """Errors become UsageError, so that they all look the same."""

    def error(self, message):
        raise UsageError(message)


def help_text():
    """What peg can do."""
    lines = ["usage: ./peg VERB [OPTIONS]", "", "verbs:"]
    lines += [f"  {verb.NAME:8} {verb.SUMMARY}" for verb in VERBS]
    return "\n".join([*lines, "", "./peg VERB --help explains a verb."])


def dispatch(arguments):
    """Run the verb that the arguments name; return peg's exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0 if arguments else 2
    verb = next((verb for verb in VERBS if verb.NAME == arguments[0]), None)
    if verb is None:
        print(f"peg: unknown verb {arguments[0]}", file=sys.stderr)
        print(help_text(), file=sys.stderr)
        return 2
    if getattr(verb, "passes_arguments", False):
        return verb.run(arguments[1:])
    parser = Parser(prog=f"./peg {verb.NAME}", description=verb.SUMMARY, allow_abbrev=False)
    verb.add_arguments(parser)
    try:
        return verb.run(parser.parse_args(arguments[1:]))
    except UsageError as error:
        print(f"peg {verb.NAME}: {error}", file=sys.stderr)
        parser.print_help(sys.stderr)
        return 2


def main():
    processes.leave_on_signals()
    try:
        return dispatch(sys.argv[1:])
    except PegError as error:
        print(f"peg: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\npeg: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
