"""`peg gdb`: breakpoints in the kernel and in a domain are reached, and their sources are found."""

import subprocess
import sys

from paths import ROOT

COMMANDS = """\
hbreak nemesis::kernel::log::write
continue
backtrace 1
delete
hbreak init.cpp:nem_main
continue
list
info symbol $pc
"""


def test_kernel_and_domain_have_their_sources(context):
    """A breakpoint by name in the kernel, one by file in a domain; text of the source is shown."""
    commands = context.folder / "commands.gdb"
    commands.write_text(COMMANDS)
    result = subprocess.run(
        [sys.executable, ROOT / "tools" / "peg" / "main.py", "gdb", "--no-build", "--commands", commands],
        capture_output=True, text=True, check=False, cwd=ROOT)
    said = result.stdout + result.stderr
    assert result.returncode == 0, said[-2000:]
    assert "#0  nemesis::kernel::log::write" in said and "kernel/log.cpp:" in said, said[-2000:]
    assert 'extern "C" void nem_main(nemesis::abi::Environment const&) {' in said, said[-2000:]
    assert "nem_main in section .text of " in said and "init.elf" in said, said[-2000:]
