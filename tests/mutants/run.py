#!/usr/bin/env python3
"""Seed each fault of tests/mutants into a copy of the tree and see that its tests catch it.

Usage: tests/mutants/run.py [PART-OF-NAME ...]

The first line of a patch says who must catch it:
    # PROGRAM: TEST ...     a GoogleTest program of the host and its tests
    # probes: NAME ...      probes of domains/probes, on the mutated kernel
    # bench: METRIC         a row of a group of ./peg bench, on the mutated kernel: over its limit or
                            over what the kernel books for it
    # guest: NAME ...       tests of ./peg test guest, everything in the image mutated
    # system: NAME ...      the same of ./peg test system: of several machines, for instance
The word "hangs" before the colon (# probes hangs: NAME) says that the mutant may stop the program or
the machine from coming to its end; for all others that is no evidence.
A patch that no longer applies is a failure, and so is a mutant that survives.
"""

import math
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools" / "peg"))

import bench_booked  # noqa: E402
import bench_rows  # noqa: E402
import guest  # noqa: E402
import timebase  # noqa: E402

WORK = ROOT / "build" / "mutants"
TREE = WORK / "tree"
CLEAN = WORK / "clean"  # programs and kernel without a fault
# A run may take this many times the processor time of the same without a fault, and a little more.
DEADLINE_FACTOR, DEADLINE_LEAST = 3, 20
# One that waits for something that does not come takes no processor time: this many times as long.
PATIENCE = 10
# What a patch can change and what is built from that: all else is no part of the copy.
LEFT_OUT = ("docs/", "build/")


def call(*command, check=True, **options):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                            errors="replace", check=False, **options)
    if check and result.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{(result.stdout + result.stderr)[-3000:]}")
    return result


def copy_tree():
    """The files that git knows, as they are now; only what differs is written, so that little is
    built anew."""
    names = [name for name in
             call("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).stdout.splitlines()
             if not name.startswith(LEFT_OUT)]
    known = set(names)
    for old in TREE.rglob("*"):
        relative = old.relative_to(TREE)
        if old.is_file() and str(relative) not in known and relative.parts[0] != "build":
            old.unlink()
    for name in names:
        copy_file(name)
    (TREE / "build").mkdir(parents=True, exist_ok=True)
    for name in ("sysroot", "cache"):
        link = TREE / "build" / name
        if not link.exists() and (ROOT / "build" / name).exists():
            link.symlink_to((ROOT / "build" / name).resolve())


def copy_file(name):
    source, target = ROOT / name, TREE / name
    if source.is_file() and not (target.exists() and target.read_bytes() == source.read_bytes()):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


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

    def clean(self, target, file):
        """A copy of what `target` builds to, `file`, of the tree without a fault."""
        kept = CLEAN / file
        if target not in self.kept:
            self.build(target)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.find(file), kept)
            self.kept.add(target)
        return kept

    kept = set()


HOST, TARGET = Configuration("host"), Configuration("x86_64")


class Patch:
    """One mutant: who must catch it, and the files that it changes."""

    def __init__(self, path):
        self.path = path
        text = path.read_text()
        words, names = text.splitlines()[0].lstrip("# ").split(":", 1)
        self.who, *self.words = words.split()
        self.names = names.split()
        self.files = re.findall(r"^\+\+\+ b/(\S+)", text, re.M)

    @property
    def may_hang(self):
        return "hangs" in self.words

    def apply(self):
        """Whether it could be. No fuzz: a patch that has to be guessed at may seed something else."""
        done = call("patch", "-p1", "-F0", "--no-backup-if-mismatch", "-r", "-", "-i", self.path,
                    cwd=TREE, check=False)
        return done.returncode == 0

    def undo(self):
        for name in self.files:
            copy_file(name)


class Hung(Exception):
    """A run did not come to its end in time."""


class Useless(Exception):
    """The check does not pass without a fault, so it proves nothing."""


def processor_seconds():
    """Processor time of all programs that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(function, *arguments, deadline=1800):
    """(what the function returns, seconds of processor time it took)."""
    began = processor_seconds()
    return function(*arguments, deadline), processor_seconds() - began


def processor_seconds_of(process):
    """Processor time of a program that runs."""
    try:
        fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def deadline_for(seconds):
    return DEADLINE_LEAST + DEADLINE_FACTOR * seconds


# ---- programs of the host ----

def run_tests(program, tests, deadline):
    """Whether the tests pass; there must be some."""
    command = [program, f"--gtest_filter={':'.join(tests)}"]
    limit = math.ceil(deadline)
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False,
            timeout=PATIENCE * limit,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5)))
    except subprocess.TimeoutExpired:
        raise Hung from None
    if result.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise Hung
    if "Running 0 tests" in result.stdout:
        raise Useless(f"{program.name} has no test {tests}")
    return result


def host_catches(patch):
    """How the program notices, or None."""
    clean = HOST.clean(patch.who, patch.who)
    result, seconds = timed(run_tests, clean, patch.names)
    if result.returncode:
        raise Useless(f"{patch.who} fails:\n{result.stdout[-2000:]}")
    if not patch.apply():
        return None, "DOES NOT APPLY"
    if HOST.build(patch.who, check=False).returncode:
        return None, "DOES NOT COMPILE"
    result = run_tests(HOST.find(patch.who), patch.names, deadline_for(seconds))
    failed = re.findall(r"^\[  FAILED  \] (\S+) \(", result.stdout, re.M)
    if not result.returncode:
        return None, "SURVIVES"
    return True, "fails " + ", ".join(failed) if failed else f"ends with {result.returncode}"


# ---- the mutated kernel ----

def pack(name, manifest, images):
    """An archive of the tree without a fault."""
    file = CLEAN / f"{name}.archive"
    if name not in pack.made:
        TARGET.build("libnemesis", "init", *images)
        HOST.build("bin/archive", "bin/manifest")
        compiled = CLEAN / f"{name}.manifest"
        call(HOST.find("manifest"), "compile", manifest, compiled)
        call(HOST.find("archive"), "pack", file, f"library:libnemesis={TARGET.find('libnemesis.elf')}",
             f"manifest:manifest={compiled}",
             *(f"image:{image}={TARGET.find(f'{image}.elf')}" for image in ("init", *images)))
        pack.made.add(name)
    return file


pack.made = set()


def boot(kernel, archive, append, deadline):
    """Run a machine: exit code of the emulator (33 is success) and what was said."""
    log = WORK / "serial.log"
    log.unlink(missing_ok=True)
    base = timebase.counted()
    command = [timebase.QEMU, "-nodefaults", "-no-user-config", *base.arguments, "-cpu", base.cpu,
               "-machine", "q35", "-m", "512", "-device", "edu", "-device", "virtio-rng-pci",
               "-display", "none", "-no-reboot", "-serial", f"file:{log}",
               "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-kernel", kernel,
               "-initrd", archive, *(("-append", append) if append else ())]
    ends = time.monotonic() + PATIENCE * deadline
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as machine:
        try:
            while machine.poll() is None:
                text = log.read_text(errors="replace") if log.exists() else ""
                if ("PANIC" in text or time.monotonic() > ends
                        or processor_seconds_of(machine) > deadline):
                    break  # a panic never ends by itself
                time.sleep(0.2)
        finally:
            if machine.poll() is None:
                machine.kill()
    text = log.read_text(errors="replace") if log.exists() else ""
    if machine.returncode < 0 and "PANIC" not in text:
        raise Hung
    return machine.returncode, text


def machine_catches(patch, archive, append, check):
    """`check` tells from exit code and log what is wrong, or None if all is well."""
    clean = TARGET.clean("kernel", "kernel.elf")
    ((code, text), seconds) = timed(boot, clean, archive, append)
    if wrong := check(code, text):
        raise Useless(f"{wrong}:\n{text[-1000:]}")
    if not patch.apply():
        return None, "DOES NOT APPLY"
    if TARGET.build("kernel", check=False).returncode:
        return None, "DOES NOT COMPILE"
    code, text = boot(TARGET.find("kernel.elf"), archive, append, deadline_for(seconds))
    if "PANIC" in text:
        return True, "stops the kernel: " + text.split("PANIC", 1)[1].split("\n")[0].strip(" :")
    wrong = check(code, text)
    return (True, wrong) if wrong else (None, "SURVIVES")


def probes_catch(patch):
    archive = pack("probes", TREE / "domains" / "probes" / "probes.manifest", ["probe_runner"])

    def check(code, text):
        failed = [name for name in re.findall(r"^\[ FAILED \] ([\w.]+)", text, re.M)
                  if name in patch.names]
        if failed:
            return "fails " + ", ".join(failed)
        if code != timebase.PASSED:
            return f"ends with {code}"
        passed = re.findall(r"^\[     OK \] ([\w.]+)", text, re.M)
        missing = [name for name in patch.names if name not in passed]
        return f"there is no probe {', '.join(missing)}" if missing else None

    return machine_catches(patch, archive, "probes=" + ",".join(patch.names), check)


def bench_catches(patch):
    costs = guest.load(ROOT / "tests" / "bench" / "costs_bench.py")
    metric, = patch.names
    group = next(name for name, (metrics, *_) in costs.GROUPS.items() if metric.startswith(metrics))
    manifest = CLEAN / f"{group}.text"
    manifest.write_text(costs.MANIFEST.format(memory=352, argument=group, more="", data=""))
    archive = pack(group, manifest, ["bench"])

    def check(code, text):
        try:
            rows, _ = bench_rows.parse(text)
        except AssertionError as gave_up:
            return str(gave_up)
        found = [row for row in rows if row["metric"] == metric]
        over = [row for row in found if bench_rows.over_limit(row)]
        if over:
            return f"{metric} is {over[0]['max']}"
        if unbooked := bench_booked.exceeded(found, bench_booked.figures(TREE)):
            return unbooked[0]
        return None if found and code == timebase.PASSED else f"ends with {code}"

    return machine_catches(patch, archive, "", check)


# ---- domains and libraries ----

def run_machine_tests(suite, names, deadline):
    """The names of the tests of `suite` that failed; builds what has changed."""
    wanted = "|".join(f"^{suite} {re.escape(name)}$" for name in names)
    with subprocess.Popen(["sh", TREE / "peg", "test", suite, "--filter", wanted], cwd=TREE, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as tests:
        try:
            text, _ = tests.communicate(timeout=PATIENCE * deadline)
        except subprocess.TimeoutExpired:
            tests.terminate()  # it takes its machines with it
            raise Hung from None
    failed = re.findall(rf"^FAILED {suite} (\S+)", text, re.M)
    if not failed and f"{len(names)} passed, 0 failed" not in text or "could not be run" in text:
        raise Useless(text[-2000:])
    return failed


def machines_catch(patch):
    key = " ".join([patch.who, *patch.names])
    if key not in machines_catch.seconds:
        failed, machines_catch.seconds[key] = timed(run_machine_tests, patch.who, patch.names)
        if failed:
            raise Useless(f"{failed} fail")
    if not patch.apply():
        return None, "DOES NOT APPLY"
    try:
        failed = run_machine_tests(patch.who, patch.names,
                                   300 + deadline_for(machines_catch.seconds[key]))
    except Useless as useless:
        return None, f"DOES NOT COMPILE {useless}"
    return (True, "fails " + ", ".join(failed)) if failed else (None, "SURVIVES")


machines_catch.seconds = {}


def main():
    wanted = sys.argv[1:]
    patches = [Patch(path) for path in sorted((ROOT / "tests" / "mutants").glob("*.patch"))
               if not wanted or any(part in path.name for part in wanted)]
    if not patches:
        sys.exit("no such mutant")
    copy_tree()
    CLEAN.mkdir(parents=True, exist_ok=True)
    lost = []
    for number, patch in enumerate(patches, 1):
        began = time.monotonic()
        catches = {"probes": probes_catch, "bench": bench_catches,
                   "guest": machines_catch, "system": machines_catch}.get(patch.who, host_catches)
        try:
            verdict, said = catches(patch)
        except Hung:
            verdict = patch.may_hang
            said = "hangs" if patch.may_hang else "DOES NOT COME TO ITS END, which proves nothing"
        except Useless as useless:
            verdict, said = None, f"WITHOUT THE FAULT {useless}"
        finally:
            patch.undo()
        print(f"{number}/{len(patches)} {patch.path.stem}: {said} "
              f"({time.monotonic() - began:.0f} s)", flush=True)
        if not verdict:
            lost.append(patch.path.stem)
    print(f"{len(patches) - len(lost)} caught, {len(lost)} not"
          + (": " + ", ".join(lost) if lost else ""))
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
