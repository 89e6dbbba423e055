"""`peg stop`: ends every emulator that peg has started from this checkout."""

import processes
from console import say

NAME = "stop"
SUMMARY = "end every emulator that peg has started"


def add_arguments(_parser):
    pass


def run(_options):
    stopped = processes.stop_all()
    for record in stopped:
        say(f"ended {record['pid']} ({record['what']})")
    if not stopped:
        say("nothing was running")
    return 0
