"""Caches of objects: slabs, their lists, constructors, bulk, shrink, destroy, and every misuse."""

from __future__ import annotations

from itertools import pairwise

import pytest

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.engine import Engine
from shmalloc.layout import LINK_STORES, ZoneSpec
from support import slab_driver
from support.object_segment import FEW, ObjectSegment


@pytest.fixture
def world(engine: Engine) -> ObjectSegment:
    return ObjectSegment(engine)


PLAIN = cs.CF_NO_SHEAVES


@pytest.mark.parametrize("size", [1, 8, 9, 64, 100, 511, 1000])
@pytest.mark.parametrize("flags", [0, PLAIN, cs.CF_SHUFFLE, cs.CF_DEBUG])
def test_objects_do_not_overlap(world: ObjectSegment, size: int, flags: int) -> None:
    cache = world.create(size, flags=flags)
    words = (size + 7) // 8
    taken: set[int] = set()
    for _ in range(40):
        address = world.alloc(cache)
        span = set(range(address, address + words))
        assert address > 0 and not span & taken
        taken |= span
    assert world.audit() == 0


@pytest.mark.parametrize("align", [8, 16, 64, 512])
@pytest.mark.parametrize("flags", [0, cs.CF_RED_ZONE])
def test_objects_are_aligned(world: ObjectSegment, align: int, flags: int) -> None:
    cache = world.create(24, align, flags)
    for _ in range(10):
        assert (world.alloc(cache) - world.layout.at["frames"]) * 8 % align == 0


@pytest.mark.parametrize("size, align", [(0, 8), (-1, 8), (8, 3), (8, -8), (8, 1024), (1 << 40, 8)])
def test_create_refuses_what_cannot_work(world: ObjectSegment, size: int, align: int) -> None:
    assert world.create(size, align) == c.E_INVAL


def test_a_failed_create_leaves_the_id_usable(world: ObjectSegment) -> None:
    assert world.create(1 << 40) == c.E_INVAL
    assert world.create(64) == 0


def test_ids_run_out_with_no_memory(engine: Engine) -> None:
    world = ObjectSegment(engine, caches=2)
    assert [world.create(flags=PLAIN) for _ in range(3)] == [0, 1, c.E_NOMEM]


def test_alloc_from_no_cache_is_invalid(world: ObjectSegment) -> None:
    assert [world.alloc(cache) for cache in (-1, 5, 1000)] == [c.E_INVAL] * 3


def test_a_full_slab_is_on_no_list_and_comes_back_with_the_first_free(world: ObjectSegment) -> None:
    cache = world.create(64, flags=PLAIN)
    first = world.alloc(cache)
    objects = world.counters(first)[2]
    rest = [world.alloc(cache) for _ in range(objects - 1)]
    assert world.list_state(first) == c.SLAB_OFF_LIST
    assert world.node_word(cache, cs.KN_NR_PARTIAL) == 0
    assert world.free(cache, rest[0]) == 0
    assert world.list_state(first) == c.SLAB_ON_PARTIAL
    assert world.counters(first)[1] == objects - 1


def test_debug_caches_keep_their_full_slabs_on_a_list(world: ObjectSegment) -> None:
    cache = world.create(64, flags=cs.CF_RED_ZONE)
    first = world.alloc(cache)
    for _ in range(world.counters(first)[2] - 1):
        world.alloc(cache)
    assert world.list_state(first) == c.SLAB_ON_FULL
    assert world.node_word(cache, cs.KN_NR_FULL) == 1
    assert world.audit() == 0


def test_one_empty_slab_is_kept(world: ObjectSegment) -> None:
    cache = world.create(64, flags=PLAIN)
    for _ in range(3):
        assert world.free(cache, world.alloc(cache)) == 0
    assert world.node_word(cache, cs.KN_NR_SLABS) == 1


def test_empty_slabs_above_the_minimum_go_back(world: ObjectSegment) -> None:
    cache = world.create(64, flags=PLAIN)
    live = world.alloc_all(cache)
    assert world.node_word(cache, cs.KN_NR_SLABS) > 3
    for address in live:
        world.free(cache, address)
    assert world.node_word(cache, cs.KN_NR_SLABS) == world.cache_word(cache, cs.K_MIN_PARTIAL)
    assert world.audit() == 0


def test_shrink_gives_every_empty_slab_back(world: ObjectSegment) -> None:
    cache = world.create(64)
    for address in [world.alloc(cache) for _ in range(50)]:
        world.free(cache, address)
    slabs = world.node_word(cache, cs.KN_NR_SLABS)
    assert slabs > 0
    freed_at_once = slabs - world.shrink(cache)
    assert world.node_word(cache, cs.KN_NR_SLABS) == 0 and freed_at_once >= 0


def test_shrink_leaves_live_objects_alone(world: ObjectSegment) -> None:
    cache = world.create(64)
    keep = world.alloc(cache)
    world.mem[keep] = 12345
    world.shrink(cache)
    assert world.mem[keep] == 12345
    assert world.free(cache, keep) == 0


def test_smaller_slabs_where_memory_is_in_pieces(world: ObjectSegment) -> None:
    cache = world.create(64, flags=PLAIN)
    order = world.cache_word(cache, cs.K_ORDER)
    assert order > world.cache_word(cache, cs.K_MIN_ORDER) == 0
    pages = world.take_every_page()
    for pfn in pages[::2]:
        world.do(slab_driver.FREE_PAGES, pfn, 0)
    address = world.alloc(cache)
    assert world.slab(address)[1] == 0
    assert world.free(cache, address) == 0 and world.audit() == 0


def test_out_of_memory_is_told_and_freeing_cures_it(world: ObjectSegment) -> None:
    cache = world.create(64)
    live = world.alloc_all(cache)
    assert world.alloc(cache) == c.E_NOMEM
    assert world.free(cache, live.pop(), cpu=1) == 0
    assert world.alloc(cache, cpu=0) > 0  # it lies in the other CPU's sheaf
    assert world.audit() == 0 and world.reports() == []


def test_a_template_constructs_and_survives_being_free(world: ObjectSegment) -> None:
    template = world.layout.scratch(1)
    for i in range(8):
        world.mem[template + i] = 100 + i
    cache = world.create(64, template=template)
    first = world.alloc(cache)
    assert [world.mem[first + i] for i in range(8)] == list(range(100, 108))
    world.mem[first + 4] = 7
    world.free(cache, first)
    assert world.alloc(cache) == first
    assert world.mem[first + 4] == 7


def test_shuffle_changes_the_order_and_loses_no_object(world: ObjectSegment) -> None:
    plain, shuffled = world.create(64, flags=PLAIN), world.create(64, flags=PLAIN | cs.CF_SHUFFLE)
    runs = []
    for cache in (plain, shuffled):
        first = world.alloc(cache)
        count = world.counters(first)[2]
        rest = [world.alloc(cache) for _ in range(count - 1)]
        base = min([first, *rest])
        runs.append([(a - base) // 8 for a in [first, *rest]])
    assert runs[0] == list(range(len(runs[0])))
    assert runs[1] != runs[0] and sorted(runs[1]) == runs[0]


def test_hardened_pointers_are_not_readable(engine: Engine) -> None:
    world = ObjectSegment(engine, harden=0x1234_5678_9ABC_DEF)
    cache = world.create(64, flags=PLAIN)
    address = world.alloc(cache)
    world.free(cache, address)
    stored = world.mem[address + world.cache_word(cache, cs.K_LINK)]
    assert stored > world.counters(address)[2]
    assert world.audit() == 0


def test_one_hardened_pointer_tells_nothing_of_those_of_other_caches(engine: Engine) -> None:
    world = ObjectSegment(engine, harden=0x1234_5678_9ABC_DEF)
    caches = [world.create(64, flags=PLAIN) for _ in range(3)]
    secrets = {world.cache_word(cache, cs.K_SECRET) for cache in caches}
    assert len(secrets) == 3 and all(secret.bit_count() > 15 for secret in secrets)
    assert all((a ^ b).bit_count() > 15 for a in secrets for b in secrets if a != b)


def test_a_shuffled_slab_hands_out_its_objects_in_no_arithmetic_progression(engine: Engine) -> None:
    world = ObjectSegment(engine, harden=0x1234_5678_9ABC_DEF)
    cache = world.create(16, flags=PLAIN | cs.CF_SHUFFLE)
    runs = [[world.alloc(cache) for _ in range(24)] for _ in range(2)]
    steps = [{b - a for a, b in pairwise(run)} for run in runs]
    assert min(len(each) for each in steps) > 10


@pytest.mark.parametrize("flags", [0, PLAIN, FEW, cs.CF_DEBUG])
def test_bulk_gives_distinct_objects_and_takes_them_back(world: ObjectSegment, flags: int) -> None:
    cache = world.create(64, flags=flags)
    one = world.alloc(cache)
    objects = world.alloc_bulk(cache, 30)
    assert isinstance(objects, list) and len({one, *objects}) == 31
    assert world.free_bulk(cache, [one, *objects]) == 31
    assert world.audit() == 0 and world.reports() == []


def test_bulk_is_all_or_nothing(world: ObjectSegment) -> None:
    cache = world.create(64)
    live = world.alloc_all(cache)
    for address in live[:10]:
        world.free(cache, address)
    assert world.alloc_bulk(cache, 11) == c.E_NOMEM
    again = world.alloc_bulk(cache, 10)
    assert isinstance(again, list) and set(again) == set(live[:10])


def test_bulk_free_skips_and_reports_what_is_no_object(world: ObjectSegment) -> None:
    cache = world.create(64)
    good = world.alloc_bulk(cache, 4)
    assert isinstance(good, list)
    assert world.free_bulk(cache, [good[0], good[0] + 1, *good[1:], good[0]]) == 4
    assert world.reports() == [c.M_OBJECT_POINTER, c.M_OBJECT_FREE]
    assert world.audit() == 0


@pytest.mark.parametrize("flags", [0, PLAIN, cs.CF_EXACT, cs.CF_DEBUG])
def test_double_free_is_refused(world: ObjectSegment, flags: int) -> None:
    cache = world.create(64, flags=flags)
    keep, address = world.alloc(cache), world.alloc(cache)
    assert world.free(cache, address) == 0
    assert world.free(cache, address, cpu=1) == c.E_STATE
    assert world.full_reports() == [
        (c.M_OBJECT_FREE, address, c.AT_CACHE | cache, c.AT_CACHE | cache)
    ]
    assert world.free(cache, keep) == 0 and world.audit() == 0


@pytest.mark.parametrize("flags", [0, cs.CF_DEBUG])
def test_free_of_a_misaligned_pointer_is_refused(world: ObjectSegment, flags: int) -> None:
    cache = world.create(64, flags=flags)
    address = world.alloc(cache)
    pfn, order = world.slab(address)
    start = world.layout.frame(pfn)
    for wrong in range(start, start + (world.geometry.page_words << order)):
        if (wrong - address) % world.cache_word(cache, cs.K_STRIDE):
            assert world.free(cache, wrong) == c.E_STATE
            assert world.reports() == [c.M_OBJECT_POINTER]
    assert world.free(cache, address) == 0 and world.audit() == 0


def test_free_behind_the_last_object_is_refused(world: ObjectSegment) -> None:
    cache = world.create(8, flags=PLAIN)
    address = world.alloc(cache)
    objects = world.counters(address)[2]
    pfn, order = world.slab(address)
    end = world.layout.frame(pfn) + (world.geometry.page_words << order)
    for wrong in range(world.layout.frame(pfn) + objects, end):
        assert world.free(cache, wrong) == c.E_STATE
    assert set(world.reports()) == {c.M_OBJECT_POINTER}
    assert world.free(cache, address) == 0 and world.audit() == 0


def test_free_into_another_cache_is_refused(world: ObjectSegment) -> None:
    one, other = world.create(64), world.create(64)
    address = world.alloc(one)
    assert world.free(other, address) == c.E_STATE
    assert world.full_reports() == [
        (c.M_OBJECT_CACHE, address, c.AT_CACHE | other, c.AT_CACHE | one)
    ]
    assert world.free(one, address) == 0


def test_free_of_what_is_no_slab_is_refused(world: ObjectSegment) -> None:
    cache = world.create(64)
    page = world.do(slab_driver.ALLOC_PAGES, 1)
    frames = world.layout.at["frames"]
    inside = world.layout.frame(page) + world.geometry.page_words
    for wrong in (-1, 0, frames - 1, inside, world.layout.words + 5, 1 << 40):
        assert world.free(cache, wrong) == c.E_STATE
        assert world.reports() == [c.M_OBJECT_POINTER]


def test_a_slab_page_cannot_be_freed_as_a_page(world: ObjectSegment) -> None:
    cache = world.create(64)
    pfn, order = world.slab(world.alloc(cache))
    assert world.do(slab_driver.FREE_PAGES, pfn, order) == c.E_STATE
    assert world.reports() == [c.M_SLAB_AS_PAGE]


def test_destroy_gives_all_memory_back(world: ObjectSegment) -> None:
    before = len(world.take_every_page())
    fresh = made_anew(world)
    cache = fresh.create(64)
    for address in [fresh.alloc(cache) for _ in range(60)]:
        fresh.free(cache, address)
    assert fresh.destroy(cache) == 0
    assert len(fresh.take_every_page()) == before
    assert fresh.alloc(cache) == c.E_INVAL


def made_anew(world: ObjectSegment) -> ObjectSegment:
    """A second world like the first, before anything was done to it."""
    again = object.__new__(ObjectSegment)
    again.__dict__.update(world.__dict__)
    again._fresh()
    return again


@pytest.mark.parametrize("flags", [0, PLAIN, cs.CF_DEBUG])
@pytest.mark.parametrize("count", [1, 3, 30])
def test_destroy_reports_live_objects_and_their_exact_count(
    world: ObjectSegment, flags: int, count: int
) -> None:
    cache = world.create(64, flags=flags)
    live = [world.alloc(cache) for _ in range(count)]
    assert world.destroy(cache) == c.E_BUSY
    reports = world.full_reports()
    assert len(reports) == min(count, cs.LEAK_REPORTS)
    assert {r[0] for r in reports} == {c.M_LEAKED_OBJECTS} and {r[3] for r in reports} == {count}
    assert {r[1] for r in reports} <= set(live)
    assert world.alloc(cache) == c.E_INVAL
    for address in live:
        assert world.free(cache, address) == 0
    assert world.destroy(cache) == 0 and world.reports() == [] and world.audit() == 0


def test_destroy_of_no_cache_is_invalid(world: ObjectSegment) -> None:
    assert [world.destroy(cache) for cache in (-1, 0, 99)] == [c.E_INVAL] * 3


def test_a_corrupt_free_pointer_freezes_the_slab_and_loses_nothing_else(
    world: ObjectSegment,
) -> None:
    cache = world.create(64, flags=PLAIN)
    keep, gone = world.alloc(cache), world.alloc(cache)
    world.free(cache, gone)
    world.mem[gone + world.cache_word(cache, cs.K_LINK)] = 9999
    other = world.alloc(cache)
    assert world.reports() == [c.M_FREECHAIN]
    assert world.slab(other) != world.slab(keep)
    assert world.list_state(keep) == cs.SLAB_FROZEN and world.counters(keep)[3]
    assert world.free(cache, keep) == 0  # leaked, not reused
    assert world.free(cache, other) == 0
    assert world.audit() == 0 and world.destroy(cache) == 0


def test_audit_finds_a_wrong_counter(world: ObjectSegment) -> None:
    cache = world.create(64, flags=PLAIN)
    word = world.layout.descriptor(world.slab(world.alloc(cache))[0]) + 1
    world.mem[word] += 1 << c.S_INUSE_SHIFT
    assert world.do(slab_driver.AUDIT_SLABS) > 0
    assert c.I_SLAB in world.reports()
    world.mem[word] -= 1 << c.S_INUSE_SHIFT
    assert world.audit() == 0


def test_audit_finds_a_slab_that_is_not_on_its_list(world: ObjectSegment) -> None:
    cache = world.create(64, flags=PLAIN)
    word = world.layout.descriptor(world.slab(world.alloc(cache))[0])
    world.mem[word] ^= c.SLAB_ON_PARTIAL << (c.LINK_SHIFT + c.SLAB_LIST_SHIFT)
    assert world.do(slab_driver.AUDIT_SLABS) > 0
    assert c.I_SLAB in world.reports()


@pytest.mark.parametrize("store", LINK_STORES)
def test_slabs_work_on_every_link_store(engine: Engine, store: str) -> None:
    world = ObjectSegment(engine, link_store=store)
    cache = world.create(64)
    live = world.alloc_all(cache)
    assert world.audit() == 0
    for address in live:
        assert world.free(cache, address) == 0
    assert world.audit() == 0 and world.destroy(cache) == 0
    assert world.do(slab_driver.AUDIT) == 0


def test_objects_of_another_node_go_straight_back_to_its_slabs(engine: Engine) -> None:
    world = ObjectSegment(engine, zones=(ZoneSpec(64), ZoneSpec(64, node=1)))
    world.mem[world.layout.cpu(1) + c.C_NODE] = 1
    cache = world.create(64)
    far = world.alloc(cache, cpu=1)
    before = world.node_word(cache, cs.KN_NR_PARTIAL, node=1)
    size = world.mem[world.cpu_word(cache, cs.KC_MAIN) + cs.SF_SIZE]
    assert world.free(cache, far, cpu=0) == 0
    assert world.mem[world.cpu_word(cache, cs.KC_MAIN) + cs.SF_SIZE] == size
    assert world.node_word(cache, cs.KN_NR_PARTIAL, node=1) >= before
    assert world.audit() == 0
