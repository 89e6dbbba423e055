"""What the demo is made of, as far as the host has to know it: films, strips, the trace."""

import dataclasses
import functools
import json
import pathlib
import re
import struct
import subprocess

import build
from console import PegError
from paths import BOOT, shown

FRAMES_MAX = 500  # of a converted film: 20 s
PERIOD_NS = 40_000_000


@dataclasses.dataclass
class Player:
    """One player: which film it shows, and where."""

    name: str
    clip: str                # the archive's name of the film
    path: pathlib.Path
    left: int = 0
    top: int = 0
    info: dict = dataclasses.field(default_factory=dict)


def players_of(manifest, films=None):
    """The players that a manifest starts; `films`: files instead of the default ones, by name."""
    text = re.sub(r"(?m)^\s*#.*", "", pathlib.Path(manifest).read_text())
    strips = {name: (int(first), int(lines))
              for name, first, lines in re.findall(r"([\w-]+)=(\d+),(\d+)", text)}
    players = []
    for name, body in re.findall(r"\bdomain\s+([\w-]+)\s*\{(.*?)\}", text, re.S):
        clip = re.search(r"\bdata\s+(clip\w*)", body)
        if not clip or name not in strips:
            continue
        path = (films or {}).get(clip.group(1), BOOT / "data" / clip.group(1))
        info = clip_info(path)
        margin = (strips[name][1] - info["height"]) // 2
        players.append(Player(name, clip.group(1), path, margin, strips[name][0] + margin, info))
    return players


@functools.cache
def clip_program():
    """The host's clip tool, built once."""
    return build.host_program("clip")


def clip_tool(*arguments, **options):
    """Run the host's clip tool; return what it wrote."""
    result = subprocess.run([clip_program(), *map(str, arguments)], capture_output=True,
                            check=False, **options)
    if result.returncode:
        raise PegError(result.stderr.decode(errors="replace").strip())
    return result.stdout


def clip_info(path):
    """Size, frames, rate of a film."""
    if not path.exists():
        raise PegError(f"there is no film {shown(path)}")
    return json.loads(clip_tool("info", path))


def convert(film, players, folder):
    """A video file as a film for each player, somewhat smaller than the one it replaces.

    Equally large pictures of equally many bytes cost up to 8 % more to decode than the computed
    ones, for which the contracts are made; 15/16 of each side leaves room for that.
    """
    if not film.is_file():
        raise PegError(f"there is no file {film}")
    films = {}
    for player in players:
        width, height = (player.info[side] * 15 // 16 // 16 * 16 for side in ("width", "height"))
        out = folder / f"{player.clip}.clip"
        shape = f"{width}:{height}"
        command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(film), "-an", "-vf",
                   f"scale={shape}:force_original_aspect_ratio=increase,crop={shape},fps=25",
                   "-frames:v", str(FRAMES_MAX), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as source:
            packed = subprocess.run([clip_program(), "pack", f"{width}x{height}", str(PERIOD_NS),
                                     str(player.info["largest"]), out], stdin=source.stdout,
                                    capture_output=True, check=False)
            source.stdout.close()
            complaint = source.stderr.read().decode(errors="replace").strip()
        if source.returncode and packed.returncode or packed.returncode:
            why = complaint.splitlines()[-1] if complaint else packed.stderr.decode().strip()
            raise PegError(f"{film} cannot be converted: {why}")
        films[player.clip] = out
    return films


class TraceCapture:
    """The guest's trace ring, fetched while the machine stands still, as often as it does.

    The ring holds the newest records only; what is fetched in time is kept, so that a run may be
    longer than its ring.
    """

    HEADER = struct.Struct("<8sIIIIQQQ16x")  # libnemesis/base/trace_format.h
    CAPACITY_MAX = 1 << 24

    def __init__(self):
        self.address = None
        self.records = bytearray()
        self.taken = 0
        self.lost = 0
        self.clock = (0, 0)

    def fetch(self, run):
        """Take the records that are new."""
        if self.address is None:
            return
        header = self._memory(run, 0, self.HEADER.size)
        magic, _, _, size, capacity, written, *clock = self.HEADER.unpack(header)
        if magic != b"NEMTRAC1" or size != 32 or capacity == 0:
            raise PegError("the machine has no trace where it said")
        self.clock = tuple(clock)
        ring = self._memory(run, self.HEADER.size, capacity * size)
        first = max(self.taken, written - capacity)
        self.lost += first - self.taken
        begin, count = first % capacity, written - first
        head = ring[begin * size:(begin + count) * size]
        self.records += head + ring[:count * size - len(head)]
        self.taken = written

    def _memory(self, run, offset, size):
        path = run.folder / "memory.part"
        run.qmp.command("pmemsave", val=self.address + offset, size=size, filename=str(path))
        data = path.read_bytes()
        path.unlink()
        return data

    def write(self, path):
        """Write all records as one trace file."""
        records = self.records[-self.CAPACITY_MAX * 32:]
        count = len(records) // 32
        capacity = 1
        while capacity < count:
            capacity *= 2
        header = self.HEADER.pack(b"NEMTRAC1", 1, 0, 32, capacity, count, *self.clock)
        path.write_bytes(header + bytes(records) + bytes((capacity - count) * 32))
