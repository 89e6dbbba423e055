#!/usr/bin/env python3
"""The real program killed (-9) under load, again and again.

Goal: after each kill and remount no byte covered by a completed fsync is lost, writes of one
process are there in their order, and the independent checker finds the store clean.
Method: a writer makes numbered files, fsyncs some, and notes each fsync after it returned; the
mount is killed at a random time; `check` runs on the images, then the store is mounted again and
everything is read back.
usage: kill_mount.py PEGASUS_FS KILLS [SEED]; skipped (77) where there is no /dev/fuse
"""
import os
import random
import subprocess
import sys
import tempfile
import threading
import time

if not os.path.exists("/dev/fuse"):
    sys.exit(77)
program, kills = sys.argv[1], int(sys.argv[2])
generator = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)


def content(number, size):
    return (b"%08d" % number) * (size // 8)


def mount(disks, where):
    process = subprocess.Popen([program, "mount", *disks, where, "--foreground"])
    for _ in range(400):
        if os.path.ismount(where):
            return process
        if process.poll() is not None:
            sys.exit("mount ended at once")
        time.sleep(0.01)
    sys.exit("mount does not come up")


def load(where, first, durable, sizes, stop):
    number = first
    while not stop.is_set():
        size = generator.choice([8, 4096, 20000, 65536, 200000])
        size -= size % 8
        sizes[number] = size
        try:
            with open(f"{where}/f{number}", "wb") as f:
                f.write(content(number, size))
                if number % 3 == 0:
                    f.flush()
                    os.fsync(f.fileno())
                    durable.append(number)
            if number % 7 == 6 and number - 5 in sizes:
                # An fsynced removal may not come back, so sizes forgets it before.
                sizes.pop(number - 5, None)
                if number - 5 in durable:
                    durable.remove(number - 5)
                os.unlink(f"{where}/f{number - 5}")
        except OSError:
            return
        number += 1


def verify(where, durable, sizes, run):
    for number in durable:
        with open(f"{where}/f{number}", "rb") as f:
            if f.read() != content(number, sizes[number]):
                sys.exit(f"run {run}: fsynced file {number} differs")
    there = sorted(int(n[1:]) for n in os.listdir(where))
    last_durable = max(durable, default=-1)
    missing = [n for n in sizes if n < last_durable and n not in there]
    if missing:
        sys.exit(f"run {run}: {missing[:5]} were made before a later fsync and are gone")
    newest = max(there, default=0)
    gap = [n for n in sizes if n <= newest and n not in there]
    if gap:
        sys.exit(f"run {run}: order is broken: {gap[:5]} missing, {newest} there")


with tempfile.TemporaryDirectory() as scratch:
    disks = [f"{scratch}/disk{i}" for i in range(5)]
    where = f"{scratch}/mount"
    os.mkdir(where)
    subprocess.run([program, "mkfs", *disks, "--size", str(64 << 20)], check=True,
                   stdout=subprocess.DEVNULL)
    durable, sizes, first = [], {}, 0
    for run in range(kills):
        process = mount(disks, where)
        verify(where, durable, sizes, run)
        # What no fsync covered may be gone; from here on only what is there counts.
        there = {int(n[1:]) for n in os.listdir(where)}
        for number in [n for n in sizes if n not in there]:
            del sizes[number]
        for number in list(there):
            size = os.path.getsize(f"{where}/f{number}")
            sizes[number] = size
            if number not in durable and len(there) > 60:
                os.unlink(f"{where}/f{number}")
                sizes.pop(number)
        if len(durable) > 60:
            for number in durable[:40]:
                os.unlink(f"{where}/f{number}")
                sizes.pop(number, None)
            durable = durable[40:]
        with open(f"{where}/f{first + 100000}", "wb") as f:
            os.fsync(f.fileno())
        sizes[first + 100000] = 0
        os.unlink(f"{where}/f{first + 100000}")
        sizes.pop(first + 100000)
        stop = threading.Event()
        first = max(sizes, default=first) + 1
        thread = threading.Thread(target=load, args=(where, first, durable, sizes, stop))
        thread.start()
        time.sleep(generator.uniform(0.05, 0.6))
        process.kill()
        process.wait()
        stop.set()
        thread.join()
        subprocess.run(["fusermount3", "-u", "-z", where], check=False, stderr=subprocess.DEVNULL)
        result = subprocess.run([program, "check", *disks], capture_output=True, text=True)
        if result.returncode != 0:
            sys.exit(f"run {run}: {result.stdout}")
    process = mount(disks, where)
    verify(where, durable, sizes, kills)
    subprocess.run(["fusermount3", "-u", where], check=True)
    if process.wait() != 0:
        sys.exit("the last unmount was not clean")
print(f"{kills} kills, {first} files: every fsynced byte there, order kept, check clean")
