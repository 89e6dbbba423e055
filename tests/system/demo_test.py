"""The demo as a whole: the promise holds and matters, broken promises are seen, missing devices and
painting outside of a strip harm nobody else."""

import json
import socket
import subprocess
import sys
import threading
import time

import archives
import qemu
import timebase
from paths import ROOT

MANIFEST = ROOT / "domains" / "demo" / "demo.manifest"


def peg_run(context, *arguments):
    """Run the demo by script through the command line; return (exit code, output, report)."""
    out = context.folder / "out"
    command = [sys.executable, ROOT / "tools" / "peg" / "main.py", "run", "--headless",
               "--no-build", "--out", out, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    report = out / "report.json"
    if not report.exists():
        raise AssertionError(f"no report: {result.stdout[-800:]} {result.stderr[-800:]}")
    return result.returncode, result.stdout + result.stderr, json.loads(report.read_text())


def changed_manifest(context, *changes):
    """The demo's manifest with some text replaced; its file."""
    text = MANIFEST.read_text()
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} is not once in the manifest"
        text = text.replace(old, new)
    path = context.folder / f"{context.name.replace('/', '_')}.manifest"
    path.write_text(text)
    return path


def domain_of(report, phase, name):
    """What a report says about a domain in the first phase of a name."""
    found = next(p for p in report["phases"] if p["name"] == phase)
    return next(d for d in found["domains"] if d["name"] == name)


def test_films_keep_their_deadlines(context):
    """With guarantees no deadline is missed beside four hogs, without them many are, and guest,
    trace and pictures agree."""
    code, text, report = peg_run(context, "--seconds", "4")
    assert code == 0 and report["passed"], f"{report['problems']}\n{text[-1500:]}"
    for name in ("player_a", "player_b", "status"):
        on = domain_of(report, "guarantees-on", name)
        assert on["jobs"] > 20 and on["missed"] == 0 and on["worst_lateness_ns"] < 0, on
        assert on["spare_ns"] == 0, f"{name} needed spare time: {on}"
    for name in ("player_a", "player_b"):
        assert domain_of(report, "guarantees-off", name)["missed"] > 10
    assert len(list((context.folder / "out").glob("second-*.png"))) == 4


def test_a_system_without_a_director_ends_in_time(context):
    """`--headless --seconds 2` ends a machine that nobody in it would end, with its pictures."""
    out = context.folder / "out"
    result = subprocess.run(
        [sys.executable, ROOT / "tools" / "peg" / "main.py", "run", "--headless", "--no-build",
         "--seconds", "2", "--out", out, "--manifest", ROOT / "domains" / "hello" / "hello.manifest"],
        capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stdout[-1500:] + result.stderr[-800:]
    assert "hello: 50 frames, 0 late" in result.stdout, result.stdout[-1500:]
    assert sorted(p.name for p in out.glob("*.png")) == ["second-001.png", "second-002.png"]
    assert (out / "trace.bin").stat().st_size > 64


def test_without_guarantees_films_break(context):
    """Guarantees off from the start: deadlines are missed, the report says so and is no pass."""
    code, _, report = peg_run(context, "--seconds", "2", "--append", "guarantees=off")
    assert code == 1 and not report["passed"]
    assert domain_of(report, "guarantees-off", "player_b")["missed"] > 10
    assert any("never on" in problem for problem in report["problems"]), report["problems"]


def test_a_broken_promise_is_no_pass(context):
    """A contract smaller than the film needs: guest and host both see the misses, exit code 1."""
    manifest = changed_manifest(context, ("contract 10ms/40ms", "contract 8ms/40ms"))
    code, text, report = peg_run(context, "--seconds", "3", "--manifest", manifest)
    assert code == 1 and not report["passed"]
    assert "the guest ended with 0x20" in text, text[-800:]
    assert any("player_b missed" in problem for problem in report["problems"]), report["problems"]
    assert not any("guest" in problem for problem in report["problems"]), report["problems"]
    assert domain_of(report, "guarantees-on", "player_a")["missed"] == 0


def test_load_that_proves_nothing_is_no_pass(context):
    """Without hogs nobody misses anything, guarantees or not: that shows nothing."""
    code, _, report = peg_run(context, "--seconds", "2", "--append", "hogs=off")
    assert code == 1
    assert any("proves nothing" in problem for problem in report["problems"]), report["problems"]


def test_painting_outside_a_strip_faults(context):
    """A domain that paints below its strip dies of it; films and the strip below are unharmed."""
    manifest = changed_manifest(
        context, ("player_b=232,288 status", "player_b=232,287 painter=519,1 status"),
        ("channel display.status ", "domain painter { image outside_painter  spare weight 1  "
         "memory 1MiB  slots 4  endpoints 16  fpu }\n"
         "channel display.painter -> painter.display { slots 1 of 64B }\nchannel display.status "))
    code, text, report = peg_run(context, "--seconds", "3", "--manifest", manifest)
    assert "probe: painted its own 1 lines" in text, text[-1500:]
    assert "domain painter: unhandled fault 0xe" in text, text[-1500:]
    assert "painted outside" not in text
    assert code == 0, report["problems"]


def boot_demo(context, seconds=2, **machine):
    """The demo without a script for pictures: it ends by itself."""
    archive = archives.make("demo", MANIFEST, built=True, folder=context.folder)
    return context.boot(archive=archive, append=f"seconds={seconds}", memory_mib=1024, **machine)


def test_no_keyboard(context):
    """Without a keyboard controller: one line, and the demo runs."""
    booted = boot_demo(context, chipset="q35,i8042=off").need_success()
    assert booted.text.count("keyboard:") == 1 and "no keyboard" in booted.text, booted.text


def test_no_serial_port(context):
    """Without a serial port the demo runs to its end."""
    boot_demo(context, serial="none").need_success()


def test_no_display(context):
    """Without a display: a line each where a picture was wanted, and the demo runs."""
    booted = boot_demo(context, screen=False).need_success()
    assert "no display" in booted.text


def test_keys(context):
    """g, h and q of the keyboard switch guarantees, hogs, and end the run."""
    pressed = []
    archive = archives.make("demo", MANIFEST, built=True, folder=context.folder)
    machine = qemu.Machine(time=timebase.counted(), archive=archive, memory_mib=1024)
    with qemu.Run(machine, context.folder / "boot") as run:
        def answer(text):
            for words, key in (("phase guarantees-on", "g"), ("phase guarantees-off", "h"),
                               ("director: hogs off", "q")):
                if words in text and key not in pressed:
                    pressed.append(key)
                    run.qmp.key(key)
        outcome = run.until_end(120, on_text=answer)
    assert pressed == ["g", "h", "q"] and outcome.passed, f"{pressed}: {outcome}"


def test_serial_keys(context):
    """The serial line's characters work like keys."""
    archive = archives.make("demo", MANIFEST, built=True, folder=context.folder)
    heard = []
    machine = qemu.Machine(time=timebase.counted(), archive=archive, memory_mib=1024, serial="none",
                           extra=("-serial", "tcp:127.0.0.1:0,server=on,wait=off"))
    with qemu.Run(machine, context.folder / "boot") as run:
        port = int(next(c for c in run.qmp.command("query-chardev")
                        if c["filename"].startswith("disconnected:tcp"))["filename"]
                   .split(",")[0].rsplit(":", 1)[1])

        def talk():
            with socket.create_connection(("127.0.0.1", port)) as line:
                line.settimeout(100)
                while data := line.recv(4096):
                    heard.append(data.decode(errors="replace"))
                    if "phase guarantees-on" in "".join(heard):
                        line.sendall(b"q")
                        return

        talker = threading.Thread(target=talk, daemon=True)
        talker.start()
        time.sleep(0.3)
        outcome = run.until_end(120)
        talker.join(5)
    assert outcome.passed, f"{outcome} {''.join(heard)[-500:]}"
