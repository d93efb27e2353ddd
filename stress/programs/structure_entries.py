"""Programs about entries (shmalloc/structures/kernels/entries.py): made and ended, with blocks.

Pages of 256 bytes, so that a block has room behind its header; one or two entries. The check ends
whatever is left, and then every page must be free: a block that no entry names is lost.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.reporting import report
from shmalloc.structures.kernels.entries import (
    FREE,
    LIVE,
    PHASE_MASK,
    ST_DATA,
    ST_PENDING,
    add_block,
    end_structure,
    entry_at,
    finish_structure,
    make_structure,
    publish_structure,
)
from shmalloc.units import Claim, Memory
from shmalloc.words import fixed, load, load2
from stress.machine.program import Program
from stress.programs.checks import pages_are_sound
from stress.programs.initial_state import InitialState, catalogue

KIND = 3
PAGE_BYTES = 256


@kernel
def make(mem: Memory, claim: Claim, blocks: int) -> int:
    """Make a structure of some blocks and publish it; its state, or the error."""
    at = make_structure(mem, claim, KIND)
    if at < 0:
        return +at
    for _ in range(blocks):
        block = add_block(mem, claim, at, 0)
        if block < 0:
            end_structure(mem, claim, at, load(mem, at))
            return +block
    return publish_structure(mem, claim, at)


@kernel
def make_one(mem: Memory, claim: Claim) -> int:
    return make(mem, claim, 1)


@kernel
def make_none(mem: Memory, claim: Claim) -> int:
    return make(mem, claim, 0)


@kernel
def make_two(mem: Memory, claim: Claim) -> int:
    return make(mem, claim, 2)


@kernel
def end_first(mem: Memory, claim: Claim) -> int:
    """End the structure of the first entry, whatever it is."""
    at = entry_at(mem, 0)
    return end_structure(mem, claim, at, load(mem, at))


@kernel
def make_and_end(mem: Memory, claim: Claim) -> int:
    """Makes a structure and ends it."""
    state = make(mem, claim, 1)
    for number in range(fixed(mem, c.H_STRUCTURES)):
        if load(mem, entry_at(mem, number)) == state:
            return end_structure(mem, claim, entry_at(mem, number), state)
    return c.E_STATE


@kernel
def end_every_structure(mem: Memory, by: Claim) -> None:
    """End all structures, published or not, of the living and the dead."""
    for number in range(fixed(mem, c.H_STRUCTURES)):
        at = entry_at(mem, number)
        state, life = load2(mem, at)
        if state & PHASE_MASK != FREE:
            finish_structure(mem, by, at, state, life)
        if load(mem, at + ST_DATA) != 0 or load(mem, at + ST_PENDING) != 0:
            report(mem, by, c.X_PAYLOAD, at, 0, load(mem, at + ST_DATA))


@kernel
def structures_are_sound(mem: Memory) -> int:
    """Every structure can be ended, and then no page is lost."""
    end_every_structure(mem, 0)
    return pages_are_sound(mem)


@kernel
def one_end(mem: Memory) -> int:
    """The same; the entry is free: exactly one of two ends took place."""
    if load(mem, entry_at(mem, 0)) & PHASE_MASK != FREE:
        report(mem, 0, c.I_PROGRESS, entry_at(mem, 0), FREE, load(mem, entry_at(mem, 0)))
    return structures_are_sound(mem)


def with_entries(entries: int, pages: int = 2) -> InitialState:
    return InitialState.booted(pages, structures=entries, page_bytes=PAGE_BYTES)


def with_structure(blocks: int) -> InitialState:
    """The first entry is a live structure of CPU 0."""
    state = with_entries(1)
    made = make(state.ram, 0, blocks)
    assert made & PHASE_MASK == LIVE, made
    return state


def make_make(name: str) -> Program:
    return with_entries(1).program(
        name,
        (make_one, make_one),
        check=structures_are_sound,
        story="one entry, two makers: the swap of (state, life) lets one of them have it",
    )


def make_blocks(name: str) -> Program:
    return with_entries(2, 3).program(
        name,
        (make_two, make_none),
        check=structures_are_sound,
        story="a chain of two blocks; each is pending while it changes from its maker to the entry",
    )


def make_end(name: str) -> Program:
    return with_structure(1).program(
        name,
        (make_one, end_first),
        check=structures_are_sound,
        story="the only entry is ended while another process looks for a free one",
    )


def end_end(name: str) -> Program:
    return with_structure(2).program(
        name,
        (end_first, end_first),
        check=one_end,
        story="two processes end one structure: one of them gives its blocks back",
    )


def make_reuse(name: str) -> Program:
    return with_entries(1).program(
        name,
        (make_and_end, make_and_end),
        check=structures_are_sound,
        story="an entry is used again; the state that a handle holds is of the first use",
    )


PROGRAMS = catalogue("structure", make_make, make_blocks, make_end, end_end, make_reuse)
