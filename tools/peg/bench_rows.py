"""What the rows of `peg bench` mean: their limits, and what rivals need for the same.

LIMITS: the beginning of a metric's name: limit, what it holds for, and so on. The longest that fits
counts.
RIVALS: figures of seL4 and Linux in the same unit, taken in the same emulator with the same time
base; docs/costs.md says how.
"""

LIMITS = {
    "null_syscall": (60, "max"),
    "event_send_async": (150, "max"),
    "event_sync_roundtrip": (300, "max"),
    "switch": (200, "max"),
    "activation": (250, "max"),
    "timer_wakeup": (1000, "max"),
    "irq_to_domain": (350, "median", 1000, "max"),
    "sched_decision": (600, "max"),
    "sched_decision_growth": (250, "max"),
    "sched_all_due": (700, "max"),
    "kps_section": (120, "max"),
    "kps_throw": (20_000, "max"),
    "fault_to_domain": (400, "max"),
    "map_page": (400, "max"),
    "appel1": (2000, "max"),
    "appel2": (800, "max"),
    "domain_create_destroy": (20_000, "median"),
    "spawn_cached": (40_000, "median"),
    "resolve_local": (400, "max"),
    "resolve_mounted": (850, "max"),
    "irq_off_max": (700, "max"),
    "maillon_overhead": (3, "max"),
    "idc_call_0": (410, "max"),
    "idc_call_64": (520, "max"),
    "idc_call_4096": (1000, "max"),
    "idc_pieces_64k": (),  # 64 KiB as 16 calls; beside them one with the memory granted
    "idc_granted_64k": (),
    "idc_stream_b16": (90, "max"),
    "rpc_null": (12_000, "median"),
    "rpc_null_call": (),  # either node's part
    "idle_memory": (40 * 1024, "max"),
    "idle_memory_n10000": (2**31 // 10_000, "max"),  # all of them in 2 GiB
    # Jobs of guaranteed tasks; parts per million; ns beyond one per cent or one quantum.
    **{f"guarantees_{part}_{what}": (0, "max")
       for part in ("full", "limit", "overrun", "alarms", "wakes", "storm", "crowd")
       for what in ("missed", "hogs_unfair")},
    "guarantees_full_reserve_at_1000": (20_000, "max"),
    "guarantees_limit_reserve_at_1000": (20_000, "max"),
}

RIVALS = {
    "event_send_async": "seL4 358",
    "event_sync_roundtrip": "seL4 415, with budgets 510",
    "idc_call_0": "seL4 without stubs 415, with budgets 510",
    "idc_call_64": "seL4, 10 words: 1,596; Linux Unix socket 14,794",
    "switch": "seL4 260, Linux about 970",
    "timer_wakeup_spin": "Linux deadline class 3,715 median",
    "irq_to_domain": "seL4 356, with budgets 690",
    "fault_to_domain": "Linux 2,754 one way, seL4 1,303",
    "map_page": "seL4 718",
    "unmap_page": "seL4 about 569",
    "appel1": "Linux 24,034",
    "appel2": "Linux 13,597",
    "domain_create_destroy": "Linux 135,891",
    "guarantees_full_missed": "Linux deadline class 8,341 of 11,972",
}

KEYS = ("metric", "unit", "min", "median", "max", "n", "cr3_writes", "ring_crossings")


def longest(table, metric):
    """The entry of `table` whose key is the longest beginning of `metric`."""
    keys = [key for key in table if metric.startswith(key)]
    return table[max(keys, key=len)] if keys else None


def limits_of(row):
    """Pairs of a limit and "max" or "median"."""
    limits = longest(LIMITS, row["metric"]) or ()
    return list(zip(limits[::2], limits[1::2]))


def over_limit(row):
    """Whether a row breaks a limit."""
    return any(row[on] is None or row[on] > limit for limit, on in limits_of(row))


def growth(rows):
    """The row that says how much dearer a decision is with 10,000 ready domains, if both are known."""
    known = {row["metric"]: row for row in rows}
    few, many = known.get("sched_decision_n10"), known.get("sched_decision_n10000")
    if not few or not many or few["max"] is None or many["max"] is None:
        return []
    return [{"metric": "sched_decision_growth", "unit": "instructions",
             **{key: many[key] - few[key] for key in ("min", "median", "max")},
             "n": many["n"], "cr3_writes": None, "ring_crossings": None}]


def parse(text):
    """(rows, notes) of what a bench domain has written: "@row ..." and "@note ..." lines."""
    rows, notes = [], {}
    for line in text.splitlines():
        _, mark, rest = line.partition("@")
        words = rest.split()
        if not mark or not words:
            continue
        if words[0] == "row" and len(words) == 9:
            low, median, high, n, writes, crossings = (int(word) for word in words[3:])
            rows.append({"metric": words[1], "unit": words[2],
                         "min": low if n else None, "median": median if n else None,
                         "max": high if n else None, "n": n,
                         "cr3_writes": writes / 100 if writes >= 0 else None,
                         "ring_crossings": crossings if crossings >= 0 else None})
        elif words[0] == "note" and len(words) == 3:
            notes[words[1]] = int(words[2])
        elif words[0] == "entry_max":
            notes["entry_max"] = max(notes.get("entry_max", 0), int(words[2]))
        elif words[0] == "failed":
            raise AssertionError(f"the bench gave up: {' '.join(words[1:])}")
    return rows, notes
