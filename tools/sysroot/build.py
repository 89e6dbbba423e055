#!/usr/bin/env python3
"""Builds the target's C and C++ libraries into build/sysroot, once.

musl, libunwind, libc++abi, libc++, compiler builtins and libjpeg-turbo, from Debian's source
packages at the pinned versions below, fetched into build/cache and checked by apt's signed lists
and by the sha256 here. All of it is position independent and without a red zone. The stamp holds a
hash of this recipe; a second call with the same recipe returns at once.
"""

import argparse
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# name: (Debian version, file, sha256)
PACKAGES = {
    "musl": ("1.2.3-1", "musl_1.2.3.orig.tar.gz",
             "7d5b0b6062521e4627e099e4c9dc8248d32a30285e959b7eecaa780cf8cfd4a4"),
    "llvm-toolchain-19": ("1:19.1.7-3~deb12u1", "llvm-toolchain-19_19.1.7.orig.tar.xz",
                          "ae498f3bc58ae2d9f64ef5f0c035c4240152bf015a5b7738b15c22e93bdc97ce"),
    "libjpeg-turbo": ("1:2.1.5-2", "libjpeg-turbo_2.1.5.orig.tar.gz",
                      "254f3642b04e309fee775123133c6464181addc150499561020312ec61c1bf7c"),
}

# The parts of the LLVM tree that the build needs, below its top folder.
LLVM_PARTS = ("libunwind", "libcxxabi", "libcxx/src", "libcxx/include", "libcxx/cmake",
              "libcxx/docs", "libcxx/modules", "libcxx/utils", "libcxx/vendor", "libcxx/lib",
              "libcxx/CMakeLists.txt", "runtimes", "cmake", "llvm/cmake", "llvm/utils/llvm-lit",
              "compiler-rt/lib/builtins")

TARGET = "x86_64-unknown-none-elf"
# -fno-plt: what libnemesis provides is further away than a call instruction reaches.
CODE_FLAGS = ["-O2", "-g1", "-fPIE", "-fno-plt", "-mno-red-zone", "-fno-stack-protector",
              "-ffunction-sections", "-fdata-sections"]

# 128-bit and complex arithmetic that compiled code calls by name.
BUILTINS = """ashldi3 ashlti3 ashrdi3 ashrti3 clzdi2 clzti2 cmpti2 ctzdi2 ctzti2 divdc3 divsc3
divti3 divxc3 ffsti2 fixdfti fixsfti fixunsdfti fixunssfti fixunsxfti fixxfti floattidf floattisf
floattixf floatuntidf floatuntisf floatuntixf lshrti3 modti3 muldc3 mulsc3 multi3 mulxc3 mulodi4
muloti4 negti2 paritydi2 parityti2 popcountdi2 popcountti2 powidf2 powisf2 powixf2 ucmpti2
udivmodti4 udivti3 umodti3""".split()

MUSL_REPLACED = {
    "arch/x86_64/syscall_arch.h": "syscall_arch.h",
    "src/thread/x86_64/__set_thread_area.c": "set_thread_area.c",
    "src/thread/x86_64/clone.c": "clone.c",
    "src/thread/x86_64/syscall_cp.c": "syscall_cp.c",
}
# Assembly with system call instructions: replaced above, or by musl's own portable C.
MUSL_REMOVED = ("src/thread/x86_64/__set_thread_area.s", "src/thread/x86_64/clone.s",
                "src/thread/x86_64/syscall_cp.s", "src/thread/x86_64/__unmapself.s",
                "src/signal/x86_64/restore.s", "src/process/x86_64/vfork.s")


class Failed(Exception):
    """A step that went wrong, with a message for the user."""


class Builder:
    """One build of the sysroot: where things are, and a log with times."""

    def __init__(self, out, cache, jobs):
        self.out = out
        self.cache = cache
        self.jobs = jobs
        self.work = out.parent / "sysroot.work"
        self.stage = out.parent / "sysroot.new"
        self.log = out.parent / "sysroot.log"
        self.began = time.monotonic()
        # No path of this machine in the result.
        self.code_flags = [*CODE_FLAGS, f"-ffile-prefix-map={self.work}=sysroot",
                           f"-ffile-prefix-map={cache}/src=sysroot",
                           f"-ffile-prefix-map={self.stage}=sysroot"]

    def say(self, text):
        print(f"sysroot [{time.monotonic() - self.began:5.1f} s] {text}", flush=True)

    def run(self, command, cwd=None, env=None):
        """Run a command, its output into the log; on failure show the log's end."""
        with open(self.log, "a", encoding="utf-8") as log:
            log.write("+ " + " ".join(map(str, command)) + "\n")
            log.flush()
            result = subprocess.run(command, cwd=cwd, env=env, stdout=log,
                                    stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        if result.returncode:
            tail = self.log.read_text(errors="replace").splitlines()[-40:]
            raise Failed("\n".join(tail) + f"\nsysroot: failed: {' '.join(map(str, command))}")


def recipe_hash():
    """What the result depends on: this recipe, musl's replaced parts, the compiler."""
    digest = hashlib.sha256(pathlib.Path(__file__).read_bytes())
    for path in sorted((HERE / "musl").iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    version = subprocess.run(["clang-19", "--version"], capture_output=True, text=True, check=True)
    digest.update(version.stdout.splitlines()[0].encode())
    return digest.hexdigest()


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def source_entries():
    """The machine's own Debian entries, as entries for source packages."""
    entries = []
    apt = pathlib.Path("/etc/apt")
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text()):
            if re.search(r"^URIs:.*/debian(-security)?/?\s*$", stanza, re.M):
                entries.append(re.sub(r"^Types:.*$", "Types: deb-src", stanza, flags=re.M))
    lines = []
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]:
        if path.exists():
            for line in path.read_text().splitlines():
                if re.match(r"deb\s.*/debian(-security)?/?\s", line):
                    lines.append(re.sub(r"^deb\s", "deb-src ", line))
    return "\n\n".join(entries) + "\n", "\n".join(lines) + "\n"


def fetch(builder):
    """Return {package: tarball}, downloading what the cache lacks."""
    builder.cache.mkdir(parents=True, exist_ok=True)
    files = {}
    missing = []
    for name, (version, file, digest) in PACKAGES.items():
        path = builder.cache / file
        if path.exists() and sha256_of(path) == digest:
            files[name] = path
        else:
            path.unlink(missing_ok=True)
            missing.append(name)
    if not missing:
        return files

    apt = builder.cache / "apt"
    for folder in ("parts", "lists/partial", "archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    deb822, lines = source_entries()
    (apt / "parts" / "debian.sources").write_text(deb822)
    (apt / "parts" / "debian.list").write_text(lines)
    get = ["apt-get", "-q", "-o", "Dir::Etc::sourcelist=/dev/null",
           "-o", f"Dir::Etc::sourceparts={apt}/parts", "-o", f"Dir::State::lists={apt}/lists",
           "-o", f"Dir::Cache={apt}", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root",
           "-o", "Acquire::Retries=3"]
    builder.say("fetching the lists of source packages")
    builder.run([*get, "update"])
    for name in missing:
        version, file, digest = PACKAGES[name]
        builder.say(f"fetching {name} {version}")
        try:
            builder.run([*get, "source", "--download-only", "--tar-only", f"{name}={version}"],
                        cwd=builder.cache)
            path = builder.cache / file
        except Failed:
            before = set(builder.cache.glob("*.orig.tar.*"))
            builder.say(f"{name} {version} is not there any more: taking the newest instead")
            builder.run([*get, "source", "--download-only", "--tar-only", name],
                        cwd=builder.cache)
            found = set(builder.cache.glob("*.orig.tar.*")) - before
            found = [p for p in found if p.name.startswith(name + "_")]
            if not found:
                raise Failed(f"sysroot: no source of {name} could be fetched") from None
            files[name] = found[0]
            continue
        actual = sha256_of(path)
        if actual != digest:
            path.unlink()
            raise Failed(f"sysroot: {file} has sha256 {actual}, not {digest}")
        files[name] = path
    return files


def unpack(builder, tarball, parts=None):
    """Unpack a tarball (or some parts of it) once, and return the folder."""
    stem = tarball.name.split(".orig.tar")[0]
    target = builder.cache / "src" / stem
    done = target / ".unpacked"
    wanted = "\n".join(parts or ())
    if done.exists() and done.read_text() == wanted:
        return target
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    builder.say(f"unpacking {stem}")
    command = ["tar", "-xf", tarball, "-C", target, "--strip-components=1"]
    if parts:
        with tarfile.open(tarball) as archive:
            top = archive.next().name.split("/")[0]
        command += ["--wildcards", *[f"{top}/{part}" for part in parts]]
        # A part that this version does not have is no error: what is really needed fails later.
        subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
    else:
        builder.run(command)
    done.write_text(wanted)
    return target


def build_musl(builder, source):
    tree = builder.work / "musl"
    shutil.copytree(source, tree)
    for path in MUSL_REMOVED:
        (tree / path).unlink(missing_ok=True)
    for path, ours in MUSL_REPLACED.items():
        shutil.copy(HERE / "musl" / ours, tree / path)
    builder.say("building musl")
    env = dict(os.environ, CC=f"clang-19 --target={TARGET}", AR="llvm-ar-19",
               RANLIB="llvm-ranlib-19", CFLAGS=" ".join([*builder.code_flags, "-w"]))
    builder.run(["./configure", "--target=x86_64", "--disable-shared",
                 f"--prefix={builder.stage}"], cwd=tree, env=env)
    builder.run(["make", f"-j{builder.jobs}"], cwd=tree, env=env)
    builder.run(["make", "install"], cwd=tree, env=env)
    dump = subprocess.run(["llvm-objdump-19", "-d", "--no-show-raw-insn",
                           builder.stage / "lib" / "libc.a"], capture_output=True, text=True,
                          check=True).stdout
    left = len(re.findall(r"\tsyscall\b", dump))
    if left:
        raise Failed(f"sysroot: {left} system call instructions are left in libc.a")


def headers_flags(builder):
    return ["-nostdlibinc", "-isystem", str(builder.stage / "include")]


def build_cxx(builder, source):
    builder.say("configuring libunwind, libc++abi, libc++")
    flags = " ".join([*headers_flags(builder), *builder.code_flags, "-D_GNU_SOURCE"])
    options = {"LLVM_ENABLE_RUNTIMES": "libunwind;libcxxabi;libcxx",
               "CMAKE_SYSTEM_NAME": "Generic", "CMAKE_SYSTEM_PROCESSOR": "x86_64",
               "CMAKE_TRY_COMPILE_TARGET_TYPE": "STATIC_LIBRARY",
               "CMAKE_C_COMPILER": "clang-19", "CMAKE_CXX_COMPILER": "clang++-19",
               "CMAKE_ASM_COMPILER": "clang-19", "CMAKE_AR": shutil.which("llvm-ar-19"),
               "CMAKE_RANLIB": shutil.which("llvm-ranlib-19"),
               "CMAKE_NM": shutil.which("llvm-nm-19"),
               "CMAKE_BUILD_TYPE": "Release", "CMAKE_INSTALL_PREFIX": builder.stage,
               "LLVM_INCLUDE_TESTS": "OFF", "LLVM_INCLUDE_DOCS": "OFF",
               "LIBCXX_INCLUDE_DOCS": "OFF", "LIBCXX_INCLUDE_TESTS": "OFF",
               "LIBCXX_INCLUDE_BENCHMARKS": "OFF",
               # Exceptions cross images: unwind tables are found by dl_iterate_phdr.
               "LIBUNWIND_ENABLE_SHARED": "OFF", "LIBUNWIND_IS_BAREMETAL": "OFF",
               "LIBUNWIND_USE_COMPILER_RT": "ON", "LIBUNWIND_INCLUDE_TESTS": "OFF",
               "LIBCXXABI_ENABLE_SHARED": "OFF", "LIBCXXABI_USE_LLVM_UNWINDER": "ON",
               "LIBCXXABI_HAS_PTHREAD_API": "ON", "LIBCXXABI_USE_COMPILER_RT": "ON",
               "LIBCXXABI_INCLUDE_TESTS": "OFF",
               "LIBCXX_ENABLE_SHARED": "OFF", "LIBCXX_ENABLE_FILESYSTEM": "OFF",
               "LIBCXX_ENABLE_RANDOM_DEVICE": "OFF", "LIBCXX_ENABLE_LOCALIZATION": "OFF",
               "LIBCXX_ENABLE_WIDE_CHARACTERS": "OFF",
               "LIBCXX_ENABLE_TIME_ZONE_DATABASE": "OFF", "LIBCXX_HAS_MUSL_LIBC": "ON",
               "LIBCXX_HAS_PTHREAD_API": "ON", "LIBCXX_CXX_ABI": "libcxxabi",
               "LIBCXX_USE_COMPILER_RT": "ON", "LIBCXX_HARDENING_MODE": "fast"}
    for language in ("C", "CXX", "ASM"):
        options[f"CMAKE_{language}_COMPILER_TARGET"] = TARGET
        options[f"CMAKE_{language}_FLAGS"] = flags
    build = builder.work / "cxx"
    builder.run(["cmake", "-G", "Ninja", "-S", source / "runtimes", "-B", build,
                 *[f"-D{name}={value}" for name, value in options.items()]])
    builder.say("building libunwind, libc++abi, libc++")
    builder.run(["ninja", f"-j{builder.jobs}", "-C", build])
    builder.run(["ninja", "-C", build, "install"])


def build_builtins(builder, source):
    builder.say("building the compiler builtins")
    folder = source / "compiler-rt" / "lib" / "builtins"
    build = builder.work / "builtins"
    build.mkdir()
    rules = ["rule cc",
             f"  command = clang-19 --target={TARGET} {' '.join(headers_flags(builder))} "
             f"{' '.join(builder.code_flags)} -fvisibility=hidden -w -c $in -o $out",
             "rule ar", "  command = llvm-ar-19 rcs $out $in"]
    objects = []
    for name in BUILTINS:
        path = folder / f"{name}.c"
        if not path.exists():
            path = folder / "x86_64" / f"{name}.c"
        if path.exists():
            rules.append(f"build {name}.o: cc {path}")
            objects.append(f"{name}.o")
    rules.append(f"build libbuiltins.a: ar {' '.join(objects)}")
    (build / "build.ninja").write_text("\n".join(rules) + "\n")
    builder.run(["ninja", f"-j{builder.jobs}", "-C", build])
    shutil.copy(build / "libbuiltins.a", builder.stage / "lib")


def build_jpeg(builder, source):
    builder.say("building libjpeg-turbo")
    flags = " ".join([*headers_flags(builder), *builder.code_flags, "-w"])
    options = {"CMAKE_SYSTEM_NAME": "Generic", "CMAKE_SYSTEM_PROCESSOR": "x86_64",
               "CMAKE_TRY_COMPILE_TARGET_TYPE": "STATIC_LIBRARY",
               "CMAKE_C_COMPILER": "clang-19", "CMAKE_C_COMPILER_TARGET": TARGET,
               "CMAKE_C_FLAGS": flags, "CMAKE_BUILD_TYPE": "Release",
               "CMAKE_AR": shutil.which("llvm-ar-19"),
               "CMAKE_RANLIB": shutil.which("llvm-ranlib-19"),
               "CMAKE_INSTALL_PREFIX": builder.stage, "CMAKE_INSTALL_LIBDIR": "lib",
               "ENABLE_SHARED": "OFF", "ENABLE_STATIC": "ON", "WITH_SIMD": "OFF",
               "WITH_TURBOJPEG": "ON", "WITH_JAVA": "OFF"}
    build = builder.work / "jpeg"
    builder.run(["cmake", "-G", "Ninja", "-S", source, "-B", build,
                 *[f"-D{name}={value}" for name, value in options.items()]])
    builder.run(["ninja", f"-j{builder.jobs}", "-C", build, "jpeg-static", "turbojpeg-static"])
    for name in ("libjpeg.a", "libturbojpeg.a"):
        shutil.copy(build / name, builder.stage / "lib")
    for name in ("jpeglib.h", "jmorecfg.h", "jerror.h", "turbojpeg.h"):
        shutil.copy(source / name, builder.stage / "include")
    shutil.copy(build / "jconfig.h", builder.stage / "include")


def build(builder):
    wanted = recipe_hash()
    stamp = builder.out / "stamp"
    if stamp.exists() and stamp.read_text().strip() == wanted:
        return
    builder.log.write_text("")
    for folder in (builder.work, builder.stage):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    builder.say("building the target's C and C++ libraries (once; a few minutes)")
    files = fetch(builder)
    musl = unpack(builder, files["musl"])
    jpeg = unpack(builder, files["libjpeg-turbo"])
    llvm = unpack(builder, files["llvm-toolchain-19"], LLVM_PARTS)
    build_musl(builder, musl)
    build_builtins(builder, llvm)
    build_cxx(builder, llvm)
    build_jpeg(builder, jpeg)
    (builder.stage / "stamp").write_text(wanted + "\n")
    shutil.rmtree(builder.out, ignore_errors=True)
    builder.stage.rename(builder.out)
    shutil.rmtree(builder.work, ignore_errors=True)
    size = sum(path.stat().st_size for path in (builder.out / "lib").glob("*.a"))
    builder.say(f"done: {size // 1024} KiB of libraries in {builder.out.relative_to(ROOT)}"
                if builder.out.is_relative_to(ROOT) else "done")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "sysroot")
    parser.add_argument("--cache", type=pathlib.Path, default=ROOT / "build" / "cache")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--fetch-only", action="store_true", help="fill the cache and stop")
    options = parser.parse_args()
    out = options.out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    builder = Builder(out, options.cache.resolve(), options.jobs)
    with open(out.parent / "sysroot.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if options.fetch_only:
                builder.log.touch()
                fetch(builder)
            else:
                build(builder)
        except Failed as failure:
            print(failure, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
