"""Small traces written by hand, and a replay of one in a small world, one CPU at a time."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from shmalloc import constants as c
from shmalloc.engine import Engine
from shmalloc.layout import Geometry, ZoneSpec
from stress.trace.compile import Plan
from stress.trace.format import OBJECT_ALLOC, OBJECT_FREE, PAGE_ALLOC, PAGE_FREE, Trace
from stress.trace.replay import Replay, ReplayReport
from stress.workloads import trace as trace_kernels
from stress.workloads.area import W_WORKERS
from support.page_segment import PageSegment

Row = tuple[int, int, int, int, int]  # kind, cpu, id, arg, flag
CACHES = ("small", "large")
SIZES = (24, 200)
ROUNDS_LIMIT = 10_000  # of one step on each CPU: a replay that needs more hangs


def trace_of(rows: Sequence[Row], caches: Sequence[str] = CACHES, **arrays: object) -> Trace:
    """A trace of ``rows``, a microsecond apart; ``arrays`` replaces whole columns."""
    kind, cpu, ids, arg, flag = np.array(rows, dtype=np.int64).reshape(-1, 5).T
    columns: dict[str, object] = {
        "time_ns": np.arange(len(rows), dtype=np.int64) * 1000,
        "cpu": cpu.astype(np.uint8),
        "task": np.zeros(len(rows), dtype=np.uint16),
        "kind": kind.astype(np.uint8),
        "id": ids.astype(np.uint32),
        "arg": arg.astype(np.uint32),
        "flag": flag.astype(np.uint16),
        "caches": np.array(caches, dtype=np.str_),
    }
    return Trace(**{**columns, "source": "test", **arrays})


def random_trace(rng: random.Random, events: int, cpus: int) -> Trace:
    """Pages and objects that come and go on random CPUs; some are never freed."""
    rows: list[Row] = []
    live: list[Row] = []
    for _ in range(events):
        cpu = rng.randrange(cpus)
        if live and rng.random() < 0.45:
            kind, _, number, arg, flag = live.pop(rng.randrange(len(live)))
            freed = (PAGE_FREE, cpu, number, arg, 0), (OBJECT_FREE, cpu, number, 0, flag)
            rows.append(freed[kind == OBJECT_ALLOC])
            continue
        number = 1 + max((row[2] for row in rows), default=-1)
        cache = rng.randrange(len(CACHES))
        page = (PAGE_ALLOC, cpu, number, rng.choice((0, 0, 0, 1, 2)), rng.randrange(3))
        rows.append(rng.choice((page, (OBJECT_ALLOC, cpu, number, SIZES[cache], cache))))
        live.append(rows[-1])
    return trace_of(rows)


class SmallReplay:
    """A trace in a small world. ``step`` moves one CPU on, ``run`` all of them to the end."""

    def __init__(
        self,
        engine: Engine,
        trace: Trace,
        pages: int = 1024,
        page_bytes: int = 512,
        loop: bool = False,
    ) -> None:
        self.plan = Plan.of(trace)
        geometry = Geometry(
            zones=(ZoneSpec(pages),),
            page_bytes=page_bytes,
            cpus=self.plan.slots,
            max_order=4,
            pageblock_order=3,
            pcp_batch=4,
            pcp_high=16,
            scratch_words=128,
            owner_map=True,
            work_words=self.plan.work_words,
            caches=self.plan.caches,
        )
        self.world = PageSegment(engine, geometry)
        self.replay = Replay(self.plan, self.world.mem, self.world.layout, loop)
        self._step = engine.bind(trace_kernels.trace_step)
        self._finish = engine.bind(trace_kernels.trace_finish)
        for slot in range(self.plan.slots):
            self.world.mem[self.world.layout.work(slot) + W_WORKERS] = self.plan.slots
            self.replay.install(slot)

    def step(self, slot: int, steps: int = 1) -> int:
        return int(self._step(self.world.mem, slot, steps))

    def run(self, order: Sequence[int] | None = None, steps: int = 64) -> ReplayReport:
        """All CPUs in turn until each is at its end."""
        slots = list(order or range(self.plan.slots))
        for _ in range(ROUNDS_LIMIT):
            results = [self.step(slot, steps) for slot in slots]
            if all(result == c.E_STOPPED for result in results):
                return self.report()
        raise AssertionError("the replay does not come to its end")

    def report(self) -> ReplayReport:
        return self.replay.report(worker_seconds=1.0)

    def finish(self) -> int:
        """Everything is given back; how much there was."""
        return sum(int(self._finish(self.world.mem, s)) for s in range(self.plan.slots))

    def step_until_allocated(self, slot: int, row: int) -> int:
        """All CPUs in turn until the allocation of ``row`` is there; its handle."""
        position = int(np.flatnonzero(self.plan.rows[slot] == row)[0])
        for _ in range(ROUNDS_LIMIT):
            if self.handle(slot, position) != 0:
                return self.handle(slot, position)
            for each in range(self.plan.slots):
                self.step(each)
        raise AssertionError(f"row {row} is never allocated")

    def handle(self, slot: int, position: int) -> int:
        at = self.world.layout.work(slot) + self.plan.stream_at
        return int(self.world.mem[at + position * trace_kernels.EVENT_WORDS + 1])
