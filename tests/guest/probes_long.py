#!/usr/bin/env python3
"""The long form of the probes: a million random calls, thousands of domains, more seeds (an hour or less).

Usage: tests/guest/probes_long.py [calls] [seeds]
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tools" / "peg"), str(ROOT / "tests" / "guest")]

import build  # noqa: E402
import guest  # noqa: E402
import probes_test  # noqa: E402


def main():
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    build.build("x86_64")
    for seed in range(1, seeds + 1):
        context = guest.Context("guest", f"probes_long_{seed}")
        probes_test.run(context, "hostile.calls", f"calls={calls} seed={seed}", seconds=3000)
        probes_test.run(context, "hostile.every_byte", f"rounds=20 seed={seed}", seconds=1200)
        print(f"seed {seed}: {calls} calls with and without privileges, slots: all probes passed", flush=True)
    context = guest.Context("guest", "probes_long_scale")
    probes_test.watched(context, "+scale.", manifest="domains/probes/probes_large.manifest",
                        memory_mib=2048, seconds=3000)
    print("10,000 domains: all probes passed")


if __name__ == "__main__":
    main()
