"""Programs about watermarks and flags: what stays free, who may take it, and who is woken.

``RESERVE`` pages of each zone are its minimum, as far as it has them. The checks count free pages
from the descriptors: neither the zone's counter nor what the kernels think of their marks is asked.
Each CPU notes what it received (held.py).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import Kernel, kernel
from shmalloc.kernels.bits import order_of, type_of
from shmalloc.kernels.cache_bulk import cache_alloc_bulk_gfp
from shmalloc.kernels.cache_gfp import cache_alloc_gfp
from shmalloc.kernels.contig import offline_range
from shmalloc.kernels.kmalloc import class_of, kmalloc_gfp
from shmalloc.kernels.lock import lock, unlock
from shmalloc.kernels.pages import alloc_pages, give, take_from_zone
from shmalloc.kernels.reporting import report
from shmalloc.kernels.watermark import end_boost
from shmalloc.kernels.zone import block_mt, descriptor_at, zone_at
from shmalloc.layout import ZoneSpec
from shmalloc.units import Claim, Gfp, Memory, ObjectAddress, Order, Pfn, ZoneId
from shmalloc.words import fixed, load, load2, wait
from stress.machine.program import Program
from stress.programs.checks import objects_are_sound, pages_are_sound
from stress.programs.held import (
    FIRST_OBJECT,
    ONLY_CACHE,
    ONLY_ZONE,
    block_pfn,
    hold_object,
    let_go,
    receive,
    slot_at,
    zone_free,
    zone_put,
    zone_take,
)
from stress.programs.initial_state import InitialState, catalogue
from stress.programs.ranges import keep_offline

ALL_OF_A_BOOST = 1 << 20
OBJECT_BYTES = 32  # one in a slab of a page of 64 bytes


# --- what the CPUs do ---------------------------------------------------------------------------
@kernel
def take_with(mem: Memory, claim: Claim, slot: int, order: Order, gfp: Gfp) -> Pfn:
    """A block straight from the zone."""
    pfn = take_from_zone(mem, claim, ONLY_ZONE, order, gfp)
    if pfn >= 0:
        pfn = give(mem, claim, pfn, order, c.MT_MOVABLE, claim + 1)
    return receive(mem, claim, slot, pfn, order)


@kernel
def take_page(mem: Memory, claim: Claim) -> Pfn:
    return zone_take(mem, claim, 0, 0)


@kernel
def take_pair(mem: Memory, claim: Claim) -> Pfn:
    return zone_take(mem, claim, 0, 1)


@kernel
def take_unmovable(mem: Memory, claim: Claim) -> Pfn:
    return take_with(mem, claim, 1, 0, c.MT_UNMOVABLE)


@kernel
def put_page(mem: Memory, claim: Claim) -> int:
    return zone_put(mem, claim, 0)


@kernel
def take_two_of_the_reserve(mem: Memory, claim: Claim) -> Pfn:
    take_with(mem, claim, 0, 0, c.MT_MOVABLE | c.GFP_HIGH)
    return take_with(mem, claim, 1, 0, c.MT_MOVABLE | c.GFP_HIGH)


@kernel
def take_without_fail(mem: Memory, claim: Claim) -> Pfn:
    pfn = alloc_pages(mem, claim, 0, c.MT_MOVABLE | c.GFP_NOFAIL, claim + 1)
    return receive(mem, claim, 1, pfn, 0)


@kernel
def take_at_home(mem: Memory, claim: Claim) -> Pfn:
    """Wants two pages of the home node, which has one."""
    gfp = c.MT_MOVABLE | c.GFP_THISNODE
    receive(mem, claim, 0, alloc_pages(mem, claim, 0, gfp, claim + 1), 0)
    return receive(mem, claim, 1, alloc_pages(mem, claim, 0, gfp, claim + 1), 0)


@kernel
def take_anywhere(mem: Memory, claim: Claim) -> Pfn:
    return receive(mem, claim, 0, alloc_pages(mem, claim, 0, c.MT_MOVABLE, claim + 1), 0)


@kernel
def take_offline(mem: Memory, claim: Claim) -> int:
    result = offline_range(mem, claim, 4, 8)
    if result == 0:
        keep_offline(mem, claim, 4, 8)
    return result


@kernel
def end_the_boost(mem: Memory, claim: Claim) -> int:
    """A reclaimer that sleeps, has armed H_RECLAIM, and ends the boost when it is woken."""
    zone = zone_at(mem, ONLY_ZONE)
    while load(mem, c.H_RECLAIM) == 1:
        wait(mem, c.H_RECLAIM, 1)
    lock(mem, zone + c.Z_LOCK, claim)
    end_boost(mem, zone, ALL_OF_A_BOOST)
    unlock(mem, zone + c.Z_LOCK)
    return 0


@kernel
def object_of_the_reserve(mem: Memory, claim: Claim) -> ObjectAddress:
    gfp = c.GFP_ATOMIC | c.GFP_ZERO
    return hold_object(mem, claim, 0, cache_alloc_gfp(mem, claim, ONLY_CACHE, gfp))


@kernel
def size_of_the_reserve(mem: Memory, claim: Claim) -> ObjectAddress:
    return hold_object(mem, claim, 0, kmalloc_gfp(mem, claim, OBJECT_BYTES, c.GFP_ATOMIC))


@kernel
def ordinary_object(mem: Memory, claim: Claim) -> ObjectAddress:
    return hold_object(mem, claim, 0, cache_alloc_gfp(mem, claim, ONLY_CACHE, 0))


@kernel
def objects_of_the_reserve(mem: Memory, claim: Claim) -> int:
    at = slot_at(mem, claim, FIRST_OBJECT)
    got = cache_alloc_bulk_gfp(mem, claim, ONLY_CACHE, 1, at, c.GFP_ATOMIC)
    if got == 1:
        hold_object(mem, claim, 0, mem[at])
    return got


# --- what must hold ------------------------------------------------------------------------------
@kernel
def free_now(mem: Memory, zone_id: ZoneId) -> int:
    """Free pages of a zone that may be allocated, by its descriptors."""
    zone = zone_at(mem, zone_id)
    pages = 0
    pfn = fixed(mem, zone + c.Z_START)
    while pfn < fixed(mem, zone + c.Z_END):
        w0, _ = load2(mem, descriptor_at(mem, pfn))
        span = 1 << order_of(w0)
        if type_of(w0) == c.T_FREE and block_mt(mem, pfn) != c.MT_ISOLATE:
            pages += span
        pfn += span
    return pages


@kernel
def keeps(mem: Memory, pages: int) -> int:
    """1, with a report, unless at least ``pages`` pages of the zone are free; else 0."""
    free = free_now(mem, ONLY_ZONE)
    if free >= pages:
        return 0
    report(mem, 0, c.I_WATERMARK, c.AT_ZONE | ONLY_ZONE, pages, free)
    return 1


@kernel
def minimum_is_free(mem: Memory) -> int:
    """The check where only ordinary allocations ran."""
    keeps(mem, fixed(mem, zone_at(mem, ONLY_ZONE) + c.Z_MIN_PRESENT))
    return pages_are_sound(mem)


@kernel
def half_is_taken(mem: Memory) -> int:
    """Of a minimum of two pages, one is free: those with a reserve had it, and no more."""
    if keeps(mem, 1) == 0 and free_now(mem, ONLY_ZONE) != 1:
        report(mem, 0, c.I_WATERMARK, c.AT_ZONE | ONLY_ZONE, 1, free_now(mem, ONLY_ZONE))
    return pages_are_sound(mem)


@kernel
def no_waiter_without(mem: Memory) -> int:
    """Who may not fail has a page, and no seat is taken."""
    if mem[slot_at(mem, 1, 1)] == 0:
        report(mem, 1, c.I_PROGRESS, c.AT_CPU | 1, 1, 0)
    if mem[c.H_WAITERS] != 0:
        report(mem, 0, c.I_PROGRESS, c.AT_WORD | c.H_WAITERS, 0, mem[c.H_WAITERS])
    return pages_are_sound(mem)


@kernel
def each_at_home(mem: Memory) -> int:
    """CPU 0, whose home is the first zone, has no page of the second one."""
    for slot in range(2):
        block = mem[slot_at(mem, 0, slot)]
        if block != 0 and block_pfn(block) >= fixed(mem, zone_at(mem, 0) + c.Z_END):
            report(mem, 0, c.I_WATERMARK, block_pfn(block), 0, 1)
    return pages_are_sound(mem)


@kernel
def half_is_offline(mem: Memory) -> int:
    """Ordinary allocations leave the minimum of the pages that are left, by the descriptors."""
    zone = zone_at(mem, ONLY_ZONE)
    managed = 0
    pfn = fixed(mem, zone + c.Z_START)
    while pfn < fixed(mem, zone + c.Z_END):
        w0, _ = load2(mem, descriptor_at(mem, pfn))
        span = 1 << order_of(w0)
        if type_of(w0) != c.T_OFFLINE:
            managed += span
        pfn += span
    least = fixed(mem, zone + c.Z_MIN_PRESENT) * managed // fixed(mem, zone + c.Z_PRESENT)
    if mem[zone + c.Z_MIN] != least:
        report(mem, 0, c.I_WATERMARK, c.AT_WORD | (zone + c.Z_MIN), least, mem[zone + c.Z_MIN])
    return pages_are_sound(mem)


@kernel
def boost_has_ended(mem: Memory) -> int:
    """The boost was made, and has ended: the reclaimer was woken for it."""
    zone = zone_at(mem, ONLY_ZONE)
    if mem[zone + c.Z_BOOST] != 0:
        report(mem, 0, c.I_WATERMARK, c.AT_WORD | (zone + c.Z_BOOST), 0, mem[zone + c.Z_BOOST])
    return pages_are_sound(mem)


@kernel
def only_the_reserve_was_for_it(mem: Memory) -> int:
    """CPU 0, which may use the reserve, has its object; CPU 1 has none."""
    address = mem[slot_at(mem, 0, FIRST_OBJECT)]
    if address == 0 or mem[slot_at(mem, 1, FIRST_OBJECT)] != 0:
        report(mem, 0, c.I_WATERMARK, c.AT_ZONE | ONLY_ZONE, 1, int(address != 0))
    mem[cs.H_KMALLOC + class_of(OBJECT_BYTES)] = 0  # or the check could not destroy the cache
    return objects_are_sound(mem)


# --- the programs -------------------------------------------------------------------------------
def two_takers(name: str) -> Program:
    return InitialState.booted(3, min_free_pages=2).program(
        name,
        (take_page, take_page),
        check=minimum_is_free,
        story="one page is above the minimum and two CPUs want it: may_take of the second is asked"
        " under the lock, behind the account of the first; asked before it, both would pass",
    )


def reserve_and_ordinary(name: str) -> Program:
    return InitialState.booted(3, min_free_pages=2).program(
        name,
        (take_page, take_two_of_the_reserve),
        check=half_is_taken,
        story="an allocation with GFP_HIGH may take half of a minimum of two pages, an ordinary one"
        " none: whichever comes first, one page stays free",
    )


def pair_or_minimum(name: str) -> Program:
    state = InitialState.booted(4, max_order=1, min_free_pages=2).take(1).take(0, slot=1)
    return state.program(
        name,
        (take_pair, put_page),
        check=minimum_is_free,
        story="a block counts with all its pages: two are free, or three, the minimum is two, so a"
        " pair is refused before the free of the other CPU and behind it",
    )


def with_reserve(cpu: int, slot: int, state: InitialState) -> int:
    """Let ``cpu`` begin with a page of the reserve; its pfn."""
    return int(take_with(state.ram, cpu, slot, 0, c.MT_MOVABLE | c.GFP_MEMALLOC))


def about_to_mix() -> InitialState:
    """CPU 0's next unmovable page lies in a pageblock of movable ones."""
    state = InitialState.booted(8, max_order=1, cpus=3, min_free_pages=2)
    others = []
    for cpu, slot in ((1, 0), (1, 1), (2, 0), (2, 1)):
        with_reserve(cpu, slot, state)
        others.append(with_reserve(0, 0, state))
        let_go(state.ram, 0, 0)
    for pfn in others:
        zone_free(state.ram, 0, pfn, 0, 1)
    return state


def boost_and_end(name: str) -> Program:
    state = about_to_mix()
    state.ram[c.H_RECLAIM] = 1
    return state.program(
        name,
        (take_unmovable, end_the_boost),
        check=boost_has_ended,
        story="a type begins to mix in a pageblock: the marks are raised, and a reclaimer that has"
        " armed H_RECLAIM must be woken for it, for no allocation finds the zone short afterwards",
    )


def nofail_and_free(name: str) -> Program:
    state = InitialState.booted(6, cpus=3, min_free_pages=4)
    for cpu, slot in ((0, 0), (1, 0), (2, 0), (2, 1)):
        with_reserve(cpu, slot, state)
    return state.program(
        name,
        (put_page, take_without_fail),
        check=no_waiter_without,
        story="who may not fail sleeps until a free; the page of that free is one of the reserve,"
        " of which it may have half: a wake-up for pages above the minimum would never come",
    )


def home_and_away(name: str) -> Program:
    state = InitialState.booted(2, zones=(ZoneSpec(1), ZoneSpec(1, node=1)))
    return state.program(
        name,
        (take_at_home, take_anywhere),
        check=each_at_home,
        story="two nodes of a page each: an allocation with GFP_THISNODE that finds its node empty"
        " fails, although the other node may still have its page, in the drain's second look, too",
    )


def offline_and_take(name: str) -> Program:
    state = InitialState.booted(8, max_order=1, min_free_pages=4)
    return state.program(
        name,
        (take_offline, take_page),
        check=half_is_offline,
        story="half of a zone goes offline while a page is taken: the marks follow under the lock"
        " that Z_MANAGED changes under, or the old minimum, all that is left, refuses everything",
    )


def object_of_reserve(name: str) -> Program:
    return one_object_each(name, object_of_the_reserve)


def size_of_reserve(name: str) -> Program:
    return one_object_each(name, size_of_the_reserve)


def objects_of_reserve(name: str) -> Program:
    return one_object_each(name, objects_of_the_reserve)


def one_object_each(name: str, privileged: Kernel) -> Program:
    """CPU 0 may make a slab of a page of the reserve, CPU 1 may not."""
    state = InitialState.booted(2, caches=1, min_free_pages=2)
    state.with_cache(OBJECT_BYTES)
    if privileged is size_of_the_reserve:
        state.as_kmalloc(OBJECT_BYTES)
    return state.program(
        name,
        (privileged, ordinary_object),
        check=only_the_reserve_was_for_it,
        story="a slab grows by a page of the reserve for one CPU: take_new must pass the flags on,"
        " and an ordinary allocation beside it gets neither a page nor an object of that slab",
    )


PROGRAMS = catalogue(
    "watermark",
    two_takers,
    reserve_and_ordinary,
    pair_or_minimum,
    boost_and_end,
    nofail_and_free,
    home_and_away,
    offline_and_take,
    object_of_reserve,
    size_of_reserve,
    objects_of_reserve,
)
