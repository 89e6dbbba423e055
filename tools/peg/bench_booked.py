"""What the kernel books for its own work (kernel/costs.h), held against what `peg bench` has measured.

A promise of admission is worth no more than these figures: one that is too small lets a set of contracts
in that does not hold. The tests of guarantees miss deadlines only if they are much too small.
"""

import re

from console import PegError
from paths import ROOT

FILES = ("kernel/costs.h", "kernel/interrupt.h")
# The beginning of a metric's name: whose sum its maximum may not exceed. A wake-up by the timer is the timer's
# interrupt, the release that it brings, and a switch.
BOOKED = {
    "switch": ("per_switch",),
    "event_send_async": ("per_event",),
    "timer_wakeup": ("per_timer", "per_release", "per_switch"),
    "irq_to_domain": ("kInterruptCost",),
    "irq_noted": ("kNotedCost",),
    "irq_off_max": ("kEntryCost",),
}


def figures(root=ROOT):
    """The booked figures by name, from the kernel's source: ns, which are instructions."""
    text = "".join((root / file).read_text() for file in FILES)
    found = dict(re.findall(r"\b(\w+) = Duration::ns\(([\d']+)\)", text))
    missing = {name for names in BOOKED.values() for name in names} - found.keys()
    if missing:
        raise PegError(f"{' and '.join(FILES)} do not say what is booked as {' '.join(sorted(missing))}")
    return {name: int(value.replace("'", "")) for name, value in found.items()}


def exceeded(rows, booked):
    """A line for each row whose maximum is more than is booked."""
    lines = []
    for row in rows:
        names = next((names for start, names in BOOKED.items() if row["metric"].startswith(start)), ())
        room = sum(booked[name] for name in names)
        if names and (row["max"] is None or row["max"] > room):
            lines.append(f"{row['metric']} took {row['max']}, booked is {' + '.join(names)} = {room}")
    return lines
