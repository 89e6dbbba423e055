#!/usr/bin/env python3
"""The real program in a machine whose power goes, with disks that lose their caches.

Goal: after each loss of power no byte covered by an fsync that came back is lost, what is there of
each client is the state after some number of its operations, in one order with the others', and the
independent checker finds the store clean.
Method: Linux under QEMU mounts a store on five disks of volatile_disks.py and carries out a script
(script_load.cpp). The power goes at a moment that the seed names: at the n-th fsync that came back,
at the n-th write or flush of the disks, before, in and after it, or while the mount recovers. What
was promised comes from the machine's port alone. A part of each cache survives, of each disk another.
`check` runs on what is left; the next boot mounts it and sends all that is in it, which file_model.py
judges, and goes on with the same store. The store is small, so that it is cleaned all the time; now and
then a disk dies under load, comes back as it was or blank, and is rebuilt.

usage: reset_guest.py PEGASUS_FS SCRIPT_LOAD RESETS [--seed S] [--lies] [--keep FOLDER]
--lies: the disks acknowledge flushes that they do not carry out; then this must fail (exit code 1)
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import random
import selectors
import socket
import subprocess
import sys
import tarfile
import tempfile
import time

import file_model
import linux_guest
import volatile_disks

sys.path.insert(0, str(linux_guest.ROOT / "tools" / "peg"))

import processes  # noqa: E402  (the end of an emulator whose test has ended)

DISKS = 5
DISK_BYTES = 16 << 20
CLIENTS = ("c0", "c1", "c2")
OPERATIONS = 4000       # of a client in a round; the power goes before
LIVE_MAX = 6 << 20      # bytes of a client's files: all together under half of the store
DEVICES = " ".join(f"/dev/vd{letter}" for letter in "abcde")
# Host seconds in which the machine must say or do something. Only a hang takes as long.
PATIENCE = 120 * float(os.environ.get("NEMESIS_TIME_FACTOR", "1"))
# Kinds of moments and about how many of each there are in a round.
MOMENTS = {"promise": 60, "write": 2500, "flush asked": 2000, "flush done": 2000, "flush told": 2000}


class Failed(Exception):
    """A promise was broken; the text says which."""


class PowerOff(Exception):
    """The moment has come."""


class Machine:
    """One time from power on to power off."""

    def __init__(self, folder, boot, disks, moment, early):
        self.folder, self.disks = folder, disks
        self.moment, self.early = moment, early  # (kind, count) of the load; commands of the mount
        self.count = 0
        self.loading = False
        self.dies = None        # (disk, commands from now on)
        self.promises = None
        self.text = b""
        self.state = bytearray()
        self.process = None
        self.writes = self.flushes = 0
        self.selector = selectors.DefaultSelector()
        self.boot = boot
        self.sockets = []

    def __enter__(self):
        listeners = []
        names = ["talk", "state", *(f"disk{n}" for n in range(DISKS))]
        paths = [self.folder / f"{name}.sock" for name in names]
        for path in paths:
            path.unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(path))
            listener.listen(1)
            listener.settimeout(PATIENCE)
            listeners.append(listener)
        with open(self.folder / "emulator.log", "wb") as log:
            self.process = subprocess.Popen(
                linux_guest.command(*self.boot, self.folder, paths[2:], paths[:2]),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=lambda parent=os.getpid(): processes.die_with_parent(parent))
        try:
            for number, listener in enumerate(listeners):
                line, _ = listener.accept()
                listener.close()
                self.sockets.append(line)
                if number >= 2:
                    disk = volatile_disks.Connection(number - 2, self.disks[number - 2], line,
                                                     self.step)
                    self.selector.register(line, selectors.EVENT_READ, disk.serve)
            self.talk = self.sockets[0]
            self.selector.register(self.talk, selectors.EVENT_READ, self.hear)
            self.selector.register(self.sockets[1], selectors.EVENT_READ, self.take)
        except BaseException as failure:
            self.__exit__()
            if isinstance(failure, (TimeoutError, ConnectionError)):
                said = (self.folder / "emulator.log").read_text(errors="replace")
                raise Failed(f"the emulator did not start: {said[-500:]}") from None
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        for line in self.sockets:
            line.close()
        self.selector.close()

    # ---- what the disks are asked for ----

    def step(self, disk, what):
        """The hook of the disks."""
        self.writes += what == "write"
        self.flushes += what == "flush asked"
        if what in ("write", "flush asked"):
            if not self.loading and self.early and self.writes + self.flushes >= self.early:
                raise PowerOff
            if self.dies and self.loading:
                self.dies[1] -= 1
                if self.dies[1] == 0:
                    self.disks[self.dies[0]].dead = True
        self.happened(what)

    def happened(self, what):
        if self.loading and self.moment and what == self.moment[0]:
            self.count += 1
            if self.count >= self.moment[1]:
                raise PowerOff

    # ---- what the machine says ----

    def take(self):
        piece = self.sockets[1].recv(1 << 20)
        self.state += piece
        return bool(piece)

    def hear(self):
        piece = self.talk.recv(1 << 16)
        self.text += piece
        return bool(piece)

    def lines(self):
        while b"\n" in self.text:
            line, self.text = self.text.split(b"\n", 1)
            yield line.decode(errors="replace")

    def until(self, wanted):
        """Serves disks and ports until the machine says a line that begins with `wanted`; returns
        the rest of that line. PowerOff when the moment comes."""
        while True:
            for line in self.lines():
                if line.split(" ")[0] == wanted:
                    return line[len(wanted) + 1:]
                self.promise(line)
            ready = self.selector.select(PATIENCE)
            if not ready:
                raise Failed(f"the machine says nothing more; {wanted!r} was waited for")
            for key, _ in ready:
                if not key.data():
                    raise Failed(f"the machine ended; {wanted!r} was waited for: {self.complaint()}")

    def promise(self, line):
        if line.startswith(("b ", "e ")):
            before = self.promises.fsyncs
            if wrong := self.promises.line(line):
                raise Failed(wrong)
            if self.promises.fsyncs > before:
                self.happened("promise")
        else:
            raise Failed(f"the machine says: {line}")

    def complaint(self):
        log = self.folder / "console.log"
        return log.read_text(errors="replace")[-600:] if log.exists() else ""

    def read_tree(self):
        """All that is in the store, as the machine sent it."""
        self.sockets[1].setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self.take():
                pass
        self.sockets[1].setblocking(True)
        return read_archive(bytes(self.state))

    def load(self, promises):
        """Sends the script and serves until the moment comes, or all is done."""
        self.promises = promises
        text = "".join(f"{name} {' '.join(map(str, operation))}\n"
                       for name, script in promises.scripts.items() for operation in script)
        self.loading = True
        # In pieces: the machine reads disks meanwhile.
        data = text.encode() + b"\ngo\n"
        self.talk.setblocking(False)
        while data:
            with contextlib.suppress(BlockingIOError):
                data = data[self.talk.send(data):]
            for key, _ in self.selector.select(0.01):
                if not key.data():
                    raise Failed(f"the machine ended: {self.complaint()}")
        self.talk.setblocking(True)
        self.until("done")

    def cut(self):
        """Ends the machine, and hears what it had said before."""
        self.process.kill()
        self.process.wait()
        self.talk.settimeout(5)
        with contextlib.suppress(OSError):
            while self.hear():
                pass
        self.moment = None
        if self.promises:
            for line in self.lines():
                if line.startswith(("b ", "e ")):
                    self.promise(line)


def read_archive(data):
    """{path: "dir", ("link", target) or (bytes, names of the same file)} of an archive."""
    nodes, groups = {}, {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            path = member.name.removeprefix("./")
            if path in (".", ""):
                continue
            if member.isdir():
                nodes[path] = "dir"
            elif member.issym():
                nodes[path] = ("link", member.linkname)
            elif member.islnk():
                groups[member.linkname.removeprefix("./")].append(path)
            else:
                groups[path] = [path]
                nodes[path] = archive.extractfile(member).read()
    for first, names in groups.items():
        content = nodes[first]
        for name in names:
            nodes[name] = (content, frozenset(names))
    return nodes


class Test:
    """A store through all its rounds."""

    def __init__(self, options, folder):
        self.options = options
        self.folder = folder
        self.paths = [folder / f"d{n}" for n in range(DISKS)]
        self.boot = linux_guest.make(folder, pathlib.Path(__file__).with_name("reset_init.sh"),
                                     [options.pegasus_fs, options.script_load])
        self.bases = {name: file_model.Tree() for name in CLIENTS}
        self.promises = file_model.Promises({name: [] for name in CLIENTS})
        self.states = ["live"] * DISKS
        self.blank = None
        self.operations = self.fsyncs = self.writes = self.lost = self.torn = self.bytes = 0
        self.degraded = 0

    def dice(self, number, purpose):
        """Chance that depends on the seed alone, not on what went on in the machine before."""
        return random.Random(f"{self.options.seed} {number} {purpose}")

    def run_program(self, *words):
        return subprocess.run([self.options.pegasus_fs, *map(str, words)], capture_output=True,
                              text=True, check=False)

    def make_store(self):
        made = self.run_program("mkfs", *self.paths, "--size", DISK_BYTES)
        if made.returncode:
            raise Failed(made.stderr)

    def scripts(self, round_number):
        """What each client is to do from the state that was found."""
        scripts = {}
        dice = self.dice(round_number, "script")
        often = dice.choice((8, 2, 0.5))
        for number, name in enumerate(CLIENTS):
            client = file_model.Client(name, dice, self.bases[name].copy(), LIVE_MAX,
                                       round_number << 20 | number << 16, often)
            scripts[name] = [client.next() for _ in range(OPERATIONS)]
        chores = [("run", f"pegasus_fs clean {DEVICES}"), ("run", "/bin/busybox sleep 1")] * 30
        if self.blank is not None:
            chores.insert(0, ("run", f"pegasus_fs replace {DEVICES} {self.blank}"))
        return scripts | {"chores": chores}

    def plan(self, round_number):
        """(moment of the load, commands of the mount after which the power goes)."""
        dice = self.dice(round_number, "moment")
        kind = dice.choice(list(MOMENTS))
        moment = (kind, dice.randint(MOMENTS[kind] // 10, MOMENTS[kind]))
        early = dice.randint(1, 40) if round_number > 1 and dice.random() < 0.2 else None
        return moment, early

    def casualty(self, round_number):
        """[disk that dies, after how many writes and flushes of the load], if all are well."""
        dice = self.dice(round_number, "casualty")
        if self.states == ["live"] * DISKS and (round_number == 1 or dice.random() < 0.35):
            return [dice.randrange(DISKS), dice.randint(1, 300)]
        return None

    def renew(self, round_number):
        """A disk that is dead in the store comes back as it was, or blank to be rebuilt. One whose
        rebuild began before the power went stays as it is then: the mount goes on with it."""
        begun, self.blank = self.blank, None
        if begun is not None:
            return
        for number, state in enumerate(self.states):
            if state == "dead" and self.dice(round_number, "renew").random() < 0.7:
                self.blank = number
                with open(self.paths[number], "r+b") as file:
                    file.truncate(0)
                    file.truncate(DISK_BYTES)

    def verify(self, seen):
        wrong, trees, shown = file_model.judge(self.bases, self.promises, seen)
        if wrong:
            raise Failed(wrong)
        self.bases = trees
        self.operations += sum(shown.values())
        self.fsyncs += self.promises.fsyncs
        self.bytes = sum(tree.size() for tree in trees.values())
        # From here on what was found is promised: it is on the media.
        self.promises = file_model.Promises({name: [] for name in CLIENTS})

    def settle(self, status):
        """What the mount says of the disks must fit what was done to them."""
        self.states = status["disks"]
        away = [n for n, state in enumerate(self.states) if state != "live"]
        if len(away) > 1 or status["read_only"] or status["damaged"]:
            raise Failed(f"one disk was lost at most, and the mount says {status}")
        self.degraded += bool(away)

    def round(self, number):
        """A boot, the judgement of what the last one left, and a load until the power goes."""
        began = time.monotonic()
        moment, early = self.plan(number)
        self.renew(number)
        disks = [volatile_disks.Disk(path) for path in self.paths]
        machine = Machine(self.folder, self.boot, disks, moment, early)
        when = ""
        with machine:
            try:
                caches = machine.until("caches")
                if caches != " ".join(["write back"] * DISKS):
                    raise Failed(f"the machine takes the disks for {caches}")
                said = machine.until("status")
                try:
                    status = json.loads(said)
                except json.JSONDecodeError:
                    raise Failed(f"status says {said!r}") from None
                machine.until("read")
                self.settle(status)
                self.verify(machine.read_tree())
                if number == self.options.resets:
                    machine.moment = None
                    machine.load(file_model.Promises({}))
                    machine.until("unmounting")
                    machine.until("ended")
                    when = "after a clean unmount"
                else:
                    machine.dies = self.casualty(number)
                    for disk in disks:
                        disk.lies = self.options.lies
                    self.promises = file_model.Promises(self.scripts(number))
                    machine.load(self.promises)
                    when = "after the load"
            except PowerOff:
                when = (f"at {moment[0]} {moment[1]}" if machine.loading else
                        f"at command {early} of the mount")
            machine.cut()
        dice = self.dice(number, "caches")
        fates = [dice.choice(volatile_disks.FATES) for _ in disks]
        if dice.random() < 0.3 or self.options.lies or number == self.options.resets:
            fates = ["nothing"] * DISKS
        ends = [disk.power_off(fate, dice) for disk, fate in zip(disks, fates)]
        writes, sectors, survived, torn = map(sum, zip(*ends))
        self.lost += sectors - survived
        self.torn += torn
        self.writes += machine.writes
        died = next((f", disk {n} had died" for n, disk in enumerate(disks) if disk.dead), "")
        done = machine.promises or file_model.Promises({})
        print(f"{number}: disks {' '.join(self.states)}; "
              f"{sum(one.ended for one in done.told.values())} operations, {done.fsyncs} fsyncs, "
              f"{machine.writes} writes, "
              f"{machine.flushes} flushes; power off {when}{died}; {writes} writes cached, "
              f"{survived} of {sectors} sectors survive, {torn} torn "
              f"({time.monotonic() - began:.0f} s)", flush=True)
        self.promises.told.pop("chores", None)
        self.promises.scripts.pop("chores", None)
        checked = self.run_program("check", *self.paths)
        if checked.returncode:
            raise Failed(f"check: {checked.stdout[-1000:]}{checked.stderr[-500:]}")

    def run(self):
        self.make_store()
        for number in range(self.options.resets + 1):
            try:
                self.round(number)
            except Failed as failure:
                raise Failed(f"boot {number}, seed {self.options.seed}: {failure}") from None
        return (f"{self.options.resets} resets: {self.operations} operations found again, "
                f"{self.fsyncs} fsyncs promised, {self.writes} writes to the disks, {self.lost} "
                f"sectors lost with the caches, {self.torn} writes torn, {self.degraded} boots without "
                f"all disks: every fsynced byte there, order kept, check clean")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pegasus_fs")
    parser.add_argument("script_load")
    parser.add_argument("resets", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lies", action="store_true")
    parser.add_argument("--keep", metavar="FOLDER")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if options.keep:
            folder = pathlib.Path(options.keep)
            folder.mkdir(parents=True, exist_ok=True)
        else:
            # Short: a socket's path may have 108 characters at most.
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reset-")))
        try:
            print(Test(options, folder).run())
        except (Failed, linux_guest.Unavailable) as failure:
            sys.exit(f"reset_guest: {failure}")


if __name__ == "__main__":
    main()
