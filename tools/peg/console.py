"""What peg says: one line per step, errors without a traceback."""

import sys
import time


class PegError(Exception):
    """Something the user can understand and perhaps mend: printed as one line, exit code 1."""


class UsageError(PegError):
    """A command line that makes no sense: printed with the help, exit code 2."""


def say(text):
    """Print one line at once, also into a pipe."""
    print(text, flush=True)


def step(text):
    """Announce something that takes a while."""
    say(f"peg: {text}")


class Progress:
    """A line every few seconds for something with a known number of parts."""

    def __init__(self, name, total, every=5.0):
        self.name = name
        self.total = total
        self.every = every
        self.done = 0
        self.began = self.last = time.monotonic()

    def advance(self, count=1):
        """Count finished parts; print when it is time."""
        self.done += count
        now = time.monotonic()
        if now - self.last >= self.every:
            self.last = now
            say(f"{self.name}: {self.done}/{self.total} after {now - self.began:.0f} s")


def ask(question):
    """Whether the user says yes. Without a terminal the answer is no."""
    if not sys.stdin.isatty():
        return False
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
