"""Jobs in turns: explore programs and crash cases until one fails, all are done, or time is over.

A turn gives each job that is not done a strategy, an engine and some seconds. Interpreted turns
come first, because they compile nothing and find most; a job that was explored to its end is done.
A crash case is never done: there are always more schedules.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from stress.crash.case import CrashCase
from stress.crash.result import CrashFailure, CrashResult
from stress.crash.search import Effort, Hunt
from stress.explorer.explore import explore
from stress.explorer.report.failure import Failure
from stress.explorer.result import ABANDONED, BUDGET, ERROR, EXHAUSTED, FAILED, Exploration
from stress.machine.program import Program
from stress.progress import Report, Step, silent

CRASH = "crash"
NATIVE, INTERPRETED, QUICKEST = "native", "interpreted", "quickest"
STEP_LIMIT = 5_000
CRASHES = {  # random schedules, classes of DPOR, deaths in one run
    INTERPRETED: (0, 0, 1),
    NATIVE: (20, 60, 2),
}
MORE_CRASHES = (12, 0, 1)  # interpreted, in a turn that takes its time
STRIDE = 3  # of the second death, which is tried at every third point
LEAST_NATIVE_S = 1.0
LEAST_S = 0.05  # of a fair turn
CRASH_VERDICTS = {"passed": BUDGET, "failed": FAILED, "cut": ABANDONED}


class Job(NamedTuple):
    """A program under ``memory``, or a crash case (``memory`` is CRASH)."""

    name: str
    memory: str
    thing: Program | CrashCase


class Turn(NamedTuple):
    """What each open job is given. ``seconds`` None: its share of what is left.

    ``engine`` QUICKEST: native if the program's image is on disk, else interpreted.
    ``schedules``: at most that many interpreted ones. ``fair``: no more than a job's share of what
    is left, so that each of them has its turn.
    """

    strategy: str
    engine: str
    seconds: float | None = None
    schedules: int | None = None
    fair: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a job came to in one turn. ``at_s``: seconds from the start of the loop to its end."""

    job: Job
    engine: str
    verdict: str
    schedules: int
    cut: int
    seconds: float
    at_s: float
    failure: Failure | CrashFailure | None = None
    result: Exploration | CrashResult | None = None
    note: str = ""

    @property
    def done(self) -> bool:
        """Whether nothing is left to do about the job."""
        return self.verdict in (EXHAUSTED, ERROR, FAILED)

    @property
    def length(self) -> tuple[int, int]:
        """How long its failing schedule is: preemptions, then steps."""
        assert self.failure is not None
        if isinstance(self.failure, Failure):
            return self.failure.preemptions, len(self.failure.trace.steps)
        return self.failure.then, self.failure.point


@dataclass
class Loop:
    """One budget over some jobs. ``tell`` hears each outcome, ``report`` how far all of them are.

    ``linger_s``: how long it goes on after the first failure for a shorter one, in the same turn.
    ``spent_s``: how much of ``seconds`` was used before, to choose the jobs.
    """

    jobs: Sequence[Job]
    turns: Sequence[Turn]
    seconds: float
    tell: Callable[[Outcome], None] = lambda outcome: None
    step_limit: int = STEP_LIMIT
    linger_s: float = 0.0
    outcomes: list[Outcome] = field(default_factory=list)
    report: Report = silent
    spent_s: float = 0.0

    def __post_init__(self) -> None:
        self.open = list(self.jobs)
        self._start = time.monotonic() - self.spent_s
        self._end = self._start + self.seconds

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._start

    @property
    def left_s(self) -> float:
        return self._end - time.monotonic()

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.failure is not None]

    @property
    def never_ran(self) -> list[Job]:
        """The jobs for which there was no time."""
        ran = {id(outcome.job) for outcome in self.outcomes}
        return [job for job in self.jobs if id(job) not in ran]

    def run(self) -> Loop:
        for turn in self.turns:
            pairs = list(self.open)
            for done, job in enumerate(pairs):
                if self.left_s <= 0 or (self.failures and not self.linger_s):
                    return self
                share = self.left_s / (len(pairs) - done)
                self._take(job, turn, share)
            if self.failures:
                return self
        return self

    def _take(self, job: Job, turn: Turn, share: float) -> None:
        """One turn of one job."""
        engine = engine_of(turn, job)
        # Compiling does not count for the explorer, but it does here.
        seconds = max(share, LEAST_NATIVE_S) if turn.seconds is None else turn.seconds
        if turn.fair:
            seconds = min(seconds, max(share, LEAST_S))
        seconds = min(seconds, max(self.left_s, 0.01))
        if job.memory == CRASH:
            outcome = self._crash(job, turn, engine, seconds)
        else:
            outcome = self._explore(job, turn, engine, seconds)
        self.outcomes.append(outcome)
        if outcome.done:
            self.open.remove(job)
        if outcome.failure is not None and len(self.failures) == 1:
            self._end = min(self._end, time.monotonic() + self.linger_s)
        self.tell(outcome)

    def _watched(self, job: Job) -> Report:
        """What hears how far ``job`` is, and says how far the loop is."""

        def report(step: Step) -> None:
            elapsed_s = min(self.elapsed_s, self.seconds)
            self.report(Step(f"{job.name} ({job.memory})", elapsed_s, self.seconds, step.note))

        return report

    def _explore(self, job: Job, turn: Turn, engine: str, seconds: float) -> Outcome:
        assert isinstance(job.thing, Program)
        limit = turn.schedules if engine == INTERPRETED or turn.engine == NATIVE else None
        result = explore(
            job.thing,
            turn.strategy,
            job.memory,
            schedules=limit,
            seconds=seconds,
            engine=engine,
            step_limit=self.step_limit,
            progress=self._watched(job),
        )
        return Outcome(
            job,
            engine,
            result.verdict,
            result.schedules,
            result.abandoned,
            result.seconds,
            self.elapsed_s,
            result.failure,
            result,
            result.note,
        )

    def _crash(self, job: Job, turn: Turn, engine: str, seconds: float) -> Outcome:
        assert isinstance(job.thing, CrashCase)
        patient = engine == INTERPRETED and turn.strategy == "auto"
        seeds, classes, depth = MORE_CRASHES if patient else CRASHES[engine]
        effort = Effort(seeds, classes, depth, stride=STRIDE, engine=engine, seconds=seconds)
        result = Hunt(job.thing, effort, report=self._watched(job), first_failure=True).run()
        failure = result.failures[0] if result.failures else None
        return Outcome(
            job,
            engine,
            CRASH_VERDICTS[result.verdict],
            result.runs,
            result.cut,
            result.seconds,
            self.elapsed_s,
            failure,
            result,
        )


def engine_of(turn: Turn, job: Job) -> str:
    """The engine of a job in a turn."""
    if turn.engine != QUICKEST:
        return turn.engine
    return NATIVE if isinstance(job.thing, Program) and is_kept(job.thing, turn) else INTERPRETED


def is_kept(program: Program, turn: Turn) -> bool:
    """Whether what a native exploration needs is compiled and on disk."""
    from shmalloc.compiler import obtain
    from shmalloc.compiler.instances import Instance
    from shmalloc.engine import plans
    from stress.explorer.searches import driver_of
    from stress.machine.native import kernels_of
    from stress.machine.native_control import CONTROL

    drivers = [Instance(f, CONTROL, True) for f in plans.drivers_with(driver_of("dpor"))]
    return obtain.is_kept(kernels_of(iter([program]))) and obtain.is_kept(drivers)


def jobs_of(name: str, thing: Program | CrashCase, memories: Iterable[str]) -> list[Job]:
    """The jobs of one program, or the one of a crash case."""
    if isinstance(thing, CrashCase):
        return [Job(name, CRASH, thing)]
    return [Job(name, memory, thing) for memory in memories]
