"""Ranges: isolation, contiguous allocation, offline, poison; the middle of lists and blocks."""

import pytest

from shmalloc import constants as c
from shmalloc.layout import LINK_STORES, ZoneSpec
from support import driver
from support.page_segment import SMALL, PageSegment


@pytest.fixture(params=LINK_STORES)
def world(engine, request):
    return PageSegment(engine, link_store=request.param)


def test_an_isolated_range_is_not_allocated_from(world):
    assert world.do(driver.ISOLATE, 16, 32) == 0
    assert not set(world.alloc_everything()) & set(range(16, 32))


def test_isolation_carves_a_block_that_reaches_over_the_range(world):
    world.do(driver.ISOLATE, 8, 16)
    assert world.state(0) == (c.T_FREE, 3) and world.audit() == 0


def test_pages_freed_into_an_isolated_range_stay_there(world):
    pages = world.alloc_everything()
    world.do(driver.ISOLATE, 16, 24)
    for pfn in pages:
        world.free(pfn)
    world.drain()
    assert world.nr_free(3, c.MT_ISOLATE) == 1 and world.audit() == 0


def test_unisolation_merges_everything_again(world):
    world.do(driver.ISOLATE, 8, 32)
    world.do(driver.UNISOLATE, 8, 32)
    assert (world.nr_free(4), world.teardown()) == (4, 0)


@pytest.mark.parametrize("op", [driver.UNISOLATE, driver.ONLINE])
def test_only_who_isolated_a_range_ends_it(world, op):
    world.do(driver.ISOLATE, 8, 24)
    assert world.do(op, 8, 32, cpu=1) == c.E_BUSY
    assert world.nr_free(3, c.MT_ISOLATE) == 2 or world.nr_free(4, c.MT_ISOLATE) == 1
    assert world.do(driver.UNISOLATE, 8, 32) == 0
    assert world.teardown() == 0


def test_an_isolation_of_a_life_that_is_over_is_ended_by_any(world):
    world.do(driver.ISOLATE, 8, 16)
    world.mem[world.layout.cpu(0) + c.C_EPOCH] += 1
    assert world.do(driver.UNISOLATE, 8, 16, cpu=1) == 0 and world.teardown() == 0


def test_offline_memory_is_put_online_by_any_and_not_by_the_end_of_an_isolation(world):
    world.do(driver.OFFLINE, 8, 16)
    assert world.do(driver.UNISOLATE, 8, 16) == c.E_BUSY
    assert world.do(driver.ONLINE, 8, 16, cpu=1) == 8 and world.teardown() == 0


def test_neighbours_isolated_apart_are_released_apart(world):
    world.do(driver.ISOLATE, 16, 24)
    world.do(driver.ISOLATE, 24, 32)
    assert world.nr_free(4, c.MT_ISOLATE) == 1
    world.do(driver.UNISOLATE, 16, 24)
    assert (world.nr_free(3, c.MT_ISOLATE), world.audit()) == (1, 0)


def test_a_range_goes_offline_although_it_merged_with_an_isolated_neighbour(world):
    """Found by the contig workload: the range's first page lay inside the neighbour's block."""
    world.do(driver.ISOLATE, 16, 24)
    assert world.do(driver.OFFLINE, 24, 32) == 0
    assert world.state(24) == (c.T_OFFLINE, 3)
    world.do(driver.UNISOLATE, 16, 24)
    assert (world.do(driver.ONLINE, 24, 32), world.teardown()) == (8, 0)


@pytest.mark.parametrize("half", [0, 8])
def test_a_block_of_two_pageblocks_freed_half_isolated_comes_back_as_two(world, half):
    """Found by the contig workload: freed as one, both pageblocks got the type of the first."""
    pfn = world.alloc(order=4)
    world.do(driver.ISOLATE, pfn + half, pfn + half + 8)
    world.free(pfn, 4)
    assert (world.nr_free(3, c.MT_ISOLATE), world.audit()) == (1, 0)
    world.do(driver.UNISOLATE, pfn + half, pfn + half + 8)
    assert (world.nr_free(4), world.teardown()) == (4, 0)


def test_a_range_is_isolated_once(world):
    world.do(driver.ISOLATE, 8, 16)
    assert world.do(driver.ISOLATE, 0, 16) == c.E_BUSY and world.audit() == 0


@pytest.mark.parametrize(("start", "end"), [(4, 16), (8, 12), (16, 8), (8, 8), (-8, 8), (0, 72)])
def test_ranges_that_are_not_whole_pageblocks_are_invalid(world, start, end):
    assert world.do(driver.ISOLATE, start, end) == c.E_INVAL


def test_a_pageblock_that_two_zones_share_cannot_be_isolated(engine):
    world = PageSegment(engine, SMALL, zones=(ZoneSpec(12), ZoneSpec(52)))
    assert world.do(driver.ISOLATE, 8, 16) == c.E_INVAL


@pytest.mark.parametrize(("start", "end"), [(5, 6), (3, 29), (16, 32), (0, 64), (63, 64)])
def test_a_free_range_is_allocated_exactly(world, start, end):
    assert world.do(driver.ALLOC_CONTIG, start, end, 99) == 0
    assert {world.state(p) for p in range(start, end)} == {(c.T_ALLOCATED, 0)}
    assert world.free_pages() == 64 - (end - start) and world.audit() == 0
    assert world.do(driver.FREE_CONTIG, start, end) == end - start
    assert world.teardown() == 0


def test_a_range_with_a_page_in_use_is_busy_and_unchanged(world):
    pfn = world.alloc()
    assert world.do(driver.ALLOC_CONTIG, 0, 64, 99) == c.E_BUSY
    assert (world.free(pfn), world.teardown()) == (0, 0)


def test_a_range_whose_pages_hide_on_per_cpu_lists_is_found_free(world):
    world.free(world.alloc(cpu=1), cpu=1)
    assert world.do(driver.ALLOC_CONTIG, 0, 64, 99) == 0


def test_offline_pages_leave_the_zone_and_come_back(world):
    assert world.do(driver.OFFLINE, 16, 32) == 0
    assert (len(world.alloc_everything()), world.audit()) == (48, 0)
    assert world.do(driver.ONLINE, 16, 32) == 16
    assert sorted(world.alloc_everything()) == list(range(16, 32))


def test_a_range_in_use_does_not_go_offline(world):
    pfn = world.alloc()
    block = pfn & ~7
    assert world.do(driver.OFFLINE, block, block + 8) == c.E_BUSY
    assert (world.free(pfn), world.teardown()) == (0, 0)


@pytest.mark.parametrize("pfn", [0, 5, 15, 16, 63])
def test_a_free_page_is_poisoned_out_of_its_block(world, pfn):
    assert world.do(driver.POISON, pfn) == 0
    assert world.state(pfn) == (c.T_POISONED, 0)
    assert (world.audit(), sorted(world.alloc_everything())) == (0, sorted(set(range(64)) - {pfn}))


def test_a_page_in_use_is_poisoned_when_it_is_freed(world):
    pfn = world.alloc()
    assert (world.do(driver.POISON, pfn), world.free(pfn)) == (0, 0)
    assert world.state(pfn) == (c.T_POISONED, 0) and world.audit() == 0


def test_a_marked_page_in_a_list_counts_as_freed(world):
    out = world.layout.at["scratch"]
    assert world.do(driver.ALLOC_BULK, 0, 3, out) == 3
    assert world.do(driver.POISON, world.mem[out + 1]) == 0
    assert (world.do(driver.FREE_BULK, 0, 3, out), world.events(c.EV_FREE)) == (3, 3)
    assert world.events(c.EV_POISONED) == 1


def test_a_page_of_a_larger_allocation_cannot_be_poisoned(world):
    assert world.do(driver.POISON, world.alloc(order=2) + 1) == c.E_BUSY


def test_poisoned_pages_go_offline_with_their_range_and_stay_poisoned(world):
    world.do(driver.POISON, 17)
    assert world.do(driver.OFFLINE, 16, 24) == 0
    assert world.do(driver.ONLINE, 16, 24) == 7
    assert world.state(17) == (c.T_POISONED, 0) and world.audit() == 0


def test_random_ranges_against_allocations_lose_nothing(world, rng):
    held = []
    for _ in range(150):
        start = rng.randrange(8) * 8
        end = start + 8 * rng.randrange(1, 3)
        if world.do(driver.ALLOC_CONTIG, start, end, 5) == 0:
            assert world.do(driver.FREE_CONTIG, start, end) == end - start
        pfn = world.alloc(order := rng.randrange(3))
        held += [(pfn, order)] if pfn >= 0 else []
        while held and (pfn < 0 or rng.random() < 0.4):
            assert world.free(*held.pop(rng.randrange(len(held)))) == 0
            pfn = 0
        assert world.audit() == 0, world.reports()
    for block in held:
        world.free(*block)
    assert world.teardown() == 0
