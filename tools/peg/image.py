"""`peg image`: the disk image that firmware boots, and its EFI system partition.

GPT, one FAT32 partition from 1 MiB on, with the loader as EFI/BOOT/BOOTX64.EFI and beside it what
the loader reads: kernel.elf and boot.archive. The same contents give the same bytes: identifiers
are fixed and times are those of the last commit.
"""

import os
import pathlib
import subprocess

import archives
import build
import packages
from console import PegError, say, step
from paths import ARCHIVE, BUILD, DISK_IMAGE, KERNEL, LOADER, shown

NAME = "image"
SUMMARY = "make the GPT disk image that UEFI firmware boots"

MIB = 1 << 20
# FAT32 wants at least 65525 clusters of 512 bytes.
PARTITION_MIB_MIN = 36
DISK_ID = "6E656D65-7369-7300-0000-000000000001"
PARTITION_ID = "6E656D65-7369-7300-0000-000000000002"
VOLUME_ID = "4E454D53"


def add_arguments(parser):
    parser.add_argument("--output", type=pathlib.Path, default=DISK_IMAGE, metavar="FILE",
                        help="where to write it (build/nemesis.img)")
    parser.add_argument("--manifest", type=pathlib.Path, metavar="FILE",
                        help="what the machine runs (the demo)")
    parser.add_argument("--no-build", action="store_true", help="take what is built already")


def run_tool(*command):
    """Run a tool quietly; on failure say what it said."""
    stamp = subprocess.run(["git", "log", "-1", "--format=%ct"], capture_output=True, text=True,
                           check=False, cwd=BUILD.parent).stdout.strip() or "1"
    # A machine's own mtools configuration must not have a say.
    env = dict(os.environ, SOURCE_DATE_EPOCH=stamp, TZ="UTC", MTOOLSRC="/dev/null")
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                            check=False, env=env, stdin=subprocess.DEVNULL)
    if result.returncode:
        raise PegError(f"{command[0]} failed: {(result.stderr or result.stdout).strip()[-400:]}")
    return result.stdout


def make_image(output, files):
    """Write a disk image with `files`: a dict from paths in the partition to files here."""
    absent = [str(path) for path in files.values() if not pathlib.Path(path).exists()]
    if absent:
        raise PegError("nothing to put into the image yet: no " + ", ".join(map(shown, absent)))
    packages.need("image")
    content = sum(pathlib.Path(path).stat().st_size for path in files.values())
    partition = max(PARTITION_MIB_MIN, content * 5 // 4 // MIB + 2)
    output = pathlib.Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    new = output.with_name(output.name + ".new")
    new.unlink(missing_ok=True)
    # 1 MiB before the partition, and one after it for the second partition table.
    with open(new, "wb") as file:
        file.truncate((partition + 2) * MIB)
    run_tool("sgdisk", "-o", "-U", DISK_ID, "-n", f"1:2048:+{partition}M", "-t", "1:ef00", "-c",
             "1:ESP", "-u", f"1:{PARTITION_ID}", new)
    if "EF00" not in run_tool("sgdisk", "-p", new):
        raise PegError("sgdisk made no partition")
    at = f"{new}@@{MIB}"
    run_tool("mformat", "-i", at, "-F", "-T", partition * MIB // 512, "-h", 16, "-s", 63, "-H",
             2048, "-N", VOLUME_ID, "-v", "NEMESIS", "::")
    made = set()
    for name, path in sorted(files.items()):
        parents = pathlib.PurePosixPath(name).parents
        for folder in reversed([str(p) for p in parents if str(p) != "."]):
            if folder not in made:
                run_tool("mmd", "-i", at, f"::/{folder}")
                made.add(folder)
        run_tool("mcopy", "-i", at, path, f"::/{name}")
    new.replace(output)
    return output


def boot_files():
    """What the partition holds."""
    return {"EFI/BOOT/BOOTX64.EFI": LOADER, "kernel.elf": KERNEL, "boot.archive": ARCHIVE}


def ensure(output=DISK_IMAGE):
    """The disk image, made anew from what is built."""
    return make_image(output, boot_files())


def run(options):
    manifest = archives.manifest_file(options.manifest)
    if not options.no_build:
        build.build("x86_64")
    step("making the disk image")
    archives.make(ARCHIVE.stem, manifest, built=True)
    output = ensure(options.output)
    say(f"{shown(output)}: {output.stat().st_size // MIB} MiB; try it with ./peg run --uefi, write "
        "it with ./peg flash DEVICE")
    return 0
