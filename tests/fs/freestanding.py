#!/usr/bin/env python3
"""The core's sources compile for a domain and need nothing but what a domain has.

Goal: the sources in the image are those the simulator runs; no allocation, no C++ run time.
Method: compile fs/core for the target without exceptions, RTTI and vector registers, link the
objects together, and compare what is left undefined with a short list.
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
with tempfile.TemporaryDirectory() as scratch:
    objects = []
    for source in sorted((root / "fs" / "core").glob("*.cpp")):
        objects.append(f"{scratch}/{source.stem}.o")
        subprocess.run(["clang++-19", *flags, "-c", source, "-o", objects[-1]], check=True)
    subprocess.run(["ld.lld-19", "-r", *objects, "-o", f"{scratch}/core"], check=True)
    listing = subprocess.run(["llvm-nm-19", "-u", f"{scratch}/core"], check=True,
                             capture_output=True, text=True).stdout
undefined = {line.split()[-1] for line in listing.splitlines() if line.strip()}
if undefined - allowed:
    sys.exit(f"the core needs {sorted(undefined - allowed)}")
print(f"{len(objects)} objects, undefined: {sorted(undefined)}")
