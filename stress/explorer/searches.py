"""One search: a machine, a strategy's driver, a budget, and the result.

This module sets each strategy up: its driver, the machine that it needs, and its guarantee.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from shmalloc.dialect import Kernel
from shmalloc.engine import plans
from shmalloc.errors import MisuseError
from stress.explorer import sampling
from stress.explorer.dpor import records
from stress.explorer.dpor import search as dpor_search
from stress.explorer.estimate import estimate_classes
from stress.explorer.found import Found
from stress.explorer.guarantee import pct_run
from stress.explorer.known import Failing, Known
from stress.explorer.left_out import left_out
from stress.explorer.spinning import require_relax
from stress.explorer.strategies import dfs as dfs_search
from stress.explorer.strategies import loop, steer
from stress.explorer.strategies.table import RANDOM
from stress.explorer.witness import signature_of
from stress.machine import block as cb
from stress.machine.block_layout import Settings
from stress.machine.engines import make_machine
from stress.machine.machine import Machine, outcomes_of
from stress.machine.models import MODELS
from stress.machine.program import Program
from stress.quantities import counted

SYSTEMATIC = {"dfs": dfs_search.dfs, "dpor": dpor_search.dpor}
DRIVERS: tuple[Kernel, ...] = (
    *(one.driver() for one in RANDOM.values()),
    *SYSTEMATIC.values(),
    dpor_search.meet_sibling,
    steer.steer,
    steer.extract,
    *sampling.DRIVERS,
)
plans.register_drivers(DRIVERS)
BATCH_S = 0.05  # of one call of a driver: the delay of Ctrl-C
POOL_WORDS = {"native": 1 << 23, "interpreted": 1 << 18}


def warm(tell: Callable[[str], None]) -> None:
    """Compile all strategies now, or load them; ``tell`` hears of it if it takes long."""
    from stress.machine.native import compile_drivers

    compile_drivers(DRIVERS, tell)


@dataclass
class Budget:
    """When to stop: a time, a number of schedules, or because another search failed.

    ``ran`` receives the number of schedules of each batch. ``known``: the failures past which the
    searches go. ``interrupt``: what stopped all searches from outside.
    """

    seconds: float | None
    schedules: int | None
    stop: threading.Event = field(default_factory=threading.Event)
    ran: Callable[[int], object] = lambda schedules: None
    known: Known | None = None
    interrupt: KeyboardInterrupt | None = None

    def __post_init__(self) -> None:
        self.start = time.perf_counter()

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude time from the budget: that of compiling."""
        before = time.perf_counter()
        yield
        self.start += time.perf_counter() - before

    @contextmanager
    def until_interrupted(self) -> Iterator[None]:
        """A Ctrl-C ends this block and the search, and what it has found stays."""
        try:
            yield
        except KeyboardInterrupt as error:
            self.interrupted(error)

    def interrupted(self, error: KeyboardInterrupt) -> None:
        """Stop all searches."""
        self.interrupt = error
        self.stop.set()

    @property
    def seconds_left(self) -> float:
        return float("inf") if self.seconds is None else self.seconds - self.elapsed

    def slice(self, seconds: float | None, schedules: int | None = None) -> Budget:
        """A part of the remaining budget, stopped with the whole."""
        left = self.seconds_left
        seconds = left if seconds is None else min(seconds, left)
        limit = None if seconds == float("inf") else seconds
        return Budget(limit, schedules, self.stop, self.ran, self.known)


@dataclass(frozen=True)
class Plan:
    """Everything about an exploration but the program and the budget."""

    strategy: str
    settings: Settings
    engine: str
    seed: int
    stop_on_failure: bool
    preemptions: int | None = None
    delays: int | None = None
    depth: int = 3


Continue = Callable[["Search"], bool]


class Search:
    """One machine under one strategy."""

    def __init__(self, program: Program, plan: Plan, budget: Budget) -> None:
        self.plan = plan
        self.program = program
        self.budget = budget
        self.settings = _settings(program, plan)
        with budget.paused():
            self.machine: Machine = make_machine(plan.engine, program, self.settings)
            self.machine.warm(driver_of(plan.strategy))
        self._cut_seen = False
        self.block = self.machine.block
        self.block[loop.STOP_ON_FAILURE] = int(plan.stop_on_failure)
        self.driver = driver_of(plan.strategy)
        self.sampled: sampling.Estimate | None = None
        # plain Python is too slow for it
        self._may_sample = plan.strategy == "dpor" and plan.engine == "native"
        self._sampling_s = sampling.time_of(budget.seconds)
        if plan.strategy in RANDOM:
            for word, argument in RANDOM[plan.strategy].header.items():
                self.block[word] = getattr(plan, argument)

    @property
    def done(self) -> bool:
        """Whether there is nothing left to run."""
        if self.plan.strategy == "dpor":
            return bool(self.block[dpor_search.DONE])
        return self.plan.strategy == "dfs" and bool(self.block[dfs_search.DONE])

    @property
    def exhausted(self) -> bool:
        """Whether every schedule (or one of each class) was run to its end."""
        block = self.block
        if not self.done or self.diverged or block[cb.ABANDONED_COUNT]:
            return False
        bounded = self.plan.strategy == "dfs" and block[dfs_search.CUT]
        return not (bounded or left_out(block, self.plan.strategy))

    @property
    def failed(self) -> bool:
        return bool(self.block[cb.KEPT_OUTCOME]) and self.plan.stop_on_failure

    @property
    def diverged(self) -> bool:
        return int(self.block[cb.OUTCOME]) == cb.ERROR

    @property
    def schedules(self) -> int:
        return int(self.block[cb.SCHEDULES])

    def run(self, budget: Budget | None = None, goes_on: Continue = lambda search: True) -> None:
        """Run in batches until a failure, the end, the budget, or until ``goes_on`` says no."""
        budget = budget or self.budget
        batch = 1
        seed = self.plan.seed
        limit = None if budget.schedules is None else self.schedules + budget.schedules
        while not (self.done or self.failed or self.diverged or budget.stop.is_set()):
            size = batch if limit is None else min(batch, limit - self.schedules)
            if self.schedules > 0 and self.budget.seconds_left <= self._sampling_s:
                self.sample_classes()
            ran_out = budget.seconds_left <= 0 and self.schedules > 0  # one is run in any case
            if size <= 0 or ran_out or not goes_on(self):
                return
            before = time.perf_counter()
            first = self.schedules
            ran = self.machine.call(self.driver, seed + first, size)
            budget.ran(ran)
            self._require_relax()
            if ran < size and not self._over():
                return
            if ran == size:
                batch = next_batch(batch, time.perf_counter() - before)
            self._go_past_known(budget)
        if self.failed:
            budget.stop.set()

    def _require_relax(self) -> None:
        """If the last schedule was cut, see once whether a CPU spins without ``relax``."""
        cut = int(self.block[cb.OUTCOME]) == cb.ABANDONED
        if cut and not self._cut_seen:
            self._cut_seen = True
            first = int(self.block[cb.TRACE_AT])
            steps = first + int(self.block[cb.STEPS])
            with self.budget.paused():
                trace = [int(actor) for actor in self.block[first:steps]]
                require_relax(self.program, self.settings, trace)

    def sample_classes(self) -> None:
        """Estimate the number of classes, once, if DPOR has not come to its end."""
        if not self._may_sample or self._over() or self.budget.stop.is_set():
            return
        self._may_sample = False
        plan = self.plan
        with self.budget.paused():
            sampler = sampling.Sampler(self.program, plan.settings, plan.engine, plan.seed)
        self.sampled = sampler.estimate(self._sampling_s)

    def _go_past_known(self, budget: Budget) -> None:
        """Forget the failure that stopped us if it is a known one."""
        known = budget.known
        if known is None or not self.failed:
            return
        signature = signature_of(self.machine)
        if signature is not None and known.passes(signature, self.failing):
            self.block[cb.KEPT_OUTCOME] = 0
            self.block[cb.FAILURES] -= 1

    def _over(self) -> bool:
        """Whether a driver that stopped early had a reason that the loop can see."""
        return self.done or self.failed or self.diverged

    def found(self) -> Found:
        """What this search found."""
        block = self.block
        found = Found(
            schedules=self.schedules,
            steps=int(block[cb.TOTAL_STEPS]),
            abandoned=int(block[cb.ABANDONED_COUNT]),
            failures=int(block[cb.FAILURES]),
            longest=int(block[cb.LONGEST]),
            repeats=int(block[cb.REPEATS]),
            outcomes=outcomes_of(block),
            diverged=self.diverged,
        )
        if block[cb.KEPT_OUTCOME]:
            found.failing = self.failing()
        if block[cb.TABLE_FULL]:
            found.notes.append(f"{block[cb.TABLE_FULL]} outcomes did not fit and are not counted")
        going_on = not self.plan.stop_on_failure or self.budget.known is not None
        if self.plan.strategy in SYSTEMATIC and (going_on or not block[cb.KEPT_OUTCOME]):
            found.notes += left_out(block, self.plan.strategy)
        if self.plan.strategy == "dpor":
            self._add_classes(found)
        elif self.plan.strategy == "dfs":
            self._add_bounds(found)
        elif self.plan.strategy == "pct":
            found.pct.append(pct_run(block))
        return found

    def failing(self) -> Failing:
        """The failing schedule that is kept."""
        return self.settings, self._kept_trace(), int(self.block[cb.KEPT_SCHEDULE])

    def _kept_trace(self) -> list[int]:
        first = int(self.block[cb.KEPT_AT])
        return [int(actor) for actor in self.block[first : first + int(self.block[cb.KEPT_STEPS])]]

    def _add_classes(self, found: Found) -> None:
        block = self.block
        found.classes = self.schedules
        found.redundant = int(block[dpor_search.REDUNDANT])
        # a search that is done and has not exhausted its program does not know what it left out
        found.estimate = estimate_classes(block) if found.classes and not self.done else None
        if self.sampled is not None:
            least = float(found.classes)
            found.estimate, *ends = (max(value, least) for value in self.sampled[:3])
            found.interval = ends[0], ends[1]
        if self.exhausted:
            found.exhausted = True
            found.estimate = float(found.classes)
            found.interval = None
            found.guarantees.append("one schedule of every class of equivalent ones was run")

    def _add_bounds(self, found: Found) -> None:
        if self.exhausted:
            found.exhausted = True
            found.guarantees.append("every schedule was run")


def strategies() -> tuple[str, ...]:
    """The names of all strategies of one search."""
    return (*RANDOM, *SYSTEMATIC)


def driver_of(strategy: str) -> Kernel:
    """The loop of a strategy, a function over the control block."""
    return SYSTEMATIC[strategy] if strategy in SYSTEMATIC else RANDOM[strategy].driver()


def next_batch(batch: int, seconds: float) -> int:
    """The size of the next batch, after ``batch`` schedules took ``seconds``."""
    if seconds < BATCH_S / 2:
        return batch * 2
    return max(1, batch // 2) if seconds > BATCH_S else batch


def refuses_dpor(program: Program, settings: Settings) -> str:
    """Why DPOR cannot explore the program; empty if it can."""
    if not MODELS[settings.model].dpor:
        return f"under {settings.model}"
    actors = MODELS[settings.model].actors(len(program.threads))
    limit = records.MAX_ACTORS
    return f"with {actors} actors of at most {limit}" if actors > limit else ""


def _settings(program: Program, plan: Plan) -> Settings:
    """The machine that the strategy needs, with room for its data."""
    cpus = len(program.threads)
    actors = MODELS[plan.settings.model].actors(cpus)
    systematic = plan.strategy in SYSTEMATIC
    follows = plan.settings.follows if systematic else ()  # random schedules need no symmetry
    settings = replace(plan.settings, parking=systematic, follows=follows)
    limit = settings.step_limit
    if plan.strategy == "dfs":
        return replace(settings, tree_words=dfs_search.dfs_words(limit))
    if plan.strategy == "dpor":
        reason = refuses_dpor(program, settings)
        if reason:
            raise MisuseError(f"strategy: dpor {reason}; use dfs, auto or a random one")
        pool = POOL_WORDS[plan.engine]
        room = dpor_search.dpor_words(program.words, actors, cpus, limit, pool)
        return replace(settings, tree_words=room)
    return replace(settings, tree_words=RANDOM[plan.strategy].room(program.words, cpus))


def run_bounded(program: Program, plan: Plan, budget: Budget) -> Found:
    """DFS with iterated bounds: all schedules with 0, 1, ... preemptions (or delays)."""
    by_delays = plan.delays is not None
    last = plan.delays if by_delays else plan.preemptions
    kind = dfs_search.DELAYS_BOUND if by_delays else dfs_search.PREEMPTIONS_BOUND
    total = Found()
    limit = budget.schedules
    for bound in range(-1 if last is None else 0, 0 if last is None else last + 1):
        search = Search(program, plan, budget)
        search.block[dfs_search.BOUND_KIND] = kind if last is not None else dfs_search.NO_BOUND
        search.block[dfs_search.BOUND] = bound
        left = None if limit is None else limit - total.schedules
        with budget.until_interrupted():
            search.run(budget.slice(None, left))
        found = search.found()
        total.add(found)
        total.exhausted = found.exhausted
        if found.exhausted:
            total.guarantees = found.guarantees
        clean = search.done and not (found.failures or found.abandoned)
        if last is not None and clean and not found.exhausted:
            most = counted(bound, "delay" if by_delays else "preemption")
            total.guarantees = [f"every schedule with at most {most} was run"]
        if not clean or found.exhausted:
            break
    return total
