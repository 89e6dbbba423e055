#!/usr/bin/env python3
"""The long form of the binder's probes: 10,000 bindings at a time.

Usage: tests/guest/binder_long.py
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tools" / "peg"), str(ROOT / "tests" / "guest")]

import binder_test  # noqa: E402
import build  # noqa: E402
import guest  # noqa: E402


def main():
    build.build("x86_64")
    context = guest.Context("guest", "binder_long")
    booted = binder_test.run(context, "domains/binder/binder_large.manifest", memory_mib=1024,
                             seconds=1200)
    print(re.search(r"@bindings .*", booted.text).group())


if __name__ == "__main__":
    main()
