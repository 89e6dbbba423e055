#!/usr/bin/env python3
"""How fast the store's core is: ratios to loops over the same bytes, and counted instructions.

usage: speed.py FS_SPEED FS_COUNTED [--check] [--json FILE]

Ratios compare the least processor time of several interleaved repetitions within one run, so that
other load on the machine shows little. `core` leaves out the copying that the disks in memory do
themselves (a device's DMA), `all` has it in; each is the least of its own, for a repetition in which
others made the disks slow says nothing of the core. `own pass` is a loop like the one-pass loops, with
what the core copies and sums with. Instructions are those of creating a file, writing
4 KiB and deleting it, counted by callgrind.

--check is the short form for CI: no curves, and a figure fails below its floor, which leaves room
for a loaded machine; without it a figure fails below the limit that the issue states.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

# figure: (limit, floor for CI, whether more is better)
LIMITS = {
    "one-pass write : memcpy": (0.60, 0.30, True),
    "append : one-pass write, core": (0.70, 0.35, True),
    "read : one-pass read, core": (0.70, 0.45, True),
    "degraded read : healthy read, all": (0.50, 0.35, True),
    "create + write 4 KiB + delete": (30_000, 30_000, False),
}


def times(program, repetitions):
    """The least milliseconds of each benchmark, all and without the disks, and its counters."""
    command = [program, "--benchmark_format=json", f"--benchmark_repetitions={repetitions}",
               "--benchmark_enable_random_interleaving=true", "--benchmark_min_time=0.05"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    best = {}
    for run in json.loads(output)["benchmarks"]:
        if run["run_type"] != "iteration":
            continue
        if run.get("error_occurred"):
            sys.exit(f"{run['name']}: {run['error_message']}")
        name = run["name"].split("/")[0]
        run["core_time"] = run["real_time"] - run.get("device_ms", 0)
        kept = best.setdefault(name, run)
        for time in ("real_time", "core_time"):
            kept[time] = min(kept[time], run[time])
    return best


def counted(program, segments, names, files, operations):
    """Instructions of one round of operations, and blocks read and written in all."""
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            ["valgrind", "--tool=callgrind", "--instr-atstart=no",
             f"--callgrind-out-file={folder}/out", program, str(segments), str(names), str(files),
             str(operations)], check=True, capture_output=True, text=True)
    total = int(re.search(r"Collected : (\d+)", result.stderr).group(1))
    read, written = map(int, re.search(r"(\d+) blocks read, (\d+) written", result.stdout).groups())
    return total / operations, read, written


def ratios(best):
    """What the issue limits, and what stands beside it."""
    def time(name, core=False):
        return best[name]["core_time" if core else "real_time"]
    return {
        "one-pass write : memcpy": time("copy") / time("one_pass_write"),
        "append : one-pass write, core": time("one_pass_write") / time("append", True),
        "append : one-pass write, all": time("one_pass_write") / time("append"),
        "read : one-pass read, core": time("one_pass_read") / time("read_healthy", True),
        "read : one-pass read, all": time("one_pass_read") / time("read_healthy"),
        "append : own pass, core": time("own_pass_write") / time("append", True),
        "read : own pass, core": time("own_pass_read") / time("read_healthy", True),
        "degraded read : healthy read, all": time("read_healthy") / time("read_degraded"),
        "bytes to disks per byte appended": best["append"]["disk_bytes"],
    }


def curves(program):
    """Cost against the number of names in the directory, of files, and the size of the store."""
    for title, points in (
            ("names in the directory", [(2000, n, 0) for n in (100, 10_000, 100_000, 1_000_000)]),
            ("files in the store", [(2000, 1000, n) for n in (1000, 10_000, 100_000, 1_000_000)]),
            ("store of GB", [(n * 1000, 1000, 0) for n in (1, 2, 5, 10)])):
        print(f"create + write 4 KiB + delete, instructions by {title}:")
        for segments, names, files in points:
            what = {"n": names, "f": files, "s": segments // 1000}[title[0]]
            cost, read, written = counted(program, segments, names, files, 1000)
            print(f"  {what:>9,}: {cost:>8,.0f}   blocks read {read / 1000:.3f}, "
                  f"written {written / 1000:.3f} each", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("speed", type=pathlib.Path)
    parser.add_argument("counted", type=pathlib.Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    best = times(options.speed, 5 if options.check else 30)
    figures = ratios(best)
    figures["create + write 4 KiB + delete"] = counted(options.counted, 1000, 1000, 0, 2000)[0]
    for name in ("copy", "one_pass_write", "own_pass_write", "append", "one_pass_read",
                 "own_pass_read", "read_healthy", "read_degraded"):
        run = best[name]
        core = f", {run['core_time']:.2f} without the disks" if "device_ms" in run else ""
        print(f"{name:16} {run['real_time']:6.2f} ms for 64 MiB{core}")
    failed = []
    for name, value in figures.items():
        limit, floor, more = LIMITS.get(name, (None, None, True))
        bound = floor if options.check else limit
        bad = bound is not None and (value < bound if more else value > bound)
        if bad:
            failed.append(name)
        text = f"{value:,.0f}" if value > 1000 else f"{value:.2f}"
        beside = "" if limit is None else f"limit {limit:,}" + (", MISSED" if bad else "")
        print(f"{name:36} {text:>8}  {beside}")
    if options.json:
        options.json.write_text(json.dumps(figures) + "\n")
    if not options.check:
        curves(options.counted)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
