"""Watermarks: what stays free, who may take it, and what changes the marks."""

import pytest

from shmalloc import Arena, Gfp, MisuseError, OutOfMemoryError
from shmalloc import constants as c
from shmalloc.layout import ZoneSpec
from support import driver
from support.page_segment import MOVABLE, PageSegment

TWO_NODES = (ZoneSpec(32), ZoneSpec(32, node=1))


def marks(world, zone=0):
    at = world.layout.zone(zone)
    return tuple(world.mem[at + word] for word in (c.Z_MIN, c.Z_LOW, c.Z_HIGH))


def boost(world):
    return world.mem[world.layout.zone(0) + c.Z_BOOST]


def test_low_and_high_lie_a_quarter_of_the_minimum_apart(engine):
    assert marks(PageSegment(engine, min_free_pages=16)) == (16, 20, 24)


def test_without_a_minimum_low_and_high_lie_a_64th_of_the_zone_apart(engine):
    assert marks(PageSegment(engine, zones=(ZoneSpec(256),))) == (0, 4, 8)


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        (0, 16),
        (c.GFP_NOWAIT, 16),
        (c.GFP_HIGH, 8),
        (c.GFP_ATOMIC, 6),
        (c.GFP_OOM, 8),
        (c.GFP_OOM | c.GFP_ATOMIC, 3),
        (c.GFP_MEMALLOC, 0),
    ],
)
def test_an_allocation_takes_what_its_tier_may(engine, flags, left):
    world = PageSegment(engine, min_free_pages=16)
    while world.alloc(mt=MOVABLE | flags) >= 0:
        pass
    assert (world.free_pages(), world.audit()) == (left, 0)


def test_a_block_counts_with_all_its_pages(engine):
    world = PageSegment(engine, min_free_pages=10)
    while world.alloc(order=2) >= 0:
        pass
    assert world.free_pages() == 12  # one more block of four would leave 8


def test_enough_pages_without_a_block_of_the_order_are_refused(engine):
    world = PageSegment(engine, min_free_pages=1)
    held = set(world.alloc_everything())
    for pfn in held:
        if pfn % 2 == 0 and pfn + 1 in held:
            assert world.free(pfn) == 0
    world.drain()
    assert world.free_pages() > 20
    assert world.alloc(order=1) == c.E_NOMEM


def test_marks_shrink_with_the_pages_that_go_offline_and_grow_back():
    with Arena.create(
        zones=(ZoneSpec(4096),), page_bytes=512, pageblock_order=6, max_order=6, cpus=1,
        min_free_pages=400,
    ) as arena:  # fmt: skip
        assert arena.statistics().zones[0].watermarks == (400, 500, 600)
        arena.offline(2048, 4096)
        assert arena.statistics().zones[0].watermarks == (200, 250, 300)
        assert arena.online(2048, 4096) == 2048
        assert arena.statistics().zones[0].watermarks == (400, 500, 600)
        assert arena.validate() == []


def test_a_page_that_is_poisoned_lowers_the_minimum():
    with Arena.create(zones=(ZoneSpec(64),), page_bytes=512, cpus=1, min_free_pages=63) as arena:
        arena.poison_page(5)
        assert arena.statistics().zones[0].watermarks[0] == 62


def test_mixing_types_raises_low_and_high_but_not_the_minimum(engine):
    world = PageSegment(engine, min_free_pages=4)
    world.alloc(mt=c.MT_UNMOVABLE)  # claims a whole pageblock: nothing mixes
    assert boost(world) == 0
    while world.alloc(mt=MOVABLE) >= 0 and world.events(c.EV_BOOST) == 0:
        pass
    assert boost(world) == 8 and marks(world) == (4, 5, 6) and world.audit() == 0


def test_a_boost_in_a_zone_of_few_pageblocks_would_be_most_of_it(engine):
    world = PageSegment(engine, zones=(ZoneSpec(24),))
    while world.alloc(mt=c.MT_UNMOVABLE) >= 0 or world.alloc(mt=MOVABLE) >= 0:
        pass
    assert world.events(c.EV_BOOST) == 0 and boost(world) == 0


def test_a_zone_below_its_low_mark_is_passed_over_while_another_has_more(engine):
    world = PageSegment(engine, zones=TWO_NODES, min_free_pages=8)
    zones = [int(world.alloc() >= 32) for _ in range(48)]
    assert zones.index(1) == 32 - 10 and world.free_pages(0) >= 8


def test_thisnode_does_not_leave_the_home_node(engine):
    world = PageSegment(engine, zones=TWO_NODES)
    taken = [world.alloc(mt=MOVABLE | c.GFP_THISNODE, cpu=1) for _ in range(33)]
    assert min(taken[:-1]) >= 32 and taken[-1] == c.E_NOMEM


def test_a_limit_of_the_zone_leaves_higher_zones_alone(engine):
    world = PageSegment(engine, zones=TWO_NODES)
    lowest = MOVABLE | 1 << c.GFP_ZONE_SHIFT
    taken = [world.alloc(mt=lowest, cpu=1) for _ in range(33)]
    assert max(taken[:-1]) < 32 and taken[-1] == c.E_NOMEM
    assert world.alloc(mt=MOVABLE | 3 << c.GFP_ZONE_SHIFT) == c.E_INVAL  # there is no zone 2


@pytest.mark.parametrize("flags", [c.GFP_NORETRY, c.GFP_NOWAIT])
def test_who_hurries_does_not_drain_the_lists_of_others(engine, flags):
    world = PageSegment(engine)
    held = world.alloc_everything()
    world.free(held[0], cpu=1)
    assert world.alloc(mt=MOVABLE | flags) == c.E_NOMEM
    assert world.alloc(mt=MOVABLE) == held[0]


@pytest.mark.parametrize(
    "gfp",
    [
        3,
        -1,
        1 << 40,
        c.ALLOC_WMARK_LOW,
        c.GFP_NOFAIL | c.GFP_NOWAIT,
        c.GFP_NOFAIL | c.GFP_NORETRY,
    ],
)
def test_flags_that_do_not_exist_or_contradict_each_other_are_refused(engine, gfp):
    assert PageSegment(engine).alloc(mt=gfp) == c.E_INVAL


def test_zeroed_pages_are_zero(engine):
    world = PageSegment(engine)
    for _ in range(2):
        pfn = world.alloc(order=2, mt=MOVABLE | c.GFP_ZERO)
        first = world.layout.frame(pfn)
        assert not world.mem.array[first : first + 32].any()
        world.mem.array[first : first + 32] = 5
        world.free(pfn, 2)
        world.drain()


def test_nofail_takes_half_of_the_reserve_rather_than_wait_for_it(engine):
    world = PageSegment(engine, min_free_pages=16)
    world.alloc_everything()
    assert world.free_pages() == 16
    assert world.alloc(mt=MOVABLE | c.GFP_NOFAIL) >= 0


# --- the face -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arena():
    with Arena.create(size="4MiB", cpus=2, min_free_pages=64) as made:
        yield made


@pytest.mark.parametrize(
    ("flags", "wait_s", "text"),
    [
        (Gfp.NOFAIL | Gfp.NOWAIT, None, "NOFAIL waits until there is memory"),
        (Gfp.NOFAIL, 1.0, "wait_s: not with NOFAIL"),
        (Gfp.ATOMIC, 1.0, "wait_s: not with NOFAIL"),
        (Gfp.up_to_zone(5), None, "this arena has the zones 0 to 0"),
        (Gfp(1 << 30), None, "use shmalloc.Gfp"),
        (4, None, "use shmalloc.Gfp"),
    ],
)
def test_flags_are_refused_in_words(arena, flags, wait_s, text):
    with pytest.raises(MisuseError, match=text):
        arena.alloc_pages(0, flags=flags, wait_s=wait_s)


def test_two_limits_of_the_zone_are_refused():
    assert (Gfp.up_to_zone(0) | Gfp.ZERO | Gfp.up_to_zone(0)).last_zone == 0
    with pytest.raises(MisuseError, match="up_to_zone once"):
        _ = Gfp.up_to_zone(0) | Gfp.up_to_zone(1)


def test_an_arena_keeps_its_minimum_for_those_who_may_have_it(arena):
    held = []
    with pytest.raises(OutOfMemoryError):
        while True:
            held.append(arena.alloc_pages())
    assert arena.statistics().zones[0].free_pages == 64
    held.append(arena.alloc_pages(flags=Gfp.ATOMIC))
    held.append(arena.alloc_pages(flags=Gfp.NOFAIL))
    arena.free_pages_bulk(held)


def test_objects_are_zeroed_and_a_constructor_excludes_it(arena):
    cache = arena.cache("zeroed", 52)
    address = cache.alloc(Gfp.ZERO | Gfp.THISNODE)
    assert bytes(cache.view(address)) == bytes(52)
    cache.view(address)[:] = b"x" * 52
    cache.free(address)
    (address,) = cache.alloc_bulk(1, Gfp.ZERO)
    assert bytes(cache.view(address)) == bytes(52)
    cache.free(address)
    made = arena.cache("made", 16, ctor=b"0123456789abcdef")
    with pytest.raises(MisuseError, match="ZERO with a constructor"):
        made.alloc(Gfp.ZERO)
    with pytest.raises(MisuseError, match="slabs of a cache lie anywhere"):
        made.alloc(Gfp.up_to_zone(0))
    with pytest.raises(MisuseError, match="NOFAIL in bulk"):
        made.alloc_bulk(2, Gfp.NOFAIL)


def test_kmalloc_takes_flags_for_small_and_large(arena):
    for size in (24, 40_000):
        address = arena.kmalloc(size, Gfp.ZERO)
        assert not any(arena.memory(address, size))
        arena.kfree(address)


def test_pages_in_bulk_take_flags(arena):
    pfns = arena.alloc_pages_bulk(3, flags=Gfp.ZERO | Gfp.NOWAIT)
    assert all(not any(arena.page(pfn)) for pfn in pfns)
    arena.free_pages_bulk(pfns)
    with pytest.raises(MisuseError, match="NOFAIL in bulk"):
        arena.alloc_pages_bulk(1, flags=Gfp.NOFAIL)


def test_pages_in_bulk_leave_the_low_marks_first_and_then_the_minimum(engine):
    world = PageSegment(engine, zones=TWO_NODES, min_free_pages=8)
    at = world.layout.scratch(0)
    assert world.do(driver.ALLOC_BULK, 0, 40, at) == 40
    assert (world.free_pages(0), world.free_pages(1)) == (10, 14)
    assert world.do(driver.ALLOC_BULK, 0, 40, at) == 8
    assert (world.free_pages(0), world.free_pages(1)) == (8, 8)
    assert world.do(driver.ALLOC_BULK, 0, 40, at) == 0


def test_a_range_leaves_the_minimum(engine):
    world = PageSegment(engine, min_free_pages=62)
    assert world.do(driver.ALLOC_CONTIG, 3, 6, 7) == c.E_NOMEM
    assert world.do(driver.ALLOC_CONTIG, 3, 5, 7) == 0
    assert (world.free_pages(), world.audit()) == (62, 0)
    assert world.do(driver.ALLOC_CONTIG, 40, 41, 7) == c.E_NOMEM


def test_a_large_array_leaves_the_minimum():
    with Arena.create(
        zones=(ZoneSpec(64),), page_bytes=512, pageblock_order=3, max_order=3, cpus=1,
        min_free_pages=40,
    ) as arena:  # fmt: skip
        with pytest.raises(OutOfMemoryError):
            arena.empty(24 * 512, "u1")
        assert arena.empty(16 * 512, "u1").nbytes == 16 * 512
