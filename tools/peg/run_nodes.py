"""`peg run --nodes 2`: two machines joined by a private link, one of which works for the other.

What the nodes say appears with their names before it. --manifest FILE is node a's manifest; node
b's then is FILE with "_a." replaced by "_b.". Ctrl-C, or --seconds N of node a's time, ends both.
With --headless, --out DIR gets each node's log (DIR/a, DIR/b) and report.json
(docs/formats/report.md).
"""

import json
import pathlib
import re

import archives
import build
import packages
from console import PegError, UsageError, say, step
from nodes import NAMES, Nodes
from paths import BUILD, ROOT, shown

MANIFEST = ROOT / "domains" / "node" / "node_a.manifest"
# Host seconds for each second of a node's time, at most, and for booting.
HOST_SECONDS_PER_SECOND, HOST_SECONDS_BOOT = 30, 60


def manifests(first):
    """The manifests of the nodes, by name."""
    first = pathlib.Path(first or MANIFEST).resolve()
    found = {name: first.with_name(first.name.replace("_a.", f"_{name}.")) for name in NAMES}
    if found["a"] == found["b"]:
        raise UsageError("--manifest with --nodes is called NAME_a.manifest, beside NAME_b.manifest")
    for path in found.values():
        if not path.is_file():
            raise PegError(f"there is no {shown(path)}")
    return found


def make_archives(found, folder):
    """Boot archives of the manifests: what they give as data are programs."""
    folder.mkdir(parents=True, exist_ok=True)
    return {name: archives.make(f"node_{name}", path, built=True, folder=folder,
                                data=[(data, archives.find(data))
                                      for data in archives.data_names(path)])
            for name, path in found.items()}


class Printer:
    """Prints whole lines, each with its node's name."""

    def __init__(self):
        self.rests = dict.fromkeys(NAMES, "")

    def hear(self, name, text):
        *lines, self.rests[name] = (self.rests[name] + text).split("\n")
        for line in lines:
            print(f"{name}| {line.rstrip()}", flush=True)


def examine(seconds, nodes, running):
    """report.json's contents: how each node ended, and what the client got done. `running`: the
    names of those that were up when node a ended; they are ended by peg."""
    problems, said = [], {}
    for node in nodes:
        passed = node.name in running or bool(node.outcome and node.outcome.passed)
        if not passed:
            problems.append(f"node {node.name}: "
                            f"{node.outcome.reason if node.outcome else 'did not end'}")
        said[node.name] = {
            "passed": passed,
            "tiles": max([int(n) for n in re.findall(r"@tiles (\d+)", node.text)], default=0),
            "lost": len(re.findall(r"@lost ", node.text)),
            "found": len(re.findall(r"@found ", node.text)),
        }
    if not any(one["tiles"] for one in said.values()):
        problems.append("no tile was worked on")
    if any(one["lost"] > one["found"] for one in said.values()):
        problems.append("a service was lost and not found again")
    return {"passed": not problems, "problems": problems, "seconds": seconds, "nodes": said}


def run(options):
    if options.nodes != 2:
        raise UsageError("--nodes is 1 or 2")
    for name in ("uefi", "clip", "no_serial"):
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')} is not for several nodes")
    packages.need("run")
    found = manifests(options.manifest)
    if not options.no_build:
        build.build("x86_64")
    out = options.out or (pathlib.Path("out") if options.headless else BUILD / "run")
    made = make_archives(found, out.resolve())
    append = f"{options.append} seconds={options.seconds}" if options.seconds else options.append
    limit = (options.seconds * HOST_SECONDS_PER_SECOND + HOST_SECONDS_BOOT if options.seconds
             else 1e9)
    with Nodes(out, on_text=Printer().hear) as nodes:
        say(f"time: {nodes.clock.text}, on each node by itself")
        step("booting two nodes; Ctrl-C ends them")
        # Whom others need comes first, and stays until they have ended.
        nodes.start("b", made["b"], options.append, limit + 60)
        nodes.start("a", made["a"], append.strip(), limit)
        nodes.wait("a", limit + 10)
        all_nodes = [nodes.nodes[name] for name in NAMES]
        running = [node.name for node in all_nodes[1:] if node.outcome is None]
    report = examine(options.seconds, all_nodes, running)
    for node in all_nodes:
        how = "ended with node a" if node.name in running else (
            node.outcome.reason if node.outcome else "did not end")
        say(f"peg: node {node.name}: {how}")
    if options.headless:
        (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        for problem in report["problems"]:
            say(f"peg: {problem}")
        say(f"peg: logs and report.json are in {shown(out)}")
    return 0 if report["passed"] else 1
