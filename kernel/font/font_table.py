#!/usr/bin/env python3
"""Turns a bitmap font of a Debian package into a C++ header with a constexpr table.

Usage: font_table.py --package NAME=VERSION --sha256 HEX --file PATH --cache DIR
                     --namespace NAME --output HEADER

The package is downloaded once into the cache and unpacked there, never installed; if the pinned
version is gone, the newest is taken. The font is a PSF file, version 1 or 2, with a Unicode table
and glyphs at most 8 pixels wide. The header needs no library but <cstdint>: kernel, libnemesis and
programs may include it.
"""

import argparse
import fcntl
import gzip
import hashlib
import pathlib
import struct
import subprocess
import sys


class Failed(Exception):
    """Something that the person who builds can mend."""


def download(package, version, cache):
    """Fetch a package into the cache with the machine's own lists, or with lists of our own."""
    apt = cache / "apt-binary"
    for folder in ("lists/partial", "archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    own = ["-o", f"Dir::State::lists={apt}/lists", "-o", f"Dir::Cache={apt}"]
    base = ["apt-get", "-q", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root",
            "-o", "Acquire::Retries=3"]
    tries = [([], f"{package}={version}"), (own, f"{package}={version}"), (own, package)]
    said = ""
    for options, wanted in tries:
        if options and not any((apt / "lists").glob("*Packages*")):
            subprocess.run([*base, *options, "update"], capture_output=True, check=False)
        result = subprocess.run([*base, *options, "download", wanted], cwd=cache, text=True,
                                capture_output=True, stdin=subprocess.DEVNULL, check=False)
        said = result.stderr.strip()
        found = sorted(cache.glob(f"{package}_*.deb"))
        if result.returncode == 0 and found:
            return found[-1]
    raise Failed(f"the package {package} could not be downloaded: {said[-300:]}")


def unpacked(options):
    """The folder with the package's files."""
    package, version = options.package.split("=")
    cache = options.cache
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "font.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = cache / "font" / f"{package}_{version}"
        if not (folder / options.file).exists():
            found = sorted(cache.glob(f"{package}_*.deb"))
            deb = found[-1] if found else download(package, version, cache)
            if deb.name.split("_")[1] == version:
                digest = hashlib.sha256(deb.read_bytes()).hexdigest()
                if digest != options.sha256:
                    deb.unlink()
                    raise Failed(f"{deb.name} has sha256 {digest}, not {options.sha256}")
            else:
                print(f"font: {package} {version} is not there any more: taking {deb.name}")
            folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(["dpkg-deb", "-x", deb, folder], check=True)
        return folder


def read_psf(data):
    """(height, {code point: rows}) of a PSF font."""
    if data[:2] == b"\x36\x04":
        mode, height = data[2], data[3]
        count, start, size = 512 if mode & 1 else 256, 4, data[3]
        if not mode & 2:
            raise Failed("the font has no Unicode table")
        width = 8
    elif data[:4] == b"\x72\xb5\x4a\x86":
        _, start, flags, count, size, height, width = struct.unpack_from("<7I", data, 4)
        if not flags & 1:
            raise Failed("the font has no Unicode table")
    else:
        raise Failed("not a PSF font")
    if width > 8:
        raise Failed("the glyphs are wider than 8 pixels")
    glyphs = [data[start + i * size:start + (i + 1) * size] for i in range(count)]
    table, at, result = data[start + count * size:], 0, {}
    for glyph in glyphs:
        sequence = False
        while True:
            if data[:2] == b"\x36\x04":
                code, at = struct.unpack_from("<H", table, at)[0], at + 2
                if code == 0xffff:
                    break
                sequence = sequence or code == 0xfffe
            else:
                if table[at] == 0xff:
                    at += 1
                    break
                if table[at] == 0xfe:
                    sequence, at = True, at + 1
                    continue
                first = table[at]
                length = 1 if first < 0x80 else 2 if first < 0xe0 else 3 if first < 0xf0 else 4
                code, at = ord(table[at:at + length].decode()), at + length
            if not sequence:
                result.setdefault(code, glyph)
    return height, result


HEADER = """#pragma once
// Made by kernel/font/font_table.py from {file} of the Debian package {package}.
//
// shape: glyph i is `height` rows of 8 pixels, the leftmost in the highest bit; code_points is in
// ascending order, and the printable ASCII characters are its first 95.

#include <cstdint>

namespace {namespace} {{

inline constexpr unsigned width = 8, height = {height}, count = {count};

inline constexpr std::uint16_t code_points[count] = {{
{codes}
}};

inline constexpr std::uint8_t glyphs[count][height] = {{
{rows}
}};

/// The rows of `code`, or of a question mark when the font lacks it. context: any, O(log count)
constexpr std::uint8_t const* glyph(char32_t code) {{
    if (code >= ' ' && code <= '~') return glyphs[code - ' '];
    unsigned low = 95, high = count;
    while (low < high) {{
        auto const middle = (low + high) / 2;
        if (code_points[middle] == code) return glyphs[middle];
        if (code_points[middle] < code) low = middle + 1;
        else high = middle;
    }}
    return glyphs['?' - ' '];
}}

}}  // namespace {namespace}
"""


def header(options, height, glyphs):
    """The C++ header's text."""
    codes = sorted(code for code in glyphs if 0x20 <= code <= 0xffff)
    if codes[:95] != list(range(0x20, 0x7f)):
        raise Failed("the font lacks a printable ASCII character")
    rows = ["    {" + ", ".join(f"0x{b:02x}" for b in glyphs[code][:height]) + "},"
            for code in codes]
    numbers = [f"0x{code:04x}" for code in codes]
    lines = ["    " + ", ".join(numbers[i:i + 12]) + "," for i in range(0, len(numbers), 12)]
    return HEADER.format(file=pathlib.PurePath(options.file).name, package=options.package,
                         namespace=options.namespace, height=height, count=len(codes),
                         codes="\n".join(lines), rows="\n".join(rows))


def main():
    """Fetches, reads and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("package", "sha256", "file", "namespace"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    options = parser.parse_args()
    try:
        data = (unpacked(options) / options.file).read_bytes()
        if options.file.endswith(".gz"):
            data = gzip.decompress(data)
        text = header(options, *read_psf(data))
    except (Failed, OSError, subprocess.CalledProcessError) as failure:
        sys.exit(f"font: {failure}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
