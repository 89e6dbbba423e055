"""What the bench says about crossings and page-table roots, seen from outside: the emulator writes down
every instruction of a few repetitions, and the writes of CR3 and ways in and out are counted there."""

import bench_breakdown
import bench_rows
import guest
from paths import ROOT

COSTS = guest.load(ROOT / "tests" / "bench" / "costs_bench.py")

# Metric: how often it is repeated under the eyes of the emulator. A trace begins with the way out of
# one stop of the machine and ends with the way to the next: "nothing" holds that alone.
REPETITIONS = {
    "calls": {"null_syscall": 1, "kps_section": 1},
    "events": {"event_send_async": 1, "event_sync_roundtrip": 10},
    "memory": {"fault_to_domain": 1, "appel1": 1},
}
ACTIVATIONS_OFF = ("event_sync_roundtrip",)


def check(context, group):
    """The rows of `group` say what the trace of the same run does."""
    _, memory_mib, seconds = COSTS.GROUPS[group]
    archive = COSTS.make_archive(context, group, f"{group} trace", memory_mib)
    text, seen = bench_breakdown.show(context, archive, memory_mib, seconds)
    rows, _ = bench_rows.parse(text)
    for metric, times in REPETITIONS[group].items():
        row, = (row for row in rows if row["metric"] == metric)
        nothing = seen["nothing_critical" if metric in ACTIVATIONS_OFF else "nothing"]
        outside = {what: seen[metric][what] - nothing[what] for what in nothing}
        said = f"{metric}: outside {outside}, inside {row}"
        # A section comes back by a second call, but to the kernel's ring it goes once.
        assert 2 * outside["exits"] == times * row["ring_crossings"], said
        assert outside["cr3_writes"] == round(times * row["cr3_writes"]), said
        # Readings of the counter, a loop and arguments are not the same in both.
        assert abs(outside["instructions"] - times * row["median"]) <= 20 * times, said
        assert nothing["cr3_writes"] == 0, nothing
        if metric == "event_sync_roundtrip":
            assert (row["cr3_writes"], row["ring_crossings"]) == (2, 4), row


def test_of_calls(context):
    """Cheapest call and privileged section."""
    check(context, "calls")


def test_of_events(context):
    """A round trip is 2 writes of the root and 4 crossings, from outside as from inside."""
    check(context, "events")


def test_of_faults(context):
    """A fault and its handler."""
    check(context, "memory")
