"""What a null call to another machine costs: two nodes, each counting its own instructions.

Idle time is waited for, so how long a call takes depends on the host; how busy the two machines are
for it does not, but for timers that happen to fire within it. Hence medians. Two runs; their medians
have to agree within a fiftieth: calls come in a few kinds, by how timers and budgets
fall, some 90 instructions apart, and the median is of one kind or of the next."""

import re

import archives
import bench_rows
from nodes import Nodes
from paths import ROOT

NODES = "nodes=a:026e656d000a,b:026e656d000b"


def archive(context, name, argument, program):
    """The boot archive of a node."""
    template = (ROOT / "domains" / "node" / f"node_{name}.manifest").read_text()
    text = re.sub(r"(?m)^    data tile_\w+\n", f"    data {program}\n", template)
    text = re.sub(r'(?m)^    argument ".*"', f'    argument "{argument}"', text)
    manifest = context.folder / f"{name}.manifest"
    manifest.write_text(text)
    return archives.make(f"node_{name}", manifest, built=True, folder=context.folder,
                         data=[(one, archives.find(one)) for one in archives.data_names(manifest)])


def measure(context, number, a, b):
    """The rows of one run."""
    with Nodes(context.folder / f"run{number}") as nodes:
        nodes.start("b", b, seconds=400)
        nodes.start("a", a, seconds=400)
        outcome = nodes.wait("a", 300)
        text = nodes.nodes["a"].text
    assert outcome and outcome.passed, f"{outcome and outcome.reason}\n{text[-1500:]}"
    rows, _ = bench_rows.parse(text)
    return rows


def bench_rpc(context):
    """A null call from a domain of one machine to a domain of another, and back."""
    a = archive(context, "a", f"remote:{NODES};rpc_caller;end=rpc_caller", "rpc_caller")
    b = archive(context, "b", f"remote:{NODES} exports=callee;rpc_callee", "rpc_callee")
    first, second = (measure(context, number, a, b) for number in range(2))
    for one, other in zip(first, second):
        assert abs(one["median"] - other["median"]) * 50 <= one["median"], \
            f"two runs differ: {one['metric']} {one['median']} and {other['median']}"
    return first


bench_rpc.metrics = ("rpc_null",)
bench_rpc.seconds = 900
