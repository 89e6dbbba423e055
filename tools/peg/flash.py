"""`peg flash`: writes the disk image to a removable disk, and reads it back."""

import json
import os
import pathlib
import stat
import subprocess

from console import PegError, Progress, ask, say, step
from paths import DISK_IMAGE, shown

NAME = "flash"
SUMMARY = "write the disk image to a USB stick or card, and verify it"

CHUNK = 4 << 20


def add_arguments(parser):
    parser.add_argument("device", type=pathlib.Path, metavar="DEVICE",
                        help="the whole disk, as /dev/sdX (all that is on it is lost)")
    parser.add_argument("--image", type=pathlib.Path, default=DISK_IMAGE, metavar="FILE",
                        help="what to write (build/nemesis.img)")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--force", action="store_true",
                        help="also a disk that is not removable, a partition or a plain file")


def describe(device):
    """What lsblk knows of a device: {name, type, rm, hotplug, size, model, mounts}."""
    columns = "NAME,TYPE,RM,HOTPLUG,SIZE,MODEL,MOUNTPOINTS"
    result = subprocess.run(["lsblk", "-J", "-b", "-o", columns, str(device)],
                            capture_output=True, text=True, check=False)
    if result.returncode:
        raise PegError(f"{device}: {result.stderr.strip() or 'not known to lsblk'}")
    disk = json.loads(result.stdout)["blockdevices"][0]
    mounts = []
    todo = [disk]
    while todo:
        part = todo.pop()
        mounts += [mount for mount in part.get("mountpoints") or [] if mount]
        todo += part.get("children") or []
    return {**disk, "mounts": mounts}


def check(device, force):
    """Refuse what should not be overwritten; return one line about the device."""
    try:
        mode = device.stat().st_mode
    except OSError as error:
        raise PegError(f"{device}: {error.strerror}") from None
    if not stat.S_ISBLK(mode):
        if stat.S_ISREG(mode) and force:
            return f"plain file {device}"
        raise PegError(f"{device} is not a disk" + (
            " (--force writes plain files too)" if stat.S_ISREG(mode) else ""))
    disk = describe(device)
    if disk["mounts"]:
        raise PegError(f"{device} is in use: mounted at {', '.join(disk['mounts'])}")
    if not force:
        if disk["type"] != "disk":
            raise PegError(f"{device} is a {disk['type']}, not a whole disk (--force overrides)")
        if not (disk["rm"] or disk["hotplug"]):
            raise PegError(f"{device} is not removable (--force overrides)")
    return f"{device}: {(disk['model'] or disk['type']).strip()}, {int(disk['size']) / 1e9:.1f} GB"


def write(image, device):
    """Write the image to the device, past the system's caches."""
    total = image.stat().st_size
    progress = Progress("writing", total // (1 << 20), every=2)
    flags = os.O_WRONLY | (os.O_EXCL if stat.S_ISBLK(device.stat().st_mode) else 0)
    descriptor = os.open(device, flags)
    with open(image, "rb") as source, os.fdopen(descriptor, "wb", buffering=0) as target:
        while chunk := source.read(CHUNK):
            view = memoryview(chunk)
            while view:
                view = view[target.write(view):]
            progress.advance(len(chunk) >> 20)
        os.fsync(target.fileno())


def verify(image, device):
    """Read the device back and compare; the caches are dropped first, so that the disk answers."""
    progress = Progress("verifying", image.stat().st_size // (1 << 20), every=2)
    with open(image, "rb") as source, open(device, "rb", buffering=0) as target:
        os.posix_fadvise(target.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        at = 0
        while wanted := source.read(CHUNK):
            found = b""
            while len(found) < len(wanted):
                more = target.read(len(wanted) - len(found))
                if not more:
                    raise PegError(f"{device} ends at byte {at + len(found)}")
                found += more
            if found != wanted:
                first = next(i for i, pair in enumerate(zip(wanted, found)) if pair[0] != pair[1])
                raise PegError(f"{device} differs from the image at byte {at + first}")
            at += len(wanted)
            progress.advance(len(wanted) >> 20)


def run(options):
    if not options.image.exists():
        raise PegError(f"there is no {shown(options.image)}: make it with ./peg image")
    line = check(options.device, options.force)
    if stat.S_ISBLK(options.device.stat().st_mode):
        if int(describe(options.device)["size"]) < options.image.stat().st_size:
            raise PegError(f"{options.device} is smaller than the image")
    if not options.yes and not ask(f"{line}. All that is on it will be lost. Write?"):
        raise PegError("nothing written (--yes writes without asking)")
    try:
        step(f"writing {shown(options.image)} to {options.device}")
        write(options.image, options.device)
        step("reading it back")
        verify(options.image, options.device)
    except OSError as error:
        raise PegError(f"{options.device}: {error.strerror}") from None
    say(f"{options.device} holds the image; verified")
    return 0
