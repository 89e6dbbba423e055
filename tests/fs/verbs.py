#!/usr/bin/env python3
"""Every verb of the real program, as a newcomer would use it.

Goal: a store on five image files takes files and films in and gives them back exactly, plays with
seek, speeds and backwards, goes on with a disk away, rebuilds, refuses what it cannot guarantee,
and is salvaged when more is lost than redundancy covers; a command finds the owner of the disks
through its control socket; wrong input is one line and exit code 2.
Method: the program's own outputs, with --json; films whose frames are known from their number.
usage: verbs.py PEGASUS_FS
"""
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time

program = os.path.abspath(sys.argv[1])
folder = tempfile.TemporaryDirectory()
os.chdir(folder.name)
disks = [f"d{i}" for i in range(5)]


def run(*words, code=0, data=None):
    done = subprocess.run([program, *words], input=data, capture_output=True, check=False)
    assert done.returncode == code, (words, done.returncode, done.stdout[-500:], done.stderr)
    if code:
        assert done.stderr.count(b"\n") <= 1, done.stderr
    return done.stdout


def fs(verb, *words, code=0, data=None, on=None):
    return run(verb, *(on or disks), *words, code=code, data=data)


def answer(verb, *words, code=0):
    return json.loads(fs(verb, *words, "--json", code=code))


def refused(verb, *words, code=1, on=None):
    return json.loads(fs(verb, *words, "--json", code=code, on=on))["error"]


def picture(n):
    return bytes((n * 7 + i) % 251 for i in range(64 * 48 * 3 // 2))


def y4m(frames):
    return b"YUV4MPEG2 W64 H48 F25:1 C420\n" + b"".join(b"FRAME\n" + picture(n) for n in frames)


def wav(samples):
    body = struct.pack(f"<{len(samples)}h", *samples)
    form = struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16)
    return (b"RIFF" + struct.pack("<I", 36 + len(body)) + b"WAVEfmt " + struct.pack("<I", 16) + form
            + b"data" + struct.pack("<I", len(body)) + body)


def jpeg(n):
    scan = bytes((n * 3 + i) % 255 for i in range(700)).replace(b"\xff", b"\xff\x00")
    return b"\xff\xd8\xff\xe0\x00\x04\x01\x02\xff\xda\x00\x03\x01" + scan + b"\xff\xd9"


# Wrong input: one line, exit code 2.
for words in (["nonsense"], ["ls", "a", "b"], ["ls", *disks, "--sizes"], ["mkfs", *disks, "--size", "1x"],
              ["fail", *disks, "7"], ["simulate"], ["simulate", "--row", "99"], ["get", *disks],
              ["ls", "a", "a", "b", "c", "d"], ["play", *disks, "x", "--speed", "nan"], []):
    assert run(*words, code=2) == b"", words
assert b"--speed" in run("--help") and b"--to" in run("salvage", "--help")

# A store, which is not made over something else by accident.
assert answer("mkfs", "--size", "60M")["usable"] > 150_000_000
assert "--force" in refused("mkfs")
open("d3", "r+b").truncate(0)
open("d3", "r+b").truncate(60_000_000)
with open("d3", "r+b") as image:
    image.seek(1024 + 56)
    image.write(b"\x53\xef")  # what ext4 has there
assert "d3 holds something" in refused("mkfs", "--size", "60M") or "d0 holds" in refused("mkfs")
answer("mkfs", "--size", "60M", "--force")

# Files.
body = os.urandom(3_000_000)
fs("put", "-", "file", data=body)
fs("mkdir", "dir")
fs("put", "-", "dir/small", data=b"small")
assert fs("get", "file") == body
assert {e["name"]: e["size"] for e in answer("ls")} == {"file": 3_000_000, "dir": answer("ls")[0]["size"]
        if answer("ls")[0]["name"] == "dir" else answer("ls")[1]["size"]}
assert "No such file" in refused("get", "nothing", "x")

# Films: Y4M and WAV as one set, MJPEG from a pipe.
film = y4m(range(100))
sound = wav([(i * 37) % 20000 - 10000 for i in range(32000)])
open("film.y4m", "wb").write(film)
open("sound.wav", "wb").write(sound)
recorded = answer("record", "film.y4m", "film", "sound.wav", "sound")
assert [r["frames"] for r in recorded] == [100, 200], recorded
fs("record", "-", "clip", data=b"".join(jpeg(n) for n in range(40)))
assert fs("play", "film") == film
assert fs("play", "clip") == b"".join(jpeg(n) for n in range(40))
answer("play", "film", "o.y4m", "sound", "o.wav")
assert open("o.y4m", "rb").read() == film and open("o.wav", "rb").read() == sound
assert fs("play", "film", "--at", "2.0") == y4m(range(50, 100))
assert fs("play", "film", "--at", "2.0", "--frames", "1") == y4m([50])
assert fs("play", "film", "--speed", "-1") == y4m(range(99, -1, -1))
assert fs("play", "film", "--speed", "4") == y4m(range(0, 100, 4))
assert fs("play", "film", "--at", "1", "--speed", "-2") == y4m(range(25, -1, -2))
assert "recording already" in refused("record", "film.y4m", "film")
assert "is no stream" in refused("play", "file", "x")
open("control", "wb").write(b"".join(struct.pack("<qII", n * 1000, 10 + n, 1) for n in range(20)))
raw = b"".join(bytes([n]) * (10 + n) for n in range(20))
fs("record", "-", "raw", "--control", "control", data=raw)
assert fs("play", "raw") == raw
cut = fs("record", "-", "cut", code=1, data=film[:-100])  # up to the frame that is cut off
assert fs("play", "cut") == y4m(range(99))

# Rates: refused without a model, refused when too large, kept otherwise.
assert "calibrate" in refused("play", "film", "o.y4m", "--realtime")
assert answer("status")["calibrated"] is False
assert answer("calibrate")["bytes_per_second"] > 0
assert answer("status")["calibrated"] is True
text = refused("record", "film.y4m", "big", "--rate", "900G")
assert int(text.split("that does is ")[1].split()[0]) > 0, text
played = answer("play", "film", "o.y4m", "--realtime", "--speed", "4", "--rate", "500K")
assert played["frames"] == 25 and played["rate"] == 500_000, played

# A disk away, work, rebuild, scrub, clean, check.
answer("fail", "2")
assert "dead already" in refused("fail", "2")
assert answer("status")["disks"][2] == "dead"
assert fs("play", "film") == film and fs("get", "file") == body
fs("put", "-", "degraded", data=body[:100_000])
with open("d2", "r+b") as image:
    image.truncate(0)
    image.truncate(60_000_000)
assert answer("replace", "2")["rebuilt"] == 2
fs("rm", "clip")
answer("clean")
assert answer("scrub") == {"repaired": 0, "damaged": 0, "lost_garbage": 0}
assert answer("check")["clean"] is True

# Through the owner of the disks.
if os.path.exists("/dev/fuse"):
    os.mkdir("m")
    fs("mount", "m", "--streams", "4")
    owner = answer("status")
    assert owner["mounted_at"] == "m" and owner["streams"] == 4
    assert f"process {owner['owner']} owns" in refused("mount", "m", "--foreground")
    assert str(owner["owner"]) in refused("check")
    assert open("m/file", "rb").read() == body
    with open("m/new", "wb") as f:
        f.write(body)
    assert fs("get", "new") == body
    fs("put", "-", "put", data=body)
    assert open("m/put", "rb").read() == body
    fs("record", "film.y4m", "film2")
    assert fs("play", "film2", "--speed", "-1") == y4m(range(99, -1, -1))
    # A player that is killed leaves its place to others.
    for _ in range(6):
        player = subprocess.Popen([program, "play", *disks, "film", "x.y4m", "--realtime", "--rate", "100K"],
                                  stderr=subprocess.DEVNULL)
        time.sleep(0.2)
        player.kill()
        player.wait()
    assert fs("play", "film") == film
    answer("fail", "4")
    assert fs("get", "new") == body
    with open("d4", "r+b") as image:
        image.truncate(0)
        image.truncate(60_000_000)
    answer("replace", "4")
    os.kill(owner["owner"], signal.SIGTERM)
    for _ in range(200):
        if not os.path.ismount("m"):
            break
        time.sleep(0.05)
    assert answer("check")["clean"] is True
    assert fs("get", "new") == body

assert "--tertiary" in refused("migrate", "file")

# Salvage: a sound store whole; without superblocks and checkpoints; beyond redundancy.
assert answer("salvage", "--to", "s0")["lost_blocks"] == 0
assert open("s0/file", "rb").read() == body and open("s0/dir/small", "rb").read() == b"small"
assert open("s0/film", "rb").read() == film[film.index(b"FRAME"):]
assert "empty" in refused("salvage", "--to", "s0")
for name in disks:
    size = os.path.getsize(name) // 4096 * 4096
    with open(name, "r+b") as image:
        image.write(bytes(40 * 4096))
        image.seek(size - 4096)
        image.write(bytes(4096))
assert "no Pegasus store" in refused("ls")
assert answer("salvage", "--to", "s1")["lost_blocks"] == 0
assert open("s1/file", "rb").read() == body and open("s1/dir/small", "rb").read() == b"small"
with open("d1", "r+b") as image:
    image.truncate(0)
with open("d3", "r+b") as image:
    image.seek(4096 * 64 * 2)
    image.write(bytes(4096 * 64))
lost = answer("salvage", "--to", "s2", code=1)
copied = open("s2/file", "rb").read() if os.path.exists("s2/file") else b""
for at in range(0, len(copied), 4096):
    assert copied[at:at + 4096] in (body[at:at + 4096], bytes(len(copied[at:at + 4096]))), at
assert lost["lost_blocks"] > 0 and lost["lost"]

# The shelf: what goes there leaves the disks, and comes back when it is read or played.
disks = [f"e{i}" for i in range(5)]
assert "holds something" in refused("mkfs", "--size", "60M", "--tertiary", "s0")
answer("mkfs", "--size", "60M", "--tertiary", "shelf")
assert "shelf already" in refused("mkfs", "--size", "60M", "--tertiary", "shelf", on=[f"g{i}" for i in range(5)])
fs("mkdir", "old")
fs("put", "-", "old/file", data=body)
fs("put", "-", "new", data=body)
fs("record", "film.y4m", "old/film")
assert answer("migrate", "new", "--cold", "3600")["files"] == 0
moved = answer("migrate", "old")
assert moved["files"] == 2 and moved["bytes"] > len(body), moved
state = answer("status")
assert state["shelf"].endswith("/shelf") and state["shelf_there"] and state["units"] > 1, state
assert {entry["name"]: entry["on_shelf"] for entry in answer("ls", "old")} == {"file": True, "film": True}
free = state["free"]
answer("clean")
assert answer("status")["free"] > free
looked = answer("check")
assert looked["clean"] and looked["shelved"] > 100 and looked["shelved_unread"] == 0, looked
assert answer("salvage", "--to", "s3")["lost_blocks"] == 0
assert open("s3/old/file", "rb").read() == body
told = subprocess.run([program, "play", *disks, "old/film"], capture_output=True, check=True)
assert told.stdout == film and b"on the shelf; about " in told.stderr, told.stderr
os.rename("shelf", "away")  # a shelf that is not there: an error with a name, and all else works
assert "shelf" in refused("get", "old/file", "o.bin") and fs("get", "new") == body
assert answer("status")["shelf_there"] is False
looked = answer("check")
assert looked["clean"] and looked["shelved_unread"] == looked["shelved"] > 0, looked
os.rename("away", "shelf")
units = [os.path.join(at, name) for at, _, names in os.walk("shelf/units") for name in names]
whole = {unit: open(unit, "rb").read() for unit in units}
for unit, data in whole.items():  # somebody changes a byte of the first block of each
    with open(unit, "wb") as out:
        out.write(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
assert "damaged" in refused("get", "old/file", "o.bin")
assert answer("check", code=1)["problems"] > 0
for unit, data in whole.items():
    with open(unit, "wb") as out:
        out.write(data)
assert answer("recall", "old")["files"] == 1
assert fs("get", "old/file") == body and answer("check")["shelved"] == 0
answer("clean")
answer("clean")
assert not [name for _, _, names in os.walk("shelf/units") for name in names]
disks = [f"d{i}" for i in range(5)]
assert answer_row["passed"] if (answer_row := json.loads(
    run("simulate", "--row", "10", "--count", "1", "--json"))) else False
print("verbs: all as promised")
