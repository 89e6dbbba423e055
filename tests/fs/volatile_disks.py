"""Disks with a volatile write cache, which an emulator reaches over NBD (the fixed newstyle).

What holds:
- A write is acknowledged from the cache. A flush puts on the medium what was acknowledged before it
  was taken up, and nothing more: of requests that wait side by side a flush goes first.
- Only a flush and power_off change the medium, a file of the host. power_off lets a part of the
  cache survive, older or younger, single writes torn at 512-byte borders.
- One thread: the power can go between any two steps of a request.

The hook `step(disk, what)` is called before a "write" is taken up, when a "flush" is asked for, when
it is done and when that is told; what it raises leaves serve(), and the guest hears no more.
"""

import os
import struct

SECTOR = 512
GREETING, OPTION_MAGIC, OPTION_REPLY_MAGIC = b"NBDMAGIC", b"IHAVEOPT", 0x3E889045565A9
REQUEST, REPLY = struct.Struct(">IHHQQI"), struct.Struct(">IIQ")
REQUEST_MAGIC, REPLY_MAGIC = 0x25609513, 0x67446698
FIXED_NEWSTYLE = 1
OPTION_ABORT, OPTION_GO = 2, 7
ACK, INFO, UNSUPPORTED = 1, 3, 0x80000001
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
HAS_FLAGS, SEND_FLUSH = 1, 4
EIO, EINVAL = 5, 22

# What of a cache survives the loss of power.
FATES = ("nothing", "everything", "half", "little", "oldest", "newest")


def survivors(cache, fate, dice):
    """What of a cache reaches the medium, [(offset, bytes)], and how many writes are torn."""
    count = len(cache)
    border = dice.randint(0, count)
    chosen = {"nothing": [], "everything": range(count),
              "half": [i for i in range(count) if dice.random() < 0.5],
              "little": [i for i in range(count) if dice.random() < 0.1],
              "oldest": range(border), "newest": range(border, count)}[fate]
    kept, torn = [], 0
    for offset, data in (cache[i] for i in chosen):
        if fate == "everything" or dice.random() < 0.8:
            kept.append((offset, data))
            continue
        torn += 1
        for at in range(0, len(data), SECTOR):
            if dice.random() < 0.5:
                kept.append((offset + at, data[at:at + SECTOR]))
    return kept, torn


class Disk:
    """A medium, and the cache before it."""

    def __init__(self, path):
        self.medium = os.open(path, os.O_RDWR)
        self.seen = bytearray(os.pread(self.medium, os.fstat(self.medium).st_size, 0))
        self.cache = []     # (offset, bytes) since the last flush, the oldest first
        self.dead = False   # answers every request with an error
        self.lies = False   # acknowledges a flush and does nothing

    def write(self, offset, data):
        self.seen[offset:offset + len(data)] = data
        self.cache.append((offset, data))

    def flush(self):
        if not self.lies:
            self._keep(self.cache)
            self.cache = []

    def power_off(self, fate, dice):
        """The end of the cache; (writes in it, sectors of them, sectors that survived, writes torn)."""
        kept, torn = survivors(self.cache, fate, dice)
        self._keep(kept)
        os.close(self.medium)
        return (len(self.cache), sum(len(data) for _, data in self.cache) // SECTOR,
                sum(len(data) for _, data in kept) // SECTOR, torn)

    def _keep(self, writes):
        for offset, data in writes:
            os.pwrite(self.medium, data, offset)


class Connection:
    """One disk's line to the emulator."""

    def __init__(self, number, disk, line, step):
        self.number, self.disk, self.line, self.step = number, disk, line, step
        self.bytes = bytearray()
        self._greet()

    def _receive(self, count):
        data = bytearray()
        while len(data) < count:
            piece = self.line.recv(count - len(data))
            if not piece:
                raise ConnectionError("the emulator left during the greeting")
            data += piece
        return bytes(data)

    def _greet(self):
        """The size and what the disk can do; all that is optional is refused."""
        self.line.settimeout(60)
        self.line.sendall(GREETING + OPTION_MAGIC + struct.pack(">H", FIXED_NEWSTYLE))
        self._receive(4)
        while True:
            magic, option, length = struct.unpack(">8sII", self._receive(16))
            if magic != OPTION_MAGIC or length > 65536:
                raise ConnectionError("the emulator does not speak NBD")
            self._receive(length)

            def reply(kind, data=b"", option=option):
                self.line.sendall(struct.pack(">QIII", OPTION_REPLY_MAGIC, option, kind, len(data))
                                  + data)
            if option == OPTION_GO:
                reply(INFO, struct.pack(">HQH", 0, len(self.disk.seen), HAS_FLAGS | SEND_FLUSH))
                reply(ACK)
                return
            reply(ACK if option == OPTION_ABORT else UNSUPPORTED)

    def serve(self):
        """Takes up what waits on the line; False when the emulator has left."""
        try:
            piece = self.line.recv(1 << 22)
        except ConnectionResetError:
            return False
        self.bytes += piece
        waiting = []
        at = 0
        while len(self.bytes) - at >= REQUEST.size:
            magic, _, kind, handle, offset, length = REQUEST.unpack_from(self.bytes, at)
            if magic != REQUEST_MAGIC:
                raise ConnectionError("the emulator does not speak NBD")
            end = at + REQUEST.size + (length if kind == WRITE else 0)
            if len(self.bytes) < end:
                break
            waiting.append((kind, handle, offset, length, bytes(self.bytes[at + REQUEST.size:end])))
            at = end
        del self.bytes[:at]
        for request in sorted(waiting, key=lambda r: r[0] != FLUSH):
            self._carry_out(*request)
        return bool(piece) and all(request[0] != DISCONNECT for request in waiting)

    def _carry_out(self, kind, handle, offset, length, data):
        def reply(error, content=b""):
            try:
                self.line.sendall(REPLY.pack(REPLY_MAGIC, error, handle) + content)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it has left; serve() finds out

        if kind == DISCONNECT:
            return
        if kind in (WRITE, FLUSH):
            self.step(self.number, "write" if kind == WRITE else "flush asked")
        if self.disk.dead:
            reply(EIO)
        elif kind == FLUSH:
            self.disk.flush()
            self.step(self.number, "flush done")
            reply(0)
            self.step(self.number, "flush told")
        elif offset + length > len(self.disk.seen) or kind not in (READ, WRITE):
            reply(EINVAL)
        elif kind == READ:
            reply(0, self.disk.seen[offset:offset + length])
        else:
            self.disk.write(offset, data)
            reply(0)
