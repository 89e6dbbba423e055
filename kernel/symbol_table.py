#!/usr/bin/env python3
"""Writes the kernel's own symbol table as assembler, for the panic's stack trace.

Usage: symbol_table.py --out FILE (--empty | KERNEL)

Addresses (low 32 bits, sorted) and names of the functions in the text section. The table lies
behind everything whose address it holds, so adding it moves nothing it names.
"""

import argparse
import subprocess


def functions(kernel):
    """(address, name) of each function, in order of addresses."""
    out = subprocess.run(["llvm-nm-19", "-n", "-C", "--defined-only", kernel],
                         check=True, capture_output=True, text=True).stdout
    found = []
    for line in out.splitlines():
        address, kind, name = line.split(" ", 2)
        if kind in "tT" and int(address, 16) >= 0xffffffff80000000:
            name = name.split("(")[0].replace("nemesis::kernel::", "").replace("nemesis::", "")
            name = name.replace("(anonymous namespace)::", "").replace('"', "")[:60]
            found.append((int(address, 16), name or "?"))
    return found


def main():
    """Reads the kernel's symbols and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--empty", action="store_true")
    parser.add_argument("kernel", nargs="?")
    options = parser.parse_args()
    rows = [] if options.empty else functions(options.kernel)
    with open(options.out, "w", encoding="utf-8") as to:
        to.write('.section .rodata.zz_symbols, "a"\n.balign 8\n.global kernel_symbol_count\n')
        to.write(f"kernel_symbol_count: .quad {len(rows)}\n.global kernel_symbol_rows\nkernel_symbol_rows:\n")
        for i, (address, _) in enumerate(rows):
            to.write(f".long {address & 0xffffffff:#x}, name_{i} - kernel_symbol_names\n")
        to.write(".global kernel_symbol_names\nkernel_symbol_names:\n")
        for i, (_, name) in enumerate(rows):
            to.write(f'name_{i}: .asciz "{name}"\n')


if __name__ == "__main__":
    main()
