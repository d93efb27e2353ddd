"""The buddy allocator in small worlds: every test on every link store, list form and engine."""

import pytest

from shmalloc import constants as c
from shmalloc.layout import LINK_STORES, ZoneSpec
from support import driver
from support.page_segment import MOVABLE, PageSegment

ODD_ZONES = (ZoneSpec(37), ZoneSpec(27, 1, ((5, 3),)))


@pytest.fixture(params=LINK_STORES)
def link_store(request):
    return request.param


@pytest.fixture
def world(engine, link_store):
    return PageSegment(engine, link_store=link_store)


def test_a_fresh_zone_is_all_largest_blocks(world):
    assert (world.booted_pages, world.nr_free(4), world.audit()) == (64, 4, 0)


def test_allocation_splits_and_keeps_the_low_half(world):
    pfn = world.alloc(order=2)
    assert (pfn % 16, world.nr_free(2), world.nr_free(3)) == (0, 1, 1)


def test_free_merges_up_to_the_largest_order(world):
    pages = world.alloc_everything()
    for pfn in pages:
        world.free(pfn)
    world.drain()
    assert (len(pages), world.nr_free(4), world.teardown()) == (64, 4, 0)


def test_every_page_is_given_out_exactly_once(world):
    assert sorted(world.alloc_everything()) == list(range(64))


@pytest.mark.parametrize("order", [0, 1, 2, 3, 4])
def test_blocks_of_every_order_are_aligned_and_disjoint(world, order):
    blocks = world.alloc_everything(order)
    assert sorted(blocks) == list(range(0, 64, 1 << order))


def test_exhaustion_is_no_memory_and_loses_nothing(world):
    pages = world.alloc_everything()
    assert world.alloc() == c.E_NOMEM
    assert (world.free(pages[0]), world.alloc(), world.audit()) == (0, pages[0], 0)


@pytest.mark.parametrize(("order", "mt"), [(-1, 1), (5, 1), (0, -1), (0, c.MT_ISOLATE)])
def test_impossible_requests_are_invalid(world, order, mt):
    assert world.alloc(order, mt) == c.E_INVAL


def test_odd_zone_ends_and_holes_are_never_crossed(engine, link_store):
    world = PageSegment(engine, link_store=link_store, zones=ODD_ZONES, start_pfn=3, cpus=2)
    pages = world.alloc_everything()
    hole = set(range(3 + 37 + 5, 3 + 37 + 8))
    assert sorted(pages) == sorted(set(range(3, 67)) - hole)
    for pfn in pages:
        world.free(pfn)
    assert world.teardown() == 0


def test_neighbours_of_different_zones_do_not_merge(engine, link_store):
    world = PageSegment(engine, link_store=link_store, zones=(ZoneSpec(8), ZoneSpec(8)))
    pages = world.alloc_everything()
    for pfn in pages:
        world.free(pfn)
    world.drain()
    assert (world.nr_free(3, zone=0), world.nr_free(3, zone=1), world.nr_free(4)) == (1, 1, 0)


def test_a_cpu_falls_back_to_the_other_node_when_its_own_is_empty(engine, link_store):
    world = PageSegment(
        engine, link_store=link_store, zones=(ZoneSpec(32), ZoneSpec(32, 1)), cpus=2
    )
    on_node_1 = world.alloc(order=4, cpu=1)
    more = [world.alloc(order=4, cpu=1) for _ in range(3)]
    assert on_node_1 >= 32 and {p >= 32 for p in more} == {True, False}
    assert world.events(c.EV_ZONE_FALLBACK) == 2


def test_bulk_gives_what_there_is_under_one_call(world):
    out = world.layout.scratch(0)
    got = world.do(driver.ALLOC_BULK, 1, 40, out)
    blocks = [world.mem[out + k] for k in range(got)]
    assert sorted(blocks) == list(range(0, 64, 2))
    assert (world.do(driver.FREE_BULK, 1, got, out), world.teardown()) == (32, 0)


def test_an_allocation_is_charged_to_its_owner(world):
    pfn = world.alloc(owner=1234)
    assert world.mem[world.layout.descriptor(pfn) + 1] == 1234


def test_head_of_finds_the_block_from_any_of_its_pages(world):
    pfn = world.alloc(order=3)
    assert {world.do(driver.HEAD_OF, pfn + k) for k in range(8)} == {pfn}


MISUSES = {
    "double free": (lambda w, p: w.free(p, 2), 2, c.M_DOUBLE_FREE),
    "smaller order": (lambda w, p: None, 1, c.M_WRONG_ORDER),
    "larger order": (lambda w, p: None, 3, c.M_WRONG_ORDER),
}


@pytest.mark.parametrize("name", sorted(MISUSES))
def test_misuse_of_a_block_is_reported_and_loses_nothing_else(world, name):
    prepare, order, code = MISUSES[name]
    pfn = world.alloc(order=2)
    prepare(world, pfn)
    assert (world.free(pfn, order), world.reports()) == (c.E_STATE, [code])
    assert world.audit() == 0


def test_free_of_an_inner_page_is_reported(world):
    pfn = world.alloc(order=2)
    assert (world.free(pfn + 1, 0), world.reports()) == (c.E_STATE, [c.M_TAIL_FREE])


@pytest.mark.parametrize("pfn", [-1, 64, 1 << 40])
def test_free_out_of_range_is_reported(world, pfn):
    assert (world.free(pfn), world.reports()) == (c.E_STATE, [c.M_OUT_OF_RANGE])


def test_free_by_a_stranger_is_reported_and_the_page_stays(world):
    pfn = world.alloc(owner=7)
    assert (world.free(pfn, owner=8), world.reports()) == (c.E_STATE, [c.M_STRANGER])
    assert world.free(pfn, owner=7) == 0


def test_a_page_that_merged_into_its_neighbour_is_still_a_double_free(world):
    pages = world.alloc_everything()
    for pfn in pages:
        world.free(pfn)
    world.drain()
    assert (world.free(5), world.reports()) == (c.E_STATE, [c.M_DOUBLE_FREE])


def test_types_are_kept_apart_in_pageblocks(world):
    unmovable = world.alloc(mt=c.MT_UNMOVABLE)
    movable = world.alloc(mt=MOVABLE)
    assert unmovable // 8 != movable // 8


def test_a_type_without_pages_claims_a_pageblock(world):
    world.alloc(mt=c.MT_UNMOVABLE)
    assert world.events(c.EV_CLAIM) == 1


def test_a_small_movable_request_steals_one_page_and_leaves_the_type(engine, link_store):
    world = PageSegment(engine, link_store=link_store, zones=(ZoneSpec(16),), pageblock_order=4)
    held = [world.alloc(order=2, mt=c.MT_UNMOVABLE) for _ in range(3)]
    world.drain()
    assert world.alloc(mt=MOVABLE) >= 0 and world.events(c.EV_STEAL) > 0
    assert world.mem[world.layout.at["blocks"]] == c.MT_UNMOVABLE
    assert len(held) == 3 and world.audit() == 0


def test_the_reserve_below_the_minimum_watermark_is_not_given_out(engine):
    world = PageSegment(engine, min_free_pages=10)
    assert (len(world.alloc_everything()), world.free_pages()) == (54, 10)
