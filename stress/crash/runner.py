"""``Runner``: a case laid out for one engine, and its runs. One run takes microseconds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from shmalloc.engine import plans
from shmalloc.errors import MisuseError
from stress.crash import strategy as crash_strategy
from stress.crash.case import CrashCase
from stress.crash.schedules import STARTS, WAYS, Schedule
from stress.explorer.dpor import search as dpor_search
from stress.explorer.searches import Budget, Plan, Search
from stress.machine import block as cb
from stress.machine.block_layout import Settings
from stress.machine.engines import make_machine
from stress.machine.interpreted import InterpretedMachine
from stress.machine.machine import VERDICTS, Machine, events_of
from stress.machine.read_only import WROTE, told
from stress.machine.site import Site

STEP_LIMIT = 50_000
BATCH = 256  # runs of one call: Ctrl-C is heard in between
DRIVERS = (crash_strategy.sweep, crash_strategy.sweep_again, crash_strategy.crash_once)
plans.register_drivers(DRIVERS)


class Run(NamedTuple):
    """How one run ended.

    ``kind``: as in ``explore``, "passed" included. ``deaths``: how many requested deaths happened.
    ``at_end``: the last of them came after the last step of that CPU.
    """

    kind: str
    code: int
    deaths: int
    at_end: bool

    @property
    def failed(self) -> bool:
        return self.kind not in ("passed", "abandoned")


class Point(NamedTuple):
    """A step of a CPU that others can see: its op and the kernels' frames, innermost first."""

    op: int
    stack: tuple[Site, ...]


def _decoded(word: int, death: int) -> Run:
    deaths = word >> crash_strategy.DEATHS_SHIFT & 0xF
    ended = bool(word >> crash_strategy.ENDED_SHIFT >> (death - 1) & 1)
    return Run(VERDICTS[word & 0xFF], word >> crash_strategy.CODE_SHIFT, deaths, ended)


class Runner:
    """Runs ``case`` on ``engine``. ``trace``: interpreted, and each step records its source."""

    def __init__(
        self, case: CrashCase, engine: str = "native", races: bool = False, trace: bool = False
    ) -> None:
        self.case = case
        self.engine = engine
        settings = Settings(
            step_limit=STEP_LIMIT, races=races, tree_words=crash_strategy.CRASH_WORDS
        )
        self.machine: Machine = make_machine(engine, case.model(), settings, trace=trace)
        self.block = self.machine.block
        for driver in DRIVERS:
            self.machine.warm(driver)
        self.block[crash_strategy.LIVING] = case.living
        self.block[crash_strategy.DIED_AT] = case.died
        self._placed: Schedule | None = None

    # --- where a schedule comes from ---
    def place(self, schedule: Schedule) -> None:
        """Let the next runs follow ``schedule``."""
        if schedule == self._placed:
            return
        block = self.block
        block[crash_strategy.WAY], block[crash_strategy.START] = (
            WAYS[schedule.way],
            STARTS[schedule.start],
        )
        block[crash_strategy.SEED] = schedule.number
        order = schedule.order or tuple(range(self.case.living))
        for rank, cpu in enumerate(order):
            block[cb.PRIORITIES + cpu] = rank
        if schedule.way == "class":
            trace = self._class(schedule.number)
            first = int(block[cb.REPEAT_AT])
            block[crash_strategy.PREFIX] = len(trace)
            for k, actor in enumerate(trace):
                block[first + k] = actor
        self._placed = schedule

    def _class(self, number: int) -> list[int]:
        if number >= len(self.classes(number + 1)):
            raise MisuseError(f"schedule: class {number}; there are {len(self._classes)}")
        return self._classes[number]

    def classes(self, limit: int) -> list[list[int]]:
        """The traces of the first ``limit`` classes that DPOR finds without a death."""
        while len(self._classes) < limit and not self._search.done:
            search = self._search
            search.machine.call(dpor_search.dpor, 1, 1)
            steps, first = int(search.block[cb.STEPS]), int(search.block[cb.TRACE_AT])
            if search.block[cb.OUTCOME] == cb.PASSED:
                self._classes.append([int(a) for a in search.block[first : first + steps]])
        return self._classes

    def adopt_classes(self, other: Runner) -> None:
        """Use the traces that the runner of another engine has found for this case."""
        self._classes = other._classes

    @cached_property
    def _classes(self) -> list[list[int]]:
        return []

    @cached_property
    def _search(self) -> Search:
        plan = Plan("dpor", Settings(step_limit=10_000), self.engine, 1, False)
        return Search(self.case.model_alone(), plan, Budget(None, None))

    # --- runs ---
    def run(self, schedule: Schedule, victim: int = 0, point: int = 0, then: int = 0) -> Run:
        """One run; ``point`` 0: no CPU dies."""
        self.place(schedule)
        block = self.block
        block[crash_strategy.VICTIM], block[crash_strategy.POINT], block[crash_strategy.THEN] = (
            victim,
            point,
            then,
        )
        self.machine.call(crash_strategy.crash_once)
        deaths = int(block[crash_strategy.DEATHS])
        ended = bool(int(block[crash_strategy.ENDED]) >> (deaths - 1) & 1) if deaths else False
        kind, code = VERDICTS[int(block[cb.OUTCOME])], int(block[cb.CODE])
        return self._judged(Run(kind, code, deaths, ended))

    def sweep(self, schedule: Schedule, victim: int) -> Iterator[Run]:
        """The victim dies before its first point, its second, ..., and at its end.

        Stops early if the victim cannot end without the others.
        """
        self.place(schedule)
        self.block[crash_strategy.VICTIM] = victim
        point = 1
        while True:
            made = self.machine.call(crash_strategy.sweep, point, BATCH)
            point += made
            for run in self._results(made, 1):
                if run.deaths == 0:
                    if run.kind != "passed":
                        yield run
                    return
                yield run
                if run.at_end:
                    return

    def sweep_again(
        self, schedule: Schedule, victim: int, point: int, first: int = 1, stride: int = 1
    ) -> Iterator[tuple[int, Run]]:
        """The same for the first supervisor, with the victim dead: its points, and how each ended.

        Every ``stride``-th of its points from ``first`` on, and its end.
        """
        self.place(schedule)
        block = self.block
        block[crash_strategy.VICTIM], block[crash_strategy.POINT] = victim, point
        then = first
        while True:
            made = self.machine.call(crash_strategy.sweep_again, then, BATCH, stride)
            for run in self._results(made, 2):
                if run.deaths == 2:
                    yield then, run
                if run.deaths < 2 or run.at_end:
                    break
                then += stride
            else:
                continue
            break
        if run.deaths < 2:  # the step was too long to meet the end
            end = int(block[int(block[cb.TREE_AT]) + self.case.living]) + 1
            last = self.run(schedule, victim, point, end)
            if last.deaths == 2:
                yield end, last

    def _results(self, count: int, death: int) -> list[Run]:
        first = int(self.block[cb.TREE_AT]) + crash_strategy.RESULTS
        words = self.block[first : first + count]
        return [self._judged(_decoded(int(word), death)) for word in words]

    def _judged(self, run: Run) -> Run:
        """``run``. Raises ``MisuseError`` if its check is no check, because it wrote."""
        if run.kind == WROTE:
            check = self.case.check
            code = check.__code__
            site = Site(code.co_filename, code.co_firstlineno, check.__qualname__)
            raise MisuseError(told("check", run.code, site))
        return run

    # --- where in the source ---
    def points(self) -> list[list[Point]]:
        """The points of each CPU in the last run, and where it died (``trace=True``)."""
        machine = self.machine
        assert isinstance(machine, InterpretedMachine)
        found: list[list[Point]] = [[] for _ in machine.program.threads]
        made = [0] * len(found)
        for event in events_of(machine.block):
            stack = machine.block.posted[event.cpu][made[event.cpu]]
            made[event.cpu] += 1
            if crash_strategy.is_point(event.op):
                found[event.cpu].append(Point(event.op, stack))
        for cpu, count in enumerate(made):
            posted = machine.block.posted[cpu]
            op = int(machine.block[cb.OP + cpu])
            if count < len(posted) and crash_strategy.is_point(op):
                found[cpu].append(Point(op, posted[count]))
        return found
