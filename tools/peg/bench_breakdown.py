"""In which functions the instructions of a measurement are: a trace of single instructions.

The bench domain, told "trace", stops the machine before and after a few repetitions of each
measurement; in between the emulator writes down the address of every instruction. Addresses become
functions through the symbols of kernel, libnemesis and bench.
"""

import bisect
import collections
import re
import subprocess

import archives
from console import say
from paths import KERNEL, TARGET_BUILD

LINE = re.compile(r"^Trace \d+: 0x[0-9a-f]+ \[[0-9a-f]+/([0-9a-f]+)/")


class Symbols:
    """Functions of the images, by address."""

    def __init__(self):
        self.table = []
        for image in (KERNEL, archives.find("libnemesis"), archives.find("bench"),
                      archives.find("init")):
            nm = subprocess.run(["llvm-nm-19", "-nC", "--defined-only", str(image)],
                                capture_output=True, text=True, check=True).stdout
            for line in nm.splitlines():
                address, kind, name = line.split(" ", 2)
                if kind in "tTwW":
                    self.table.append((int(address, 16), re.sub(r"\(.*", "", name)))
        self.table.sort()
        self.starts = [address for address, _ in self.table]

    def of(self, address, moved):
        """The function at `address`; `moved` is where the bench's second mapping is."""
        if moved and moved[0] <= address < moved[0] + (1 << 21):
            address += moved[1] - moved[0]
        index = bisect.bisect_right(self.starts, address) - 1
        if index < 0 or address - self.starts[index] > 1 << 20:
            return f"{address:#x}"
        return self.table[index][1]


def privileged_opcodes():
    """Addresses in the kernel of the instructions that count: writes of CR3, ways into user code."""
    text = subprocess.run(["llvm-objdump-19", "-d", "--no-show-raw-insn", str(KERNEL)],
                          capture_output=True, text=True, check=True).stdout
    found = {}
    for line in text.splitlines():
        match = re.match(r"\s*([0-9a-f]+):\s+(movq\s+%r\w+, %cr3|sysretq|iretq)", line)
        if match:
            found[int(match[1], 16)] = "cr3" if "cr3" in match[2] else "leave"
    return found


def addresses(path):
    """Of every instruction that a trace holds."""
    with open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            match = LINE.match(line)
            if match:
                yield int(match[1], 16)


def summarise(path, symbols, marks, moved, most=40):
    """Say what one trace holds: totals by function, root writes and crossings."""
    counts, calls, kinds = collections.Counter(), collections.Counter(), collections.Counter()
    before, total, entered, was_kernel, previous = None, 0, 0, True, -1
    for address in addresses(path):
        if address == previous and address in marks:
            continue  # written twice where an instruction was begun anew
        previous = address
        function = symbols.of(address, moved)
        counts[function] += 1
        total += 1
        if function != before:
            calls[function] += 1
            before = function
        kernel = address >> 63 == 1
        if kernel and not was_kernel:
            entered += 1
        was_kernel = kernel
        if address in marks:
            kinds[marks[address]] += 1
    say(f"  {total:,} instructions, {entered} entries to the kernel, {kinds['leave']} exits, "
        f"{kinds['cr3']} writes of CR3")
    for function, count in counts.most_common(most):
        say(f"  {count:8,}  {calls[function]:6,} x  {function}")
    return {"instructions": total, "entries": entered, "exits": kinds["leave"],
            "cr3_writes": kinds["cr3"]}


def entries(path, symbols, moved):
    """Every stay in the kernel, as a tuple of pairs of a function and its instructions."""
    stay, last = {}, None
    for address in addresses(path):
        if address >> 63:
            name = symbols.of(address, moved)
            name = name.replace("nemesis::kernel::", "").replace("nemesis::", "")
            stay[name] = stay.get(name, 0) + (0 if address == last else 1)
            last = address
        elif stay:
            yield tuple(stay.items())
            stay, last = {}, None


def show_entries(path, symbols, moved, most=12):
    """Say what the stays in the kernel were, equal ones together, in the order of appearance."""
    kinds = collections.Counter(entries(path, symbols, moved))
    for kind, count in list(kinds.items())[1:most + 1]:  # the first is the stop of the machine
        say(f"  {count} x {sum(n for _, n in kind)}: " + ", ".join(f"{f} {n}" for f, n in kind))


def trace(context, archive, memory_mib, seconds):
    """Boot; return what the machine said, {name: trace file} and where the bench's second mapping is."""
    files = {}

    def monitor(run, line):
        return run.qmp.command("human-monitor-command", **{"command-line": line})

    def on_stop(run, name):
        what, _, which = name.partition(" ")
        if what == "trace":
            files[which] = context.folder / f"trace_{which}.log"
            files[which].unlink(missing_ok=True)
            monitor(run, f"logfile {files[which]}")
            monitor(run, "singlestep on")
            monitor(run, "log exec,nochain")
        else:
            monitor(run, "log none")
            monitor(run, "singlestep off")

    booted = context.boot(seconds=seconds, archive=archive, memory_mib=memory_mib, screen=False,
                          on_stop=on_stop)
    booted.need_success()
    match = re.search(r"@code ([0-9]+) ([0-9]+)", booted.text)
    return booted.text, files, (int(match[1]), int(match[2])) if match else None


def show(context, archive, memory_mib, seconds):
    """Trace every measurement of an archive and say where its instructions are; return what the machine
    said, and {name: what its trace holds}."""
    text, files, moved = trace(context, archive, memory_mib, seconds)
    symbols, marks = Symbols(), privileged_opcodes()
    results = {}
    for name, path in files.items():
        say(f"{name}:")
        results[name] = summarise(path, symbols, marks, moved, most=15)
        show_entries(path, symbols, moved)
    return text, results
