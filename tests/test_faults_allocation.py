"""Allocations that fail on request: which, how often, and that only they do."""

import pytest

from shmalloc import constants as c
from shmalloc.engine import get_engine
from shmalloc.image import write_image
from shmalloc.layout import Geometry, Layout, ZoneSpec
from shmalloc.memory import Ram
from stress.faults.allocation import AllocationFaults, disarm
from support import driver
from support.object_segment import ObjectSegment

GEOMETRY = Geometry(
    zones=(ZoneSpec(256),),
    page_bytes=64,
    cpus=2,
    max_order=5,
    pageblock_order=4,
    pcp_batch=4,
    pcp_high=8,
)


class Pages:
    """Single pages on CPU 0 of a small world, with faults armed there."""

    def __init__(self, engine, faults):
        self.layout = Layout.of(GEOMETRY)
        self.mem = Ram.of_words(self.layout.words)
        write_image(self.mem, self.layout)
        self._drive = engine.bind(driver.drive)
        self.do(driver.BOOT)
        faults.arm(self.mem, self.layout.cpu(0))

    def do(self, op, a=0, b=0, owner=0, cpu=0):
        return self._drive(self.mem, cpu, op, a, b, owner)

    def failures(self, count, cpu=0):
        """Which of ``count`` allocations failed, counted from 1."""
        answers = [self.do(driver.ALLOC, 0, c.MT_MOVABLE, 7, cpu=cpu) for _ in range(count)]
        return [number for number, pfn in enumerate(answers, start=1) if pfn == c.E_NOMEM]


def test_the_nth_allocation_fails_once(engine):
    pages = Pages(engine, AllocationFaults(nth=5))
    assert pages.failures(20) == [5]


def test_each_nth_allocation_fails(engine):
    assert Pages(engine, AllocationFaults(every=4)).failures(14) == [4, 8, 12]


def test_from_the_nth_allocation_on_all_fail(engine):
    assert Pages(engine, AllocationFaults(nth=3, every=1)).failures(6) == [3, 4, 5, 6]


def test_chance_is_the_same_on_every_engine_and_about_as_often_as_asked():
    failures = [
        Pages(get_engine(name), AllocationFaults(chance=0.25)).failures(200)
        for name in ("native", "interpreted")
    ]
    assert failures[0] == failures[1] and 30 < len(failures[0]) < 70


def test_a_slot_without_faults_is_not_touched_by_those_of_another(engine):
    assert Pages(engine, AllocationFaults(every=1)).failures(5, cpu=1) == []


def test_faults_of_objects_leave_pages_alone(engine):
    assert Pages(engine, AllocationFaults(every=1, kinds=c.FAULT_OBJECT)).failures(5) == []


def test_disarmed_faults_are_over_and_counted(engine):
    pages = Pages(engine, AllocationFaults(every=2))
    pages.failures(10)
    slot = pages.layout.cpu(0)
    counted = pages.mem[slot + c.C_EVENTS + c.EV_FAULT]
    assert disarm(pages.mem, slot) == counted == 5 and pages.failures(10) == []


def test_a_bulk_request_comes_back_short(engine):
    pages = Pages(engine, AllocationFaults(nth=4))
    assert pages.do(driver.ALLOC_BULK, 0, 10, pages.layout.scratch(0)) == 3


def test_a_range_answers_busy(engine):
    pages = Pages(engine, AllocationFaults(nth=1))
    answers = [pages.do(driver.ALLOC_CONTIG, 64, 80, 7) for _ in range(2)]
    assert answers == [c.E_BUSY, 0]


def test_an_argument_that_can_never_work_is_no_allocation(engine):
    pages = Pages(engine, AllocationFaults(nth=1))
    assert pages.do(driver.ALLOC, 99, 0, 7) == c.E_INVAL and pages.failures(1) == [1]


@pytest.mark.parametrize("kind, answer", [(c.FAULT_OBJECT, c.E_NOMEM), (c.FAULT_PAGE, 0)])
def test_an_object_fails_by_its_own_kind_and_not_by_one_page_of_its_slab(engine, kind, answer):
    """One failing page is no reason to fail: a slab may be smaller, or come from another zone."""
    world = ObjectSegment(engine)
    cache = world.create(40)
    AllocationFaults(nth=1, kinds=kind).arm(world.mem, world.layout.cpu(0))
    address = world.alloc(cache)
    assert min(address, 0) == answer and world.alloc(cache) > 0
