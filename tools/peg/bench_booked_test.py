"""Goal: a cost that is more than the kernel books is named, with what is booked."""

import pathlib
import tempfile
import unittest

import bench_booked
from console import PegError

BOOKED = {"per_switch": 700, "per_timer": 300, "per_event": 300, "per_release": 300, "kEntryCost": 700,
          "kInterruptCost": 1000, "kNotedCost": 250}


def row(metric, most):
    return {"metric": metric, "max": most}


class BookedTest(unittest.TestCase):
    def test_the_kernel_says_what_it_books(self):
        booked = bench_booked.figures()
        for names in bench_booked.BOOKED.values():
            for name in names:
                self.assertGreater(booked[name], 0, name)

    def test_a_figure_that_is_gone_is_an_error(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "kernel").mkdir()
            (root / "kernel" / "costs.h").write_text(".per_switch = Duration::ns(1'700),")
            (root / "kernel" / "interrupt.h").write_text("")
            with self.assertRaisesRegex(PegError, "kEntryCost .*per_timer"):
                bench_booked.figures(root)

    def test_what_is_booked_is_enough(self):
        rows = [row("switch", 700), row("event_send_async_n10000", 300), row("timer_wakeup_spin", 1300),
                row("irq_off_max/timers", 700), row("null_syscall", 10**6)]
        self.assertEqual(bench_booked.exceeded(rows, BOOKED), [])

    def test_one_more_is_too_much(self):
        for metric, most, line in (
                ("switch", 701, "switch took 701, booked is per_switch = 700"),
                ("timer_wakeup_kps", 1301,
                 "timer_wakeup_kps took 1301, booked is per_timer + per_release + per_switch = 1300"),
                ("irq_noted", 251, "irq_noted took 251, booked is kNotedCost = 250"),
                ("irq_off_max", None, "irq_off_max took None, booked is kEntryCost = 700")):
            self.assertEqual(bench_booked.exceeded([row("null_syscall", 1), row(metric, most)], BOOKED), [line])


if __name__ == "__main__":
    unittest.main()
