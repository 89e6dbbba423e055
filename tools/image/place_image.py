#!/usr/bin/env python3
"""Links an image at the address that the hash of its code gives it.

Usage: place_image.py --register FILE [--shared-segment EXPORTS] -- ld.lld-19 ARGUMENTS...
       place_image.py --register FILE --settle IMAGE...

The link is run twice: at a base that no image has, to get the code, and at the final address.

  hash      as ElfImage::text_hash (libnemesis/base/elf_image.h): XXH64 over the file bytes of each
            executable segment in order of address, seeded with (hash of those before, 0 at first)
            xor (offset of the segment from the image's begin).
  address   4-level paging: 2^22 slots of 16 MiB from 0x4000_0000_0000; slot = hash mod 2^22. A
            larger image takes the following slots too, at most 16. A slot that another image of
            this build has is passed over, to the next. The shared segment's slots are the 2^15
            from 0x2000_0000_0000, without the first: the window that all domains share.

Programs lie further than 2 GiB from the shared segment, so that the linker never shortens a call
into it: the same source gives the same code wherever the image comes to lie.

Links run side by side, so which of two colliding images comes first is chance. --settle, after all
links, moves images until it is as if they had come in order of their names, and strikes images that
are no longer built from the register. Then the same sources give the same addresses.

--shared-segment says that the image is the one every domain maps, and writes EXPORTS, an ELF file
with the symbols programs may use (ld.lld --just-symbols): those defined strongly in namespace
nemesis, and those that begin with nem_ or __nem_. All others stay private: a program brings its own
copy of inline functions, templates and the C library.
"""

import argparse
import contextlib
import fcntl
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

SLOT_BYTES = 16 << 20
SLOTS = 1 << 22
SLOTS_PER_IMAGE_MAX = 16
REGION = 0x4000_0000_0000
FIRST_BASE = 0x1800_0000_0000
# Where the shared segment goes: the window that every domain has in common (kernel/abi/layout.h).
# Its first slot holds the time page.
SHARED_REGION = 0x2000_0000_0000
SHARED_SLOTS = 1 << 15

PT_LOAD = 1
PT_GNU_RELRO = 0x6474E552
PF_X = 1
PF_W = 2
EXPORTED = re.compile(r"_Z(T[VIST])?N[KVrRO]*7nemesis|(__)?nem_")


class BadImage(Exception):
    """An image that cannot be placed, with the reason."""


class Segment:
    """One program header."""

    def __init__(self, raw):
        (self.type, self.flags, self.offset, self.vaddr, _, self.filesz, self.memsz,
         self.align) = struct.unpack("<IIQQQQQQ", raw)


class Image:
    """An ELF64 executable: its segments, and what follows from them."""

    def __init__(self, data):
        if data[:6] != b"\x7fELF\x02\x01":
            raise BadImage("not a little-endian ELF64 file")
        self.data = data
        self.phoff, self.shoff = struct.unpack_from("<QQ", data, 32)
        entsize, self.phnum = struct.unpack_from("<HH", data, 54)
        self.headers_end = self.phoff + entsize * self.phnum
        self.segments = [Segment(data[self.phoff + i * entsize:self.phoff + i * entsize + 56])
                         for i in range(self.phnum)]
        self.loads = sorted((s for s in self.segments if s.type == PT_LOAD and s.memsz),
                            key=lambda s: s.vaddr)
        self.relro = {s.vaddr for s in self.segments if s.type == PT_GNU_RELRO and s.memsz}

    def check(self, base):
        """Refuse an image that breaks the rules of the address space."""
        if not self.loads or self.loads[0].vaddr != base:
            raise BadImage(f"the first segment is not at {base:#x}")
        end = base
        for s in self.loads:
            if s.flags & PF_W and s.flags & PF_X:
                raise BadImage(f"segment at {s.vaddr:#x} is writable and executable")
            if s.vaddr % 4096 or s.vaddr < end:
                raise BadImage(f"segment at {s.vaddr:#x} shares a page with the one before")
            end = (s.vaddr + s.memsz + 4095) & ~4095
        self.size = end - base

    def shape(self):
        """What must be equal in both links."""
        return [(s.vaddr - self.loads[0].vaddr, s.filesz, s.memsz, s.flags) for s in self.loads]

    def text_hash(self):
        """The hash of the code, as described at the top of this file."""
        value = 0
        for s in self.loads:
            if s.flags & PF_X:
                contents = self.data[s.offset:s.offset + s.filesz]
                value = xxh64(contents, value ^ (s.vaddr - self.loads[0].vaddr))
        return value


MASK = (1 << 64) - 1
PRIMES = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63,
          0x27D4EB2F165667C5)


def rotate(value, by):
    """`value`, 64 bits wide, rotated left."""
    return ((value << by) | (value >> (64 - by))) & MASK


def xxh64(data, seed=0):
    """XXH64 of `data`."""
    p1, p2, p3, p4, p5 = PRIMES
    whole = len(data) // 32 * 32
    if whole:
        lanes = [(seed + p1 + p2) & MASK, (seed + p2) & MASK, seed, (seed - p1) & MASK]
        for words in struct.iter_unpack("<4Q", data[:whole]):
            for i, word in enumerate(words):
                lane = (lanes[i] + word * p2) & MASK
                lanes[i] = ((lane << 31 | lane >> 33) * p1) & MASK
        h = sum(rotate(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18))) & MASK
        for lane in lanes:
            h = ((h ^ rotate(lane * p2 & MASK, 31) * p1 & MASK) * p1 + p4) & MASK
    else:
        h = (seed + p5) & MASK
    h = (h + len(data)) & MASK
    at = whole
    while len(data) - at >= 8:
        word, = struct.unpack_from("<Q", data, at)
        h = (rotate(h ^ rotate(word * p2 & MASK, 31) * p1 & MASK, 27) * p1 + p4) & MASK
        at += 8
    if len(data) - at >= 4:
        word, = struct.unpack_from("<I", data, at)
        h = (rotate(h ^ word * p1 & MASK, 23) * p2 + p3) & MASK
        at += 4
    for byte in data[at:]:
        h = rotate(h ^ byte * p5 & MASK, 11) * p1 & MASK
    h = (h ^ h >> 33) * p2 & MASK
    h = (h ^ h >> 29) * p3 & MASK
    return h ^ h >> 32


def slots_of(size):
    """How many slots an image of `size` bytes takes."""
    return max(1, -(-size // SLOT_BYTES))


def choose_slot(wanted, count, taken):
    """The first slot from `wanted` on with `count` free ones, wrapping at the region's end.

    `taken` is a list of (first slot, number of slots).
    """
    if count > SLOTS_PER_IMAGE_MAX:
        raise BadImage(f"the image takes {count} slots of 16 MiB, more than {SLOTS_PER_IMAGE_MAX}")
    slot = wanted if wanted + count <= SLOTS else 0
    for _ in range(2 * len(taken) + 2):
        blocking = [t for t in taken if t[0] < slot + count and slot < t[0] + t[1]]
        if not blocking:
            return slot
        slot = max(first + length for first, length in blocking)
        if slot + count > SLOTS:
            slot = 0
    raise BadImage("no free slot")


def settled_slots(register):
    """The slot of each program when they are placed in order of their names."""
    slots, taken = {}, []
    for name, entry in sorted(register.items()):
        if not entry["shared"]:
            slots[name] = choose_slot(int(entry["hash"], 16) % SLOTS, entry["slots"], taken)
            taken.append((slots[name], entry["slots"]))
    return slots


def settle(path, images):
    """Move the programs among `images` to the slots that their names' order gives them."""
    with locked_register(path) as register:
        for name in set(register) - set(images):
            del register[name]
        for name, slot in settled_slots(register).items():
            entry = register[name]
            if entry["slot"] == slot:
                continue
            base = REGION + slot * SLOT_BYTES
            print(f"{name}: moves to {base:#x}")
            os.chdir(entry["folder"])
            image = link(entry["command"], base, entry["file"])
            if image.text_hash() != int(entry["hash"], 16):
                raise BadImage(f"{name}: the code depends on the address it is linked at")
            entry["slot"], entry["base"] = slot, f"{base:#x}"


def taken_by_others(register, name):
    """The slots that image `name` must avoid, from the register of this build."""
    taken = []
    for other, entry in register.items():
        if other == name or not pathlib.Path(entry["file"]).exists():
            continue
        first, count = entry["slot"], entry["slots"]
        if not entry["shared"]:
            taken.append((first, count))
    return taken


@contextlib.contextmanager
def locked_register(path):
    """The register of this build's images, for one user at a time, saved at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        register = json.loads(path.read_text()) if path.exists() else {}
        yield register
        new = path.with_suffix(".new")
        new.write_text(json.dumps(register, indent=1, sort_keys=True) + "\n")
        new.rename(path)


def link(command, base, output):
    """Run the linker with the image at `base`; return the image."""
    at = command.index("-o")
    command = command[:at + 1] + [str(output)] + command[at + 2:]
    result = subprocess.run(command + [f"--defsym=image_base={base:#x}"], check=False)
    if result.returncode:
        sys.exit(result.returncode)
    image = Image(pathlib.Path(output).read_bytes())
    image.check(base)
    return image


def exported_symbols(path):
    """Names of the symbols that a shared segment offers to programs."""
    listing = subprocess.run(["llvm-nm-19", "--defined-only", "--extern-only", "--format=posix",
                              str(path)], capture_output=True, text=True, check=True).stdout
    names = []
    for line in listing.splitlines():
        name, kind = line.split()[:2]
        if kind in "ATRDB" and EXPORTED.match(name):
            names.append(name)
    return names


def write_exports(image, exports):
    """Write an ELF file that has only the exported symbols of `image`."""
    with tempfile.NamedTemporaryFile("w", suffix=".names") as names:
        names.write("\n".join(exported_symbols(image)) + "\n")
        names.flush()
        subprocess.run(["llvm-objcopy-19", "--strip-debug", "--discard-all",
                        f"--keep-global-symbols={names.name}", str(image), str(exports)],
                       check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--register", type=pathlib.Path, required=True)
    parser.add_argument("--shared-segment", type=pathlib.Path, metavar="EXPORTS")
    parser.add_argument("--settle", nargs="+", metavar="IMAGE")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.settle:
        settle(options.register, options.settle)
        return
    command = [part for i, part in enumerate(options.command) if i or part != "--"]
    output = pathlib.Path(command[command.index("-o") + 1])
    is_segment = options.shared_segment is not None
    uses_shared = any(part.startswith("--just-symbols") for part in command)
    name = output.name

    with tempfile.TemporaryDirectory() as folder:
        trial = link(command, FIRST_BASE, pathlib.Path(folder) / name)
    code_hash = trial.text_hash()
    count = slots_of(trial.size)
    with locked_register(options.register) as register:
        if is_segment:
            if count != 1:
                raise BadImage("the shared segment is larger than a slot")
            slot = wanted = 1 + code_hash % (SHARED_SLOTS - 1)
            base = SHARED_REGION + slot * SLOT_BYTES
        else:
            wanted = code_hash % SLOTS
            slot = choose_slot(wanted, count, taken_by_others(register, name))
            base = REGION + slot * SLOT_BYTES
        if slot != wanted:
            print(f"{name}: slot {wanted:#x} is taken, using {slot:#x}")
        register[name] = {"file": str(output.resolve()), "hash": f"{code_hash:#018x}",
                          "base": f"{base:#x}", "size": trial.size, "slot": slot, "slots": count,
                          "shared": is_segment, "uses_shared": uses_shared,
                          "folder": os.getcwd(), "command": command}
    final = link(command, base, output)
    if final.shape() != trial.shape() or final.text_hash() != code_hash:
        output.unlink()
        raise BadImage("the code depends on the address it is linked at")
    if is_segment:
        write_exports(output, options.shared_segment)


if __name__ == "__main__":
    try:
        main()
    except BadImage as bad:
        sys.exit(f"place_image: {bad}")
