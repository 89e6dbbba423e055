"""The network card's driver: frames in and out, hostile frames and floods, its end, no card.

The wire's other end is this test: a datagram socket on which the emulator sends and takes the
frames of a virtio card. Idle time is waited for, because the guest waits for the host.
"""

import pathlib
import random
import re
import shutil
import socket
import tempfile
import threading
import time

import archives
import timebase

STATION = bytes.fromhex("026e656d000a")
TESTER = bytes.fromhex("026e656d00ff")
EVERYBODY = b"\xff" * 6
TYPE = b"\x88\xb5"


class Wire:
    """The other end of a card's cable, and the emulator's arguments for the card."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="peg-wire-"))
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.folder / "tester"))
        self.socket.settimeout(20)
        self.card = self.folder / "card"
        self.extra = (
            "-netdev", f"dgram,id=wire,local.type=unix,local.path={self.card},"
                       f"remote.type=unix,remote.path={self.folder}/tester",
            "-device", "virtio-net-pci,disable-legacy=on,netdev=wire,romfile=,"
                       f"mac={STATION.hex(':')}")

    def close(self):
        self.socket.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def send(self, frame):
        """Send one frame; how long a full queue is waited for is the system's."""
        self.socket.sendto(frame, str(self.card))

    def take(self, seconds=20):
        """The next frame that the guest has sent; None if there is none in time."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(4096)
        except socket.timeout:
            return None


def order(letter, payload=b""):
    """A frame to the guest that asks for something."""
    return STATION + TESTER + TYPE + letter + payload


def run(context, play, **machine):
    """Boots the frame probes while `play(wire)` is at the other end of the cable."""
    archive = archives.make(re.sub(r"\W", "_", context.name), "domains/node/frames.manifest",
                            built=True, data=[("net", archives.find("net"))])
    wire = Wire()
    failure = []

    def player():
        try:
            if not wait_for_echo(wire):
                raise AssertionError("the guest never answered")
            play(wire)
        except Exception as error:  # noqa: B902 (whatever it is, it is the test's failure)
            failure.append(error)
        finally:
            for _ in range(20):  # frames may be lost
                try:
                    wire.send(order(b"q"))
                except OSError:
                    break
                time.sleep(0.1)

    thread = threading.Thread(target=player, daemon=True)
    thread.start()
    try:
        booted = context.boot(archive=archive, time=timebase.waiting(), extra=wire.extra,
                              seconds=150, **machine)
    finally:
        thread.join(30)
        wire.close()
    failed = re.findall(r"^.*\[ FAILED \] .*$", booted.text, re.M)
    assert not failed, "\n".join(failed)
    if failure:
        raise failure[0]
    return booted.need_success()


def wait_for_echo(wire):
    """Send until the guest answers, then take what is still under way."""
    for _ in range(300):
        try:
            wire.send(order(b"e", b"?"))
        except OSError:
            pass
        if wire.take(0.2):
            while wire.take(0.5):
                pass
            return True
    return False


def need_echo(wire, payload):
    """A frame comes back as it was sent, addresses exchanged; three tries."""
    frame = order(b"e", payload)
    for _ in range(3):
        wire.send(frame)
        got = wire.take(5)
        if got is not None:
            break
    assert got == TESTER + STATION + frame[12:], (len(frame), got and len(got))


def test_frames_come_and_go(context):
    """Frames of every length from the shortest to the longest come back byte for byte."""
    def play(wire):
        numbers = random.Random(1)
        for length in [*range(0, 40), 1498, 1499, *(numbers.randrange(1500) for _ in range(160))]:
            need_echo(wire, numbers.randbytes(length))
    booted = run(context, play)
    assert "@station 2 110 101 109 0 10" in booted.text, booted.text[-1000:]


def test_hostile_frames_and_a_flood(context):
    """Frames too short or too long, for everybody or nobody, and more than there are buffers for:
    the driver drops what it must and goes on."""
    def play(wire):
        numbers = random.Random(2)
        for _ in range(200):
            length = numbers.choice((0, 1, 13, 14, 1515, 2000, 3000, numbers.randrange(1514)))
            wire.send((EVERYBODY if numbers.random() < .5 else TESTER) + numbers.randbytes(length))
        for _ in range(10):
            wire.send(numbers.randbytes(numbers.randrange(1, 14)))
        for number in range(20_000):
            wire.send(order(b"-", number.to_bytes(4, "little") * numbers.randrange(300)))
        while wire.take(1):
            pass
        need_echo(wire, b"still there")
    run(context, play)


def test_more_to_send_than_the_card_takes(context):
    """While the test does not take frames the card gives no buffer back: the driver waits for it,
    and goes on when it does."""
    def play(wire):
        for number in range(400):
            wire.send(order(b"e", number.to_bytes(2, "little") * 600))
        time.sleep(2)
        came = 0
        while wire.take(2):
            came += 1
        assert came > 64, f"{came} frames came back"
        for number in range(100):
            need_echo(wire, b"again%d" % number)
    run(context, play)


def test_the_driver_ends_and_is_made_anew(context):
    """With its driver the card goes off the bus; a new driver works; nothing is lost."""
    def play(wire):
        for number in range(3):
            wire.send(order(b"k"))
            for _ in range(100):  # while there is no driver, frames are lost
                wire.send(order(b"e", b"anew%d" % number))
                got = wire.take(0.2)
                if got and got.endswith(b"anew%d" % number):
                    break
            else:
                raise AssertionError("no answer from the new driver")
            while wire.take(0.5):
                pass
    booted = run(context, play)
    assert booted.text.count("driver ended and made anew") == 3, booted.text[-1500:]


def test_no_card(context):
    """A machine without a card: one line, and nothing else happens."""
    archive = archives.make("net_no_card", "domains/node/frames.manifest", built=True,
                            data=[("net", archives.find("net"))])
    booted = context.boot(archive=archive)
    assert booted.outcome.code == 0x12, booted.outcome.reason + booted.text[-1000:]
    assert booted.text.count("no network card") == 1, booted.text


def test_a_card_that_is_too_old(context):
    """A card without virtio 1.0 is refused with one line that says why."""
    archive = archives.make("net_old_card", "domains/node/frames.manifest", built=True,
                            data=[("net", archives.find("net"))])
    booted = context.boot(archive=archive, extra=(
        "-device", "virtio-net-pci,disable-legacy=off,disable-modern=on,romfile="))
    assert booted.outcome.code == 0x12, booted.outcome.reason + booted.text[-1000:]
    assert booted.text.count("the network card is not used: ") == 1, booted.text
