"""Several machines at the same time, joined by a private link: `peg run --nodes 2`, and the tests
and benchmarks of remote invocation.

    with Nodes(folder) as nodes:
        nodes.start("a", archive_a)
        nodes.start("b", archive_b)
        nodes.wait_for("a", r"@found", seconds=60)

Each node has a folder of its own (FOLDER/NAME: serial.log, emulator.log), a virtio network card with
the address 02:6e:65:6d:00:0a for node a, :0b for b, and one end of the link: two datagram sockets in
a temporary folder, which nothing of the host's network touches. A node can be ended and started again
while the other runs.

Time: each node counts its own instructions, 1 ns each, and waits out its idle time (timebase.waiting);
nothing keeps the two in step. While a node is idle its clock goes with the host's; while it computes,
its clock goes as fast as the host emulates. So *durations* on one node that contain a wait for the
other depend on the host, and time-outs are as long as they say at least on an idle node; *counts of
busy instructions* of either node do not.

All emulators are started by the thread that makes them (see processes.py); a thread for each node
waits for its end and gathers what it says.
"""

import dataclasses
import pathlib
import re
import secrets
import shutil
import tempfile
import threading
import time

import processes
import qemu
import timebase

NAMES = "ab"


def address(name):
    """The address of a node's network card."""
    return f"02:6e:65:6d:00:{int(name, 16):02x}"


@dataclasses.dataclass
class Node:
    """One run of one machine."""

    name: str
    run: qemu.Run
    thread: threading.Thread | None = None
    outcome: qemu.Outcome | None = None
    text: str = ""


class Nodes:
    """The machines and the link between them. Use as a context: leaving it ends all of them."""

    def __init__(self, folder, clock=None, memory_mib=256, on_text=None):
        self.folder = pathlib.Path(folder)
        self.clock = clock or timebase.waiting()
        self.memory_mib = memory_mib
        self.on_text = on_text      # gets a node's name and what it has written to COM1
        self.changed = threading.Condition()
        self.nodes = {}
        self.ended = []
        self.link = None

    def __enter__(self):
        self.link = pathlib.Path(tempfile.mkdtemp(prefix="peg-link-"))
        return self

    def __exit__(self, *_):
        for name in list(self.nodes):
            self.end(name)
        shutil.rmtree(self.link, ignore_errors=True)

    def start(self, name, archive, append="", seconds=3600):
        """Start node `name`, to run for at most `seconds` of the host."""
        own, other = self.link / name, self.link / NAMES[1 - NAMES.index(name)]
        own.unlink(missing_ok=True)     # the socket of an earlier life
        # A seed of the emulator's own would begin every life of a node alike.
        words = [append, f"incarnation={secrets.randbits(62)}"]
        machine = qemu.Machine(
            time=self.clock, archive=archive, memory_mib=self.memory_mib, screen=False,
            append=" ".join(word for word in words if word),
            extra=("-netdev", f"dgram,id=link,local.type=unix,local.path={own},"
                              f"remote.type=unix,remote.path={other}",
                   "-device", "virtio-net-pci,disable-legacy=on,netdev=link,romfile=,"
                              f"mac={address(name)}"))
        node = Node(name, qemu.Run(machine, self.folder / name))
        node.run.__enter__()
        self.nodes[name] = node
        node.thread = threading.Thread(target=self._watch, args=(node, seconds), daemon=True)
        node.thread.start()
        return node

    def _watch(self, node, seconds):
        def hear(text):
            with self.changed:
                node.text += text
                self.changed.notify_all()
            if self.on_text:
                self.on_text(node.name, text)

        outcome = node.run.until_end(seconds, on_text=hear)
        with self.changed:
            node.outcome = outcome
            self.changed.notify_all()

    def end(self, name):
        """End a node as if its plug were pulled; what is left of it."""
        node = self.nodes.pop(name)
        processes.finish(node.run.process, grace=0)
        node.thread.join(15)
        node.run.__exit__()
        self.ended.append(node)
        return node

    def wait(self, name, seconds):
        """Wait until a node has ended by itself. None: it has not in time."""
        return self._until(lambda: self.nodes[name].outcome, seconds)

    def wait_for(self, name, pattern, seconds, after=0):
        """Wait until a node has said what matches `pattern` behind the first `after` characters, or
        has ended. Yields the match or None."""
        node = self.nodes[name]

        def look():
            found = re.compile(pattern, re.M).search(node.text, after)
            return found or (node.outcome and "ended")

        found = self._until(look, seconds)
        return None if found == "ended" else found

    def _until(self, condition, seconds):
        ends = time.monotonic() + seconds
        with self.changed:
            while True:
                value = condition()
                left = ends - time.monotonic()
                if value or left <= 0:
                    return value
                self.changed.wait(min(left, 1))
