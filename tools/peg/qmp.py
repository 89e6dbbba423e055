"""QEMU's machine protocol over a unix socket: commands, and the events that come between."""

import collections
import json
import select
import socket
import time

from console import PegError


class QmpClosed(Exception):
    """The emulator has gone."""


class Qmp:
    """A connection. One user at a time; events wait in order until `next_event` takes them."""

    def __init__(self, path, deadline, alive=lambda: True):
        self.events = collections.deque()
        self.buffer = b""
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                if not alive():
                    raise QmpClosed from None
                if time.monotonic() > deadline:
                    raise PegError("the emulator did not open its control socket") from None
                time.sleep(0.005)
        if self._message(deadline) is None:
            raise PegError("the emulator did not greet on its control socket")
        self.command("qmp_capabilities")

    def fileno(self):
        return self.socket.fileno()

    def close(self):
        self.socket.close()

    def _message(self, deadline):
        """The next message, or None when the deadline passes."""
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            try:
                if not select.select([self.socket], [], [], max(0, left))[0]:
                    return None
                data = self.socket.recv(65536)
            except OSError:
                data = b""
            if not data:
                raise QmpClosed
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def command(self, name, timeout=60.0, **arguments):
        """Run a command; return its result. Events that come first are kept."""
        request = {"execute": name}
        if arguments:
            request["arguments"] = arguments
        try:
            self.socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            raise QmpClosed from None
        deadline = time.monotonic() + timeout
        while True:
            message = self._message(deadline)
            if message is None:
                raise PegError(f"the emulator did not answer {name}")
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                raise PegError(f"emulator: {name}: {message['error'].get('desc', message)}")
            else:
                return message.get("return")

    def next_event(self, timeout):
        """The next event, or None after `timeout` seconds."""
        if self.events:
            return self.events.popleft()
        deadline = time.monotonic() + timeout
        while True:
            message = self._message(deadline)
            if message is None or "event" in message:
                return message

    def key(self, *names):
        """Press some keys together and let them go (QEMU's names: "a", "ret", "shift")."""
        for down in (True, False):
            events = [{"type": "key", "data": {"down": down,
                                               "key": {"type": "qcode", "data": name}}}
                      for name in (names if down else reversed(names))]
            self.command("input-send-event", events=events)

    def screenshot(self, path):
        """Write what the display shows as a PNG."""
        self.command("screendump", filename=str(path), format="png")
