"""The host's own verdict on guaranteed tasks, made from the switches that the trace holds.

The guest says of each task when its first job was released, its period and slice, how many jobs
have ended and how many of them were late ("@task"), and of each hog its weight and what it had
("@hog"). From the trace the host knows nothing but who ran from when to when. A job ends when the
task has had the processor for a slice since the job's release (or the end of the job before, if
that was later), and the task does not run again before its next release.

A switch is recorded within the kernel, so what a task had includes up to RESOLUTION_NS of the
kernel's way in and out; a lateness closer to 0 than that is no contradiction to the guest's.
"""

import bisect
import collections
import dataclasses
import re
import struct

import demo
from console import PegError

RECORD = struct.Struct("<QHHIQQ")
SWITCH = 1
SPARE = 2
RESOLUTION_NS = 2_000
QUANTUM_NS = 500_000

TRACE_LINE = re.compile(r"@trace (\d+)")
TASK_LINE = re.compile(r"@task (\S+) (\d+) (\d+) (-?\d+) (\d+) (\d+) (\d+) (\d+) (-?\d+)\s")
HOG_LINE = re.compile(r"@hog (\S+) (\d+) (\d+) (\d+) (\d+) (\d+)\s")
END_LINE = re.compile(r"@end (\S+) (\d+)\s")


@dataclasses.dataclass
class Task:
    """What the guest says of one task."""

    metric: str
    number: int
    domain: int
    first_release: int
    period: int
    slice: int
    jobs: int
    missed: int
    worst: int


class Capture(demo.TraceCapture):
    """Fetches the ring whenever the guest stops for it."""

    def on_stop(self, run, name):
        if self.address is None:
            match = TRACE_LINE.search(run.serial_log.read_text(errors="replace"))
            self.address = int(match[1]) if match else None
        if name == "fetch":
            self.fetch(run)


def runs_of(records):
    """{domain: [(begin, end, kind of time)]} of the switches in a trace's records."""
    runs = collections.defaultdict(list)
    who, since, kind = None, 0, 0
    for time, what, detail, domain, _, _ in RECORD.iter_unpack(bytes(records)):
        if what != SWITCH:
            continue
        if who is not None and time > since:
            runs[who].append((since, time, kind))
        who, since, kind = domain, time, detail & 0xff
    return runs


def finishes(task, runs, until):
    """When each job ended, as far as the trace goes: at most one for each release before `until`."""
    at = bisect.bisect_right([end for _, end, _ in runs], task.first_release)
    used = task.first_release  # of the run `at`, what lies before this is used up
    release = task.first_release
    while release < until and at < len(runs):
        need, start = task.slice, max(used, release)
        while at < len(runs):
            begin, end, _ = runs[at]
            begin = max(begin, start)
            if end - begin > need + RESOLUTION_NS and end > release + task.period:
                used = begin + need  # the next job followed without a switch
                yield used
                break
            need -= max(end - begin, 0)
            at += 1
            following = runs[at][0] if at < len(runs) else release + task.period
            if need <= 0 and following >= release + task.period:
                used = end
                yield end
                break
        else:
            return
        release += task.period


@dataclasses.dataclass
class Verdict:
    """The host's opinion of one task."""

    jobs: int
    missed: int
    close: int      # so near to the deadline that the guest may see it the other way
    worst: int


def judge(task, runs, until):
    """The verdict on the jobs that the guest counted, and on those overdue at `until`."""
    ends = list(finishes(task, runs, until))[:task.jobs]
    lateness = [end - task.first_release - (n + 1) * task.period for n, end in enumerate(ends)]
    missed = sum(late > 0 for late in lateness)
    close = sum(abs(late) <= RESOLUTION_NS for late in lateness)
    return Verdict(len(ends), missed, close, max(lateness, default=0))


def disagreements(task, verdict):
    """Where host and guest differ about a task."""
    name = f"{task.metric}, task {task.number}"
    if verdict.jobs != task.jobs:
        yield f"{name}: {task.jobs} jobs by the guest, {verdict.jobs} by the trace"
    if abs(verdict.missed - task.missed) > verdict.close:
        yield f"{name}: {task.missed} missed by the guest, {verdict.missed} by the trace"
    if not task.missed and abs(verdict.worst - task.worst) > RESOLUTION_NS:
        yield f"{name}: {task.worst} ns late by the guest, {verdict.worst} by the trace"


def unfair(hogs, runs):
    """ns by which a hog's share of the spare time in the trace is further from its weight's than
    one per cent or one quantum. `hogs`: (domain, weight, begin, end)."""
    had = []
    for domain, _, begin, end in hogs:
        had.append(sum(max(0, min(e, end) - max(b, begin))
                       for b, e, kind in runs.get(domain, ()) if kind == SPARE))
    weights = [weight for _, weight, _, _ in hogs]
    worst = 0
    for mine, weight in zip(had, weights):
        fair = sum(had) * weight // sum(weights)
        worst = max(worst, abs(mine - fair) - max(fair // 100, QUANTUM_NS))
    return worst


def row(metric, unit, value, count):
    """A row of one value."""
    return {"metric": metric, "unit": unit, "min": value, "median": value, "max": value, "n": count,
            "cr3_writes": None, "ring_crossings": None}


def rows(text, capture):
    """The host's rows for all that a run said of itself. Fails where host and guest disagree."""
    if capture.lost:
        raise PegError(f"{capture.lost} records of the trace were lost")
    runs = runs_of(capture.records)
    ends = {metric: int(end) for metric, end in END_LINE.findall(text)}
    tasks = [Task(metric, *map(int, numbers)) for metric, *numbers in TASK_LINE.findall(text)]
    assert tasks, "the guest has said nothing of its tasks"
    problems, made = [], []
    for metric in dict.fromkeys(task.metric for task in tasks):
        verdicts = []
        for task in (task for task in tasks if task.metric == metric):
            verdict = judge(task, runs.get(task.domain, []), ends[metric])
            problems += disagreements(task, verdict)
            verdicts.append(verdict)
        jobs = sum(verdict.jobs for verdict in verdicts)
        made.append(row(f"{metric}_missed_by_trace", "jobs",
                        sum(verdict.missed for verdict in verdicts), jobs))
        made.append(row(f"{metric}_lateness_by_trace", "ns",
                        max(verdict.worst for verdict in verdicts), jobs))
        hogs = [tuple(map(int, found[1:5])) for found in HOG_LINE.findall(text)
                if found[0] == metric]
        if hogs:
            made.append(row(f"{metric}_hogs_unfair_by_trace", "ns", unfair(hogs, runs), len(hogs)))
    assert not problems, "host and guest disagree: " + "; ".join(problems)
    return made
