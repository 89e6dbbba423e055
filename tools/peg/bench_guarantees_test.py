"""Goal: the host finds every late job in a trace, and a guest that hides one."""

import struct
import types
import unittest

import bench_guarantees

MS = 1_000_000
A, B, HOG = 5, 6, 7


def records(*switches):
    """Switch records of (time in ns, domain, kind of time)."""
    return b"".join(struct.pack("<QHHIQQ", time, 1, kind, domain, 0, 0)
                    for time, domain, kind in switches)


def task(jobs=2, missed=0, worst=0, domain=A):
    return bench_guarantees.Task("m", 0, domain, 10 * MS, 10 * MS, 3 * MS, jobs, missed, worst)


# A runs 3 ms at the start of each period, with 1 ms of B in the first of them.
GOOD = ((0, HOG, 2), (10 * MS, A, 1), (11 * MS, B, 1), (12 * MS, A, 1), (14 * MS, HOG, 2),
        (20 * MS, A, 1), (23 * MS, HOG, 2), (40 * MS, B, 1))


class GuaranteesTest(unittest.TestCase):
    def judge(self, what, switches, until=30 * MS):
        return bench_guarantees.judge(what, bench_guarantees.runs_of(records(*switches))[A], until)

    def test_jobs_in_time(self):
        verdict = self.judge(task(), GOOD)
        self.assertEqual((verdict.jobs, verdict.missed, verdict.worst), (2, 0, -6 * MS))
        self.assertEqual(list(bench_guarantees.disagreements(task(worst=-6 * MS), verdict)), [])

    def test_a_job_past_its_deadline(self):
        # B holds the processor until 18 ms: the job ends at 21 ms, the next follows at once.
        late = ((0, HOG, 2), (18 * MS, A, 1), (24 * MS, HOG, 2), (40 * MS, B, 1))
        verdict = self.judge(task(), late)
        self.assertEqual((verdict.jobs, verdict.missed, verdict.worst), (2, 1, 1 * MS))
        self.assertIn("0 missed by the guest, 1 by the trace",
                      " ".join(bench_guarantees.disagreements(task(), verdict)))
        self.assertEqual(list(bench_guarantees.disagreements(task(missed=1), verdict)), [])

    def test_a_job_in_two_pieces_over_its_deadline(self):
        late = ((0, HOG, 2), (10 * MS, A, 1), (12 * MS, B, 1), (22 * MS, A, 1), (26 * MS, HOG, 2),
                (40 * MS, B, 1))
        verdict = self.judge(task(), late)
        self.assertEqual((verdict.jobs, verdict.missed, verdict.worst), (2, 1, 3 * MS))

    def test_a_job_shorter_than_promised_or_missing(self):
        short = ((0, HOG, 2), (10 * MS, A, 1), (12 * MS, HOG, 2), (40 * MS, B, 1))
        verdict = self.judge(task(jobs=1, worst=-8 * MS), short)
        self.assertIn("1 jobs by the guest, 0 by the trace",
                      " ".join(bench_guarantees.disagreements(task(jobs=1), verdict)))

    def test_shares_of_hogs(self):
        switches = ((0, A, 2), (10 * MS, B, 2), (30 * MS, HOG, 1))
        runs = bench_guarantees.runs_of(records(*switches))
        hogs = [(A, 1, 0, 30 * MS), (B, 2, 0, 30 * MS)]
        self.assertEqual(bench_guarantees.unfair(hogs, runs), 0)
        hogs = [(A, 1, 0, 30 * MS), (B, 1, 0, 30 * MS)]
        self.assertEqual(bench_guarantees.unfair(hogs, runs), 5 * MS - 500_000)

    def test_a_whole_run(self):
        text = ("bench: @task m 0 5 10000000 10000000 3000000 2 0 -6000000\n"
                "bench: @end m 30000000\n")
        capture = types.SimpleNamespace(lost=0, records=records(*GOOD))
        made = {row["metric"]: row["max"] for row in bench_guarantees.rows(text, capture)}
        self.assertEqual(made, {"m_missed_by_trace": 0, "m_lateness_by_trace": -6 * MS})
        with self.assertRaises(AssertionError):
            bench_guarantees.rows(text.replace(" 2 0 -6", " 1 1 -6"), capture)


if __name__ == "__main__":
    unittest.main()
