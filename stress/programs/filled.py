"""Programs about a stray write: one word of a free page was changed before the CPUs start.

Free pages are poisoned, and the word is one that no list runs through. Whichever way the page is
taken, its new owner must not get it: the operation reports it, and the page leaves service; until
then it is free, and an audit would report it. ``check_filled`` asks each CPU that receives a page.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.bits import type_of
from shmalloc.kernels.contig import alloc_contig_range, free_contig_range
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.pages_bulk import alloc_bulk, free_bulk
from shmalloc.kernels.reporting import report
from shmalloc.kernels.runs import alloc_run, free_past_lists
from shmalloc.kernels.zone import frame_at
from shmalloc.units import Claim, Memory, Order, Pfn
from shmalloc.words import fixed
from stress.machine.program import Program
from stress.oracles.filling import check_filled
from stress.programs.checks import pages_are_sound
from stress.programs.held import page_put, page_take, slot_at
from stress.programs.initial_state import InitialState, catalogue
from stress.programs.wakers import sleep_for_page

LISTED = 8  # first word of a CPU's list of blocks
BLOCKS = 2  # of a list
STRAY = 14  # word of the work area of CPU 0: the word that was changed
STRAY_BITS = 1 << 9
LINK_WORDS = 2  # of a free block, for its list


# --- the threads ---------------------------------------------------------------------------------
@kernel
def bulk_round(mem: Memory, claim: Claim, order: Order) -> int:
    """Takes blocks of ``order`` at once and gives them back at once."""
    at = slot_at(mem, claim, LISTED)
    count = alloc_bulk(mem, claim, order, c.MT_MOVABLE, claim + 1, BLOCKS, at)
    for i in range(count):
        check_filled(mem, claim, mem[at + i], order)
        for page in range(1 << order):  # as owners do
            mem[frame_at(mem, mem[at + i] + page) + LINK_WORDS] = claim
    return free_bulk(mem, claim, order, count, at)


@kernel
def bulk_pages(mem: Memory, claim: Claim) -> int:
    return bulk_round(mem, claim, 0)


@kernel
def bulk_pairs(mem: Memory, claim: Claim) -> int:
    return bulk_round(mem, claim, 1)


@kernel
def page_round(mem: Memory, claim: Claim) -> int:
    """Takes a page and gives it back."""
    page_take(mem, claim, 0, 0)
    return page_put(mem, claim, 0)


@kernel
def largest_round(mem: Memory, claim: Claim) -> int:
    """Takes a block of the highest order, which no per-CPU list keeps, and gives it back."""
    page_take(mem, claim, 0, fixed(mem, c.H_MAX_ORDER))
    return page_put(mem, claim, 0)


@kernel
def range_round(mem: Memory, claim: Claim) -> int:
    """Takes pages 0 to 3 as a range and gives them back."""
    result = alloc_contig_range(mem, claim, 0, 4, claim + 1)
    if result < 0:
        return result
    for pfn in range(4):
        check_filled(mem, claim, pfn, 0)
    return free_contig_range(mem, claim, 0, 4)


@kernel
def run_round(mem: Memory, claim: Claim) -> int:
    """Takes two blocks of two pages in a row and gives them back past the lists."""
    result = alloc_run(mem, claim, 0, 4, claim + 1)
    if result < 0:
        return result
    for pfn in range(0, 4, 2):
        check_filled(mem, claim, pfn, 1)
        result = free_past_lists(mem, claim, pfn, 1, claim + 1)
    return result


@kernel
def take_pair(mem: Memory, claim: Claim) -> Pfn:
    """Takes a pair, and keeps it if it gets one."""
    return page_take(mem, claim, 0, 1)


@kernel
def put_page(mem: Memory, claim: Claim) -> int:
    return page_put(mem, claim, 0)


# --- what must hold ------------------------------------------------------------------------------
@kernel
def heal(mem: Memory) -> int:
    """Undo the write to a page that is free still, so that the audits see what else is wrong.

    Returns 1 if the page was retired, else 0.
    """
    at = mem[slot_at(mem, 0, STRAY)]
    pfn = (at - frame_at(mem, 0)) >> fixed(mem, c.H_PAGE_SHIFT)
    if mem[at] != c.POISON_WORD:
        if type_of(page_state(mem, pfn)) == c.T_POISONED:
            return 1
        mem[at] = c.POISON_WORD
    return 0


@kernel
def first_but_bytes(mem: Memory) -> int:
    """Number of the first violation that is not I_BYTES, or 0."""
    for i in range(min(mem[c.H_REPORT_COUNT], c.REPORTS)):
        code = mem[fixed(mem, c.H_AT_REPORTS) + i * c.R_STRIDE + c.R_CODE]
        if code != c.I_BYTES:
            return code
    return 0


@kernel
def stray_is_caught(mem: Memory) -> int:
    """``pages_are_sound``; besides, the page is free as it was, or it was reported and retired."""
    if first_but_bytes(mem) != 0:
        return first_but_bytes(mem)
    reported = mem[c.H_REPORT_COUNT] != 0
    mem[c.H_REPORT_COUNT] = 0
    retired = heal(mem) != 0
    if retired != reported:
        report(mem, 0, c.I_BYTES, mem[slot_at(mem, 0, STRAY)], int(reported), int(retired))
    return pages_are_sound(mem)


# --- the programs --------------------------------------------------------------------------------
def strayed(state: InitialState, pfn: Pfn) -> InitialState:
    """Change a word of a free page behind the links that may lie there."""
    at = int(frame_at(state.ram, pfn)) + LINK_WORDS
    state.ram[at] ^= STRAY_BITS
    state.ram[slot_at(state.ram, 0, STRAY)] = at
    return state


def poisoned(pages: int, max_order: int = 0, **changes: int) -> InitialState:
    return InitialState.booted(pages, max_order=max_order, poison=True, **changes)


def bulk(name: str) -> Program:
    return strayed(poisoned(3).take(1), 1).program(
        name,
        (bulk_pages, put_page),
        check=stray_is_caught,
        story="alloc_bulk takes pages past intact_on_alloc of the single path: it has a check of"
        " its own, retires the page and closes the gap in the list that it returns",
    )


def bulk_pair(name: str) -> Program:
    return strayed(poisoned(4, 1, pageblock_order=0), 1).program(
        name,
        (bulk_pairs, page_round),
        check=stray_is_caught,
        story="alloc_bulk takes pairs, and the second page of one was written to: retire_changed"
        " gives the first page back while another CPU allocates, and wants the whole order",
    )


def listed(name: str) -> Program:
    return strayed(poisoned(2).keep(0), 0).program(
        name,
        (page_round, page_round),
        check=stray_is_caught,
        story="the page lies on a per-CPU list: pcp_pop hands it to give_intact under P_LOCK while"
        " the other CPU drains that list, or takes the page that is left",
    )


def drained(name: str) -> Program:
    return strayed(poisoned(2).keep(1), 0).program(
        name,
        (page_round, page_round),
        check=stray_is_caught,
        story="an allocation that found nothing drains the other CPU's list and takes the page"
        " straight from the zone: alloc_from_zone looks at it, too",
    )


def largest(name: str) -> Program:
    return strayed(poisoned(16, 4, pageblock_order=3).take(1, 0, 0).put(1), 7).program(
        name,
        (largest_round, page_round),
        check=stray_is_caught,
        story="a block beyond every list goes from the zone to its owner: all of its pages are"
        " looked at, and 15 of 16 return while another CPU splits and merges them",
    )


def contig(name: str) -> Program:
    return strayed(poisoned(4, 1, pageblock_order=1), 1).program(
        name,
        (range_round, page_round),
        check=stray_is_caught,
        story="alloc_contig_range meets the page after it has given out others: it marks the page,"
        " frees what it has, and ends its isolation; the mark retires the page as it is freed",
    )


def run(name: str) -> Program:
    return strayed(poisoned(4, 1), 3).program(
        name,
        (run_round, page_round),
        check=stray_is_caught,
        story="alloc_run takes whole blocks in a row and must look at each before its owner gets"
        " any: those that are clean return, the page that is not leaves service (docs/bugs.md 48)",
    )


def sleeper(name: str) -> Program:
    return strayed(poisoned(2, 1), 1).program(
        name,
        (take_pair, sleep_for_page),
        check=stray_is_caught,
        story="an allocation takes the only pair, finds its second page changed and gives the first"
        " one back: a CPU that looked meanwhile sleeps for a page, and no other one comes",
    )


PROGRAMS = catalogue("filled", bulk, bulk_pair, listed, drained, largest, contig, run, sleeper)
