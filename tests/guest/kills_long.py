#!/usr/bin/env python3
"""The long form of the probes that kill: each side of each kind of call 1,000 times (four minutes of a processor).

Usage: tests/guest/kills_long.py [KILLS] [SEED]

Kinds: of two domains that their parent has put together (domains/calls), of two that the binder has
(domains/binder: by synchronous send, by asynchronous send, served in place, by workers, with granted
arguments), with handles (domains/handles). An instant is a count of instructions; the same seed kills
at the same ones. After each death: its peer is told by the failure named for that, the next binding
serves, and the machine's frames, the survivor's endpoints and the binder's places are what they were.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tools" / "peg"), str(ROOT / "tests" / "guest")]

import binder_test  # noqa: E402
import build  # noqa: E402
import calls_test  # noqa: E402
import guest  # noqa: E402
import handles_test  # noqa: E402


def run(name, test, argument):
    """Boots the probes `name` with another argument than their manifest's; says what was killed."""
    context = guest.Context("guest", f"kills_long_{name}")
    text = (ROOT / "domains" / name / f"{name}.manifest").read_text()
    manifest = context.folder / f"{name}.manifest"
    changed = re.sub(r'argument "[^"]*"', f'argument "{argument}"', text)
    assert changed != text, "the manifest has no argument"
    manifest.write_text(changed)
    booted = test.run(context, manifest, seconds=3000)
    for line in re.findall(r"(?:killed|frames free) .*", booted.text):
        print(line, flush=True)


def main():
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    build.build("x86_64")
    run("calls", calls_test, f"{kills} {seed}")
    run("binder", binder_test, f"{kills} 0 {seed}")
    run("handles", handles_test, f"{kills} {seed} 1")


if __name__ == "__main__":
    main()
