#!/usr/bin/env python3
"""The mounted file server beside btrfs RAID-5, on files of the same kind, in one run.

usage: beside_btrfs.py PEGASUS_FS [--mib SIZE] [--files N] [--rounds N] [--folder DIR]   (as root)

Each gets five sparse files in one folder: Pegasus FS opens them, btrfs has them as loop devices.
The two take turns, and of each figure the least time of all rounds counts, so that other load on
the machine shows little. Files are read after the mount is made anew and the host's cache dropped.
Ends with 1 if one of the sequential figures is under half of btrfs's, with 77 and one line where
the host cannot do it.
"""
import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

LIMIT = 0.5
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True,
                          text=True).stdout


class Pegasus:
    def __init__(self, program, folder, disk_bytes):
        self.program, self.where = program, folder / "pegasus"
        self.disks = [folder / f"p{i}" for i in range(5)]
        self.disk_bytes, self.process = disk_bytes, None

    def make(self):
        self.where.mkdir()
        run(self.program, "mkfs", *self.disks, "--size", self.disk_bytes)

    def mount(self):
        self.process = subprocess.Popen([self.program, "mount", *self.disks, self.where,
                                         "--foreground"])
        while not os.path.ismount(self.where):
            if self.process.poll() is not None:
                sys.exit("the mount ended at once")
            time.sleep(0.01)

    def unmount(self):
        run("fusermount3", "-u", self.where)
        if self.process.wait() != 0:
            sys.exit("the unmount was not clean")

    def end(self):
        pass


class Btrfs:
    def __init__(self, folder, disk_bytes):
        self.where, self.loops = folder / "btrfs", []
        self.images = [folder / f"b{i}" for i in range(5)]
        self.disk_bytes = disk_bytes

    def make(self):
        self.where.mkdir()
        for image in self.images:
            with open(image, "wb") as f:
                f.truncate(self.disk_bytes)
            self.loops.append(run("losetup", "-f", "--show", image).strip())
        run("mkfs.btrfs", "-q", "-f", "-d", "raid5", "-m", "raid5", *self.loops)

    def mount(self):
        run("mount", "-t", "btrfs", self.loops[0], self.where)

    def unmount(self):
        run("umount", self.where)

    def end(self):
        """Gives every loop device back, one that was made as a signal came, too: the images know."""
        for image in self.images:
            if image.exists():
                for line in run("losetup", "-j", image).splitlines():
                    subprocess.run(["losetup", "-d", line.split(":")[0]], check=False)


def timed(action):
    start = time.monotonic()
    action()
    return time.monotonic() - start


def again(system):
    system.unmount()
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    system.mount()


def write_sequentially(where, mib):
    block = os.urandom(1 << 20)
    with open(where / "big", "wb", buffering=0) as f:
        for _ in range(mib):
            f.write(block)
        os.fsync(f.fileno())


def read_sequentially(where):
    with open(where / "big", "rb", buffering=0) as f:
        while f.read(1 << 20):
            pass


def names(where, files):
    return [where / f"d{i % 50}" / f"f{i}" for i in range(files)]


def to_disk(where):
    """fsync of a directory is all of it for Pegasus FS, sync for btrfs."""
    descriptor = os.open(where, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    os.sync()


def make_files(where, files):
    for i in range(min(50, files)):
        (where / f"d{i}").mkdir()
    for name in names(where, files):
        name.write_bytes(b"s" * 4096)
    to_disk(where)


def read_files(where, files):
    for name in names(where, files):
        name.read_bytes()


def remove_files(where, files):
    for name in names(where, files):
        name.unlink()
    to_disk(where)


def measure(system, mib, files):
    result = {}
    system.mount()
    where = system.where
    result["sequential write, MiB/s"] = mib / timed(lambda: write_sequentially(where, mib))
    again(system)
    result["sequential read, MiB/s"] = mib / timed(lambda: read_sequentially(where))
    result["4 KiB files made, /s"] = files / timed(lambda: make_files(where, files))
    again(system)
    result["4 KiB files read, /s"] = files / timed(lambda: read_files(where, files))
    result["4 KiB files removed, /s"] = files / timed(lambda: remove_files(where, files))
    for folder in where.glob("d*"):
        folder.rmdir()
    (where / "big").unlink()
    os.sync()
    system.unmount()
    return result


def cannot():
    if os.geteuid() != 0:
        return "it needs root, for loop devices"
    if not os.path.exists("/dev/fuse") or not os.path.exists("/dev/loop-control"):
        return "the host has no /dev/fuse or no loop devices"
    if not shutil.which("mkfs.btrfs") and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-q", "btrfs-progs"], check=False,
                       capture_output=True)
    if not shutil.which("mkfs.btrfs"):
        return "mkfs.btrfs is missing and cannot be installed (Debian: btrfs-progs)"
    if "btrfs" not in pathlib.Path("/proc/filesystems").read_text() and \
            subprocess.run(["modprobe", "btrfs"], check=False, capture_output=True).returncode:
        return "the host's kernel has no btrfs"
    return None


def ended(number, frame):
    """A signal that would end the program ends the run in order instead: `finally` is executed."""
    sys.exit(128 + number)


def main():
    for number in ENDING:
        signal.signal(number, ended)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder")
    options = parser.parse_args()
    if why := cannot():
        print(f"not measured: {why}")
        sys.exit(77)
    program = pathlib.Path(options.program).resolve()
    best = [{}, {}]
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = pathlib.Path(scratch)
        disk_bytes = max(options.mib, 512) << 20
        systems = [Pegasus(program, folder, disk_bytes), Btrfs(folder, disk_bytes)]
        try:
            for system in systems:
                system.make()
            for _ in range(options.rounds):
                for i, system in enumerate(systems):
                    for name, value in measure(system, options.mib, options.files).items():
                        best[i][name] = max(best[i].get(name, 0), value)
        finally:
            for number in ENDING:
                signal.signal(number, signal.SIG_IGN)  # the host gets back what it lent first
            for system in systems:
                if os.path.ismount(system.where):
                    subprocess.run(["umount", "-l", system.where], check=False)
                system.end()
    print(f"{options.mib} MiB, {options.files} files, best of {options.rounds} rounds in turn")
    print("| | Pegasus FS | btrfs RAID-5 | ratio |\n|---|---|---|---|")
    missed = False
    for name, mine in best[0].items():
        ratio = mine / best[1][name]
        missed |= name.startswith("sequential") and ratio < LIMIT
        print(f"| {name} | {mine:,.0f} | {best[1][name]:,.0f} | {ratio:.2f} |")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
