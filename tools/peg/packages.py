"""The Debian packages that peg's verbs need, and how missing ones get installed."""

import os
import shutil
import subprocess
import sys

from console import PegError, step

# Why each group exists is its name; a verb asks for the groups it uses.
GROUPS = {
    "build": ["clang-19", "lld-19", "llvm-19", "cmake", "ninja-build", "make", "binutils",
              "libstdc++-12-dev", "libc6-dev", "gnu-efi"],
    "sources": ["dpkg-dev", "ca-certificates", "xz-utils"],
    "host": ["libgtest-dev", "libbenchmark-dev", "libcli11-dev", "nlohmann-json3-dev",
             "libturbojpeg0-dev", "libfuse3-dev", "fuse3", "pkg-config", "spin", "valgrind"],
    "sanitize": ["libclang-rt-19-dev"],
    "check": ["clang-format-19"],
    "image": ["mtools", "gdisk"],
    "run": ["qemu-system-x86", "ovmf"],
    "window": ["qemu-system-gui"],
    "clip": ["ffmpeg"],
    "debug": ["gdb"],
}


def names(groups):
    """The packages of some groups, without repetition."""
    return list(dict.fromkeys(name for group in groups for name in GROUPS[group]))


def missing(groups):
    """Which packages of these groups are not installed."""
    wanted = names(groups)
    if not shutil.which("dpkg-query"):
        raise PegError("this is not a Debian system (no dpkg-query): install by hand "
                       + " ".join(wanted))
    listing = subprocess.run(["dpkg-query", "-W", "-f=${Package} ${db:Status-Status}\n", *wanted],
                             capture_output=True, text=True, check=False).stdout
    installed = {line.split()[0] for line in listing.splitlines() if line.endswith(" installed")}
    return [name for name in wanted if name not in installed]


def apt_line(packages):
    """The one line that installs packages."""
    return "apt-get install -y --no-install-recommends " + " ".join(packages)


def may_install():
    """How apt-get may be run: [] as root, ["sudo"], or None when neither works."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo"):
        quiet = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False)
        if quiet.returncode == 0 or sys.stdin.isatty():
            return ["sudo"]
    return None


def need(*groups):
    """Make sure that the packages of these groups are there, installing what is missing."""
    absent = missing(groups)
    if not absent:
        return
    prefix = may_install()
    if prefix is None:
        raise PegError("packages are missing; as root: " + apt_line(absent))
    step(f"installing {' '.join(absent)}")
    env = ["env", "DEBIAN_FRONTEND=noninteractive"]
    install = [*prefix, *env, *apt_line(absent).split()]
    quiet = ["-q", "-o", "Dpkg::Use-Pty=0", "-o", "Acquire::Retries=3",
             "-o", "DPkg::Lock::Timeout=300"]
    subprocess.run([*prefix, *env, "apt-get", *quiet, "update"], check=False,
                   stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    result = subprocess.run([*install, *quiet], check=False, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL)
    if result.returncode or missing(groups):
        print(result.stdout[-3000:], file=sys.stderr)
        raise PegError("the packages could not be installed; try: " + apt_line(absent))
