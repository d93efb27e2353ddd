"""Programs over memory that must not be touched before it is accepted (kernels/accept.py).

The oracle: when the CPUs begin, every word of every page holds a mark. In a pageblock that is still
unaccepted all of them must be there at the end, since nothing may have written to it; in one that
was accepted none may be, since accepting cleared it before its first page had an owner. What an
owner has signed (held.py) must be there in either case.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.contig import alloc_contig_range, isolate_range, unisolate_range
from shmalloc.kernels.reporting import report
from shmalloc.kernels.zone import block_word, frame_at
from shmalloc.units import Claim, Memory
from shmalloc.words import fixed
from stress.machine.program import Program
from stress.programs.buddy import take_and_put, take_page, take_pair
from stress.programs.checks import first_violation, pages_are_sound
from stress.programs.held import hold
from stress.programs.initial_state import InitialState, catalogue

MARK = 0x5AFE


@kernel
def untouched(mem: Memory) -> int:
    """The number of the first violation of the oracle, else of what all checks look for."""
    for pfn in range(fixed(mem, c.H_PAGES)):
        unaccepted = mem[block_word(mem, pfn)] & c.BLOCK_UNACCEPTED != 0
        for i in range(frame_at(mem, pfn), frame_at(mem, pfn + 1)):
            if (mem[i] == MARK) != unaccepted:
                report(mem, 0, c.I_BYTES, i, MARK, mem[i])
    found = first_violation(mem)
    return found if found != 0 else pages_are_sound(mem)


@kernel
def take_upper(mem: Memory, claim: Claim) -> int:
    """Takes page 3 alone, or is too late."""
    done = alloc_contig_range(mem, claim, 3, 4, claim + 1)
    if done == 0:
        hold(mem, claim, 0, 3, 0)
    return 0


@kernel
def isolate_and_restore(mem: Memory, claim: Claim) -> int:
    isolate_range(mem, claim, 0, 2)
    unisolate_range(mem, claim, 0, 2)
    return 0


def marked(pages: int, max_order: int, pageblock_order: int) -> InitialState:
    """All pages free and unaccepted."""
    state = InitialState.booted(
        pages,
        max_order=max_order,
        pageblock_order=pageblock_order,
        link_store="descriptor",
        unaccepted=True,
    )
    state.ram.array[state.layout.at["frames"] :] = MARK
    return state


def take_take(name: str) -> Program:
    return marked(4, 2, 1).program(
        name,
        (take_page, take_pair),
        check=untouched,
        story="a block of two unaccepted pageblocks is split: accept_block of the one that gets an"
        " owner must clear it before the other CPU can take its second page, and leave the other",
    )


def take_put(name: str) -> Program:
    return marked(4, 2, 0).program(
        name,
        (take_and_put, take_page),
        check=untouched,
        story="an accepted page merges with unaccepted ones, and the block is split again: what was"
        " accepted once is not cleared again under its next owner",
    )


def stamp_stamp(name: str) -> Program:
    return marked(2, 1, 1).program(
        name,
        (take_page, take_page),
        check=untouched,
        story="both pages of one unaccepted pageblock are taken and written to: the second owner's"
        " accept_for must not clear what the first one wrote meanwhile",
    )


def middle(name: str) -> Program:
    return marked(4, 2, 2).program(
        name,
        (take_page, take_upper),
        check=untouched,
        story="pages from the middle of a pageblock by alloc_contig_range, beside a page from its"
        " start: the first of the two accepts all of it, whichever page it is",
    )


def isolate(name: str) -> Program:
    return marked(4, 2, 1).program(
        name,
        (isolate_and_restore, take_and_put),
        check=untouched,
        story="an isolation writes the word of a pageblock as a whole, twice: the bit that says"
        " unaccepted must be there again when the other CPU takes a page of it",
    )


PROGRAMS = catalogue("accept", take_take, take_put, stamp_stamp, middle, isolate)
