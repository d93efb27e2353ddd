"""Each workload alone in a small world, on both engines, and the oracles it relies on.

A workload plays once on each engine, and the tests read what came of it. Interpreted it plays fewer
operations, but some thousands more than it needs to reach its marks.
"""

from functools import cache
from typing import NamedTuple

import pytest

from shmalloc import constants as c
from shmalloc.engine import get_engine
from shmalloc.kernels.contig import isolate_range
from shmalloc.layout import ZoneSpec
from shmalloc.reports import Reports
from stress.oracles.isolation import check_unlisted
from stress.oracles.owners import check_stamp, disown, own, stamp
from stress.run.worker import MAX_STEPS
from stress.seeds import derive
from stress.workloads import WORKLOADS
from stress.workloads.area import W_PEER, W_RANDOM, W_WORKERS, give_from, take_into
from stress.workloads.kmalloc import unmake_classes
from support.page_segment import SMALL, PageSegment
from support.runs import compile_once

PLAYABLE = [workload for workload in WORKLOADS.values() if workload.name != "trace"]
OPERATIONS = {"native": 20_000, "interpreted": 10_000}
OTHER_OPERATIONS = {
    ("frag", "interpreted"): 20_000,  # the first free block of another type is taken late
    ("modules", "interpreted"): 600,  # 3 ms each
    ("contig", "interpreted"): 4_000,
    ("pfn-walker", "interpreted"): 4_000,
    ("oom-edge", "native"): 1_000,  # it waits for memory that is not freed
}
STEPS = 100


class Stage(PageSegment):
    """A small world in which one process plays both CPUs in turn."""

    def __init__(self, engine, workload, **changes):
        super().__init__(
            engine,
            SMALL,
            zones=(ZoneSpec(512), ZoneSpec(256, node=1)),
            owner_map=True,
            history=1024,
            scratch_words=256,
            work_words=workload.work_words,
            page_bytes=512,
            **changes,
        )
        self.workload = workload
        most = OPERATIONS[engine.name]
        self._operations = OTHER_OPERATIONS.get((workload.name, engine.name), most)
        self._step = engine.bind(workload.step)
        self._finish = engine.bind(workload.finish)
        for cpu in range(2):
            at = self.layout.work(cpu)
            self.mem[at + W_RANDOM] = derive(1, f"cpu {cpu}")
            self.mem[at + W_PEER] = 1 - cpu
            self.mem[at + W_WORKERS] = 2

    def play(self, operations=None):
        """Batches of both CPUs in turn, until enough operations are done."""
        done = 0
        while done < (operations or self._operations):
            done += sum(self._step(self.mem, cpu, STEPS) for cpu in range(2))
        return done

    def step(self, steps):
        return self._step(self.mem, 0, steps)

    def finish(self):
        return [self._finish(self.mem, cpu) for cpu in range(2)]

    def violations(self):
        return Reports(self.mem, self.layout).violations()


class Played(NamedTuple):
    """What came of a workload that played and finished. ``missed``: marks."""

    operations: int
    audit: int
    violations: list
    missed: list
    torn_down: int


@cache
def played(engine_name, workload_name):
    workload = WORKLOADS[workload_name]
    stage = Stage(get_engine(engine_name), workload)
    operations = stage.play()
    audit, violations = stage.audit(), stage.violations()
    missed = [mark for mark in workload.marks if not stage.events(mark)]
    stage.finish()
    get_engine(engine_name).call(unmake_classes, stage.mem, 0)
    stage.drain()
    return Played(operations, audit, violations, missed, stage.teardown())


@pytest.fixture(params=PLAYABLE, ids=lambda workload: workload.name)
def workload(engine, request):
    if engine.name == "native":
        compile_once()
    return request.param


@pytest.fixture
def stage(engine, workload):
    return Stage(engine, workload)


def test_a_workload_works_and_leaves_a_legal_world(engine, workload):
    result = played(engine.name, workload.name)
    assert result.operations > 0
    assert result.audit == 0 and result.violations == []


def test_a_workload_reaches_every_mark_that_it_requires(engine, workload):
    assert played(engine.name, workload.name).missed == []


def test_after_its_finish_everything_merges_again(engine, workload):
    assert played(engine.name, workload.name).torn_down == 0


def test_finishing_twice_gives_nothing_back_the_second_time(stage):
    stage.play(STEPS)
    stage.finish()
    assert stage.finish() == [0, 0]


def test_a_workload_leaves_its_loop_when_it_is_told_to_stop(stage):
    stage.mem[c.H_STOP] = 1
    assert stage.step(MAX_STEPS) == 0


def test_the_same_seed_gives_the_same_operations(engine):
    runs = []
    for _ in range(2):
        stage = Stage(engine, WORKLOADS["churn"])
        stage.play(500)
        runs.append([stage.events(which) for which in range(c.EV_COUNT)])
    assert runs[0] == runs[1] and any(runs[0])


@pytest.mark.parametrize("workload", PLAYABLE, ids=lambda workload: workload.name)
def test_a_workload_tells_what_it_imitates_what_it_hunts_and_what_it_must_reach(workload):
    assert workload.story.startswith(f"{workload.name}: ")
    assert all(word in workload.story for word in ("Imitates", "Hunts:", "Must reach:"))


class Owned(PageSegment):
    """A world with an owner map, and the oracles as methods; interpreted is enough for them."""

    def __init__(self, engine, **changes):
        super().__init__(engine, owner_map=True, work_words=64, **changes)
        self.engine = engine

    def ask(self, kernel, *arguments):
        return self.engine.call(kernel, self.mem, *arguments)


@pytest.fixture
def owned(engine):
    return Owned(engine)


def test_a_page_that_has_an_owner_cannot_get_another(owned):
    assert owned.ask(own, 0, 8, 2, 77) == 0
    assert owned.ask(own, 1, 11, 0, 88) == c.E_STATE
    assert owned.reports() == [c.X_DOUBLE_ALLOC]


def test_a_block_outside_of_the_segment_is_refused(owned):
    assert owned.ask(own, 0, 62, 2, 77) == c.E_STATE
    assert owned.reports() == [c.X_DOUBLE_ALLOC]


def test_a_stranger_cannot_give_a_page_back(owned):
    owned.ask(own, 0, 8, 0, 77)
    assert owned.ask(disown, 0, 8, 0, 78) == c.E_STATE
    assert owned.reports() == [c.X_LOST_OWNER]


def test_owning_and_disowning_leaves_no_trace(owned):
    owned.ask(own, 0, 8, 3, 77)
    assert owned.ask(disown, 0, 8, 3, 77) == 0
    owners = owned.layout.at["owners"]
    assert not any(owned.mem[owners + pfn] for pfn in range(64)) and owned.reports() == []


@pytest.mark.parametrize("end", ["first", "last"])
def test_a_stamp_that_was_written_over_at_either_end_is_seen(owned, end):
    owned.ask(stamp, 8, 1, 77)
    first = owned.layout.frame(8)
    owned.mem[first if end == "first" else first + 2 * owned.geometry.page_words - 1] = 5
    assert owned.ask(check_stamp, 0, 8, 1, 77) == c.E_STATE
    assert owned.reports() == [c.X_PAYLOAD]


def test_an_intact_stamp_is_no_finding(owned):
    owned.ask(stamp, 8, 1, 77)
    assert owned.ask(check_stamp, 0, 8, 1, 77) == 0 and owned.reports() == []


def test_a_block_whose_stamp_is_gone_is_left_alone(owned):
    at = owned.layout.work(0)
    entry = at + 16
    assert owned.ask(take_into, 0, at, entry, 0, c.MT_MOVABLE) == 0
    pfn = owned.mem[entry] >> 4
    owned.mem[owned.layout.frame(pfn)] = 5
    assert owned.ask(give_from, 0, entry) == c.E_STATE
    assert owned.state(pfn)[0] == c.T_ALLOCATED


@pytest.mark.parametrize("form", ["array", "list"])
def test_a_page_of_an_isolated_range_on_any_list_is_found(engine, form):
    world = Owned(engine, pcp_form=form)
    pfn = world.alloc(cpu=1)
    world.free(pfn, cpu=1)  # on the list of CPU 1
    start = pfn & ~7
    assert world.engine.call(check_unlisted, world.mem, 0, start, start + 8) > 0
    assert world.reports()[0] == c.I_PCP_COUNT


@pytest.mark.parametrize("form", ["array", "list"])
def test_no_list_has_a_page_of_a_range_that_was_isolated(engine, form):
    world = Owned(engine, pcp_form=form)
    pfn = world.alloc(cpu=1)
    world.free(pfn, cpu=1)
    start = pfn & ~7
    assert world.engine.call(isolate_range, world.mem, 0, start, start + 8) == 0
    assert world.engine.call(check_unlisted, world.mem, 0, start, start + 8) == 0
    assert world.reports() == []


def test_a_violation_is_told_with_the_last_operations_on_its_page(engine):
    stage = Stage(engine, WORKLOADS["churn"])
    stage.play(200)
    at = stage.layout.work(0)
    entry = next(e for e in range(at + 16, at + 4096, 2) if stage.mem[e + 1])
    pfn = stage.mem[entry] >> 4
    stage.mem[c.H_HISTORY_STOPS] = 1
    stage.mem[stage.layout.frame(pfn)] = 5
    stage.finish()
    (violation,) = stage.violations()
    assert (violation.invariant, violation.where) == ("X_PAYLOAD", f"pfn {pfn}")
    assert (violation.number, violation.found) == (c.X_PAYLOAD, "5")
    assert violation.history
    assert all(f"pfn {pfn}, order" in line for line in violation.history)
