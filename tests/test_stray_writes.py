"""One stray write to free memory: it is reported and repaired, and everything else goes on.

A few hundred random ones here, 100,000 in ``tox -e fuzz-links``, which also says what a finding is.
"""

import pytest

from shmalloc import Arena
from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.errors import MisuseError, OutOfMemoryError
from shmalloc.layout import LINK_STORES
from support.fuzz_links import run
from support.object_segment import FEW, ObjectSegment
from support.page_segment import PageSegment

SMALL = {"page_bytes": 64, "cpus": 2, "max_order": 5, "pageblock_order": 3, "pcp_high": 64}


def everything(arena):
    """Every page, one by one, until there is no more."""
    pages = []
    with pytest.raises(OutOfMemoryError):
        while True:
            pages.append(arena.alloc_pages())
    return pages


def test_hundreds_of_stray_writes_stop_nothing_and_each_that_means_something_is_reported(rng):
    seen = run(400, rng.getrandbits(32), watch=False)
    assert seen["pages: meant something"] > 200
    assert seen["objects: meant something"] > 0


def test_interpreted_kernels_repair_as_well(rng):
    assert run(8, rng.getrandbits(32), "interpreted", watch=False).total() >= 8


@pytest.mark.parametrize("value", [0x41414141, "a node"])
def test_a_wrong_link_takes_one_page_out_of_service_and_stops_nothing(value):
    with Arena.create(size="64KiB", link_store="page", **SMALL) as arena:
        blocks = [arena.alloc_pages(order=5) for _ in range(2)]
        for block in blocks:
            arena.free_pages(block, order=5)
        frame = arena.segment.layout.frame
        managed = arena.statistics().zones[0].managed_pages
        arena.segment.ram[frame(blocks[-1])] = frame(700) << 3 if value == "a node" else value
        assert len(everything(arena)) == managed - 1
        assert [report.where for report in arena.violations()] == [f"pfn {blocks[-1]}"]
        assert arena.validate() == []


def test_a_block_that_was_written_to_loses_the_pages_with_a_changed_word_and_no_other():
    with Arena.create(size="64KiB", poison=True, **SMALL) as arena:
        frame = arena.segment.layout.frame
        block = arena.alloc_pages(order=5)
        arena.free_pages(block, order=5)
        managed = arena.statistics().zones[0].managed_pages
        for page, word in ((3, 0), (7, 5), (7, 6)):
            arena.segment.ram[frame(block + page) + word] = 1
        assert len(everything(arena)) == managed - 2
        named = [f"word {frame(block + 3):#x} ", f"word {frame(block + 7) + 5:#x} "]
        assert [report.where.partition("(")[0] for report in arena.violations()] == named
        assert arena.validate() == []


def test_a_range_with_a_page_that_was_written_to_is_busy_and_gives_the_others_back():
    with Arena.create(size="64KiB", poison=True, **SMALL) as arena:
        managed = arena.statistics().zones[0].managed_pages
        at = arena.segment.layout.frame(515) + 4
        arena.segment.ram[at] = 0x1234
        with pytest.raises(MisuseError, match="pfn 515 "):
            arena.alloc_contig_range(512, 528)
        assert [report.where for report in arena.violations()] == [f"word {at:#x} (pfn 515)"]
        arena.drain()
        zone = arena.statistics().zones[0]
        assert (zone.managed_pages, zone.free_pages) == (managed - 1, managed - 1)
        arena.alloc_contig_range(516, 528)


@pytest.mark.parametrize("store", LINK_STORES)
def test_a_wrong_link_of_a_per_cpu_list_costs_one_page_and_the_list_goes_on(engine, store):
    world = PageSegment(engine, link_store=store, pcp_form="list")
    pages = [world.alloc(owner=7) for _ in range(4)]
    for pfn in pages:
        world.free(pfn)
    base, stride = world.layout.link_base()
    kept = 0 if store in ("page", "table") else ~c.LINK_MASK
    at = base + (pages[-1] << stride) + 1
    world.mem[at] = world.mem[at] & kept | 0x7FFFFFFF0 & c.LINK_MASK
    given = world.alloc_everything()
    assert len(given) == len(set(given)) == world.booted_pages - 1
    assert world.state(pages[-1])[0] == c.T_POISONED
    assert world.reports() == [c.I_LIST_LINKS]


def free_pointer(world, cache, address):
    return address + world.cache_word(cache, cs.K_LINK)


@pytest.fixture
def objects(engine):
    """A world of one cache, whose sheaves hold three objects, and the first six of its slab."""
    world = ObjectSegment(engine)
    cache = world.create(64, 0, FEW)
    first = world.alloc(cache) - 2 * world.cache_word(cache, cs.K_STRIDE)
    return world, cache, [first + i * world.cache_word(cache, cs.K_STRIDE) for i in range(6)]


def test_a_free_pointer_that_leads_to_a_used_object_takes_its_slab_out_of_service(objects):
    world, cache, objs = objects
    used = [objs[2], world.alloc(cache), world.alloc(cache)]
    assert used == [objs[2], objs[1], objs[0]]
    world.mem[free_pointer(world, cache, objs[3])] = 1 + 1
    others = [world.alloc(cache) for _ in range(9)]
    assert not {*objs} & {*others} and len(set(others)) == 9
    assert world.list_state(objs[0]) == cs.SLAB_FROZEN
    assert world.reports() == [c.M_FREECHAIN]


def test_a_free_pointer_that_leads_to_another_cpus_sheaf_gives_no_object_out_twice(objects):
    # The sheaf of CPU 0 has objects 0 and 1, and CPU 1 takes 3 and, led by its pointer, 1 and 2.
    world, cache, objs = objects
    assert world.free(cache, objs[2]) == 0
    world.mem[free_pointer(world, cache, objs[3])] = 2 + 1
    mine = world.alloc(cache, cpu=1)  # of its chain 3, 2, 3
    assert mine == objs[3]
    yours = world.alloc(cache)
    assert yours == objs[2]
    for address in (mine, yours):
        world.mem.array[address : address + 8] = 0x1234
    assert world.shrink(cache) >= 0  # flushes 3 and 2 of the sheaf of CPU 1
    assert world.reports() == [c.I_SHEAF, c.I_SHEAF]
    given = world.alloc_all(cache)
    assert not {mine, yours} & {*given} and len(set(given)) == len(given)
    for address in (mine, yours):
        assert (world.mem.array[address : address + 8] == 0x1234).all()


def test_a_link_in_a_descriptor_that_passes_a_block_over_loses_none_and_gives_none_out_twice(
    engine,
):
    # There it has no complement: that it leads to another block of the list shows at its end only.
    world = PageSegment(engine, link_store="descriptor", pcp_form="list")
    pages = [world.alloc(owner=7) for _ in range(5)]
    for pfn in pages:
        world.free(pfn)
    base, stride = world.layout.link_base()
    first, later = (base + (pfn << stride) for pfn in (pages[4], pages[1]))
    world.mem[first + 1] = world.mem[first + 1] & ~c.LINK_MASK | later << 3
    given = world.alloc_everything()
    assert len(given) == len(set(given)) == world.booted_pages - 1  # one is taken for the culprit
    assert world.reports() == [c.I_LIST_LINKS]


def test_a_link_of_a_slab_that_leads_to_itself_does_not_hold_a_shrink(engine):
    world = ObjectSegment(engine)
    cache = world.create(64, 0, cs.CF_NO_SHEAVES)
    owned = [world.alloc(cache) for _ in range(40)]
    slabs = {world.slab(address) for address in owned}
    assert len(slabs) >= 3
    for pfn, order in slabs:  # all are partial
        world.free(cache, next(a for a in owned if world.slab(a) == (pfn, order)))
    pfn, order = min(slabs)
    node = world.layout.frame(pfn) + (world.geometry.page_words << order) - cs.SLAB_NODE_WORDS
    world.mem[node] = node << 3
    assert world.shrink(cache) == 0
    assert world.reports() == [c.I_LIST_LINKS]
    assert world.audit() == 0


def test_a_list_whose_head_leads_nowhere_is_named_and_no_page_is(engine):
    world = PageSegment(engine)
    order = world.geometry.max_order
    head = world.layout.zone(0) + c.Z_LISTS + (order * c.MT_COUNT + c.MT_MOVABLE) * 2
    world.mem[head] = 0x41414141
    assert world.alloc(order=order) >= 0
    found = world.layout.at["reports"]
    place = c.AT_LIST | order << 8 | c.MT_MOVABLE
    assert world.mem[found + c.R_WHERE] == c.AT_WORD | head
    assert world.mem[found + c.R_EXPECTED] == place
    assert world.reports() == [c.I_LIST_LINKS]
    assert len(world.alloc_everything()) + (1 << order) == world.booted_pages
