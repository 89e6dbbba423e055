"""A small Linux machine that mounts a Pegasus store: Debian's kernel, busybox, our programs.

Kernel and busybox come from Debian packages, which are downloaded and unpacked, never installed. The
kernel's name changes with each security update; when the pinned one is gone the newest is taken.
"""

import fcntl
import hashlib
import io
import pathlib
import re
import shutil
import stat
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / "build" / "cache"
sys.path.insert(0, str(ROOT / "kernel" / "font"))

import font_table  # noqa: E402  (its download of a Debian package)

# package: (version, sha256)
KERNEL = ("linux-image-6.1.0-50-cloud-amd64", "6.1.176-1",
          "efe19f605b6f54a8352e68d85a629abb2d30b72a085faef603a9152590baa791")
BUSYBOX = ("busybox-static", "1:1.35.0-4+deb12u1+b1",
           "3d3fdbe91d4660c873e14b092c213fe81c1da6362daa236eb25d0171eb108744")
NEWEST_KERNEL = "linux-image-cloud-amd64"
# In the order in which they need each other.
MODULES = ("drivers/virtio/virtio_ring", "drivers/virtio/virtio",
           "drivers/virtio/virtio_pci_legacy_dev", "drivers/virtio/virtio_pci_modern_dev",
           "drivers/virtio/virtio_pci", "drivers/block/virtio_blk", "drivers/char/virtio_console",
           "fs/fuse/fuse")
QEMU = "qemu-system-x86_64"


class Unavailable(Exception):
    """A part of the machine could not be had; the text says which, and why."""


def newest_kernel():
    """The name of the package that Debian's newest kernel is in."""
    said = subprocess.run(["apt-cache", "depends", NEWEST_KERNEL], capture_output=True, text=True,
                          check=False).stdout
    found = re.findall(r"Depends: (linux-image-\S+)", said)
    if not found:
        raise Unavailable(f"no kernel: {NEWEST_KERNEL} is not in this machine's package lists")
    return found[0]


def unpacked(package, version, sha256):
    """The folder with the files of a package, fetched once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / "guest" / f"{package}_{version.replace(':', '_')}"
    with open(CACHE / "guest.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder
        found = sorted(CACHE.glob(f"{package}_*.deb"))
        deb = found[-1] if found else font_table.download(package, version, CACHE)
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        if deb.name.split("_")[1].replace("%3a", ":") != version:
            print(f"{package} {version} is not there any more: taking {deb.name}")
        elif sha256 and digest != sha256:
            deb.unlink()
            raise Unavailable(f"{deb.name} has sha256 {digest}, not {sha256}")
        new = folder.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        subprocess.run(["dpkg-deb", "-x", deb, new], check=True)
        new.rename(folder)
    return folder


def parts():
    """(folder of the kernel's package, folder of busybox's)."""
    try:
        busybox = unpacked(*BUSYBOX)
        try:
            return unpacked(*KERNEL), busybox
        except font_table.Failed:
            newest = newest_kernel()
            print(f"{KERNEL[0]} {KERNEL[1]} is not there any more: taking {newest}")
            return unpacked(newest, "newest", ""), busybox
    except font_table.Failed as failure:
        raise Unavailable(str(failure)) from None


class Archive:
    """An initial file system: a cpio archive in the form "newc"."""

    def __init__(self):
        self.out = io.BytesIO()
        self.names = set()

    def _add(self, name, mode, data):
        path = name.encode() + b"\0"
        fields = (len(self.names) + 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        self.out.write(b"070701" + b"".join(b"%08x" % field for field in fields) + path)
        self.out.write(bytes(-self.out.tell() % 4) + data)
        self.out.write(bytes(-self.out.tell() % 4))
        self.names.add(name)

    def folder(self, name):
        """A folder and those it is in."""
        for path in [*reversed(pathlib.PurePath(name).parents), pathlib.PurePath(name)]:
            if str(path) not in (".", *self.names):
                self._add(str(path), stat.S_IFDIR | 0o755, b"")

    def file(self, name, data, mode=0o755):
        self.folder(str(pathlib.PurePath(name).parent))
        self._add(name, stat.S_IFREG | mode, data)

    def link(self, name, target):
        self.folder(str(pathlib.PurePath(name).parent))
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def program(self, name, path):
        """A program of this machine and the libraries it is linked with."""
        self.file(name, pathlib.Path(path).read_bytes())
        listing = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
        for library in re.findall(r"(/\S+) \(0x", listing):
            if library.lstrip("/") not in self.names:
                self.file(library.lstrip("/"), pathlib.Path(library).read_bytes())

    def write(self, path):
        self._add("TRAILER!!!", 0, b"")
        pathlib.Path(path).write_bytes(self.out.getvalue())


def make(folder, init, programs):
    """(kernel, initial file system) of a machine that runs the script `init` first; `programs` are
    paths of this machine, which get to /bin."""
    kernel, busybox = parts()
    archive = Archive()
    for name in ("dev", "proc", "sys", "m", "tmp"):
        archive.folder(name)
    archive.file("bin/busybox", (busybox / "bin" / "busybox").read_bytes())
    archive.link("bin/sh", "busybox")
    modules = next((kernel / "lib" / "modules").iterdir()) / "kernel"
    for number, module in enumerate(MODULES):
        name = f"{module}.ko"
        archive.file(f"modules/{number}.ko", (modules / name).read_bytes())
    archive.file("init", pathlib.Path(init).read_bytes())
    for program in programs:
        archive.program(f"bin/{pathlib.Path(program).name}", program)
    initial = pathlib.Path(folder) / "initial.cpio"
    archive.write(initial)
    return next((kernel / "boot").glob("vmlinuz-*")), initial


def command(kernel, initial, folder, disks, ports):
    """QEMU's arguments. `disks` are sockets of NBD servers, `ports` sockets on which the host waits
    for the machine's ports 1, 2 and so on; the kernel's own messages go to console.log."""
    arguments = [QEMU, "-nodefaults", "-no-user-config", "-machine", "q35", "-accel",
                 "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "640", "-display", "none",
                 "-no-reboot", "-kernel", str(kernel), "-initrd", str(initial), "-append",
                 "console=ttyS0 mitigations=off panic=-1",
                 "-chardev", f"file,id=console,path={folder}/console.log",
                 "-serial", "chardev:console", "-device", "virtio-serial-pci"]
    for number, path in enumerate(disks):
        arguments += ["-blockdev",
                      f"driver=nbd,node-name=disk{number},server.type=unix,server.path={path}",
                      "-device", f"virtio-blk-pci,drive=disk{number},write-cache=on"]
    for number, path in enumerate(ports, 1):
        arguments += ["-chardev", f"socket,id=port{number},path={path}",
                      "-device", f"virtserialport,chardev=port{number},nr={number}"]
    return arguments
