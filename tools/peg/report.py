"""The verdict on a scripted run of the demo: report.json (docs/formats/report.md).

Three witnesses: the host's analysis of the trace (tools/trace), the guest's own count (lines
"@verdict" in its log and its exit code), and the pictures. A run passes if nobody with a contract
missed a deadline while guarantees were on, somebody did while they were off, and all witnesses
agree.
"""

import json
import re

ON, OFF = "guarantees-on", "guarantees-off"
BROKEN = 0x20  # the guest's exit code when it counted misses while guarantees were on
# After the guarantees came on, a frame may still be on its way.
SETTLED_NS = 80_000_000


def guest_verdicts(text):
    """{(number of the phase, domain): (jobs, missed)} from the guest's log, and its phases."""
    found, phases = {}, {}
    pattern = r"@verdict (\d+) (\S+) (\S+) (\d+) (\d+) (\d+) (\d+)\s"
    for phase, name, domain, jobs, missed, _, _ in re.findall(pattern, text):
        found[int(phase), domain] = int(jobs), int(missed)
        phases[int(phase)] = name
    return found, [phases[n] for n in sorted(phases)]


def contracted(phase):
    """The domains of a phase that have a guarantee."""
    return [d for d in phase["domains"] if d["contract"]["slice_ns"] > 0]


def misses(phases, name):
    """Deadlines missed by domains with contracts in all phases of a name."""
    return sum(d["missed"] for phase in phases if phase["name"] == name for d in contracted(phase))


def judge_promise(phases):
    """What is wrong with the promise itself."""
    names = {phase["name"] for phase in phases}
    if ON not in names:
        yield "guarantees were never on, so nothing was promised"
    for phase in phases:
        for domain in contracted(phase):
            if phase["name"] == ON and domain["missed"]:
                yield (f"{domain['name']} missed {domain['missed']} of {domain['jobs']} deadlines "
                       "while guarantees were on")
        jobs = sum(domain["jobs"] for domain in contracted(phase))
        if phase["name"] == ON and not jobs:
            yield "a phase with guarantees on had no jobs to judge"
    if OFF not in names:
        yield "guarantees were never off, so nothing shows that they matter"
    elif not misses(phases, OFF):
        yield "nobody missed a deadline while guarantees were off: the load proves nothing"


def judge_guest(phases, text, code):
    """Where the guest's own verdict differs from the host's."""
    own, names = guest_verdicts(text)
    if not own:
        yield "the guest gave no verdict"
        return
    judged = phases[-len(names):]
    if [phase["name"] for phase in judged] != names:
        yield f"the guest saw the phases {names}, the trace {[p['name'] for p in judged]}"
        return
    for number, phase in enumerate(judged):
        if phase["name"] not in (ON, OFF):
            continue
        for domain in phase["domains"]:
            mine = domain["jobs"], domain["missed"]
            its = own.get((number, domain["name"]), (0, 0))
            if mine != its:
                yield (f"{phase['name']}: {domain['name']} had {mine[0]} jobs and missed {mine[1]} "
                       f"by the trace, {its[0]} and {its[1]} by the guest")
    if (code == BROKEN) != (misses(phases, ON) > 0):
        yield f"the guest's exit code {code} does not fit the trace"


def judge_pictures(pictures):
    """Pictures with guarantees on must show the right frame, whole."""
    if not any(picture["phase"] == ON for picture in pictures):
        yield "no picture was taken while guarantees were on"
    for picture in pictures:
        if picture["phase"] != ON or not picture["settled"]:
            continue
        for name, seen in picture["players"].items():
            where = f"{picture['name']}: {name}"
            if seen["number"] is None:
                yield f"{where} shows no whole frame"
            elif seen["behind"] > 1:
                yield (f"{where} shows frame {seen['number']} when it is time for "
                       f"{seen['expected']}")
            elif seen["different_pixels"]:
                yield (f"{where}: {seen['different_pixels']} pixels differ from the host's "
                       f"decoding of frame {seen['number']}")


def phase_at(phases, time_ns):
    """(name, whether it has lasted a while) of the phase at a time; phases lie end to end."""
    end = 0
    for phase in phases:
        begin, end = phase.get("begin_ns", end), phase["end_ns"]
        if begin <= time_ns < end:
            return phase["name"], time_ns - begin >= SETTLED_NS
    return "", False


def compose(phases, pictures, text, code, trouble=()):
    """The whole report. `trouble`: what went wrong before (a lost trace, an early end)."""
    problems = [*trouble, *judge_promise(phases), *judge_guest(phases, text, code),
                *judge_pictures(pictures)]
    return {"passed": not problems, "problems": problems, "phases": phases, "pictures": pictures}


def summary(report):
    """Lines for people."""
    for phase in report["phases"]:
        parts = [f"{d['name']} {d['missed']} of {d['jobs']}" for d in phase["domains"] if d["jobs"]]
        if parts:
            yield f"  {phase['name']:15} {phase['seconds']:6.2f} s   missed: {', '.join(parts)}"
    for problem in report["problems"]:
        yield f"  ! {problem}"
    yield ("the promise held: no deadline missed with guarantees on, and the picture broke without"
           if report["passed"] else "the run did not pass")


def write(path, report):
    """report.json, and nothing half written."""
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(report, indent=1) + "\n")
    new.replace(path)
