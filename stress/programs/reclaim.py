"""Programs about the reclaimer: it does not sleep while a zone has too little memory.

The zone has nine pages, of which four stay free for those with a reserve: its low mark is 5, its
high one 6. The allocating CPU takes a pair, which leaves the zone above the low mark, and then one
page, which does not. The reclaimer keeps a page, and gives it back when it has work. A lost wake-up
is a deadlock: it sleeps although the zone is below its low mark.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import Kernel, kernel
from shmalloc.kernels.cache_set import cache_create
from shmalloc.kernels.contig import alloc_contig_range
from shmalloc.kernels.pages_bulk import alloc_bulk
from shmalloc.kernels.reclaimer import all_balanced, arm_reclaim, reclaim_pass, reclaim_rest
from shmalloc.kernels.recover import recover
from shmalloc.kernels.runs import alloc_run
from shmalloc.units import Claim, Memory, Pfn
from shmalloc.words import cas
from stress.machine.program import Program
from stress.programs.checks import (
    destroyed_or_busy,
    objects_are_sound,
    page_locks_held,
    pages_are_sound,
)
from stress.programs.filled import LISTED
from stress.programs.held import object_put, page_take, receive, slot_at, zone_put
from stress.programs.initial_state import InitialState, catalogue
from stress.programs.slab import FOUR_IN_A_SLAB, ONE_EACH
from stress.programs.slab import destroy as destroy_cache
from stress.programs.wakers import dead_giver
from stress.programs.watermarks import about_to_mix, take_unmovable

PAGES = 9
LEAST = 4
LONE = 0  # a page in a pair that is free when one pair was taken
ARMED = 1  # H_RECLAIM while a reclaimer sleeps


@kernel
def take_below_low(mem: Memory, claim: Claim) -> Pfn:
    page_take(mem, claim, 0, 1)
    return page_take(mem, claim, 1, 0)


@kernel
def take_one_more(mem: Memory, claim: Claim) -> Pfn:
    return page_take(mem, claim, 0, 0)


@kernel
def take_range_below_low(mem: Memory, claim: Claim) -> int:
    page_take(mem, claim, 0, 1)
    result = alloc_contig_range(mem, claim, LONE, LONE + 1, claim + 1)
    if result == 0:
        receive(mem, claim, 1, LONE, 0)
    return result


@kernel
def take_run_below_low(mem: Memory, claim: Claim) -> int:
    page_take(mem, claim, 0, 1)
    result = alloc_run(mem, claim, LONE, LONE + 1, claim + 1)
    if result == 0:
        receive(mem, claim, 1, LONE, 0)
    return result


@kernel
def take_list_below_low(mem: Memory, claim: Claim) -> int:
    page_take(mem, claim, 0, 1)
    at = slot_at(mem, claim, LISTED)
    got = alloc_bulk(mem, claim, 0, c.MT_MOVABLE, claim + 1, 1, at)
    if got == 1:
        receive(mem, claim, 1, mem[at], 0)
    return got


@kernel
def keep_until_asked(mem: Memory, claim: Claim) -> int:
    """The loop of a reclaimer whose only memory is a page of its own."""
    while True:
        ticket = arm_reclaim(mem)
        if not all_balanced(mem):
            return zone_put(mem, claim, 0)
        while reclaim_rest(mem, claim, ticket) == 0:
            pass


@kernel
def work_until_asked(mem: Memory, claim: Claim) -> int:
    """Two rounds of a reclaimer; the second one when it is woken."""
    ticket = arm_reclaim(mem)
    given = reclaim_pass(mem, claim)
    if given == 0 and all_balanced(mem):
        while reclaim_rest(mem, claim, ticket) == 0:
            pass
        given = reclaim_pass(mem, claim)
    return given


@kernel
def rest_until_asked(mem: Memory, claim: Claim) -> int:
    """A reclaimer that sleeps, unless it has work already."""
    ticket = arm_reclaim(mem)
    if all_balanced(mem):
        while reclaim_rest(mem, claim, ticket) == 0:
            pass
    return 0


@kernel
def rest_armed(mem: Memory, claim: Claim) -> int:
    """A reclaimer that has armed the word, looked, and rests."""
    while reclaim_rest(mem, claim, ARMED) == 0:
        pass
    return 0


@kernel
def disarm_for_the_dead(mem: Memory, claim: Claim) -> int:
    """The last write of the dead process, which was about to wake reclaimers; then its recovery."""
    cas(mem, c.H_RECLAIM, ARMED, ARMED + 1)
    return recover(mem, claim)


@kernel
def one_pass(mem: Memory, claim: Claim) -> int:
    return reclaim_pass(mem, claim)


@kernel
def destroy_and_make(mem: Memory, claim: Claim) -> int:
    """Another cache takes the place of the first one, if that could be destroyed."""
    result = destroy_cache(mem, claim)
    if result == 0:
        result = min(+cache_create(mem, claim, FOUR_IN_A_SLAB, 0, ONE_EACH, 0), 0)
    return result


@kernel
def destroyed_beside_a_page(mem: Memory) -> int:
    """``destroyed_or_busy``, when CPU 0 has freed the page that it holds."""
    if page_locks_held(mem) != 0:  # the check would wait for them
        return c.I_PROGRESS
    zone_put(mem, 0, 0)
    return destroyed_or_busy(mem)


@kernel
def put_and_stay(mem: Memory, claim: Claim) -> int:
    return object_put(mem, claim, 0)


def low_zone(cpus: int = 2, **changes: object) -> InitialState:
    """The last CPU holds two pages, of nine; seven are free."""
    state = InitialState.booted(PAGES, max_order=1, cpus=cpus, min_free_pages=LEAST, **changes)
    return state.take(cpus - 1).take(cpus - 1, 1)


def wake(name: str) -> Program:
    return low_zone().program(
        name,
        (take_below_low, keep_until_asked),
        check=pages_are_sound,
        story="the slow path of an allocation loads H_RECLAIM behind its look at the marks, the"
        " reclaimer arms it before its look: one of the two sees the other, or it sleeps for ever",
    )


def by(name: str, taker: Kernel, how: str) -> Program:
    """As ``wake``, where the second allocation is another one."""
    return low_zone().program(
        name,
        (taker, keep_until_asked),
        check=pages_are_sound,
        story=f"{how} leaves the zone below its low mark, and no allocation comes behind it that"
        " would wake the reclaimer",
    )


def by_range(name: str) -> Program:
    return by(name, take_range_below_low, "a range")


def by_run(name: str) -> Program:
    return by(name, take_run_below_low, "a run for a large array")


def by_list(name: str) -> Program:
    return by(name, take_list_below_low, "a list of pages")


def wake_3(name: str) -> Program:
    return low_zone(3).program(
        name,
        (take_one_more, take_below_low, keep_until_asked),
        check=pages_are_sound,
        story="two allocations find too little memory at once: one of them disarms the word, while"
        " the reclaimer arms it again for the next pass",
    )


def two_sleep_3(name: str) -> Program:
    return low_zone(3).program(
        name,
        (take_below_low, rest_until_asked, rest_until_asked),
        check=pages_are_sound,
        story="the reclaimers of two processes sleep on one armed word, each for memory that only"
        " it can give back: one wake-up must reach both",
    )


def recover_waker(name: str) -> Program:
    state = dead_giver()
    state.ram[c.H_RECLAIM] = ARMED
    return state.program(
        name,
        (disarm_for_the_dead, rest_armed),
        check=pages_are_sound,
        story="a process makes H_RECLAIM even and dies before it wakes who sleeps on the odd value:"
        " recovery wakes in its place, for no other process does",
    )


def drain(name: str) -> Program:
    state = InitialState.booted(PAGES, max_order=1, cpus=2, min_free_pages=LEAST, pcp_high=2)
    return (
        state.keep(1, 2)
        .take(1)
        .program(
            name,
            (take_below_low, work_until_asked),
            check=pages_are_sound,
            story="the pages that bring the zone above its marks lie on the list of CPU 1; the pass"
            " drains it under P_LOCK while CPU 0 allocates",
        )
    )


def shrink(name: str) -> Program:
    state = InitialState.booted(8, caches=1, page_bytes=256, min_free_pages=5)
    state.with_cache(FOUR_IN_A_SLAB, ONE_EACH)
    for slot in range(4):
        state.take_object(1, slot)
    state.take_object(0)
    for slot in range(4):
        state.put_object(1, slot)
    return state.program(
        name,
        (put_and_stay, one_pass),
        check=objects_are_sound,
        story="a pass empties sheaves and releases slabs under H_CACHES_LOCK while an object of one"
        " of these slabs is freed",
    )


def destroy(name: str) -> Program:
    state = InitialState.booted(8, caches=1, page_bytes=256, min_free_pages=5)
    state.with_cache(FOUR_IN_A_SLAB, ONE_EACH)
    for slot in range(2):
        state.take_object(1, slot)
    for slot in range(2):
        state.put_object(1, slot)
    return state.take(0).program(
        name,
        (destroy_and_make, one_pass),
        check=destroyed_beside_a_page,
        story="a cache is destroyed and another one made in its place while a pass empties sheaves:"
        " K_STATE is looked at under H_CACHES_LOCK, or the new cache opens a lock that is held",
    )


def boost(name: str) -> Program:
    return about_to_mix().program(
        name,
        (take_unmovable, rest_until_asked),
        check=pages_are_sound,
        story="the marks are raised while a reclaimer arms H_RECLAIM and looks at them: woken under"
        " the lock, the new mark may wait in a store buffer, and each misses what the other wrote",
    )


PROGRAMS = catalogue(
    "reclaim",
    wake,
    wake_3,
    by_range,
    by_run,
    by_list,
    two_sleep_3,
    boost,
    recover_waker,
    drain,
    shrink,
    destroy,
)
