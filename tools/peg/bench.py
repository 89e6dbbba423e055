"""`peg bench`: what things cost, in counted guest instructions.

Benchmarks are functions bench_... in tests/bench/*_bench.py (tools/peg/guest.py says how they are
written). Each returns rows: dicts with metric, unit, min, median, max, n and, if it applies, limit,
limit_on ("max" or "median"), cr3_writes, ring_crossings. A row over its limit fails the run.
"""

import argparse
import json
import pathlib

import build
import guest
import packages
from console import PegError, UsageError, say, step

NAME = "bench"
SUMMARY = "measure costs in guest instructions and compare them with their limits"


def add_arguments(parser):
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help="benchmarks, by the beginning of their names (all)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE",
                        help="write one JSON object a line")
    parser.add_argument("--list", action="store_true", help="name the benchmarks, run none")


def over_limit(row):
    """Whether a row breaks its limit."""
    return row.get("limit") is not None and row[row.get("limit_on", "max")] > row["limit"]


def show(row):
    """One line of the table."""
    def number(key):
        value = row.get(key)
        return "" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:g}"
    limit = number("limit") + (" " + row.get("limit_on", "max") if row.get("limit") else "")
    say(f"{row['metric']:32} {number('min'):>10} {number('median'):>10} {number('max'):>10} "
        f"{number('n'):>9} {limit:>14}  {row['unit']}{'  OVER' if over_limit(row) else ''}")


def chosen(names):
    """The benchmarks that the names on the command line mean."""
    all_cases = guest.cases("bench", "bench")
    if not names:
        return all_cases
    cases = []
    for name in names:
        found = [case for case in all_cases
                 if case.name.startswith(name) or case.name.split("/")[1].startswith(name)]
        if not found:
            raise UsageError(f"no benchmark is called {name}")
        cases += [case for case in found if case not in cases]
    return cases


def run(options):
    cases = chosen(options.names)
    if options.list:
        for case in cases:
            say(case.name)
        return 0
    if not cases:
        raise PegError("there are no benchmarks yet (tests/bench/*_bench.py)")
    packages.need("run")
    build.build("x86_64")
    rows = []
    say(f"{'metric':32} {'min':>10} {'median':>10} {'max':>10} {'n':>9} {'limit':>14}  unit")
    failures = []
    for case in cases:
        try:
            for row in case.function(guest.Context("bench", case.name)) or ():
                rows.append(row)
                show(row)
        except AssertionError as error:
            failures.append(case.name)
            say(f"FAILED {case.name}: {error}")
    if options.json:
        options.json.write_text("".join(json.dumps(row) + "\n" for row in rows))
    over = [row["metric"] for row in rows if over_limit(row)]
    step(f"{len(rows)} metrics, {len(over)} over their limit, {len(failures)} not measured"
         + (": " + " ".join(over + failures) if over or failures else ""))
    return 1 if over or failures else 0
