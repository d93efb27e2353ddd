"""``crash``: kill each CPU before each of its writes, in many schedules, and check the recovery.

For each schedule and victim there is one run for each point of the victim and one for its end: the
victim stops there for ever, a supervisor recovers, the others continue, and the check inspects what
is left. With ``depth`` 2 the supervisor dies as well, at each of its points in turn, and a second
one has to recover both.

One more run of the schedule, interpreted and without a death, tells the source line of each point:
up to the first death both engines take the same steps.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FunctionType

from shmalloc.dialect import Kernel
from shmalloc.errors import MisuseError
from stress.crash.case import CrashCase
from stress.crash.result import AT_END, CrashFailure, CrashResult, Key, key_of
from stress.crash.runner import Point, Run, Runner
from stress.crash.schedules import Schedule, schedules_of
from stress.explorer.loading import stop_loading
from stress.machine import block as cb
from stress.machine.program import Program
from stress.machine.site import Site
from stress.progress import Report, Step, logged

SEEDS = 12
DEPTHS = (1, 2)


@dataclass(frozen=True)
class Effort:
    """How much to try.

    ``seeds``, ``classes``: random schedules and classes of DPOR besides all orders of the CPUs.
    ``depth`` 2: crashes inside recovery too, for ``again`` of the schedules, at every
    ``stride``-th point. ``races``: look for data races as well (half the speed).
    """

    seeds: int = SEEDS
    classes: int = 0
    depth: int = 1
    again: int = 2
    stride: int = 1
    seed: int = 1
    engine: str = "native"
    races: bool = False
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.depth not in DEPTHS:
            raise MisuseError(f"depth: {self.depth}; use 1, or 2 for crashes inside recovery")
        for name in ("seeds", "classes", "again"):
            if getattr(self, name) < 0:
                raise MisuseError(f"{name}: {getattr(self, name)}; use at least 0")
        if self.seconds is not None and self.seconds <= 0:
            raise MisuseError(f"seconds: {self.seconds:g}; use more than 0")
        if self.stride < 1:
            raise MisuseError(f"stride: {self.stride}; use at least 1")


def crash(
    program: Program,
    recover: Kernel,
    died: int,
    check: Kernel | None = None,
    victims: Sequence[int] | None = None,
    effort: Effort | None = None,
) -> CrashResult:
    """Kill CPUs of ``program`` before each of their writes; see ``CrashCase`` for the arguments.

    ``check``: what must hold afterwards; None: the check of the program.

    Raises ``MisuseError`` for arguments that make no sense.
    """
    stop_loading()
    holds = check or program.check
    if not isinstance(holds, FunctionType):
        raise MisuseError("check: None; give a kernel (mem) that says what must hold after a crash")
    case = CrashCase(program, recover, died, holds, victims)
    return Hunt(case, effort or Effort()).run()


def spread(count: int, chosen: int) -> set[int]:
    """At most ``chosen`` of the first ``count`` numbers, evenly spread over all schedules."""
    most = min(chosen, count)
    return {number * count // most for number in range(most)}


class Hunt:
    """All runs of one case.

    ``operations``: the kernels that name the rows of the table. ``followed``: deaths after which
    the recovery was already traced, interpreted; hunts that share the set save much time.
    ``report`` receives the progress; by default the logger "stress" logs it every ten seconds.
    ``first_failure``: end with the schedule that fails first.
    """

    def __init__(
        self,
        case: CrashCase,
        effort: Effort,
        operations: frozenset[str] = frozenset(),
        followed: set[tuple[Site, ...]] | None = None,
        report: Report | None = None,
        first_failure: bool = False,
    ) -> None:
        self.case = case
        self.first_failure = first_failure
        self.effort = effort
        self.report = logged(logging.getLogger("stress")) if report is None else report
        self.operations = operations
        self.followed = set() if followed is None else followed
        self.runner = Runner(case, effort.engine, effort.races)
        self.reader = Runner(case, "interpreted", trace=True)
        self.result = CrashResult()
        limit_s = float("inf") if effort.seconds is None else effort.seconds
        self._stop = time.perf_counter() + limit_s

    def run(self) -> CrashResult:
        """``result`` has what was found also if this is ended from outside."""
        start = time.perf_counter()
        try:
            self._run()
        except KeyboardInterrupt:
            self.result.interrupted, self.result.complete = True, False
            raise
        finally:
            self.result.seconds = time.perf_counter() - start
            self.result.steps = int(self.runner.block[cb.TOTAL_STEPS])
        return self.result

    def _run(self) -> None:
        schedules = self._schedules()
        twice = spread(len(schedules), self.effort.again) if self.effort.depth == 2 else set()
        for number, schedule in enumerate(schedules):
            if self._out_of_time():
                break
            note = f"{self.result.runs:,} crashes"
            self.report(Step(self.case.name, number, len(schedules), note))
            self._try(schedule, again=number in twice)

    def _out_of_time(self) -> bool:
        over = time.perf_counter() > self._stop
        over |= self.first_failure and bool(self.result.failures)
        self.result.complete &= not over
        return over

    def _schedules(self) -> list[Schedule]:
        effort = self.effort
        classes = len(self.runner.classes(effort.classes)) if effort.classes else 0
        return schedules_of(self.case.living, effort.seeds, classes, effort.seed)

    def _try(self, schedule: Schedule, again: bool) -> None:
        """All runs of one schedule."""
        if schedule.way == "class":
            self.reader.adopt_classes(self.runner)
        unharmed = self.reader.run(schedule)
        points = self.reader.points()
        self.result.schedules += 1
        if unharmed.kind != "passed":
            key = Key("(no CPU died)", AT_END)
            self.result.count(key, unharmed)
            self._keep(schedule, unharmed, 0, 0, 0, key, None)
            return
        for victim in self.case.dying:
            self._kill(schedule, victim, points[victim], again)

    def _kill(self, schedule: Schedule, victim: int, points: list[Point], again: bool) -> None:
        recovered = []
        seen: set[Key] = set()
        for number, run in enumerate(self.runner.sweep(schedule, victim), 1):
            point = points[number - 1] if number <= len(points) else None
            key = key_of(point, self.operations)
            self.result.count(key, run)
            self.result.stacks[key, point.stack if point else ()] += 1
            if run.failed:
                self._keep(schedule, run, victim, number, 0, key, point)
            elif run.kind == "passed":
                recovered.append((number, point))
            if again and key not in seen:
                seen.add(key)
                self._read_recovery(schedule, victim, number)
        if number != len(points) + 1:
            raise AssertionError(
                f"{self.case.name}, {schedule}, cpu {victim}: {number - 1} points compiled,"
                f" {len(points)} interpreted"
            )
        for number, point in recovered if again else ():
            if self._out_of_time():
                return
            self._kill_again(schedule, victim, number, point)

    def _read_recovery(self, schedule: Schedule, victim: int, number: int) -> None:
        """The lines that supervisors reach after this death: the first one, and one after it."""
        first = self.case.living
        self.reader.run(schedule, victim, number)
        points = self.reader.points()[first]
        for then, point in enumerate(points, 1):
            self.result.recovery_sites[point.stack[0]] += 1
            if point.stack not in self.followed:
                self.followed.add(point.stack)
                self.reader.run(schedule, victim, number, then)
                for later in self.reader.points()[first + 1]:
                    self.result.recovery_sites[later.stack[0]] += 1

    def _kill_again(
        self, schedule: Schedule, victim: int, number: int, point: Point | None
    ) -> None:
        """The supervisor dies, too."""
        stride = self.effort.stride
        key = key_of(point, self.operations)
        first = 1 + number % stride
        for then, run in self.runner.sweep_again(schedule, victim, number, first, stride):
            self.result.count(key, run, second=True)
            if run.failed:
                self._keep(schedule, run, victim, number, then, key, point)

    def _keep(
        self,
        schedule: Schedule,
        run: Run,
        victim: int,
        number: int,
        then: int,
        key: Key,
        point: Point | None,
    ) -> None:
        self.result.keep(
            CrashFailure(
                self.case,
                schedule,
                victim,
                number,
                then,
                run.kind,
                run.code,
                key,
                point.stack if point else (),
            )
        )
