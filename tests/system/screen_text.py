"""Reads text back from a screenshot: cells of 8x16 pixels compared with the font's glyphs."""

import re
import struct
import zlib

from paths import TARGET_BUILD

FONT = TARGET_BUILD / "generated" / "font" / "terminus_8x16.h"


def pixels(path):
    """(width, height, rows of RGB bytes) of a PNG as QEMU writes it (8 bits, RGB)."""
    data, at, packed = path.read_bytes(), 8, b""
    assert data[:8] == b"\x89PNG\r\n\x1a\n", "not a PNG"
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8:at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack_from(">IIBB", body)
            assert (depth, colour) == (8, 2), "not an RGB picture"
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    raw, stride, rows, above = zlib.decompress(packed), width * 3, [], bytes(width * 3)
    for y in range(height):
        packed_row = raw[y * (stride + 1):(y + 1) * (stride + 1)]
        kind, row = packed_row[0], bytearray(packed_row[1:])
        for x in range(stride if kind else 0):
            left = row[x - 3] if x >= 3 else 0
            up, corner = above[x], above[x - 3] if x >= 3 else 0
            if kind == 1:
                guess = left
            elif kind == 2:
                guess = up
            elif kind == 3:
                guess = (left + up) // 2
            else:
                guess = min((abs(up - corner), 0, left), (abs(left - corner), 1, up),
                            (abs(left + up - 2 * corner), 2, corner))[2]
            row[x] = (row[x] + guess) & 255
        rows.append(bytes(row))
        above = rows[-1]
    return width, height, rows


def glyphs():
    """{rows of a glyph: character} for printable ASCII."""
    table = re.findall(r"^    \{((?:0x[0-9a-f]{2}(?:, )?){16})\},$", FONT.read_text(), re.M)[:95]
    return {bytes(int(b, 16) for b in rows.split(", ")): chr(0x20 + i)
            for i, rows in enumerate(table)}


def lines(path, scale=1, first_row=0, rows_max=None):
    """The text of a screenshot, one string a row of characters; what is no letter is a '~'."""
    width, height, rows = pixels(path)
    letters, result = glyphs(), []
    for top in range(first_row * 16, height - 16 * scale + 1, 16 * scale):
        text = ""
        for left in range(0, width - 8 * scale + 1, 8 * scale):
            cell = [[rows[top + y * scale][(left + x * scale) * 3:(left + x * scale) * 3 + 3]
                     for x in range(8)] for y in range(16)]
            # Cells have no frame of their own: the colour that most of a cell has is its ground.
            flat = [pixel for line in cell for pixel in line]
            ground = max(set(flat), key=flat.count)
            bits = bytes(sum(0x80 >> x for x in range(8) if line[x] != ground) for line in cell)
            text += letters.get(bits, "~")
        result.append(text.rstrip())
        if rows_max and len(result) == rows_max:
            break
    return result
