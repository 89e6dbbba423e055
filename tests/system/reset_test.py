"""The file server's program in a Linux machine that loses its power, on disks that lose their caches.

tests/fs/reset_guest.py says what is done and judged; here are two losses of power, and the same with
disks that lie about their flushes, which must be noticed."""

import subprocess
import sys

import build
from paths import ROOT


def run(*arguments):
    """The test with two losses of power. PATIENCE of its own ends it when nothing happens."""
    programs = [build.host_program(name) for name in ("pegasus_fs", "fs_script_load")]
    return subprocess.run([sys.executable, ROOT / "tests" / "fs" / "reset_guest.py", *programs, "2",
                           *arguments], capture_output=True, text=True, check=False)


def test_two_losses_of_power(context):
    """No fsynced byte is lost, order holds, the checker finds the store clean; one disk dies."""
    del context
    result = run("--seed", "18")
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    assert "2 resets: " in result.stdout and "1 boots without all disks" in result.stdout
    print(result.stdout)


def test_disks_that_lie_are_noticed(context):
    """When the disks drop what was flushed, the same test fails by what is missing."""
    del context
    result = run("--seed", "18", "--lies")
    assert result.returncode == 1, (result.stdout + result.stderr)[-4000:]
    assert "was promised" in result.stderr, result.stderr[-4000:]


test_two_losses_of_power.seconds = test_disks_that_lie_are_noticed.seconds = 600
