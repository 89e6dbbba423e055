#!/usr/bin/env python3
"""The sources of core, agent and server compile for a domain and need nothing but what it has.

Goal: the sources in the image are those the simulator runs; no allocation, no C++ run time.
Method: compile fs/core, fs/agent and fs/server for the target without exceptions, RTTI and vector
registers, link the objects together, and compare what is left undefined with a short list: the core
alone, an agent and what it has of the core, and all three.
usage: freestanding.py ROOT, whose sysroot has been built (tests/system/core_test.py calls it)
"""
import pathlib
import subprocess
import sys
import tempfile

allowed = {"_ZN7nemesis16assertion_failedEPKcS1_i", "memcmp", "memcpy", "memmove", "memset"}
root = pathlib.Path(sys.argv[1])
sysroot = root / "build" / "sysroot" / "include"
if not (sysroot / "c++" / "v1").is_dir():
    sys.exit("there is no sysroot: ./peg build x86_64")
flags = ["--target=x86_64-unknown-none-elf", "-std=c++23", "-O2", "-mno-red-zone",
         "-fno-stack-protector", "-nostdlibinc", "-isystem", root / "tools/cmake/config_site",
         "-isystem", sysroot / "c++" / "v1", "-isystem", sysroot, "-ffreestanding", "-fPIE",
         "-mno-mmx", "-mno-sse", "-msoft-float", "-mno-implicit-float", "-fno-exceptions",
         "-fno-rtti", "-fno-threadsafe-statics", "-Wall", "-Wextra", "-Werror", "-I", root]


def undefined(names, objects, scratch):
    """What the objects of these folders need from elsewhere."""
    together = [path for name in names for path in objects[name]]
    subprocess.run(["ld.lld-19", "-r", *together, "-o", f"{scratch}/all"], check=True)
    listing = subprocess.run(["llvm-nm-19", "-u", f"{scratch}/all"], check=True,
                             capture_output=True, text=True).stdout
    return {line.split()[-1] for line in listing.splitlines() if line.strip()}


with tempfile.TemporaryDirectory() as scratch:
    objects = {}
    for folder in ("core", "agent", "server"):
        objects[folder] = []
        for source in sorted((root / "fs" / folder).glob("*.cpp")):
            objects[folder].append(f"{scratch}/{folder}_{source.stem}.o")
            subprocess.run(["clang++-19", *flags, "-c", source, "-o", objects[folder][-1]],
                           check=True)
    for names in (("core",), ("core", "agent"), ("core", "agent", "server")):
        needed = undefined(names, objects, scratch)
        if needed - allowed:
            sys.exit(f"{' and '.join(names)}: needs {sorted(needed - allowed)}")
        count = sum(len(objects[name]) for name in names)
        print(f"{' and '.join(names)}: {count} objects, undefined: {sorted(needed)}")
