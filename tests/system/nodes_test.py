"""Two machines on a private link: calls between them, versions that differ, one that dies and
returns. What the link loses, and crashes at every point, are for tests/simulator/remote_sim.

Nothing keeps two machines in step, and the host may be busy: a call that must succeed may take
PLENTY, and only a call that must fail has a short time."""

import json
import re
import signal
import subprocess
import sys
import time

import archives
import processes
from nodes import Nodes
from paths import ROOT

PLENTY = "allow=90000"  # ms of the caller's clock
NODES = "nodes=a:026e656d000a,b:026e656d000b"


def archive(context, name, argument, *programs):
    """The boot archive of a node that runs `programs` as `argument` says."""
    template = (ROOT / "domains" / "node" / f"node_{name}.manifest").read_text()
    text = re.sub(r"(?m)^    data tile_\w+\n", "", template)
    text = re.sub(r'(?m)^    argument ".*"', "".join(f"    data {one}\n" for one in programs)
                  + f'    argument "{argument}"', text)
    manifest = context.folder / f"{name}.manifest"
    manifest.write_text(text)
    return archives.make(f"node_{name}", manifest, built=True, folder=context.folder,
                         data=[(one, archives.find(one)) for one in archives.data_names(manifest)])


def server(context):
    """Node b with its clock and filter."""
    return archive(context, "b", f"remote:{NODES} exports=clock,filter;tile_server", "tile_server")


def client(context, wishes, *programs, exports=""):
    """Node a with a tile_client."""
    first = "".join(f"{one};" for one in programs)
    return archive(context, "a", f"remote:{NODES}{exports};{first}tile_client:{wishes};"
                   "end=tile_client", "tile_client", *programs)


def tail(node):
    return f"node {node.name}:\n    " + "\n    ".join(node.text.splitlines()[-15:])


def finish(nodes, name="a"):
    """Wait for a node's own end; what it said."""
    outcome = nodes.wait(name, 200)
    text = "\n".join(tail(node) for node in nodes.nodes.values())
    assert outcome is not None, f"node {name} did not end\n{text}"
    assert outcome.passed, f"node {name}: {outcome.reason}\n{text}"
    return nodes.nodes[name].text


def test_one_name_decides_where_the_filter_is(context):
    """Local, in another domain, on another machine: the same program, the same tiles."""
    b = server(context)
    sums = {}
    for name in ("/local/filter", "/services/filter", "/b/filter"):
        # The name server behind /b finds node b as soon as that is up; so a local one does.
        wishes = f"filter={name} tiles=60 {PLENTY}"
        a = archive(context, "a", f"remote:{NODES};tile_server;tile_client:{wishes};"
                    "end=tile_client", "tile_client", "tile_server")
        with Nodes(context.folder / name.strip("/").replace("/", "_")) as nodes:
            nodes.start("b", b)
            nodes.start("a", a)
            said = finish(nodes)
        sums[name] = re.search(r"@tiles 60 checksum (\d+)", said).group(1)
    assert len(set(sums.values())) == 1, sums


def test_handles_travel(context):
    """Objects of either machine are passed to the other and called there; one that comes back is the
    pointer again; when nobody holds it its owner is told; nothing is left."""
    b = archive(context, "b", f"remote:{NODES} exports=vault;vault_server0:vault", "vault_server0")
    a = archive(context, "a", f"remote:{NODES};vault_far:/b/vault c50;end=vault_far", "vault_far")
    with Nodes(context.folder / "run") as nodes:
        nodes.start("b", b)
        nodes.start("a", a)
        said = finish(nodes)
    assert "@handles 50 rounds" in said


def test_what_a_dead_machine_held(context):
    """A machine dies that held an object of the other and was held by it: the one is let go, calls of
    the other fail, and the machine's next life is served as if nothing had been."""
    b = archive(context, "b", f"remote:{NODES} exports=vault;vault_server0:vault", "vault_server0")

    def client_that(mode):
        return archive(context, "a", f"remote:{NODES};vault_far:/b/vault {mode}0;end=vault_far",
                       "vault_far")

    with Nodes(context.folder / "run") as nodes:
        nodes.start("b", b)
        a = nodes.start("a", client_that("h"))
        assert nodes.wait_for("a", "@holds", 90), tail(a)
        nodes.end("a")
        nodes.start("a", client_that("g"))
        said = finish(nodes)
    assert "@gone" in said


def test_versions_that_differ_are_named(context):
    """Binding to an interface of another version fails; the log names both."""
    a = archive(context, "a", f"remote:{NODES};mismatch_probe;end=mismatch_probe",
                "mismatch_probe")
    with Nodes(context.folder / "run") as nodes:
        nodes.start("b", server(context))
        nodes.start("a", a)
        said = finish(nodes)
    line = re.search(r"client speaks tiles\.Filter version 2.*tiles\.Filter version 1", said)
    assert line, said[-1500:]


def test_a_node_dies_and_returns(context):
    """While node b is dead each call fails within what it may take; when it is back it is found
    again, with the same names."""
    b = server(context)
    with Nodes(context.folder / "run") as nodes:
        nodes.start("b", b)
        a = nodes.start("a", client(context, "filter=/b/filter clock=/b/clock allow=400 again"))
        for _ in range(2):
            begin = len(a.text)
            assert nodes.wait_for("a", r"@tiles \d+ so far", 90, begin), tail(a)
            nodes.end("b")
            lost = nodes.wait_for("a", r"@lost (.*) after (\d+) ns", 90, begin)
            assert lost, tail(a)
            # The call's own deadline, and a little for the way back to its caller.
            assert int(lost.group(2)) < 400_000_000 + 20_000_000, lost.group(0)
            nodes.start("b", b)
            assert nodes.wait_for("a", r"@found after \d+ ns", 90, begin), tail(a)
        assert nodes.wait_for("a", r"@tiles \d+ so far", 90, len(a.text)), tail(a)
        assert "@ended" not in a.text, tail(a)


def test_nobody_there(context):
    """A node without another: resolving a name of the other ends within its deadline, with a
    reason."""
    with Nodes(context.folder / "run") as nodes:
        a = nodes.start("a", client(context, "filter=/b/filter allow=300 tiles=1"))
        lost = nodes.wait_for("a", r"@lost (.*) after (\d+) ns", 60)
        assert lost and int(lost.group(2)) < 320_000_000, tail(a)
        assert nodes.wait("a", 30).code == 0x11, tail(a)


def test_only_what_is_exported(context):
    """A service that node b runs but does not export is not found there."""
    b = archive(context, "b", f"remote:{NODES} exports=clock;tile_server", "tile_server")
    with Nodes(context.folder / "run") as nodes:
        nodes.start("b", b)
        a = nodes.start("a", client(context, "filter=/b/filter clock=/b/clock "
                                       f"clock_{PLENTY} allow=3000 tiles=1"))
        assert nodes.wait("a", 200).code == 0x11, tail(a)
        assert "@clock " in a.text and "@lost object unreachable" in a.text, tail(a)


def peg(*arguments):
    """The command line `peg run --nodes 2` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, ROOT / "tools" / "peg" / "main.py", "run", "--nodes", "2", "--no-build",
         *map(str, arguments)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def emulators_of(pid):
    """The emulators that a peg has left running."""
    return [record for record in processes.running() if record["peg"] == pid]


def test_command_line_by_script(context):
    """`peg run --nodes 2 --headless --seconds 3` ends by itself, with both logs and a report."""
    out = context.folder / "out"
    process = peg("--headless", "--seconds", 3, "--out", out)
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said[-2000:]
    report = json.loads((out / "report.json").read_text())
    assert report["passed"] and report["nodes"]["a"]["tiles"] > 0, report
    for name in "ab":
        assert "1 domains started" in (out / name / "serial.log").read_text()
    assert not emulators_of(process.pid)


def test_command_line_and_control_c(context):
    """Ctrl-C ends both machines, and none is left behind."""
    process = peg("--out", context.folder / "out")
    begin = time.monotonic()
    for line in process.stdout:
        if "@tiles" in line or time.monotonic() - begin > 120:
            break
    assert len(emulators_of(process.pid)) == 2, "two machines do not run"
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert "Traceback" not in rest, rest[-2000:]
    assert not emulators_of(process.pid), "an emulator was left behind"
