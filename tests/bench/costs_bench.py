"""Costs: each group boots the bench domain twice, compares the two runs, and reports its rows."""

import archives
import bench_breakdown
import bench_entries
import bench_guarantees
import bench_rows

# Group: the metrics it reports, memory of the machine in MiB, host seconds at most.
GROUPS = {
    "calls": (("null_syscall", "trace_mark", "kps_section", "switch"), 512, 120),
    "events": (("event_send_async", "event_sync_roundtrip", "activation_event",
                "activation_fault"), 512, 120),
    "memory": (("fault_to_domain", "map_page", "unmap_page", "map_batch", "appel1", "appel2"),
               512, 120),
    "interrupts": (("irq_to_domain", "irq_noted"), 512, 120),
    "decisions": (("sched_decision_n10",), 512, 120),
    "idc": (("maillon_overhead", "idc_call_0", "idc_call_64", "idc_call_4096", "idc_pieces_64k",
             "idc_granted_64k", "idc_stream_b16"),
            512, 120),
    "life": (("domain_create_destroy", "idle_memory"), 512, 120),
    "naming": (("resolve_local", "names_resolve_each", "resolve_mounted"), 512, 300),
    "spawn": (("spawn_cached_restart", "spawn_cached_instance", "spawn_cold", "spawn_large"), 512, 300),
    "timers": (("timer_wakeup",), 512, 1800),
    "timers_fpu": (("timer_wakeup_fpu",), 512, 600),
    "crowd": (("event_send_async_n10000", "event_sync_roundtrip_n10000", "sched_decision_n10000",
               "sched_all_due", "idle_memory_n10000"), 2048, 1800),
    "throw": (("kps_throw",), 512, 120),
    # Jobs that ask for all that was promised (docs/costs.md, "Guarantees").
    "guarantees_full": (("guarantees_full",), 512, 3600),
    "guarantees_limit": (("guarantees_limit",), 512, 3600),
    "guarantees_overrun": (("guarantees_overrun",), 512, 1200),
    "guarantees_alarms": (("guarantees_alarms",), 512, 1200),
    "guarantees_wakes": (("guarantees_wakes",), 512, 1800),
    "guarantees_storm": (("guarantees_storm",), 512, 1200),
    "guarantees_crowd": (("guarantees_crowd",), 2048, 1800),
}

MANIFEST = """\
domain bench {{
    image bench
    spare weight 10
    memory {memory}MiB
    slots 16
    endpoints 256
    privileges {{ kps control_contracts create_domains read_trace control_machine report }}
    irq 0..23
    device memory 0xfed00000 4KiB
    argument "{argument}"
{data}}}
{more}
"""
# Hogs and programs that a bench without FPU state cannot start itself.
MORE = {
    "timers_fpu": "domain bench_fpu_hog { image bench_fpu_hog fpu spare weight 1 memory 1MiB }\n",
    "idc": "domain bench_server { image bench_server spare weight 1 memory 1MiB slots 4 "
           "endpoints 16 }\n"
           "channel bench.calls -> bench_server.calls { slots 16 of 16KiB }\n"
           "channel bench_server.replies -> bench.replies { slots 16 of 8KiB }\n",
    "naming": "domain bench_names { image bench_names spare weight 1 memory 2MiB slots 4 "
              "endpoints 16 }\n"
              "channel bench.calls -> bench_names.calls { slots 4 of 4KiB }\n"
              "channel bench_names.replies -> bench.replies { slots 4 of 4KiB }\n",
    "throw": "domain bench_throw {{ image bench_throw fpu contract 50ms/100ms memory 16MiB "
             "stack 256KiB privileges {{ kps control_machine report }} argument \"{argument}\" }}\n",
}


# Programs that a group loads itself.
DATA = {"spawn": ("starter", "starter_256k")}


def make_archive(context, group, argument, memory_mib):
    """The boot archive in which the bench runs `group`."""
    manifest = context.folder / "bench.manifest"
    if group == "throw":
        manifest.write_text(MORE[group].format(argument=argument))
    else:
        manifest.write_text(MANIFEST.format(memory=memory_mib - 160, argument=argument,
                                            more=MORE.get(group, ""),
                                            data="".join(f"    data {name}\n"
                                                         for name in DATA.get(group, ()))))
    return archives.make(f"bench_{group}", manifest, built=True,
                         data=[(name, archives.find(name)) for name in DATA.get(group, ())])


def checked(booted):
    """Rows and notes of a boot that ended well."""
    rows, notes = bench_rows.parse(booted.text)
    booted.need_success()
    return rows, notes


def group_function(group):
    """The benchmark of one group."""
    metrics, memory_mib, seconds = GROUPS[group]

    def measure(context):
        words = [group] + (["long"] if context.long else [])
        if context.breakdown:
            archive = make_archive(context, group, " ".join([*words, "trace"]), memory_mib)
            bench_breakdown.show(context, archive, memory_mib, seconds)
            return []
        archive = make_archive(context, group, " ".join(words), memory_mib)
        # The second run is watched from outside, which must not change it.
        watched = bench_entries.Watch(context)
        texts = []
        for extra in ((), watched.arguments):
            capture = bench_guarantees.Capture() if group.startswith("guarantees") else None
            booted = context.boot(seconds=seconds, archive=archive, memory_mib=memory_mib,
                                  screen=False, extra=extra,
                                  on_stop=capture and capture.on_stop)
            rows, notes = checked(booted)
            texts.append(booted.text)
            if capture:
                capture.write(context.folder / "trace.bin")
                rows += bench_guarantees.rows(booted.text, capture)
        assert texts[0] == texts[1], "two runs differ"
        rows.append(watched.row(group, notes.get("entry_max", 0)))
        return rows

    measure.metrics = (*metrics, "irq_off_max")
    measure.seconds = seconds * 2
    return measure


def benches():
    """All groups."""
    for group in GROUPS:
        yield group, group_function(group)
