"""The longest entries to the kernel, seen from outside by a plug-in of the emulator."""

import collections
import subprocess

import bench_booked
import bench_breakdown
import bench_rows
from console import say
from paths import BUILD, ROOT

SOURCE = ROOT / "tools" / "peg" / "bench_entries.c"
PLUGIN = BUILD / "bench_entries.so"

# The longest entry that admission books, of which the plug-in lists those above. units: instructions
LONGEST = bench_booked.figures()["kEntryCost"]


def plugin():
    """The plug-in, compiled if its source is newer."""
    if not PLUGIN.exists() or PLUGIN.stat().st_mtime < SOURCE.stat().st_mtime:
        subprocess.run(["clang-19", "-O2", "-shared", "-fPIC", SOURCE, "-o", PLUGIN], check=True)
    return PLUGIN


class Watch:
    """One run that is watched."""

    def __init__(self, context):
        self.file = context.folder / "entries.txt"
        self.file.unlink(missing_ok=True)
        self.arguments = ("-plugin", f"{plugin()},out={self.file},over={LONGEST}")

    def read(self):
        """The counts of the run, and {length: (times, addresses)} of its longest entries."""
        lines = self.file.read_text().split("\n")
        numbers = {name: int(value) for name, value in (line.split() for line in lines[:3])}
        entries = {}
        for line in filter(None, lines[3:]):
            if line.startswith("entry "):
                length, times = map(int, line.split()[1:])
                if length not in entries or times > entries[length][0]:
                    entries[length] = (times, [])
                addresses = []
                entries[length] = (entries[length][0], addresses)
            else:
                addresses.append(int(line, 16))
        return numbers, entries

    def row(self, group, believed):
        """The row of the run; says where the longest entry was if it is over the limit.
        `believed`: the longest that the kernel's own counter knows, which may not be longer."""
        numbers, entries = self.read()
        longest = numbers["longest"]
        row = {"metric": f"irq_off_max/{group}", "unit": "instructions", "min": longest,
               "median": longest, "max": longest, "n": numbers["entries"],
               "cr3_writes": None, "ring_crossings": None}
        if bench_rows.over_limit(row):
            say(f"  longest entry in {group} (the kernel counted {believed}): "
                + describe(longest, *entries[longest]))
        return row

    def too_long(self):
        """One line for each length that an entry had above what is booked."""
        _, entries = self.read()
        return [describe(length, *entry) for length, entry in sorted(entries.items(), reverse=True)
                if length > LONGEST]


def describe(length, times, addresses, most=24):
    """An entry: its length, and its functions with their shares in the order of their first use."""
    symbols = bench_breakdown.Symbols()
    counts = collections.Counter(symbols.of(address, None) for address in addresses)
    names = [f"{count} {name.replace('nemesis::kernel::', '')}" for name, count in counts.items()]
    return f"{length} instructions, {times} times: " + ", ".join(names[:most])
