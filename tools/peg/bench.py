"""`peg bench`: what things cost, in counted guest instructions.

NAMEs are metrics or groups, by the beginning of their names; `guarantees` are the groups that count
missed deadlines. A row over its limit fails the run, and so does one over what the kernel books for it, and
a group whose two runs differ.
`fs` alone is the file server's core on the host (tests/fs/speed.py): ratios and counted instructions.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import bench_booked
import bench_rows
import build
import guest
import packages
from console import PegError, UsageError, say, step
from paths import ROOT

NAME = "bench"
SUMMARY = "measure costs in guest instructions and compare them with their limits"


def add_arguments(parser):
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="NAME", help="metrics or groups (all)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE",
                        help="write one JSON object a line")
    parser.add_argument("--long", action="store_true",
                        help="as many samples as the limits are stated for, not CI's share")
    parser.add_argument("--breakdown", action="store_true",
                        help="instead: say in which functions the instructions are")
    parser.add_argument("--list", action="store_true", help="name the benchmarks, run none")


def show(row):
    """One line of the table."""
    def number(value):
        return "" if value is None else f"{value:,.0f}" if abs(value) >= 10 else f"{value:g}"
    limits = bench_rows.limits_of(row)
    verdict = "" if not limits else "OVER" if bench_rows.over_limit(row) else "ok"
    bound = " ".join(f"{limit:,}" + (" med" if on == "median" else "") for limit, on in limits)
    rival = bench_rows.longest(bench_rows.RIVALS, row["metric"]) or ""
    say(f"{row['metric']:28} {number(row['min']):>9} {number(row['median']):>9} "
        f"{number(row['max']):>9} {number(row['n']):>8} {number(row['cr3_writes']):>5} "
        f"{number(row['ring_crossings']):>5} {bound:>17} {verdict:5} {row['unit']:18} {rival}")


def chosen(names):
    """The benchmarks that the names on the command line mean, each with the rows asked for."""
    all_cases = guest.cases("bench", "bench")
    if not names:
        return [(case, None) for case in all_cases]
    cases = {}
    for name in names:
        found = False
        for case in all_cases:
            short = case.name.split("/")[1]
            if case.name.startswith(name) or short.startswith(name):
                cases[case.name] = (case, None)
                found = True
            elif any(metric.startswith(name) for metric in getattr(case.function, "metrics", ())):
                rows = cases.get(case.name, (case, []))[1]
                cases[case.name] = (case, None if rows is None else [*rows, name])
                found = True
        if not found:
            raise UsageError(f"no metric and no group is called {name}")
    return list(cases.values())


def combine(rows):
    """The rows as measured; then what follows from several: the parts of irq_off_max become one."""
    parts = [row for row in rows if row["metric"].startswith("irq_off_max/")]
    rest = [row for row in rows if row not in parts]
    rest += bench_rows.growth(rest)
    if parts:
        worst = max(parts, key=lambda row: row["max"])
        rest.append({**worst, "metric": "irq_off_max", "n": sum(row["n"] for row in parts)})
    return rest


def run_file_server(options):
    """The speed of the file server's core, which needs no machine."""
    programs = [build.host_program(name) for name in ("fs_speed", "fs_counted")]
    if None in programs:
        raise PegError("fs_speed and fs_counted are not in this checkout")
    extra = ["--json", options.json] if options.json else []
    return subprocess.run([sys.executable, ROOT / "tests" / "fs" / "speed.py", *programs, *extra],
                          check=False).returncode


def run(options):
    if options.names == ["fs"]:
        return run_file_server(options)
    cases = chosen(options.names)
    if options.list:
        for case, _ in cases:
            say(" ".join([case.name, *getattr(case.function, "metrics", ())]))
        return 0
    if not cases:
        raise PegError("there are no benchmarks (tests/bench/*_bench.py)")
    packages.need("run")
    build.build("x86_64")
    if not options.breakdown:
        say(f"{'metric':28} {'min':>9} {'median':>9} {'max':>9} {'n':>8} {'cr3':>5} {'rings':>5} "
            f"{'limit':>17} {'':5} {'unit':18} rivals")
    rows, failures = [], []
    for case, wanted in cases:
        context = guest.Context("bench", case.name)
        context.long = options.long
        context.breakdown = options.breakdown
        try:
            for row in case.function(context) or ():
                if wanted is not None and not row["metric"].startswith(tuple(wanted)):
                    continue
                rows.append(row)
                if not row["metric"].startswith("irq_off_max/"):
                    show(row)
        except AssertionError as error:
            failures.append(case.name)
            say(f"FAILED {case.name}: {error}")
    combined = combine(rows)
    for row in combined:
        if row not in rows:
            show(row)
    if options.json:
        options.json.write_text("".join(
            json.dumps({key: row[key] for key in bench_rows.KEYS}) + "\n" for row in combined))
    over = [row["metric"] for row in combined if bench_rows.over_limit(row)]
    unbooked = bench_booked.exceeded(combined, bench_booked.figures())
    for line in unbooked:
        say(f"NOT BOOKED {line} (kernel/costs.h)")
    step(f"{len(combined)} metrics, {len(over)} over their limit, {len(unbooked)} over what is booked, "
         f"{len(failures)} not measured" + (": " + " ".join(over + failures) if over or failures else ""))
    return 1 if over or unbooked or failures else 0
