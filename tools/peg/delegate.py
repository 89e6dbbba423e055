"""Verbs that a program of the host configuration carries out: it gets all arguments as they are."""

import subprocess

import build
from console import PegError


class Delegate:
    """A verb that runs `program` with the arguments given.

    `beside`: from an argument list, the names of programs that it runs itself.
    """

    passes_arguments = True

    def __init__(self, name, summary, program, beside=lambda arguments: []):
        self.NAME = name  # noqa: N815  (the names that verb modules have)
        self.SUMMARY = summary
        self.program = program
        self.beside = beside

    def run(self, arguments):
        """Build the program and run it."""
        path = build.host_program(self.program)
        if path is None:
            raise PegError(f"there is no program {self.program} in this checkout yet")
        for name in self.beside(arguments):
            build.host_program(name)
        code = subprocess.run([path, *arguments], check=False).returncode
        return 0 if arguments in (["-h"], ["--help"]) else code
