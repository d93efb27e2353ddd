"""Programs about lists: blocks of pages, or objects, taken and given back many at a time.

A CPU keeps the list of an operation in its own work area, behind its slots (held.py), and notes
what it received in the slots, as if it had come one by one. Bulk operations pass the per-CPU lists
by, so what one of them leaves behind is in the zone or in an owner's hands.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel
from shmalloc.kernels.cache_bulk import cache_alloc_bulk, cache_free_bulk
from shmalloc.kernels.pages_bulk import alloc_bulk, free_bulk
from shmalloc.kernels.reporting import report
from shmalloc.layout import ZoneSpec
from shmalloc.units import Claim, Memory, Order, WordIndex
from shmalloc.words import fixed
from stress.machine.program import Program
from stress.programs.checks import (
    first_violation,
    objects_are_sound,
    page_refused_once,
    pages_are_sound,
)
from stress.programs.contig import isolate_upper, upper_isolated
from stress.programs.held import (
    BLOCKS,
    ONLY_CACHE,
    RESULT,
    block_pfn,
    hold,
    hold_object,
    let_go_object,
    let_go_signed,
    note_result,
    slot_at,
)
from stress.programs.initial_state import InitialState, catalogue
from stress.programs.pcp import left_if_asked, poison_other
from stress.programs.slab import TWO_IN_A_SLAB

LIST = 8  # first word of a CPU's work area where bulk operations keep their lists
TWO_ZONES = (ZoneSpec(1), ZoneSpec(1))


@kernel
def list_at(mem: Memory, claim: Claim) -> WordIndex:
    return slot_at(mem, claim, LIST)


# --- pages ---------------------------------------------------------------------------------------
@kernel
def bulk_take(mem: Memory, claim: Claim, order: Order, count: int) -> int:
    """Allocate up to ``count`` blocks, BLOCKS at most, into the CPU's slots; how many."""
    got = alloc_bulk(mem, claim, order, c.MT_MOVABLE, claim + 1, count, list_at(mem, claim))
    for slot in range(got):
        hold(mem, claim, slot, mem[list_at(mem, claim) + slot], order)
    return note_result(mem, claim, got)


@kernel
def bulk_put(mem: Memory, claim: Claim, order: Order, count: int) -> int:
    """Free the blocks in the CPU's first slots; how many were freed."""
    for slot in range(count):
        mem[list_at(mem, claim) + slot] = block_pfn(let_go_signed(mem, claim, slot))
    return free_bulk(mem, claim, order, count, list_at(mem, claim))


@kernel
def may_take_two(mem: Memory, claim: Claim) -> int:
    return bulk_take(mem, claim, 0, 2)


@kernel
def must_take_two(mem: Memory, claim: Claim) -> int:
    """There are two pages for this CPU, in the zone: fewer are a violation."""
    got = bulk_take(mem, claim, 0, 2)
    if got != 2:
        report(mem, claim, c.I_PROGRESS, c.AT_CPU | claim, 2, got)
    return got


@kernel
def must_take_pairs(mem: Memory, claim: Claim) -> int:
    """The same for two blocks of two pages."""
    got = bulk_take(mem, claim, 1, 2)
    if got != 2:
        report(mem, claim, c.I_PROGRESS, c.AT_CPU | claim, 2, got)
    return got


@kernel
def put_two(mem: Memory, claim: Claim) -> int:
    return bulk_put(mem, claim, 0, 2)


@kernel
def put_pairs(mem: Memory, claim: Claim) -> int:
    return bulk_put(mem, claim, 1, 2)


@kernel
def take_two_zones(mem: Memory, claim: Claim) -> int:
    """Takes a page of either zone, if there is one, past the lists."""
    return bulk_take(mem, claim, 0, 1)


@kernel
def free_one_and_zero(mem: Memory, claim: Claim) -> int:
    """Frees pages 1 and 0, whatever their owners."""
    mem[list_at(mem, claim)] = 1
    mem[list_at(mem, claim) + 1] = 0
    return note_result(mem, claim, free_bulk(mem, claim, 0, 2, list_at(mem, claim)))


@kernel
def free_one(mem: Memory, claim: Claim) -> int:
    """Frees page 1 alone, whatever its owner."""
    mem[list_at(mem, claim)] = 1
    return note_result(mem, claim, free_bulk(mem, claim, 0, 1, list_at(mem, claim)))


@kernel
def all_given(mem: Memory) -> int:
    """``pages_are_sound``, and all BLOCKS pages were given to one CPU or the other."""
    got = 0
    for cpu in range(fixed(mem, c.H_CPUS)):
        got += mem[slot_at(mem, cpu, RESULT)] >> 1
    if got != BLOCKS:
        report(mem, 0, c.I_PROGRESS, c.AT_ZONE, BLOCKS, got)
    return pages_are_sound(mem) if first_violation(mem) == 0 else first_violation(mem)


@kernel
def two_freed(mem: Memory) -> int:
    """``page_refused_once``, and the two operations say that they freed two pages together."""
    freed = 0
    for cpu in range(fixed(mem, c.H_CPUS)):
        freed += mem[slot_at(mem, cpu, RESULT)] >> 1
    if freed != 2:
        report(mem, 0, c.I_CONSERVATION, c.AT_ZONE, 2, freed)
    return page_refused_once(mem)


def held_pages(order: int = 0) -> InitialState:
    """Each of two CPUs has two blocks of ``order``: all memory."""
    largest = order + 2
    state = InitialState.booted(1 << largest, max_order=largest)
    for slot in range(2):
        state.take(0, slot, order).take(1, slot, order)
    return state


def take_take(name: str) -> Program:
    return InitialState.booted(4, max_order=2).program(
        name,
        (must_take_two, must_take_two),
        story="two lists out of one block of four pages: rmqueue of one list splits what is left"
        " behind it, and the other begins with that; both fit, so none may come back short",
    )


def take_take_pairs(name: str) -> Program:
    return InitialState.booted(8, max_order=3).program(
        name,
        (must_take_pairs, must_take_two),
        story="a list of pairs and a list of single pages out of one block of eight: the pages of"
        " one list must not be split off a block that the other has on its list",
    )


def take_zones(name: str) -> Program:
    return InitialState.booted(2, zones=TWO_ZONES).program(
        name,
        (may_take_two, may_take_two),
        check=all_given,
        story="two lists of two pages, and two zones of one page: each list takes what a zone has"
        " and goes to the next one, where the other may have been; together they get both pages",
    )


def put_put(name: str) -> Program:
    return held_pages().program(
        name,
        (put_two, put_two),
        story="two lists of two pages each are freed at once, all of one block: free_block under"
        " one hold of the zone lock for a whole list, and the block of four must come together",
    )


def put_put_pairs(name: str) -> Program:
    return held_pages(order=1).program(
        name,
        (put_pairs, put_pairs),
        story="bulk-put-put with blocks of two pages: the order of the list must reach the swap,"
        " the merge and the counters",
    )


def put_same(name: str) -> Program:
    state = InitialState.booted(2, max_order=1).take(0).take(0, slot=1)
    return (
        state.forget(0)
        .forget(0, slot=1)
        .program(
            name,
            (free_one_and_zero, free_one),
            check=two_freed,
            story="two lists share one page: claim_for_free refuses it to one of them, who must"
            " close the gap in the list and free what stands behind it",
        )
    )


def put_zones(name: str) -> Program:
    state = InitialState.booted(2, zones=TWO_ZONES)
    bulk_take(state.ram, 0, 0, 2)
    return state.program(
        name,
        (put_two, take_two_zones),
        story="a list over two zones is freed while the other CPU takes from both: hold_zone has"
        " one lock at a time, and each page goes to the zone that its descriptor names",
    )


def put_isolate(name: str) -> Program:
    state = InitialState.booted(2, max_order=1, pageblock_order=0).take(1).take(1, slot=1)
    return state.program(
        name,
        (isolate_upper, put_two),
        check=upper_isolated,
        story="a list over two pageblocks is freed while one of them is being isolated: the type"
        " is read under the zone lock, block by block, so that no merge crosses the border",
    )


def put_poison(name: str) -> Program:
    state = InitialState.booted(2, max_order=1).take(0).take(0, slot=1)
    return state.program(
        name,
        (put_two, poison_other),
        check=left_if_asked,
        story="one page of a list is marked to leave service as the list is freed: claim_for_free"
        " takes the mark along, the page is retired, and the list closes over it",
    )


# --- objects -------------------------------------------------------------------------------------
@kernel
def take_objects(mem: Memory, claim: Claim) -> int:
    """Two objects at once, or none, into slots 0 and 1."""
    got = cache_alloc_bulk(mem, claim, ONLY_CACHE, 2, list_at(mem, claim))
    for slot in range(max(got, 0)):
        hold_object(mem, claim, slot, mem[list_at(mem, claim) + slot])
    return got


@kernel
def must_take_objects(mem: Memory, claim: Claim) -> int:
    """There are two objects for this CPU: fewer are a violation."""
    got = take_objects(mem, claim)
    if got != 2:
        report(mem, claim, c.I_PROGRESS, c.AT_CPU | claim, 2, got)
    return got


@kernel
def put_objects(mem: Memory, claim: Claim) -> int:
    """The objects of slots 0 and 1 at once; all of them are freed."""
    for slot in range(2):
        mem[list_at(mem, claim) + slot] = let_go_object(mem, claim, slot)
    freed = cache_free_bulk(mem, claim, ONLY_CACHE, 2, list_at(mem, claim))
    if freed != 2:
        report(mem, claim, c.M_LEAKED_OBJECTS, c.AT_CACHE | ONLY_CACHE, 2, freed)
    return freed


def held_objects(flags: int = cs.CF_NO_SHEAVES) -> InitialState:
    """Each of two CPUs has two objects: all of two slabs, one of each slab."""
    state = InitialState.booted(2, caches=1).with_cache(TWO_IN_A_SLAB, flags)
    for slot in range(2):
        state.take_object(0, slot).take_object(1, slot)
    return state


def objects_take_take(name: str) -> Program:
    return (
        InitialState.booted(2, caches=1)
        .with_cache(TWO_IN_A_SLAB)
        .program(
            name,
            (must_take_objects, must_take_objects),
            check=objects_are_sound,
            story="two lists of two objects, and pages for two slabs of two: a chain that takes one"
            " object of a slab must find the other one elsewhere, and none may give up while there"
            " is one",
        )
    )


def objects_put_put(name: str) -> Program:
    return held_objects().program(
        name,
        (put_objects, put_objects),
        check=objects_are_sound,
        story="two lists of objects are freed at once, both over the same two slabs: the chains of"
        " one slab are swapped onto its free list in one piece, and the last one releases it",
    )


def objects_put_take(name: str) -> Program:
    state = InitialState.booted(1, caches=1).with_cache(TWO_IN_A_SLAB)
    state = state.take_object(0).take_object(0, 1)
    return state.program(
        name,
        (put_objects, take_objects),
        check=objects_are_sound,
        story="all objects of the only slab come back in one chain while a list of two is wanted:"
        " both of them or none, and the slab is released or not",
    )


PROGRAMS = catalogue(
    "bulk",
    take_take,
    take_take_pairs,
    take_zones,
    put_put,
    put_put_pairs,
    put_same,
    put_zones,
    put_isolate,
    put_poison,
    objects_take_take,
    objects_put_put,
    objects_put_take,
)
