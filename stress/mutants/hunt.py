"""What runs inside of a copy: explore programs until one fails or the budget ends.

``python -m stress.mutants.hunt ROOT SECONDS PROGRAM...`` prints one JSON document. A program is one
of stress/programs, or ``crash:`` and a case of stress/crash. Not to be imported by the command:
everything here is the copy's, mutant and all.

In rounds: every program is explored interpreted for a moment, under sc and then under tso, which
needs no compiler and finds most; then for longer, at random, too; then natively with what is left.
A program that was explored to its end is done. In a crash case CPUs die instead: at first in the
schedules without preemption, then at random, and inside of recovery, too.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import shmalloc
from stress.crash.allocator import allocator_case
from stress.crash.result import CrashResult
from stress.crash.search import Effort
from stress.crash.search import Hunt as CrashHunt
from stress.explorer.explore import explore
from stress.explorer.report.failure import Failure
from stress.explorer.result import ERROR, EXHAUSTED, Exploration
from stress.mutants.mutant import CRASH, is_crash
from stress.programs import PROGRAMS

MEMORIES = ("sc", "tso")
STEP_LIMIT = 5_000
GLANCES = (("dpor", 1.0), ("auto", 4.0))  # interpreted: strategy and seconds of each exploration
CRASHES = {  # random schedules, classes of DPOR, deaths in one run
    ("dpor", "interpreted"): (0, 0, 1),
    ("auto", "interpreted"): (12, 0, 1),
    ("auto", "native"): (20, 60, 2),
}
STRIDE = 3  # of the second death, which is tried at every third point
LEAST_NATIVE_S = 1.0


@dataclass
class Hunt:
    """One budget over some programs, and what it came to."""

    programs: list[str]
    seconds: float
    schedules: int = 0
    explorations: int = 0
    cut: int = 0
    found: dict[str, object] | None = None

    def __post_init__(self) -> None:
        self.start = time.monotonic()
        self.open = [
            (name, memory)
            for name in self.programs
            for memory in ((CRASH,) if is_crash(name) else MEMORIES)
        ]
        self.problems: list[str] = []

    @property
    def left_s(self) -> float:
        return self.seconds - (time.monotonic() - self.start)

    def run(self) -> None:
        """Hunt until something is found, all is exhausted, or time is up."""
        for strategy, seconds in GLANCES:
            for pair in list(self.open):
                self._explore(pair, strategy, "interpreted", seconds)
        pairs = list(self.open)
        for done, pair in enumerate(pairs):
            # compiling does not count for the explorer, but it does here
            share = self.left_s / (len(pairs) - done)
            self._explore(pair, "auto", "native", max(share, LEAST_NATIVE_S))

    def _explore(self, pair: tuple[str, str], strategy: str, engine: str, seconds: float) -> None:
        if self.found is not None or self.left_s <= 0:
            return
        seconds = min(seconds, self.left_s)
        done = (self._crash if pair[1] == CRASH else self._search)(pair, strategy, engine, seconds)
        self.explorations += 1
        if done:
            self.open.remove(pair)

    def _search(self, pair: tuple[str, str], strategy: str, engine: str, seconds: float) -> bool:
        """Explore one program; whether there is nothing left to do about it."""
        name, memory = pair
        result = explore(
            PROGRAMS[name](),
            strategy,
            memory,
            seconds=seconds,
            engine=engine,
            step_limit=STEP_LIMIT,
        )
        self.schedules += result.schedules
        self.cut += result.abandoned
        if result.verdict == ERROR:
            self.problems.append(f"{name} ({memory}): {result.note}")
        if result.failure is not None:
            self.found = self._finding(result)
        return result.verdict in (EXHAUSTED, ERROR)

    def _crash(self, pair: tuple[str, str], strategy: str, engine: str, seconds: float) -> bool:
        """Let CPUs die in one case. Never done: there are always more schedules."""
        name = pair[0].removeprefix(f"{CRASH}:")
        seeds, classes, depth = CRASHES[strategy, engine]
        effort = Effort(seeds, classes, depth, stride=STRIDE, engine=engine, seconds=seconds)
        result = CrashHunt(allocator_case(name), effort).run()
        self.schedules += result.runs
        self.cut += result.cut
        if result.failures:
            self.found = self._death(name, engine, result)
        return False

    def document(self) -> dict[str, object]:
        """What the command reads."""
        return {
            "schedules": self.schedules,
            "seconds": self.seconds - self.left_s,
            "exhausted": not self.open and not self.problems,
            "cut": self.cut,
            "problems": self.problems,
            "left": [f"{n} ({m})" for n, m in self.open],
            "found": self.found,
        }

    def _finding(self, result: Exploration) -> dict[str, object]:
        failure = result.failure
        assert isinstance(failure, Failure)
        return {
            "program": failure.program.name,
            "memory": failure.memory_model,
            "kind": failure.kind,
            "code": failure.code,
            "token": failure.schedule,
            "preemptions": failure.preemptions,
            "cause": failure.cause,
            "engine": result.engine,
            "seconds": self.seconds - self.left_s - failure.shrink_seconds,
        }

    def _death(self, name: str, engine: str, result: CrashResult) -> dict[str, object]:
        failure = result.failures[0]
        return {
            "program": name,
            "memory": CRASH,
            "code": failure.code,
            "kind": "check" if failure.code else failure.kind,
            "token": failure.command,
            "preemptions": None,
            "cause": str(failure),
            "engine": engine,
            "seconds": self.seconds - self.left_s,
        }


def main(root: str, seconds: str, *programs: str) -> None:
    assert shmalloc.__file__ is not None
    if not Path(shmalloc.__file__).is_relative_to(Path(root).resolve()):
        sys.exit(f"the packages of {root} are not those that were imported: {shmalloc.__file__}")
    hunt = Hunt(list(programs), float(seconds))
    hunt.run()
    print(json.dumps(hunt.document()))


if __name__ == "__main__":
    main(*sys.argv[1:])
