#!/usr/bin/env python3
"""The long form of the probes of names: 400 kills of each kind, 100,000 names.

Usage: tests/guest/names_long.py
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tools" / "peg"), str(ROOT / "tests" / "guest")]

import names_test  # noqa: E402
import build  # noqa: E402
import guest  # noqa: E402


def main():
    build.build("x86_64")
    context = guest.Context("guest", "names_long")
    booted = names_test.run(context, "domains/names/names_large.manifest", memory_mib=1024,
                             seconds=1200)
    print(re.search(r"names 100000.*", booted.text).group())


if __name__ == "__main__":
    main()
