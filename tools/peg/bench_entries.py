"""The longest entry to the kernel, seen from outside by a plug-in of the emulator."""

import collections
import subprocess

import bench_breakdown
import bench_rows
from console import say
from paths import BUILD, ROOT

SOURCE = ROOT / "tools" / "peg" / "bench_entries.c"
PLUGIN = BUILD / "bench_entries.so"


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
        self.arguments = ("-plugin", f"{plugin()},out={self.file}")

    def row(self, group, believed):
        """The row of the run; says where the longest entry was if it is over the limit.
        `believed`: the longest that the kernel's own counter knows, which may not be longer."""
        lines = self.file.read_text().split("\n")
        numbers = dict(line.split() for line in lines[:3])
        longest = int(numbers["longest"])
        row = {"metric": f"irq_off_max/{group}", "unit": "instructions", "min": longest,
               "median": longest, "max": longest, "n": int(numbers["entries"]),
               "cr3_writes": None, "ring_crossings": None}
        if bench_rows.over_limit(row):
            say(f"  longest entry in {group}: {longest} (the kernel counted {believed}): "
                + ", ".join(f"{count} {name}" for name, count in self.functions(lines[3:])))
        return row

    def functions(self, lines, most=12):
        """Functions of the longest entry and their shares."""
        symbols = bench_breakdown.Symbols()
        counts = collections.Counter(symbols.of(int(line, 16), None) for line in lines if line)
        return [(name.replace("nemesis::kernel::", ""), count)
                for name, count in counts.most_common(most)]
