"""Per-CPU sheaves and the barn: where objects are kept, and what happens when the lock is held."""

from __future__ import annotations

import multiprocessing

import pytest

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.engine import Engine, get_engine
from shmalloc.layout import first_node_part
from shmalloc.segment import Segment
from support import children, slab_driver
from support.object_segment import FEW, SLAB_GEOMETRY, ObjectSegment

CAPACITY = 3


@pytest.fixture
def world(engine: Engine) -> ObjectSegment:
    return ObjectSegment(engine)


@pytest.fixture
def cache(world: ObjectSegment) -> int:
    return world.create(64, flags=FEW)


def sizes(world: ObjectSegment, cache: int, cpu: int = 0) -> tuple[int, int]:
    """Objects in main and spare of a CPU."""
    main, spare = (world.cpu_word(cache, word, cpu) for word in (cs.KC_MAIN, cs.KC_SPARE))
    return world.mem[main + cs.SF_SIZE], world.mem[spare + cs.SF_SIZE]


def barn(world: ObjectSegment, cache: int) -> tuple[int, int]:
    """Full and empty sheaves in the barn."""
    words = (cs.KN_NR_BARN_FULL, cs.KN_NR_BARN_EMPTY)
    full, empty = (world.node_word(cache, word) for word in words)
    return full, empty


def take_lock(world: ObjectSegment, cache: int, cpu: int = 0, value: int = 1) -> None:
    """Hold a CPU's lock as another process that shares the slot does (0: release it)."""
    base = world.layout.at["caches"] + cache * world.mem[c.H_CACHE_STRIDE] + cs.K_CPUS
    world.mem[base + cpu * cs.KC_STRIDE + cs.KC_LOCK] = value


def test_all_sheaves_are_made_with_the_cache_and_are_empty(
    world: ObjectSegment, cache: int
) -> None:
    assert world.cache_word(cache, cs.K_SHEAF_COUNT) == 5
    assert sizes(world, cache) == (0, 0) and barn(world, cache) == (0, 1)
    assert world.audit() == 0


@pytest.mark.parametrize("cpus, fits", [(8, True), (62, False)])
def test_where_blocks_are_small_sheaves_are_small_or_there_are_none(
    engine: Engine, cpus: int, fits: bool
) -> None:
    world = ObjectSegment(engine, max_order=0, pageblock_order=0, page_bytes=4096, cpus=cpus)
    cache = world.create(64)
    address = world.alloc(cache)
    world.free(cache, address)
    assert address > 0 and world.audit() == 0
    at = world.layout.at["caches"] + cache * world.mem[c.H_CACHE_STRIDE]
    assert (world.mem[at + cs.K_CAPACITY] > 0) is fits
    assert world.destroy(cache) == 0


def test_the_object_freed_last_comes_out_first(world: ObjectSegment, cache: int) -> None:
    one, two = world.alloc(cache), world.alloc(cache)
    world.free(cache, one)
    world.free(cache, two)
    assert [world.alloc(cache), world.alloc(cache)] == [two, one]


def test_a_refill_fills_one_sheaf(world: ObjectSegment, cache: int) -> None:
    world.alloc(cache)
    assert sum(sizes(world, cache)) == CAPACITY - 1


def test_frees_fill_main_then_spare_then_the_barn_then_the_slabs(
    world: ObjectSegment, cache: int
) -> None:
    live = [world.alloc(cache) for _ in range(4 * CAPACITY)]
    seen = []
    for address in live:
        world.free(cache, address)
        assert world.audit() == 0
        seen.append((sum(sizes(world, cache)), barn(world, cache)))
    assert (2 * CAPACITY, (0, 1)) in seen  # main and spare are full
    assert (2 * CAPACITY, (1, 0)) in seen  # and the barn
    assert seen[-1][0] + seen[-1][1][0] * CAPACITY < len(live)  # and some went to the slabs


def test_a_cpu_takes_full_sheaves_from_the_barn(world: ObjectSegment, cache: int) -> None:
    for address in [world.alloc(cache) for _ in range(3 * CAPACITY)]:
        world.free(cache, address)
    assert barn(world, cache) == (1, 0)
    slabs = world.node_word(cache, cs.KN_NR_SLABS)
    assert world.alloc(cache, cpu=1) > 0
    assert barn(world, cache) == (0, 1)
    assert world.node_word(cache, cs.KN_NR_SLABS) == slabs


def test_frees_need_no_memory(world: ObjectSegment, cache: int) -> None:
    live = world.alloc_all(cache)
    world.take_every_page()
    assert all(world.free(cache, address) == 0 for address in live)
    assert world.audit() == 0


def test_drain_leaves_no_object_in_a_sheaf(world: ObjectSegment, cache: int) -> None:
    for cpu in (0, 1):
        for address in [world.alloc(cache, cpu) for _ in range(10)]:
            world.free(cache, address, cpu)
    world.do(slab_driver.DRAIN, cache)
    assert sizes(world, cache) == sizes(world, cache, 1) == (0, 0)
    assert barn(world, cache)[0] == 0 and world.audit() == 0


def test_a_cpu_that_finds_the_lock_held_goes_to_the_slab(world: ObjectSegment, cache: int) -> None:
    first = world.alloc(cache)
    take_lock(world, cache)
    before = sizes(world, cache)
    other = world.alloc(cache)
    assert other > 0 and world.free(cache, first) == 0
    assert sizes(world, cache) == before
    take_lock(world, cache, value=0)
    assert world.free(cache, other) == 0 and world.audit() == 0


def test_an_unplugged_cpu_works_on_the_slabs(world: ObjectSegment, cache: int) -> None:
    world.free(cache, world.alloc(cache, cpu=1), cpu=1)
    world.do(slab_driver.UNPLUG, 1)
    assert sizes(world, cache, 1) == (0, 0)
    address = world.alloc(cache, cpu=1)
    assert world.free(cache, address, cpu=1) == 0
    assert world.shrink(cache) >= 0
    assert sizes(world, cache, 1) == (0, 0) and world.audit() == 0


def test_a_cpu_that_is_plugged_in_again_uses_its_sheaves(world: ObjectSegment, cache: int) -> None:
    world.do(slab_driver.UNPLUG, 1)
    world.do(slab_driver.PLUG, 1)
    world.free(cache, world.alloc(cache, cpu=1), cpu=1)
    assert sum(sizes(world, cache, 1)) == CAPACITY and world.audit() == 0


def spare_word(world: ObjectSegment, cache: int) -> int:
    return world.layout.at["caches"] + cache * world.mem[c.H_CACHE_STRIDE] + cs.K_CPUS + cs.KC_SPARE


def test_without_a_spare_the_slabs_serve(world: ObjectSegment, cache: int) -> None:
    at = spare_word(world, cache)
    spare, world.mem[at] = world.mem[at], 0  # as while another process refills it
    live = [world.alloc(cache) for _ in range(3 * CAPACITY)]
    assert min(live) > 0 and all(world.free(cache, address) == 0 for address in live)
    world.do(slab_driver.BRING_BACK, cache, spare)
    assert world.mem[at] == spare and world.audit() == 0


def test_a_sheaf_that_comes_back_replaces_none(world: ObjectSegment, cache: int) -> None:
    """Bug S21: the slot was filled meanwhile; installed without a check, a sheaf was lost."""
    at = spare_word(world, cache)
    in_hands, world.mem[at] = world.mem[at], 0
    come_between = world.layout.at["caches"] + cache * world.mem[c.H_CACHE_STRIDE]
    come_between += first_node_part(world.geometry)
    world.mem[at] = world.mem[come_between + cs.KN_BARN_EMPTY]
    world.mem[world.mem[at] + cs.SF_WHERE] = world.mem[in_hands + cs.SF_WHERE]
    world.mem[come_between + cs.KN_BARN_EMPTY] = 0
    world.mem[come_between + cs.KN_NR_BARN_EMPTY] = 0
    world.do(slab_driver.BRING_BACK, cache, in_hands)
    assert barn(world, cache) == (0, 1)
    assert world.audit() == 0


def test_a_sheaf_that_comes_back_under_a_held_lock_goes_to_the_barn(
    world: ObjectSegment, cache: int
) -> None:
    at = spare_word(world, cache)
    in_hands, world.mem[at] = world.mem[at], 0
    take_lock(world, cache)
    world.do(slab_driver.BRING_BACK, cache, in_hands)
    take_lock(world, cache, value=0)
    assert world.mem[at] == 0 and barn(world, cache) == (0, 2)
    assert world.audit() == 0


def test_destroy_waits_for_a_sheaf_that_a_cpu_holds(world: ObjectSegment, cache: int) -> None:
    at = spare_word(world, cache)
    in_hands, world.mem[at] = world.mem[at], 0
    assert world.destroy(cache) == c.E_BUSY
    world.do(slab_driver.BRING_BACK, cache, in_hands)
    assert world.destroy(cache) == 0 and world.reports() == []


def double_top(world: ObjectSegment, cache: int) -> int:
    """Put the object that comes out next into the sheaf twice; returns its address."""
    one, two = world.alloc(cache), world.alloc(cache)
    world.free(cache, one)
    world.free(cache, two)
    main = world.cpu_word(cache, cs.KC_MAIN)
    top = main + cs.SF_OBJECTS + world.mem[main + cs.SF_SIZE] - 1
    world.mem[top - 1] = world.mem[top]
    return two


def test_audit_finds_an_object_in_two_places(world: ObjectSegment, cache: int) -> None:
    double_top(world, cache)
    assert world.do(slab_driver.AUDIT_SLABS) == 1
    assert world.reports() == [c.I_SHEAF]


def test_audit_finds_a_lost_sheaf(world: ObjectSegment, cache: int) -> None:
    at = spare_word(world, cache)
    spare, world.mem[at] = world.mem[at], 0
    assert world.do(slab_driver.AUDIT_SLABS) == 1
    assert world.full_reports() == [(c.I_SHEAF, spare, 1, 0)]


def test_an_object_in_two_sheaves_is_given_out_once(world: ObjectSegment, cache: int) -> None:
    """What is left of two frees at the same moment: the second allocation refuses it."""
    address = double_top(world, cache)
    assert world.alloc(cache) == address
    assert world.alloc(cache) == c.E_STATE
    assert world.full_reports() == [(c.I_SHEAF, address, 0, 1)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("flags", [0, FEW, cs.CF_NO_SHEAVES, cs.CF_EXACT | FEW])
def test_three_processes_free_each_others_objects(flags: int) -> None:
    """Two CPU slots, one of them shared by two processes, so that trylocks fail too."""
    with Segment.create(SLAB_GEOMETRY) as segment:
        world = ObjectSegment(get_engine("native"), segment.ram)
        cache, shared = world.create(64, flags=flags), world.layout.scratch(1)
        for word in range(32):
            world.mem[shared + word] = 0
        context = multiprocessing.get_context("spawn")
        workers = [
            context.Process(target=children.storm, args=(segment.name, cpu, cache, shared))
            for cpu in (0, 1, 1)
        ]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                worker.join(timeout=60)
            assert [worker.exitcode for worker in workers] == [0, 0, 0]
        finally:
            for worker in workers:
                worker.kill()
        for word in range(16):
            if address := world.mem[shared + 2 + word]:
                assert world.free(cache, address) == 0
        assert world.reports() == [] and world.audit() == 0
        assert world.destroy(cache) == 0 and world.do(slab_driver.AUDIT) == 0
        del world
