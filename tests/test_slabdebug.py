"""Debug caches, in the style of Linux's slub_kunit: each damage gives an exact number of reports,
and the repaired state gives none."""

from __future__ import annotations

import pytest

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.engine import Engine
from support import slab_driver
from support.object_segment import ObjectSegment

ALL = cs.CF_DEBUG


@pytest.fixture
def world(engine: Engine) -> ObjectSegment:
    return ObjectSegment(engine)


def errors(world: ObjectSegment) -> list[int]:
    """Codes that one validation reports; their number is what it returns."""
    found = world.do(slab_driver.AUDIT_SLABS)
    codes = world.reports()
    assert len(codes) == found
    return codes


def poke(world: ObjectSegment, byte: int, at: int, value: int) -> int:
    """Write one byte of word ``at``; returns the word that was there."""
    old = world.mem[at]
    view = world.mem.array[at : at + 1].view("u1")
    view[byte] = value
    return old


@pytest.mark.parametrize(
    "flags", [cs.CF_RED_ZONE, cs.CF_POISON, cs.CF_TRACK, cs.CF_CONSISTENCY, ALL]
)
@pytest.mark.parametrize("size", [1, 7, 8, 13, 64, 200])
def test_an_intact_cache_reports_nothing(world: ObjectSegment, flags: int, size: int) -> None:
    cache = world.create(size, flags=flags)
    live = [world.alloc(cache) for _ in range(12)]
    for address in live:
        world.mem.array[address : address + (size + 7) // 8].view("u1")[:size] = 0xFF
    for address in live[::2]:
        assert world.free(cache, address) == 0
    assert errors(world) == []
    for address in live[1::2]:
        assert world.free(cache, address) == 0
    assert world.destroy(cache) == 0 and world.reports() == []


@pytest.mark.parametrize("size, at, byte", [(64, 8, 0), (64, -1, 7), (13, 1, 5), (13, 2, 0)])
def test_clobbered_red_zone_of_a_live_object(
    world: ObjectSegment, size: int, at: int, byte: int
) -> None:
    cache = world.create(size, flags=cs.CF_RED_ZONE)
    address = world.alloc(cache)
    old = poke(world, byte, address + at, 0x12)
    assert errors(world) == [c.I_BYTES]
    world.mem[address + at] = old
    assert errors(world) == []
    assert world.free(cache, address) == 0


def test_both_red_zones_are_reported_apart(world: ObjectSegment) -> None:
    cache = world.create(64, flags=cs.CF_RED_ZONE)
    address = world.alloc(cache)
    poke(world, 0, address - 1, 0)
    poke(world, 0, address + 8, 0)
    assert errors(world) == [c.I_BYTES] * 2


def test_free_with_a_clobbered_red_zone_freezes_the_slab(world: ObjectSegment) -> None:
    cache = world.create(64, flags=cs.CF_RED_ZONE)
    keep, address = world.alloc(cache), world.alloc(cache)
    poke(world, 3, address + 8, 0x55)
    assert world.free(cache, address) == c.E_STATE
    code, where, expected, found = world.full_reports()[0]
    assert (code, where) == (c.M_OBJECT_BYTES, address + 8)
    assert expected == cs.RED_LIVE_WORD & cs.REPORT_MASK and found != expected
    assert world.list_state(keep) == cs.SLAB_FROZEN
    assert world.free(cache, keep) == 0 and errors(world) == []


def test_objects_of_a_frozen_slab_are_never_given_out_again(world: ObjectSegment) -> None:
    cache = world.create(64, flags=cs.CF_RED_ZONE)
    first = world.alloc(cache)
    objects = [first, *(world.alloc(cache) for _ in range(world.counters(first)[2] - 1))]
    poke(world, 0, objects[0] + 8, 0)
    world.free(cache, objects[0])
    for address in objects[1:]:
        assert world.free(cache, address) == 0
    assert not set(world.alloc_all(cache)) & set(objects)


@pytest.mark.parametrize("at", [0, 3, 7])
def test_use_after_free_is_found_by_validation_and_by_allocation(
    world: ObjectSegment, at: int
) -> None:
    cache = world.create(64, flags=cs.CF_POISON)
    keep, address = world.alloc(cache), world.alloc(cache)
    world.free(cache, address)
    old = poke(world, 6, address + at, 0x66)
    assert errors(world) == [c.I_BYTES]
    world.mem[address + at] = old
    assert errors(world) == []
    poke(world, 6, address + at, 0x66)
    again = world.alloc(cache)
    assert again > 0 and world.slab(again) != world.slab(keep)
    assert world.full_reports()[0][:2] == (c.M_OBJECT_BYTES, address + at)


def test_the_last_byte_of_the_poison_is_its_own(world: ObjectSegment) -> None:
    cache = world.create(13, flags=cs.CF_POISON)
    address = world.alloc(cache)
    assert bytes(world.mem.array[address : address + 2].view("u1")[:13]) == b"\x5a" * 13
    world.free(cache, address)
    assert bytes(world.mem.array[address : address + 2].view("u1")[:13]) == b"\x6b" * 12 + b"\xa5"


def test_red_zones_have_the_bytes_of_linux(world: ObjectSegment) -> None:
    cache = world.create(13, flags=cs.CF_RED_ZONE)
    address = world.alloc(cache)
    words = world.mem.array[address - 1 : address + 3]
    assert bytes(words.view("u1")[:8]) == b"\xcc" * 8
    assert bytes(words.view("u1")[8 + 13 :]) == b"\xcc" * 11
    world.free(cache, address)
    assert bytes(words.view("u1")[8 + 13 :]) == b"\xbb" * 11


@pytest.mark.parametrize("bad", [9999, -5, 0])
def test_clobbered_free_pointer(world: ObjectSegment, bad: int) -> None:
    """9999: Freechain corrupt. 0: Wrong object count, the list ends too early."""
    cache = world.create(64, flags=ALL)
    keep, address = world.alloc(cache), world.alloc(cache)
    world.free(cache, address)
    link = address + world.cache_word(cache, cs.K_LINK)
    old, world.mem[link] = world.mem[link], bad
    assert errors(world) == [c.I_SLAB]
    world.mem[link] = old
    assert errors(world) == []
    world.mem[link] = bad
    assert world.slab(world.alloc(cache)) != world.slab(keep)
    assert world.reports() == [c.M_FREECHAIN]


def test_freelist_cycle_is_detected(world: ObjectSegment) -> None:
    cache = world.create(64, flags=ALL)
    keep, one, two = (world.alloc(cache) for _ in range(3))
    world.free(cache, one)
    world.free(cache, two)
    first = world.counters(keep)[0]
    world.mem[one + world.cache_word(cache, cs.K_LINK)] = first
    assert errors(world) == [c.I_SLAB]
    assert world.free(cache, keep) == c.E_STATE
    assert world.reports() == [c.M_FREECHAIN]
    assert world.list_state(keep) == cs.SLAB_FROZEN


def test_writes_behind_the_last_object_are_found(world: ObjectSegment) -> None:
    cache = world.create(200, flags=cs.CF_POISON | cs.CF_CONSISTENCY)
    address = world.alloc(cache)
    pfn, _ = world.slab(address)
    used = world.counters(address)[2] * world.cache_word(cache, cs.K_STRIDE)
    rest = world.layout.frame(pfn) + used
    old, world.mem[rest] = world.mem[rest], 1
    assert errors(world) == [c.I_BYTES]
    world.mem[rest] = old
    assert errors(world) == []


def test_tracks_name_the_last_allocation_and_free(world: ObjectSegment) -> None:
    cache = world.create(64, flags=cs.CF_TRACK)
    address = world.alloc(cache, cpu=1, site=77)
    world.free(cache, address, cpu=0, site=88)
    at = address + world.cache_word(cache, cs.K_TRACK)
    alloc, free = ([world.mem[at + w * cs.TR_WORDS + f] for f in range(4)] for w in (0, 1))
    assert (alloc[cs.TR_CLAIM], alloc[cs.TR_SITE]) == (2, 77)
    assert (free[cs.TR_CLAIM], free[cs.TR_SITE]) == (1, 88)
    assert alloc[cs.TR_SEQUENCE] < free[cs.TR_SEQUENCE]


def test_a_template_turns_poison_off(world: ObjectSegment) -> None:
    cache = world.create(64, flags=ALL, template=world.layout.scratch(1))
    assert world.cache_word(cache, cs.K_FLAGS) & cs.CF_POISON == 0
    address = world.alloc(cache)
    assert world.free(cache, address) == 0 and errors(world) == []


def test_debug_caches_have_no_sheaves(world: ObjectSegment) -> None:
    cache = world.create(64, flags=cs.CF_TRACK)
    assert world.cache_word(cache, cs.K_SHEAF_COUNT) == 0


def test_leaked_frozen_slabs_do_not_block_destroy_and_are_never_reused(
    world: ObjectSegment,
) -> None:
    cache = world.create(64, flags=ALL)
    address = world.alloc(cache)
    pfn, _ = world.slab(address)
    poke(world, 0, address + 8, 0)
    world.free(cache, address)
    world.reports()
    assert world.destroy(cache) == 0
    assert pfn not in world.take_every_page()
    assert world.mem[world.layout.descriptor(pfn) + 1] == cs.OWNER_FROZEN
