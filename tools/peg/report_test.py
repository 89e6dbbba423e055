"""Goal: a run passes only if the promise held, mattered, and all witnesses agree."""

import copy
import json
import pathlib
import tempfile
import unittest

import demo
import frames
import report


def domain(name, jobs, missed, slice_ns=7_000_000):
    return {"name": name, "jobs": jobs, "missed": missed, "used_ns": 1, "spare_ns": 0,
            "contract": {"slice_ns": slice_ns, "period_ns": 40_000_000}}


def phase(name, begin, end, *domains):
    return {"name": name, "seconds": (end - begin) / 1e9, "begin_ns": begin, "end_ns": end,
            "domains": list(domains)}


PHASES = [phase("", 0, 10, domain("init", 0, 0)),
          phase("guarantees-on", 10, 10**9, domain("a", 24, 0), domain("hog", 0, 0, 0)),
          phase("guarantees-off", 10**9, 2 * 10**9, domain("a", 25, 20)),
          phase("settling", 2 * 10**9, 21 * 10**8, domain("a", 4, 2))]
TEXT = ("@verdict 0 guarantees-on a 24 0 5 5\n@verdict 1 guarantees-off a 25 20 5 5\n"
        "@verdict 2 settling a 4 2 5 5\n")
PICTURES = [{"name": "one", "time_ns": 5 * 10**8, "phase": "guarantees-on", "settled": True,
             "players": {"a": {"number": 12, "expected": 12, "behind": 0, "different_pixels": 0}}}]


class ReportTest(unittest.TestCase):
    def problems(self, change=lambda phases, pictures: None, text=TEXT, code=0x10):
        phases, pictures = copy.deepcopy(PHASES), copy.deepcopy(PICTURES)
        change(phases, pictures)
        made = report.compose(phases, pictures, text, code)
        self.assertEqual(made["passed"], not made["problems"])
        return " | ".join(made["problems"])

    def test_a_good_run_passes(self):
        self.assertEqual(self.problems(), "")

    def test_a_broken_promise_fails(self):
        def change(phases, _):
            phases[1]["domains"][0]["missed"] = 1
        self.assertIn("a missed 1 of 24", self.problems(change))
        own = TEXT.replace("on a 24 0", "on a 24 1")
        self.assertNotIn("guest", self.problems(change, own, report.BROKEN))

    def test_guarantees_that_do_not_matter_fail(self):
        def change(phases, _):
            phases[2]["domains"][0]["missed"] = 0
        self.assertIn("proves nothing", self.problems(change, TEXT.replace("25 20", "25 0")))
        self.assertIn("never off", self.problems(lambda phases, _: phases.pop(2)))
        self.assertIn("never on", self.problems(lambda phases, _: phases.pop(1)))

    def test_witnesses_must_agree(self):
        self.assertIn("19 by the guest", self.problems(text=TEXT.replace("25 20", "25 19")))
        self.assertIn("no verdict", self.problems(text="nothing"))
        self.assertIn("exit code", self.problems(code=report.BROKEN))
        self.assertIn("the guest saw the phases", self.problems(text=TEXT.replace("-off", "-of")))

    def test_pictures_must_show_the_right_frame_whole(self):
        def seen(**values):
            def change(_, pictures):
                pictures[0]["players"]["a"].update(values)
            return self.problems(change)
        self.assertEqual(seen(number=11, behind=1), "")
        self.assertIn("time for 12", seen(number=10, behind=2))
        self.assertIn("no whole frame", seen(number=None))
        self.assertIn("7 pixels differ", seen(different_pixels=7))
        self.assertIn("no picture", self.problems(lambda _, pictures: pictures.clear()))
        # What is torn without guarantees is no fault.
        def torn(_, pictures):
            pictures.append({"name": "two", "time_ns": 15 * 10**8, "phase": "guarantees-off",
                             "settled": True, "players": {"a": {"number": None}}})
        self.assertEqual(self.problems(torn), "")

    def test_times_are_found_in_their_phase(self):
        self.assertEqual(report.phase_at(PHASES, 5 * 10**8), ("guarantees-on", True))
        self.assertEqual(report.phase_at(PHASES, 20), ("guarantees-on", False))
        self.assertEqual(report.phase_at(PHASES, 10**12), ("", False))

    def test_the_file_is_json(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "report.json"
            report.write(path, report.compose(PHASES, PICTURES, TEXT, 0x10))
            self.assertTrue(json.loads(path.read_text())["passed"])


class FramesTest(unittest.TestCase):
    def test_distance_goes_round(self):
        player = demo.Player("a", "clip", None, info={"period_ns": 40_000_000, "frames": 100})
        self.assertEqual(frames.expected(player, 4_010_000_000), 0)
        self.assertEqual(frames.distance(player, 99, 4_010_000_000), 1)
        self.assertEqual(frames.distance(player, 3, 4_010_000_000), 3)


class FakeRun:
    """A machine whose memory is a trace ring of four records."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.qmp = self
        self.numbers = []

    def command(self, name, val, size, filename):
        assert name == "pmemsave"
        slots = [bytes(32)] * 4
        for number in self.numbers:
            slots[number % 4] = bytes([number]) * 32
        memory = demo.TraceCapture.HEADER.pack(b"NEMTRAC1", 1, 0, 32, 4, len(self.numbers), 9, 8)
        memory += b"".join(slots)
        pathlib.Path(filename).write_bytes(memory[val - 4096:val - 4096 + size])


class CaptureTest(unittest.TestCase):
    def test_a_run_may_be_longer_than_its_ring(self):
        with tempfile.TemporaryDirectory() as folder:
            run, capture = FakeRun(folder), demo.TraceCapture()
            capture.fetch(run)  # not known yet where it lies
            capture.address = 4096
            for upto in (3, 3, 6, 7, 11):
                run.numbers = list(range(upto))
                capture.fetch(run)
            self.assertEqual((capture.taken, capture.lost), (11, 0))
            self.assertEqual([capture.records[i * 32] for i in range(11)], list(range(11)))
            run.numbers = list(range(17))
            capture.fetch(run)
            self.assertEqual(capture.lost, 2)
            out = pathlib.Path(folder) / "trace.bin"
            capture.write(out)
            self.assertEqual(len(out.read_bytes()), 64 + 16 * 32)


if __name__ == "__main__":
    unittest.main()
