"""Programs about paths that take pages past ``alloc_pages``: they heed the watermarks as it does.

Lists of pages (bulk), arrays out of whole blocks (runs) and ranges that the caller chose: another
CPU takes a page meanwhile, and there are too few pages above the minimum for both. The checks are
those of watermarks.py, which count free pages from the descriptors.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.contig import alloc_contig_range
from shmalloc.kernels.reporting import report
from shmalloc.kernels.shared_arrays import make_run
from shmalloc.kernels.watermark import boost_watermark
from shmalloc.kernels.zone import zone_at
from shmalloc.layout import ZoneSpec
from shmalloc.units import Claim, Memory, Pfn
from shmalloc.words import fixed
from stress.machine.program import Program
from stress.programs.arrays import arrays_are_sound, make_one, note_reference, with_tables
from stress.programs.bulk import may_take_two, take_two_zones
from stress.programs.checks import pages_are_sound
from stress.programs.contig import take_range
from stress.programs.held import ONLY_ZONE, page_take, receive
from stress.programs.initial_state import InitialState, catalogue
from stress.programs.watermarks import (
    free_now,
    half_is_offline,
    keeps,
    minimum_is_free,
    put_page,
    take_offline,
    take_page,
    take_with,
)

LOW = 5  # of a zone of six pages whose minimum is four
RUN_PAGES = 3  # of blocks of two


# --- what the CPUs do ---------------------------------------------------------------------------
@kernel
def make_run_of_three(mem: Memory, claim: Claim) -> int:
    slot, sequence, _, _ = make_run(mem, claim, RUN_PAGES, 0)
    return note_reference(mem, claim, slot, sequence)


@kernel
def take_listed_pair(mem: Memory, claim: Claim) -> Pfn:
    return page_take(mem, claim, 0, 1)


@kernel
def take_second_half(mem: Memory, claim: Claim) -> int:
    """Takes the last two pages of a pageblock of four."""
    result = alloc_contig_range(mem, claim, 6, 8, claim + 1)
    if result == 0:
        receive(mem, claim, 0, 6, 0)
        receive(mem, claim, 1, 7, 0)
    return result


# --- what must hold ------------------------------------------------------------------------------
@kernel
def both_are_at_low(mem: Memory) -> int:
    """Neither zone was taken below its low mark while the other one had pages above."""
    for zone_id in range(fixed(mem, c.H_ZONES)):
        free = free_now(mem, zone_id)
        if free < LOW:
            report(mem, 0, c.I_WATERMARK, c.AT_ZONE | zone_id, LOW, free)
    return pages_are_sound(mem)


@kernel
def minimum_beside_arrays(mem: Memory) -> int:
    """``minimum_is_free`` for arrays, before they are dropped."""
    keeps(mem, fixed(mem, zone_at(mem, ONLY_ZONE) + c.Z_MIN_PRESENT))
    return arrays_are_sound(mem)


# --- the programs -------------------------------------------------------------------------------
def bulk_and_page(name: str) -> Program:
    return InitialState.booted(4, min_free_pages=2).program(
        name,
        (may_take_two, take_page),
        check=minimum_is_free,
        story="two pages are above the minimum, and wanted by a list of two and by another CPU:"
        " keeps_mark is asked again for each block of the list",
    )


def bulk_and_bulk(name: str) -> Program:
    zones = (ZoneSpec(LOW + 1), ZoneSpec(LOW + 1))
    return InitialState.booted(0, zones=zones, min_free_pages=LOW - 1).program(
        name,
        (take_two_zones, take_two_zones),
        check=both_are_at_low,
        story="each of two zones has one page above its low mark, and two CPUs take one by one in"
        " bulk: none goes on to the minimum of the first zone while the second has a page",
    )


def run_and_page(name: str) -> Program:
    return with_tables(12, max_order=1, min_free_pages=5).program(
        name,
        (make_run_of_three, make_one),
        check=minimum_beside_arrays,
        story="an array of three pages leaves the minimum, and so does one of a page, but not both:"
        " take_run looks under the lock that the page is taken under",
    )


def range_and_page(name: str) -> Program:
    return InitialState.booted(4, max_order=1, min_free_pages=2).program(
        name,
        (take_range, take_page),
        check=minimum_is_free,
        story="a range of two pages leaves the minimum of two, and with a page of another CPU it"
        " does not: the free pages of an isolated range are not those that have to stay",
    )


def listed_pair(name: str) -> Program:
    state = InitialState.booted(4, max_order=1, min_free_pages=2).take(1).take(0, slot=1)
    return state.program(
        name,
        (take_listed_pair, put_page),
        check=minimum_is_free,
        story="watermark-pair-or-minimum by the per-CPU list, which is refilled with a pair:"
        " the refill counts both of its pages, or one of the two that have to stay is taken",
    )


def half_and_page(name: str) -> Program:
    state = InitialState.booted(8, max_order=2, pageblock_order=2, cpus=3, min_free_pages=3)
    for cpu, slot, order in ((2, 0, 2), (2, 1, 1), (1, 1, 0)):
        take_with(state.ram, cpu, slot, order, c.MT_MOVABLE | c.GFP_MEMALLOC)
    return state.put(2).program(
        name,
        (take_second_half, take_page),
        check=minimum_is_free,
        story="half of a free block of four is wanted as a range: of its pageblock, which is"
        " isolated meanwhile, two pages come back, and not the four of the block across the edge",
    )


def boost_and_offline(name: str) -> Program:
    state = InitialState.booted(8, max_order=1, min_free_pages=4)
    zone = state.layout.zone(ONLY_ZONE)
    while boost_watermark(state.ram, zone):
        pass
    assert state.ram[zone + c.Z_BOOST] > 0, "no boost"
    return state.program(
        name,
        (take_offline, take_page),
        check=half_is_offline,
        story="half of a zone goes offline whose marks are raised as far as they go: the boost has"
        " a limit that sinks with the marks, or the zone is below them until a reclaimer comes",
    )


PROGRAMS = catalogue(
    "watermark",
    bulk_and_page,
    bulk_and_bulk,
    run_and_page,
    range_and_page,
    listed_pair,
    half_and_page,
    boost_and_offline,
)
