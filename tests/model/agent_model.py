#!/usr/bin/env python3
"""The complete search of agent.pml, and the faults that it must find.

Goal: the agent protocol of docs/formats/fs_agent.md keeps its promises at every interleaving of the
model, and the model's assertions can fail. Method: spin's verifier over all states, without a fault;
then once for each seeded fault, where it must report an error.
usage: agent_model.py [correct | calm | cached | cached-long | FAULT-NUMBER ...]
correct: three operations of each agent, two crashes; cached: two operations and a read that may be
cached, one crash, a minute or two; calm: the same without a crash; cached-long: with two crashes,
for minutes and with GiB of memory. Nothing: correct, calm and all faults, what each commit can bear.
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

MODEL = pathlib.Path(__file__).resolve().parent / "agent.pml"
# number: (what is wrong, variant with the cache, breadth first)
FAULTS = {
    1: ("the server forgets how far an agent's operations were on disk", 0, False),
    2: ("an agent gives its copy up when the server has acknowledged", 0, False),
    3: ("DURABLE is sent before the flush has ended", 0, False),
    4: ("messages of a session before the restart are taken", 0, False),
    5: ("an operation may build on what another agent has not yet on disk", 0, False),
    6: ("new operations are taken before all agents have replayed", 0, False),
    7: ("a write does not wait until the others' copies are gone", 1, True),
    8: ("a reply that a recall has overtaken is cached", 1, True),
    9: ("a reply from before the agent's own write is cached", 1, True),
    11: ("a reply that has the write on its way is cached, and changed by its answer again", 1, True),
    10: ("a new operation that overtakes the end of the replay is taken as replayed", 0, False),
}

# Without a fault: with the cache, crashes.
VARIANTS = {"correct": (0, 2), "calm": (1, 0), "cached": (1, 1), "cached-long": (1, 2)}


def search(fault, cache, breadth_first, crashes=2):
    """What the verifier says of one variant."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(MODEL, folder)
        subprocess.run(["spin", "-a", f"-DFAULT={fault}", f"-DCACHE={cache}",
                        f"-DCRASHES={crashes}", MODEL.name],
                       cwd=folder, check=True, stdout=subprocess.DEVNULL)
        options = ["-DBFS"] if breadth_first else []
        subprocess.run(["clang-19", "-O1", "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=8000", *options,
                        "-o", "pan", "pan.c"], cwd=folder, check=True)
        return subprocess.run(["./pan", "-m100000", "-w24"], cwd=folder, check=False, text=True,
                              capture_output=True).stdout


def number(pattern, text):
    found = re.search(pattern, text)
    return found.group(1) if found else "?"


def holds(cache, crashes):
    """Whether a search without a fault is complete and finds nothing."""
    said = search(0, cache, False, crashes)
    complete = "Search not completed" not in said and "errors: 0" in said
    states = number(r"(\d+) states, stored", said)
    print(f"{'with' if cache else 'without'} the cache, {crashes} crashes: {states} states, "
          f"errors: {number('errors: ([0-9]+)', said)}, "
          f"{'complete' if complete else 'NOT COMPLETE OR WRONG'}", flush=True)
    return complete


def found(fault):
    what, cache, breadth_first = FAULTS[fault]
    said = search(fault, cache, breadth_first)
    error = re.search(r"pan:1: assertion violated", said)
    states = number(r"(\d+) states, stored", said)
    print(f"fault {fault} ({what}): {'found' if error else 'NOT FOUND'} after {states} states",
          flush=True)
    return error is not None


def main():
    if not shutil.which("spin"):
        sys.exit(77)
    good = True
    for word in sys.argv[1:] or ["correct", "calm", *map(str, FAULTS)]:
        if word in VARIANTS:
            good = holds(*VARIANTS[word]) and good
        else:
            good = found(int(word)) and good
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
