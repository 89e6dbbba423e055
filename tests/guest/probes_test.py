"""The probes (domains/probes): every promise of the kernel, tried from ring 3."""

import re

import archives
import bench_entries

# Groups that are booted together, so that several can run at a time.
BOOTS = {
    "memory": "memory.",
    "activations": "activation.,event.,thread.",
    "donation": "donation.",
    "faults": "section.,fault.,floating.,interrupt.",
    "contracts": "contract.,death.,scale.kill_64,scale.all_,scale.restless_h",
    "hostile": "hostile.",
}
# What the kernel says of a domain that it ends, in its own time.
ENDINGS = {
    "faults": (r"fault 14 at 0x\w+ address 0x\w+ with activations off, ended",
               r"malformed context slot, ended",
               r"privileged section ended: exception at 0x\w+, stack 0x\w+",
               r"privileged section ended: over its bound at 0x\w+, stack 0x\w+"),
}
MANIFEST = "domains/probes/probes.manifest"


def run(context, probes, options="", manifest=MANIFEST, extra=(), **machine):
    """Boot the runner with the probes whose names contain one of `probes`; what it says."""
    name = re.sub(r"\W", "_", context.name)
    archive = archives.make(name, manifest, built=True)
    booted = context.boot(archive=archive, append=f"probes={probes} {options}".strip(),
                          extra=("-device", "edu", "-device", "virtio-rng-pci", *extra), **machine)
    failed = re.findall(r"^\[ FAILED \] .*$", booted.text, re.M)
    assert not failed, "\n".join(failed)
    booted.need_success()
    passed = len(re.findall(r"^\[     OK \] ", booted.text, re.M))
    assert f"{passed} passed, 0 failed" in booted.text, "the runner did not come to its end"
    assert passed, f"no probe is called {probes}"
    return booted


def watched(context, probes, **machine):
    """As run; no entry to the kernel is longer than is booked for one, seen from outside."""
    watch = bench_entries.Watch(context)
    booted = run(context, probes, extra=watch.arguments, **machine)
    too_long = watch.too_long()
    assert not too_long, "entries that are too long:\n" + "\n".join(too_long)
    return booted


def group(name, probes):
    def test(context):
        """Its promises hold, no entry to the kernel is too long, and endings are told."""
        booted = watched(context, probes)
        for line in ENDINGS.get(name, ()):
            assert re.search(f"^domain \\w+: {line}$", booted.text, re.M), f"no line: {line}"
    return test


def tests():
    for name, probes in BOOTS.items():
        yield name, group(name, probes)
    yield "five_levels", five_levels
    yield "two_runs_are_the_same", two_runs_are_the_same


def five_levels(context):
    """Memory probes with five levels of page tables."""
    booted = run(context, "memory.", la57=True)
    assert "5 levels" in booted.text


def two_runs_are_the_same(context):
    """Counted time: two runs say the same, to the nanosecond, and leave the same trace."""
    first = run(context, "donation.,activation.time_outs,contract.changes")
    second = run(context, "donation.,activation.time_outs,contract.changes")
    assert first.text == second.text, "two runs differ in what they say"
    assert first.trace == second.trace, "two runs differ in their trace"
