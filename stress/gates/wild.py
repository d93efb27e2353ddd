"""How often a race wins without gates: the same processes, let go at once, again and again.

Each run begins with the program's own memory and all processes before their first access, which
they make at one moment of the processor's clock, give or take ``SPREAD_S``, drawn anew. What the
program's check refuses, a fault, and processes that hang count, each by its code. An invariant
cannot be looked at while nothing is held; it is asked when all have ended. Check and invariant are
compiled here, unless they ask what a CPU returned, so that most of the time goes to the race.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from shmalloc.dialect import kernel
from shmalloc.engine import get_engine
from shmalloc.units import Memory
from shmalloc.words import now
from stress.explorer.report.naming import Naming
from stress.gates import state as gate_state
from stress.gates.team import Team, gate_engine
from stress.gates.verdict import judge
from stress.machine.program import Program
from stress.machine.vocabulary import returned, says

HANG_S = 0.5
LEAD_S = 150e-6  # from the word to the start: a process that naps has time to wake
SPREAD_S = 3e-7  # at most, from the start of the first CPU to that of the last


@kernel
def clock_of(mem: Memory) -> int:
    """The clock that the processes read."""
    return now(mem)


FREE = 1 << 62


@dataclass
class Wild:
    """What runs without gates showed: how many of each kind, of how many, in which time."""

    runs: int = 0
    seconds: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """``without gates: check 1 in 12 of 4,000 runs (0.30 %), 2.0 s``."""
        told = [
            f"{kind} in {n:,} of {self.runs:,} runs ({100 * n / self.runs:.2f} %)"
            for kind, n in self.seen.most_common()
        ]
        found = "; ".join(told) or f"nothing in {self.runs:,} runs"
        return f"without gates: {found}, {self.seconds:.1f} s"


def play(program: Program, runs: int, seconds: float) -> Wild:
    """Run ``program`` freely until ``runs`` are done or ``seconds`` are over."""
    wild = Wild()
    _compile(program)
    begin = time.monotonic()
    while wild.runs < runs and wild.seconds < seconds:
        with Team(program) as team:
            team.start()
            _play(team, wild, runs, begin + seconds)
        wild.seconds = time.monotonic() - begin
    return wild


def _compile(program: Program) -> None:
    """All that a run needs: the time of it is for runs."""
    gate_engine().warm(program.threads)
    get_engine("native").warm([clock_of])
    watcher = program.check or program.invariant
    if watcher is not None and not says([watcher], returned):
        get_engine("native").warm([watcher])  # not all of its module, which may hold other words


def _ticks_a_second(clock: Callable[[], int]) -> float:
    begin, since = clock(), time.perf_counter()
    time.sleep(0.01)
    return (clock() - begin) / (time.perf_counter() - since)


def _play(team: Team, wild: Wild, runs: int, end: float) -> None:
    """Runs of one team: until one hangs, which ends its processes."""
    watch = _watcher(team)
    clock = get_engine("native").builtin(clock_of, team.ram)
    rate = _ticks_a_second(clock)
    chance = random.Random(1)
    while True:
        start = clock() + int(LEAD_S * rate)
        for cpu, block in enumerate(team.blocks):
            block[gate_state.START] = start + int(chance.random() * SPREAD_S * rate)
            team.allow(cpu, FREE, 0)
        hangs = not _all_done(team)
        wild.runs += 1
        kind = "hang" if hangs else _kind(team, watch)
        if kind:
            wild.seen[kind] += 1
        died = any(one is not None and one.fault == "death" for one in team.ends)
        if hangs or died or wild.runs >= runs or time.monotonic() >= end:
            return
        team.again()


def _all_done(team: Team) -> bool:
    deadline = time.monotonic() + HANG_S
    for cpu in range(len(team.blocks)):
        while not team.is_done(cpu):
            if time.monotonic() > deadline:
                return False
    return True


def _watcher(team: Team) -> Callable[[], int]:
    """The check of the program, or else its invariant; compiled if that is possible."""
    kernel = team.program.check or team.program.invariant
    if kernel is None:
        return lambda: 0
    if says([kernel], returned):
        return partial(judge, team, kernel)
    return get_engine("native").builtin(kernel, team.ram)


def _kind(team: Team, watch: Callable[[], int]) -> str:
    fault = next((one.fault for one in team.ends if one is not None and one.fault), "")
    if fault:
        return fault
    code = watch()
    if code == 0:
        return ""
    name = Naming(team.program).short_code(code) or code
    return f"{'check' if team.program.check is not None else 'invariant'} {name}"
