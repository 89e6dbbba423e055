"""`peg test`: all tests, with progress, and a last line that counts them.

unit     repository rules (tools/tidy), the tools' own tests, and everything that GoogleTest runs on
         the host: plain, under ASan and UBSan, and those labelled tsan under ThreadSanitizer
guest    tests/guest: promises of the kernel, each in a machine of its own, direct boot
system   tests/system: whole machines: firmware, disk images, missing devices
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
import traceback

import build
import guest
import packages
import processes
from console import PegError, Progress, UsageError, say, step
from paths import BUILD, ROOT

NAME = "test"
SUMMARY = "run the tests: unit, guest, system, or all"
SUITES = ("unit", "guest", "system")
SKIPPED = 77


def add_arguments(parser):
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="unit, guest, system (all)")
    parser.add_argument("--filter", default="", metavar="REGEX",
                        help="only the tests whose name matches")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--long", action="store_true", help="also unit tests labelled long")
    parser.add_argument("--list", action="store_true", help="name the tests, run none")


class Tally:
    """What passed and what did not."""

    def __init__(self):
        self.passed = 0
        self.skipped = 0
        self.failed = []

    def fail(self, name, why=""):
        self.failed.append(name)
        say(f"FAILED {name}" + (f"\n    {why.strip()}" if why.strip() else ""))

    def add(self, other):
        self.passed += other.passed
        self.skipped += other.skipped
        self.failed += other.failed


# -- unit ---------------------------------------------------------------------------------------


def run_tidy(options):
    """The rules of the repository, one test each."""
    tally = Tally()
    if options.filter and not re.search(options.filter, "tidy"):
        return tally
    result = subprocess.run([sys.executable, ROOT / "tools" / "tidy" / "tidy.py", "--tests"],
                            capture_output=True, text=True, check=False)
    for line in result.stdout.splitlines():
        word, _, rest = line.partition(" ")
        if word == "ok":
            tally.passed += 1
        elif word == "not-ok":
            tally.failed.append(f"tidy: {rest}")
            say(f"FAILED tidy: {rest}")
        else:
            say(line)
    if result.returncode and not tally.failed:
        tally.fail("tidy", result.stderr)
    return tally


def run_python_tests(options):
    """The tools' own tests: tools/**/*_test.py."""
    tally = Tally()
    for path in sorted((ROOT / "tools").rglob("*_test.py")):
        name = str(path.relative_to(ROOT))
        if options.filter and not re.search(options.filter, name):
            continue
        result = subprocess.run([sys.executable, path], capture_output=True, text=True,
                                check=False, cwd=path.parent)
        ran = re.search(r"^Ran (\d+) test", result.stderr, re.M)
        if result.returncode or not ran:
            tally.fail(name, result.stderr[-3000:])
        else:
            tally.passed += int(ran.group(1))
    return tally


def run_ctest(configuration, options, only_label=None):
    """GoogleTest's tests of one configuration."""
    tally = Tally()
    command = ["ctest", "--test-dir", BUILD / configuration, "-j", str(options.jobs),
               "--output-on-failure", "--no-tests=ignore"]
    if only_label:
        command += ["-L", f"^{only_label}$"]
    left_out = [] if options.long else ["long"]
    if configuration != "host":
        left_out.append("plain")
    if left_out:
        command += ["-LE", f"^({'|'.join(left_out)})$"]
    if options.filter:
        command += ["-R", options.filter]
    progress = None
    output = []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, errors="replace", stdin=subprocess.DEVNULL)
    for line in process.stdout:
        done = re.match(r"\s*\d+/(\d+) Test\s+#\d+: (.*?) \.*\s*(Passed|\*\*\*.*?)\s+[\d.]+ sec",
                        line)
        if not done:
            output.append(line)
            continue
        total, name, verdict = done.groups()
        progress = progress or Progress(configuration, int(total))
        progress.advance()
        if verdict.endswith("Passed"):
            tally.passed += 1
        elif "Skipped" in verdict or "Disabled" in verdict:
            tally.skipped += 1
        else:
            tally.fail(f"{configuration}: {name}", verdict.lstrip("*"))
    process.wait()
    if tally.failed:
        say("".join(output)[-6000:])
    elif process.returncode:
        tally.fail(f"{configuration}: ctest", "".join(output)[-3000:])
    return tally


def run_unit(options):
    tally = Tally()
    for part in (run_tidy, run_python_tests):
        tally.add(part(options))
    say(f"rules and tools: {tally.passed} passed, {len(tally.failed)} failed")
    for configuration, label in (("host", None), ("host-asan", None), ("host-tsan", "tsan")):
        try:
            build.build(configuration, [f"{label}_tests"] if label else ())
        except PegError as error:
            tally.fail(f"{configuration}: build", str(error))
            continue
        result = run_ctest(configuration, options, label)
        if label and not options.filter and not result.passed:
            result.fail(f"{configuration}: no test is labelled {label}")
        say(f"{configuration}: {result.passed} passed, {len(result.failed)} failed")
        tally.add(result)
    return tally


# -- guest and system ---------------------------------------------------------------------------


def run_in_child(case, log):
    """Run one case in a forked process, so that whatever it does ends with it; return its pid."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        processes.die_with_parent(parent)
        os.setpgid(0, 0)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, 1)
        os.dup2(file, 2)
        case.function(guest.Context(case.suite, case.name))
        code = 0
    except guest.Skip as skip:
        print(f"skipped: {skip}")
        code = SKIPPED
    except AssertionError as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        print(str(error) or f"{where.name}, line {where.lineno}: {where.line}")
    except (PegError, KeyboardInterrupt) as error:
        print(error)
    except BaseException:  # noqa: B036  (a forked child must not return into the caller)
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run_cases(cases, jobs):
    """Run guest cases, several at a time, and report each as it ends."""
    tally = Tally()
    waiting = list(cases)
    active = {}
    progress = Progress(cases[0].suite, len(cases)) if cases else None
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                case = waiting.pop(0)
                folder = guest.Context(case.suite, case.name).folder
                log = folder / "test.log"
                pid = run_in_child(case, log)
                active[pid] = (case, log, time.monotonic() + case.seconds)
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid in active:
                case, log, _ = active.pop(pid)
                code = os.waitstatus_to_exitcode(status)
                text = log.read_text(errors="replace") if log.exists() else ""
                if code == 0:
                    tally.passed += 1
                elif code == SKIPPED:
                    tally.skipped += 1
                    say(f"{case.suite} {case.name}: {text.strip()}")
                else:
                    tally.fail(f"{case.suite} {case.name}", text[-3000:].replace("\n", "\n    "))
                progress.advance()
                continue
            for pid, (case, log, deadline) in list(active.items()):
                if time.monotonic() > deadline:
                    end_group(pid)
                    del active[pid]
                    tally.fail(f"{case.suite} {case.name}", f"took more than {case.seconds:g} s")
                    progress.advance()
            time.sleep(0.02)
    finally:
        for pid in active:
            end_group(pid)
    return tally


def end_group(pid):
    """End a case; what it started dies with it."""
    try:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def run_guest_suite(suite, options):
    cases = [case for case in guest.cases(suite, "test")
             if re.search(options.filter, f"{suite} {case.name}")]
    if not cases:
        say(f"{suite}: no tests" + (" match" if options.filter else ""))
        return Tally()
    packages.need("run", "image")
    build.build("x86_64")
    whole = ("pegasus_fs", "fs_script_load") if suite == "system" else ()
    for program in ("archive", "manifest", "clip", "trace_convert", *whole):
        build.host_program(program)  # before several tests run it at a time
    step(f"running {len(cases)} {suite} tests, {options.jobs} at a time")
    tally = run_cases(cases, options.jobs)
    say(f"{suite}: {tally.passed} passed, {len(tally.failed)} failed"
        + (f", {tally.skipped} skipped" if tally.skipped else ""))
    return tally


def list_tests(suites, options):
    for suite in suites:
        if suite == "unit":
            build.build("host")
            listing = subprocess.run(["ctest", "--test-dir", BUILD / "host", "-N"],
                                     capture_output=True, text=True, check=False).stdout
            names = re.findall(r"Test +#\d+: (.*)", listing)
        else:
            names = [case.name for case in guest.cases(suite, "test")]
        for name in names:
            if re.search(options.filter, name):
                say(f"{suite}: {name}")


def run(options):
    suites = options.suites or list(SUITES)
    for suite in suites:
        if suite not in SUITES:
            raise UsageError(f"no suite is called {suite}")
    try:
        re.compile(options.filter)
    except re.error as error:
        raise UsageError(f"--filter: {error}") from None
    packages.need("build", "host", "check")
    if options.list:
        list_tests(suites, options)
        return 0
    began = time.monotonic()
    tally = Tally()
    for suite in suites:
        try:
            tally.add(run_unit(options) if suite == "unit" else run_guest_suite(suite, options))
        except PegError as error:
            tally.fail(f"{suite}: could not be run", str(error))
    for name in tally.failed:
        say(f"failed: {name}")
    say(f"took {time.monotonic() - began:.0f} s"
        + (f", {tally.skipped} skipped" if tally.skipped else ""))
    say(f"{tally.passed} passed, {len(tally.failed)} failed")
    return 1 if tally.failed or not tally.passed else 0
