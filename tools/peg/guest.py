"""What tests and benchmarks that boot a machine are written with.

A file tests/guest/NAME_test.py, tests/system/NAME_test.py or tests/bench/NAME_bench.py has
functions test_... (bench_...) with one argument, a Context; or a function tests() (benches()) that
yields pairs of a name and such a function. The function's docstring is its goal. It fails by
raising (assert) and is skipped by raising Skip; `function.seconds` may set the host seconds it may
take (300).
"""

import dataclasses
import importlib.util
import os
import pathlib
import sys

import qemu
import timebase
from paths import BUILD, ROOT

SECONDS = 300


class Skip(Exception):
    """This host cannot run the test, for the reason given."""


@dataclasses.dataclass
class Booted:
    """What a run left behind."""

    outcome: qemu.Outcome
    text: str               # all that the guest wrote to COM1
    trace: bytes            # and to port 0xe9
    folder: pathlib.Path

    def need_success(self):
        """Fail, with the end of what the guest said, unless it reported success."""
        if not self.outcome.passed:
            tail = "\n    ".join(self.text.splitlines()[-25:])
            raise AssertionError(f"{self.outcome.reason}\n    {tail}")
        return self


class Context:
    """What a test function gets: a folder of its own, and machines."""

    def __init__(self, suite, name):
        self.name = name
        self.folder = BUILD / "tests" / suite / name.replace("/", "_").replace(" ", "_")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.boots = 0

    def boot(self, seconds=120, on_stop=None, time=None, until=None, **machine):
        """Run a machine to its end, or until it has said what matches `until`: counted time unless
        told otherwise. `machine` are fields of qemu.Machine."""
        folder = self.folder / (f"boot{self.boots}" if self.boots else "boot")
        self.boots += 1
        box = qemu.Machine(time=time or timebase.counted(), **machine)
        with qemu.Run(box, folder) as run:
            outcome = run.until_end(seconds, on_stop=on_stop, until=until)
        return Booted(outcome, run.serial_log.read_text(errors="replace")
                      if run.serial_log.exists() else "",
                      run.trace_file.read_bytes() if run.trace_file.exists() else b"", folder)


@dataclasses.dataclass
class Case:
    """One test or benchmark function."""

    suite: str
    name: str
    function: object

    @property
    def seconds(self):
        """Host seconds it may take; NEMESIS_TIME_FACTOR stretches that on a slow host."""
        factor = float(os.environ.get("NEMESIS_TIME_FACTOR", "1"))
        return getattr(self.function, "seconds", SECONDS) * factor


def load(path):
    """Import a file by its path."""
    name = "_".join(path.relative_to(ROOT).with_suffix("").parts)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def cases(suite, kind):
    """All cases of tests/SUITE, in order of names. `kind` is "test" or "bench"."""
    found = []
    for path in sorted((ROOT / "tests" / suite).rglob(f"*_{kind}.py")):
        module = load(path)
        stem = path.stem.removesuffix(f"_{kind}")
        if hasattr(module, f"{kind}s" if kind == "test" else "benches"):
            generator = getattr(module, f"{kind}s" if kind == "test" else "benches")
            found += [Case(suite, f"{stem}/{name}", function) for name, function in generator()]
        for name, function in vars(module).items():
            if name.startswith(f"{kind}_") and callable(function):
                found.append(Case(suite, f"{stem}/{name.removeprefix(kind + '_')}", function))
    return found
