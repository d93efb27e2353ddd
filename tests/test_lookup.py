"""Whose page it is, asked without a lock: what a reader may see, what each safeguard is for.

The programs of ``stress/programs/lookup.py`` are explored with all others. Here is the same reader
without a safeguard, which the explorer must catch.
"""

from dataclasses import replace

import pytest

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.engine import get_engine
from shmalloc.kernels.walk import look_up, owner_at
from stress import explore
from stress.explorer.result import EXHAUSTED
from stress.programs import PROGRAMS, lookup
from stress.programs.held import slot_at
from support.page_segment import PageSegment


@kernel
def trusting_reader(mem, claim):
    """``lookup.reader`` without the second look."""
    if owner_at(mem, 0) != lookup.RECORD_OWNER:
        return 0
    if not lookup.try_get(mem, slot_at(mem, 0, lookup.RECORD)):
        return 0
    lookup.check_kept(mem, claim)
    lookup.drop(mem, claim)
    return 1


def test_a_reader_sees_the_owner_that_was_or_none():
    result = explore(PROGRAMS["lookup-owner-reuse-3"](), strategy="dpor", engine="interpreted")
    assert result.verdict == EXHAUSTED
    assert {outcome[2] for outcome in result.outcomes} == {0, lookup.FIRST_OWNER}


def test_a_reference_without_a_second_look_may_be_one_on_another_page():
    program = PROGRAMS["lookup-get-and-reuse"]()
    broken = replace(program, threads=(program.threads[0], trusting_reader))
    assert explore(broken, strategy="dpor", engine="interpreted").failure is not None


@pytest.fixture
def segment(each_engine):
    return PageSegment(each_engine)


@pytest.fixture(params=["native", "interpreted"])
def each_engine(request):
    return get_engine(request.param)


@pytest.mark.parametrize("order", [0, 1, 4])
def test_every_page_of_a_block_is_its_owners(segment, each_engine, order):
    pfn = segment.alloc(order, owner=55)
    owners = [each_engine.call(owner_at, segment.mem, pfn + i) for i in range(1 << order)]
    assert owners == [55] * (1 << order)


def test_a_free_page_has_no_owner(segment, each_engine):
    pfn = segment.alloc(2)
    segment.free(pfn, 2)
    assert [each_engine.call(owner_at, segment.mem, pfn + i) for i in range(4)] == [0] * 4


def test_the_pair_is_that_of_the_head():
    segment = PageSegment(get_engine("interpreted"))
    pfn = segment.alloc(3, owner=55)
    at = segment.layout.descriptor(pfn)
    assert look_up(segment.mem, pfn + 7) == (pfn, segment.mem[at], segment.mem[at + 1])
    assert segment.mem[at] & c.TYPE_MASK == c.T_ALLOCATED
