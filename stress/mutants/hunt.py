"""What runs inside of a copy: explore programs until one fails or the budget ends.

``python -m stress.mutants.hunt ROOT SECONDS PROGRAM...`` prints one JSON document. A program is one
of stress/programs, or ``crash:`` and a case of stress/crash. Not to be imported by the command:
everything here is the copy's, mutant and all.

In turns (check/loop.py), crash cases last: every program is interpreted for a moment, under sc and
then under tso, which needs no compiler and finds most; then for longer, at random, too; then
natively with what is left. In a crash case CPUs die instead: at first in the schedules without
preemption, then at random, and inside of recovery, too. A kernel that already fails while it
prepares the memory of a program is found before any schedule, and one that repeats itself for ever
ends the hunt.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import shmalloc
from shmalloc.errors import CorruptionError
from stress.check.loop import CRASH, INTERPRETED, NATIVE, Job, Loop, Outcome, Turn, jobs_of
from stress.check.unprepared import UnpreparedError, prepared
from stress.crash.account import account_of
from stress.crash.allocator import allocator_case
from stress.crash.case import CrashCase
from stress.crash.result import CrashFailure
from stress.explorer.report.failure import Failure
from stress.explorer.report.trace import kind_of
from stress.explorer.result import ERROR
from stress.explorer.spinning import EndlessLoopError
from stress.machine.program import Program
from stress.mutants.mutant import is_crash
from stress.programs import PROGRAMS

MEMORIES = ("sc", "tso")
TURNS = (
    Turn("dpor", INTERPRETED, 1.0),
    Turn("auto", INTERPRETED, 4.0),
    Turn("auto", NATIVE),
)


def hunted(programs: list[str], seconds: float) -> Loop:
    """Explore ``programs`` until something is found, all is exhausted, or time is up."""
    jobs: list[Job] = []
    for name in sorted(programs, key=is_crash):  # one sweep of a crash case takes many seconds
        bare = name.removeprefix(f"{CRASH}:")
        thing = prepared(name, partial(thing_of, name, bare))
        jobs += jobs_of(bare, thing, MEMORIES)
    return Loop(jobs, TURNS, seconds).run()


def thing_of(name: str, bare: str) -> Program | CrashCase:
    return allocator_case(bare) if is_crash(name) else PROGRAMS[name]()


def document(loop: Loop) -> dict[str, object]:
    """What the command reads."""
    problems = [
        f"{outcome.job.name} ({outcome.job.memory}): {outcome.note}"
        for outcome in loop.outcomes
        if outcome.verdict == ERROR
    ]
    failures = loop.failures
    return {
        "schedules": sum(outcome.schedules for outcome in loop.outcomes),
        "seconds": loop.elapsed_s,
        "exhausted": not loop.open and not problems,
        "cut": sum(outcome.cut for outcome in loop.outcomes),
        "problems": problems,
        "left": [f"{job.name} ({job.memory})" for job in loop.open],
        "found": _finding(failures[0]) if failures else None,
    }


def _finding(outcome: Outcome) -> dict[str, object]:
    failure = outcome.failure
    assert failure is not None
    found = {
        "program": outcome.job.name,
        "memory": outcome.job.memory,
        "code": failure.code,
        "engine": outcome.engine,
    }
    if isinstance(failure, Failure):
        return found | {
            "kind": failure.kind,
            "token": failure.schedule,
            "cause": failure.cause,
            "preemptions": failure.preemptions,
            "seconds": outcome.at_s - failure.shrink_seconds,
        }
    assert isinstance(failure, CrashFailure)
    return found | {
        "kind": kind_of(failure.kind),
        "token": failure.command,
        "cause": account_of(failure).cause,
        "preemptions": None,
        "seconds": outcome.at_s,
    }


def endless(error: EndlessLoopError) -> dict[str, object]:
    """As ``document``: a kernel that repeats itself for ever, as no kernel of ours does."""
    return _at_once(error.program, "endless loop", str(error))


def unprepared(error: UnpreparedError) -> dict[str, object]:
    """As ``document``: the first program whose memory a kernel spoils shows the mutant."""
    return _at_once(error.name, "preparation", str(error))


def _at_once(program: str, kind: str, cause: str) -> dict[str, object]:
    """As ``document``, of a finding that is no schedule."""
    found = {
        "program": program,
        "memory": "sc",
        "code": 0,
        "engine": INTERPRETED,
        "kind": kind,
        "token": "",
        "cause": cause,
        "preemptions": 0,
        "seconds": 0.0,
    }
    return {
        "schedules": 0,
        "seconds": 0.0,
        "exhausted": False,
        "cut": 0,
        "problems": [],
        "left": [],
        "found": found,
    }


def main(root: str, seconds: str, *programs: str) -> None:
    assert shmalloc.__file__ is not None
    if not Path(shmalloc.__file__).is_relative_to(Path(root).resolve()):
        sys.exit(f"the packages of {root} are not those that were imported: {shmalloc.__file__}")
    try:
        told = document(hunted(list(programs), float(seconds)))
    except EndlessLoopError as error:
        told = endless(error)
    except UnpreparedError as error:
        if not isinstance(error.__cause__, CorruptionError):
            raise  # the mutant's text is wrong, which is no finding
        told = unprepared(error)
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
