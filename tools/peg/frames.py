"""Pictures of the guest's screen: which frame of a film does each player show, and is it whole?"""

import json
import struct
import zlib

import demo
from console import PegError


def unpack_png(data):
    """(width, height, channels, lines still filtered) of an 8-bit PNG file without interlace."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise PegError("the screen's picture is no PNG file")
    at, packed, head = 8, b"", None
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8:at + 8 + length]
        if kind == b"IHDR":
            head = struct.unpack(">IIBBBBB", body)
        elif kind == b"IDAT":
            packed += body
        at += length + 12
    channels = {2: 3, 6: 4}.get(head[3]) if head else None
    if not channels or head[2] != 8 or head[6]:
        raise PegError("the screen's picture has a form that is not understood")
    return head[0], head[1], channels, zlib.decompress(packed)


def look(picture, players):
    """What each player shows on a picture: {name: {"number", "different_pixels", "worst"}}."""
    width, height, channels, lines = unpack_png(picture.read_bytes())
    screen = f"{width} {height} {channels}\n".encode() + lines
    return {player.name: json.loads(demo.clip_tool("compare", player.path, player.left, player.top,
                                                   input=screen))
            for player in players}


def expected(player, time_ns):
    """The frame whose time it is."""
    return time_ns // player.info["period_ns"] % player.info["frames"]


def distance(player, number, time_ns):
    """How far a frame's number is from the one whose time it is, the shorter way round."""
    frames = player.info["frames"]
    away = (number - expected(player, time_ns)) % frames
    return min(away, frames - away)
