#!/usr/bin/env python3
"""Seed each fault of tests/mutants into a copy of the tree and see that its tests catch it.

Usage: tests/mutants/run.py [PART-OF-NAME ...] [--keep-going]

The first line of a patch says who must catch it:
    # PROGRAM: TEST ...     a GoogleTest program of the host and its tests
    # probes: NAME ...      probes of domains/probes, on the mutated kernel
    # bench: NAME           left to ./peg bench; here it must only apply
A patch that no longer applies is a failure, and so is a mutant that survives.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools" / "peg"))

import timebase  # noqa: E402

WORK = ROOT / "build" / "mutants"
TREE = WORK / "tree"
SECONDS = 60   # a mutant that hangs the machine is caught too


def call(*command, check=True, **options):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, errors="replace",
                            check=False, **options)
    if check and result.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{(result.stdout + result.stderr)[-3000:]}")
    return result


def copy_tree():
    """The files that git knows, as they are now; only what differs is written."""
    names = call("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).stdout.splitlines()
    known = set(names)
    for old in TREE.rglob("*"):
        relative = old.relative_to(TREE)
        if old.is_file() and str(relative) not in known and relative.parts[0] != "build":
            old.unlink()
    for name in names:
        source, target = ROOT / name, TREE / name
        if source.is_file() and not (target.exists() and target.read_bytes() == source.read_bytes()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    (TREE / "build").mkdir(parents=True, exist_ok=True)
    link = TREE / "build" / "sysroot"
    if not link.exists():
        link.symlink_to(ROOT / "build" / "sysroot")


class Configuration:
    """One build of the copy."""

    def __init__(self, preset):
        self.folder = WORK / preset
        self.preset = preset
        self.ready = False

    def build(self, *targets, check=True):
        if not self.ready:
            call("cmake", "--preset", self.preset, "-B", self.folder, cwd=TREE)
            self.ready = True
        return call("ninja", "-C", self.folder, *targets, check=check)

    def find(self, name):
        return next(self.folder.rglob(name))


HOST, TARGET = Configuration("host"), Configuration("x86_64")


def host_catches(program, tests):
    """Whether the program fails (or no longer compiles) in one of the tests."""
    if HOST.build(program, check=False).returncode:
        return "does not compile"
    command = [HOST.find(program), f"--gtest_filter={':'.join(tests)}"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=1800)
    except subprocess.TimeoutExpired:
        return "does not end"
    if "Running 0 tests" in result.stdout:
        sys.exit(f"{program} has no test {tests}")
    return "fails" if result.returncode else None


def archive():
    """The archive with the probes, of the tree without a fault."""
    file = WORK / "probes.archive"
    if not archive.made:
        TARGET.build("kernel", "libnemesis", "init", "probe_runner")
        HOST.build("bin/archive", "bin/manifest")
        compiled = WORK / "probes.manifest"
        call(HOST.find("manifest"), "compile", TREE / "domains" / "probes" / "probes.manifest", compiled)
        call(HOST.find("archive"), "pack", file, f"library:libnemesis={TARGET.find('libnemesis.elf')}",
             f"manifest:manifest={compiled}", f"image:init={TARGET.find('init.elf')}",
             f"image:probe_runner={TARGET.find('probe_runner.elf')}")
        archive.made = True
    return file


archive.made = False


def boot(probes):
    """Run probes on the kernel as it is built now: exit code of the emulator (33 is success) and what was said."""
    log = WORK / "serial.log"
    log.unlink(missing_ok=True)
    base = timebase.counted()
    command = [timebase.QEMU, "-nodefaults", "-no-user-config", *base.arguments, "-cpu", base.cpu, "-machine", "q35",
               "-m", "512", "-display", "none", "-no-reboot", "-serial", f"file:{log}", "-device",
               "isa-debug-exit,iobase=0xf4,iosize=4", "-kernel", TARGET.find("kernel.elf"), "-initrd", archive(),
               "-append", "probes=" + ",".join(probes)]
    try:
        code = subprocess.run([str(part) for part in command], check=False, timeout=SECONDS,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    except subprocess.TimeoutExpired:
        code = None
    return code, log.read_text(errors="replace") if log.exists() else ""


def kernel_catches(probes):
    if TARGET.build("kernel", check=False).returncode:
        return "does not compile"
    code, text = boot(probes)
    if code == timebase.PASSED:
        return None
    if "PANIC" in text:
        return "stops the kernel"
    failed = re.findall(r"^\[ FAILED \] ([\w.]+)", text, re.M)
    return f"fails {', '.join(failed)}" if failed else "does not come to its end"


def main():
    wanted = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    patches = [path for path in sorted((ROOT / "tests" / "mutants").glob("*.patch"))
               if not wanted or any(part in path.name for part in wanted)]
    if not patches:
        sys.exit("no such mutant")
    copy_tree()
    heads = {path: path.read_text().splitlines()[0].lstrip("# ").split(":", 1) for path in patches}
    probes = sorted({name for who, names in heads.values() if who == "probes" for name in names.split()})
    if probes:
        print(f"{len(probes)} probes on the kernel without a fault ...", flush=True)
        archive()
        code, text = boot(probes)
        if code != timebase.PASSED:
            sys.exit("they fail without a fault:\n" + text[-2000:])
    lost = []
    for number, path in enumerate(patches, 1):
        who, names = heads[path][0], heads[path][1].split()
        began = time.monotonic()
        # No fuzz: a patch that has to be guessed at may seed something else.
        applied = call("patch", "-p1", "-F0", "--no-backup-if-mismatch", "-i", path, cwd=TREE, check=False)
        if applied.returncode:
            verdict = None
            said = "DOES NOT APPLY"
        else:
            try:
                verdict = ("left to the bench" if who == "bench" else
                           kernel_catches(names) if who == "probes" else host_catches(who, names))
            finally:
                call("patch", "-R", "-p1", "-i", path, cwd=TREE)
            said = verdict or "SURVIVES"
        for leftover in list(TREE.rglob("*.rej")) + list(TREE.rglob("*.orig")):
            leftover.unlink()
        copy_tree()
        print(f"{number}/{len(patches)} {path.stem}: {said} ({time.monotonic() - began:.0f} s)", flush=True)
        if not verdict:
            lost.append(path.stem)
    print(f"{len(patches) - len(lost)} caught, {len(lost)} not" + (": " + ", ".join(lost) if lost else ""))
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
