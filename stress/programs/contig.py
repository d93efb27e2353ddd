"""Programs about ranges: isolation against merges and frees, neighbours, offline, contiguous pages.

Most programs have pageblocks of one page (``pageblock_order`` 0 below ``max_order`` 1), so that
the border between two types lies between two buddies.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.contig import (
    alloc_contig_range,
    isolate_range,
    restore_types,
    set_isolated,
    unisolate_range,
)
from shmalloc.kernels.lock import lock, unlock
from shmalloc.kernels.reporting import report
from shmalloc.kernels.walk import walk
from shmalloc.kernels.zone import block_mt, pcp_at, zone_at
from shmalloc.units import Claim, Memory, Pfn
from shmalloc.words import fixed
from stress.machine.program import Program
from stress.programs.checks import pages_are_sound, partition_is_legal
from stress.programs.held import (
    BLOCKS,
    ONLY_ZONE,
    page_put,
    page_take,
    receive,
    zone_put,
    zone_take,
)
from stress.programs.initial_state import InitialState, catalogue
from stress.programs.ranges import keep_range, let_range_go


@kernel
def put_to_zone(mem: Memory, claim: Claim) -> int:
    return zone_put(mem, claim, 0)


@kernel
def take_from_zone_twice(mem: Memory, claim: Claim) -> Pfn:
    """Takes both pages, one after the other; a page that is not there has another owner."""
    zone_take(mem, claim, 0, 0)
    return zone_take(mem, claim, 1, 0)


@kernel
def put_page(mem: Memory, claim: Claim) -> int:
    return page_put(mem, claim, 0)


@kernel
def take_page(mem: Memory, claim: Claim) -> Pfn:
    return page_take(mem, claim, 0, 0)


@kernel
def mark_isolated(mem: Memory, claim: Claim, start: Pfn, end: Pfn) -> int:
    """``isolate_range`` without the drains."""
    zone = zone_at(mem, ONLY_ZONE)
    lock(mem, zone + c.Z_LOCK, claim)
    result = set_isolated(mem, zone, claim, start, end)
    unlock(mem, zone + c.Z_LOCK)
    if result == 0:
        keep_range(mem, claim, start, end)
    return result


@kernel
def mark_restored(mem: Memory, claim: Claim, start: Pfn, end: Pfn) -> None:
    """``unisolate_range`` without waking the waiters."""
    let_range_go(mem, claim)
    zone = zone_at(mem, ONLY_ZONE)
    lock(mem, zone + c.Z_LOCK, claim)
    restore_types(mem, zone, claim, start, end)
    unlock(mem, zone + c.Z_LOCK)


@kernel
def isolate_second(mem: Memory, claim: Claim) -> int:
    """Isolates the second of two pageblocks and leaves it so."""
    return mark_isolated(mem, claim, 2, 4)


@kernel
def require_isolated(mem: Memory, claim: Claim, pfn: Pfn) -> None:
    """Report if the pageblock of ``pfn`` lost the type that an isolation gave it."""
    if block_mt(mem, pfn) != c.MT_ISOLATE:
        report(mem, claim, c.I_FREE_HEAD, pfn, c.IS_MT | c.MT_ISOLATE, c.IS_MT | block_mt(mem, pfn))


@kernel
def isolate_upper(mem: Memory, claim: Claim) -> int:
    """Isolates page 1 and leaves it so."""
    return mark_isolated(mem, claim, 1, 2)


@kernel
def isolate_lower(mem: Memory, claim: Claim) -> int:
    """Isolates page 0 and leaves it so."""
    return mark_isolated(mem, claim, 0, 1)


@kernel
def restore_upper(mem: Memory, claim: Claim) -> int:
    """Ends the isolation of page 1 that the program begins with."""
    mark_restored(mem, claim, 1, 2)
    return 0


@kernel
def restore_lower(mem: Memory, claim: Claim) -> int:
    """Ends the isolation of page 0 that the program begins with."""
    mark_restored(mem, claim, 0, 1)
    return 0


@kernel
def isolate_page_for_a_while(mem: Memory, claim: Claim, pfn: Pfn) -> int:
    """After a successful isolation no other CPU may change the type of the page."""
    result = mark_isolated(mem, claim, pfn, pfn + 1)
    if result == 0:
        require_isolated(mem, claim, pfn)
        mark_restored(mem, claim, pfn, pfn + 1)
    return result


@kernel
def pass_isolation(mem: Memory, claim: Claim) -> int:
    """Each CPU isolates the page of its own number and gives it back."""
    return isolate_page_for_a_while(mem, claim, +claim)


@kernel
def pass_one_isolation(mem: Memory, claim: Claim) -> int:
    """All CPUs isolate page 0 and give it back."""
    return isolate_page_for_a_while(mem, claim, 0)


@kernel
def walk_range(mem: Memory, claim: Claim) -> Pfn:
    """One lock-free walk over pages 0 and 1."""
    return walk(mem, claim, 0, 2)


@kernel
def isolate_both(mem: Memory, claim: Claim) -> int:
    """Isolates pages 0 and 1 and leaves them so: afterwards no list may hide one of them."""
    result = isolate_range(mem, claim, 0, 2)
    if result == 0:
        keep_range(mem, claim, 0, 2)
    return result


@kernel
def isolate_for_a_while(mem: Memory, claim: Claim) -> int:
    result = isolate_range(mem, claim, 0, 2)
    if result == 0:
        unisolate_range(mem, claim, 0, 2)
    return result


@kernel
def take_range(mem: Memory, claim: Claim) -> int:
    """Takes pages 0 and 1 as single pages of this CPU."""
    result = alloc_contig_range(mem, claim, 0, BLOCKS, claim + 1)
    if result == 0:
        receive(mem, claim, 0, 0, 0)
        receive(mem, claim, 1, 1, 0)
    return result


@kernel
def type_is_back(mem: Memory) -> int:
    """``pages_are_sound``, and page 0 has the type that it had before it was isolated."""
    if block_mt(mem, 0) != c.MT_MOVABLE:
        report(mem, 0, c.I_FREE_HEAD, 0, c.IS_MT | c.MT_MOVABLE, c.IS_MT | block_mt(mem, 0))
    return pages_are_sound(mem)


@kernel
def take_own_page(mem: Memory, claim: Claim) -> int:
    """Takes the page with the CPU's own number, as a range."""
    result = alloc_contig_range(mem, claim, +claim, claim + 1, claim + 1)
    if result == 0:
        receive(mem, claim, 0, +claim, 0)
    return result


@kernel
def upper_isolated(mem: Memory) -> int:
    """``pages_are_sound``, and page 1, which was isolated and left so, still is."""
    require_isolated(mem, 0, 1)
    return pages_are_sound(mem)


@kernel
def lower_isolated(mem: Memory) -> int:
    """``pages_are_sound``, and page 0, which was isolated and left so, still is."""
    require_isolated(mem, 0, 0)
    return pages_are_sound(mem)


@kernel
def second_isolated(mem: Memory) -> int:
    """``pages_are_sound``, and the second of two pageblocks is still isolated."""
    require_isolated(mem, 0, 2)
    return pages_are_sound(mem)


@kernel
def nothing_hidden(mem: Memory) -> int:
    """``pages_are_sound``, and no per-CPU list has a page, since all pages are isolated."""
    require_isolated(mem, 0, 0)
    require_isolated(mem, 0, 1)
    for cpu in range(fixed(mem, c.H_CPUS)):
        pages = mem[pcp_at(mem, cpu, ONLY_ZONE) + c.P_COUNT]
        if pages != 0:
            report(mem, cpu, c.I_PCP_COUNT, c.AT_CPU | cpu, 0, pages)
    return pages_are_sound(mem)


def isolate_merge(name: str) -> Program:
    state = InitialState.booted(2, max_order=1, pageblock_order=0).take(1)
    return state.program(
        name,
        (isolate_upper, put_to_zone),
        check=upper_isolated,
        story="page 1 is isolated while its buddy 0 is freed: set_block_mt and rehome_range"
        " against mergeable and retype_range in free_block; if they merge first, the block must be"
        " carved; if page 1 is isolated first, they must not merge",
    )


def isolate_large(name: str) -> Program:
    state = InitialState.booted(4, max_order=2, pageblock_order=1).take(1, order=2)
    return state.program(
        name,
        (isolate_second, put_to_zone),
        check=second_isolated,
        story="a block of two pageblocks is freed while the second one is being isolated: if it"
        " were freed as one block, retype_range would end the isolation (docs/bugs.md 16)",
    )


def isolate_legal(name: str) -> Program:
    state = InitialState.booted(2, max_order=1, pageblock_order=0).take(1)
    return state.program(
        name,
        (isolate_upper, put_to_zone),
        check=upper_isolated,
        invariant=partition_is_legal,
        story="contig-isolate-merge, checked after every single write: carve writes all heads"
        " inside the block while its old head still covers them",
    )


def isolate_take(name: str) -> Program:
    return InitialState.booted(2, max_order=1, pageblock_order=0).program(
        name,
        (isolate_upper, take_from_zone_twice),
        check=upper_isolated,
        story="carve and move_free_block of an isolation against find_smallest and claim of an"
        " allocation, which must neither get a page of the range nor change its type back",
    )


def isolate_restore(name: str) -> Program:
    state = InitialState.booted(2, max_order=1, pageblock_order=0)
    mark_isolated(state.ram, 0, 0, 1)
    return state.program(
        name,
        (restore_lower, isolate_upper),
        check=upper_isolated,
        story="one CPU ends an isolation while its neighbour begins one: if the isolation comes"
        " first, their free pages merge across the border and restore_types must carve its half"
        " off; otherwise they do not merge",
    )


def isolate_return(name: str) -> Program:
    state = InitialState.booted(2, max_order=1, pageblock_order=0)
    mark_isolated(state.ram, 0, 1, 2)
    return state.program(
        name,
        (restore_upper, isolate_lower),
        check=lower_isolated,
        story="contig-isolate-restore the other way round: the half whose isolation ends is the"
        " tail of the merged block, which rehome_range skips unless it is carved off",
    )


def isolate_isolate(name: str) -> Program:
    return InitialState.booted(2, max_order=1, pageblock_order=0).program(
        name,
        (pass_isolation, pass_isolation),
        story="two CPUs isolate neighbouring pages and end it again: the free pages merge across"
        " the border while both are ISOLATE, and restore_types of one must carve the other's half"
        " off",
    )


def isolate_same(name: str) -> Program:
    return InitialState.booted(2, max_order=1, pageblock_order=0).program(
        name,
        (pass_one_isolation, pass_one_isolation),
        check=type_is_back,
        story="two CPUs isolate the same page: set_isolated refuses the second (E_BUSY), which"
        " would otherwise save ISOLATE as the type to restore and end the isolation of the first",
    )


def isolate_isolate_free_3(name: str) -> Program:
    state = InitialState.booted(4, max_order=2, pageblock_order=0, cpus=3).take(2)
    return state.program(
        name,
        (pass_isolation, pass_isolation, put_to_zone),
        story="as contig-isolate-isolate, while page 0 is freed into a range that is isolated,"
        " merged across its border, or neither",
    )


def isolate_free(name: str) -> Program:
    state = InitialState.booted(2, pageblock_order=0).take(1)
    return state.program(
        name,
        (isolate_both, put_page),
        check=nothing_hidden,
        story="give_back reads the type under P_LOCK; isolate_range writes the type, then drains"
        " that list: a page pushed after the drain would escape the isolation",
    )


def isolate_alloc(name: str) -> Program:
    return InitialState.booted(2).program(
        name,
        (isolate_for_a_while, take_page),
        story="refill takes a page of the range before or after it is isolated, and unisolate_range"
        " finds it allocated: types and counters must agree for every page at every order",
    )


def range_legal(name: str) -> Program:
    return InitialState.booted(2, max_order=1, pageblock_order=0).program(
        name,
        (take_range, walk_range),
        invariant=partition_is_legal,
        story="a block of two pages becomes two owned pages while a walker reads it, checked after"
        " every single write: give_single_pages writes right to left, the old head last",
    )


def range_alloc(name: str) -> Program:
    return InitialState.booted(2).program(
        name,
        (take_range, take_page),
        story="two CPUs want page 0: alloc_contig_range between its isolation and its take against"
        " an allocation that took the page before; one of them gets it",
    )


def range_range(name: str) -> Program:
    return InitialState.booted(2, max_order=1, pageblock_order=0).program(
        name,
        (take_own_page, take_own_page),
        story="two neighbouring ranges: while both are isolated their pages are one block on one"
        " list, and each take_free_at must carve its own page out of it under the zone lock",
    )


def range_free_3(name: str) -> Program:
    state = InitialState.booted(2, max_order=1, cpus=3).take(1)
    return state.program(
        name,
        (take_range, put_page, take_page),
        story="a range is taken while its last page is freed and another is allocated: carve,"
        " give_single_pages right to left, and a free into an isolated pageblock",
    )


PROGRAMS = catalogue(
    "contig", isolate_merge, isolate_large, isolate_legal, isolate_take, isolate_restore,
    isolate_return, isolate_isolate, isolate_same, isolate_isolate_free_3, isolate_free,
    isolate_alloc, range_alloc, range_range, range_free_3, range_legal,
)  # fmt: skip
