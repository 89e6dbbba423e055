"""The shell on the screen: keys of the machine's keyboard, and what its region of the screen shows."""

import re
import sys
import time

import qemu
import shell
import timebase
from paths import ROOT

sys.path.insert(0, str(ROOT / "tests" / "system"))
import screen_text  # noqa: E402

FIRST_LINE, LINES, COLUMNS = 256, 512, 128  # of domains/shell/screen.manifest, in 1024 x 768
GROUND = bytes((0x10, 0x18, 0x20))
NAMES = {" ": ("spc",), "=": ("equal",), "\n": ("ret",), "/": ("slash",), ";": ("semicolon",),
         '"': ("shift", "apostrophe"), "{": ("shift", "bracket_left"),
         "<left>": ("left",), "<up>": ("up",), "<tab>": ("tab",), "<delete>": ("delete",)}


def keys_of(text):
    """QEMU's names of the keys to press, one after the other."""
    while text:
        key = text[:text.index(">") + 1] if text.startswith("<") else text[0]
        text = text[len(key):]
        yield NAMES.get(key, ("shift", key.lower()) if key.isupper() else (key,))


class Typist:
    """Takes a picture at each prompt and types a line. The serial line says what is on the screen by
    now, for the shell writes there last."""

    PROMPT = "nemesis> \x1b[K"

    def __init__(self, run, lines):
        self.run, self.lines = run, list(lines)
        self.said, self.pictures = "", []

    def on_text(self, text):
        """More of what the machine says."""
        self.said += text
        while self.lines and self.said.count(self.PROMPT) > len(self.pictures):
            self.pictures.append(self.run.folder / f"screen-{len(self.pictures)}.png")
            self.run.qmp.screenshot(self.pictures[-1])
            for keys in keys_of(self.lines.pop(0)):
                self.press(keys)

    def press(self, keys):
        """The controller holds few keys: the next one only when this one has been heard."""
        self.run.qmp.key(*keys)
        for _ in range(500):
            if heard := self.run.new_serial_text():
                self.said += heard
                return
            time.sleep(0.01)


def region(picture):
    """The rows of text in the shell's region."""
    return screen_text.lines(picture, first_row=FIRST_LINE // 16, rows_max=LINES // 16)


def test_keys_and_text(context):
    """Keys reach the shell, shifted, edited and completed; its region shows what the serial line says,
    the newest rows when it is full; the rest of the screen is not touched."""
    typed = ['echo "A{b"; ls /pro<tab>\n', "ecko hi<left><left><left><left><left><delete>h\n",
             "<up> again\n", "run echo a program\n", "run lookup console\n",
             "run names=none echo unseen\n", "help\n", "exit\n"]
    archive = shell.make_archive(context.folder, name="screen", screen=True)
    machine = qemu.Machine(time=timebase.waiting(), archive=archive)
    with qemu.Run(machine, context.folder / "boot") as run:
        typist = Typist(run, typed)
        outcome = run.until_end(100, on_text=typist.on_text)
    said = re.sub("\r+\n", "\n", typist.said)
    assert outcome.passed and not typist.lines, f"{outcome.reason}: {said[-1500:]}"
    screens = [region(picture) for picture in typist.pictures]
    assert screens[0][:2] == ["The Nemesis shell; help lists its commands.", "nemesis>"], screens[0]
    assert not any(screens[0][2:]), screens[0]
    rows = screens[1][1:]
    programs = len(shell.PROGRAMS)
    assert rows[:2] == ['nemesis> echo "A{b"; ls /programs/', "A{b"], rows
    assert rows[2:2 + programs] == sorted(shell.PROGRAMS), rows
    rows = screens[3][3 + programs:]
    assert rows[:5] == ["nemesis> echo hi", "hi", "nemesis> echo hi again", "hi again", "nemesis>"], rows
    # What programs print is there too, once, if they are given the shell's names; else in the log only.
    rows = screens[6][7 + programs:]
    assert rows[:7] == ["nemesis> run echo a program", "a program", "nemesis> run lookup console",
                        "console: an object", "nemesis> run names=none echo unseen", "nemesis>", ""], rows
    assert [said.count(f"\n{line}\n") for line in ("a program", "console: an object", "unseen")] == [1] * 3, said
    # help is longer than the region: its end is at the bottom, as the serial line has it.
    lines = said.split(Typist.PROMPT + "help\n")[1].split("\n\r" + Typist.PROMPT)[0].split("\n")
    helped = [line[at:at + COLUMNS].rstrip() for line in lines for at in range(0, len(line), COLUMNS)]
    rows = screens[7]
    assert len(helped) >= len(rows) == LINES // 16, helped
    assert rows == helped[1 - len(rows):] + ["nemesis>"], rows
    outside = [screen_text.pixels(picture)[2][:FIRST_LINE] for picture in typist.pictures]
    assert all(rows == outside[0] for rows in outside), "the shell has painted outside of its region"
    assert not any(GROUND in row for row in outside[0])


def test_without_a_screen(context):
    """The same system on a machine without a screen and a keyboard: a line each, and the shell runs."""
    archive = shell.make_archive(context.folder, "echo here", name="no_screen", screen=True)
    booted = context.boot(archive=archive, screen=False, chipset="q35,i8042=off").need_success()
    printed, code = shell.output_of(booted.text)
    assert "here" in printed.splitlines() and code == 0, booted.text
    for line in ("shell: the display has no strip for us", "keyboard: no keyboard"):
        assert booted.text.count(line) == 1, booted.text
