"""Programs about memory that a process passed on and that outlives it: adopted, or reaped.

GIVER has died and is recovered, or is not marked yet: no CPU runs it. It had one page or one
object, which it passed on: a process that names its life may adopt it, and its supervisor reaps
what is not adopted. Exactly one of them gets it. The owner word of the page is that of CPU 0, which
may adopt it: only the label tells the two owners apart.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel
from shmalloc.kernels.bits import wants_poison
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.lock import owner_word
from shmalloc.kernels.pages import alloc_pages
from shmalloc.kernels.poison import mark_for_poison
from shmalloc.kernels.reap import adopt_object, adopt_pages, reap
from shmalloc.kernels.reporting import claim_at, report
from shmalloc.kernels.zone import frame_at
from shmalloc.units import Claim, Memory, Order, Pfn
from shmalloc.words import fixed
from stress.machine.program import Program
from stress.programs.checks import (
    enter_owners,
    first_violation,
    give_pages_up,
    objects_are_sound,
    pages_are_sound,
)
from stress.programs.held import (
    ONLY_CACHE,
    RESULT,
    SHARED,
    block_pfn,
    hold,
    hold_object,
    note_result,
    page_take,
    slot_at,
)
from stress.programs.initial_state import InitialState, catalogue
from stress.programs.slab import TWO_IN_A_SLAB

GIVER = 3
PASSED: Pfn = 0  # the block that it passed on
ONE_OWNER = 1  # owner word of that block, and of what CPU 0 allocates


@kernel
def adopt_block(mem: Memory, claim: Claim, order: Order) -> int:
    result = adopt_pages(mem, claim, PASSED, order, owner_word(mem, GIVER), claim + 1)
    if result == 0:
        hold(mem, claim, 0, PASSED, order)
    return note_result(mem, claim, int(result == 0))


@kernel
def adopt_page(mem: Memory, claim: Claim) -> int:
    return adopt_block(mem, claim, 0)


@kernel
def adopt_pair(mem: Memory, claim: Claim) -> int:
    return adopt_block(mem, claim, 1)


@kernel
def adopt_passed_object(mem: Memory, claim: Claim) -> int:
    address = fixed(mem, slot_at(mem, 0, SHARED))
    result = adopt_object(mem, claim, ONLY_CACHE, address, owner_word(mem, GIVER))
    if result == 0:
        hold_object(mem, claim, 0, address)
    return note_result(mem, claim, int(result == 0))


@kernel
def mark_passed(mem: Memory, claim: Claim) -> int:
    """Has the page leave service when it is freed, if it is in use by one owner all the time."""
    return note_result(mem, claim, int(mark_for_poison(mem, PASSED) == 0))


@kernel
def reap_giver(mem: Memory, claim: Claim) -> int:
    """The supervisor of GIVER frees what it still owns."""
    epoch = fixed(mem, claim_at(mem, GIVER) + c.C_EPOCH)
    return note_result(mem, claim, reap(mem, claim, GIVER, epoch))


@kernel
def reap_and_take(mem: Memory, claim: Claim) -> int:
    """Reaps, then allocates what it has freed, and writes to it."""
    freed = reap_giver(mem, claim)
    page_take(mem, claim, 0, 0)
    return freed


@kernel
def reap_and_fill(mem: Memory, claim: Claim) -> int:
    """Reaps, allocates what it has freed, and fills it with what an adopter looks for."""
    freed = reap_and_take(mem, claim)
    block = mem[slot_at(mem, claim, 0)]
    if block != 0:
        for word in range(1, (1 << fixed(mem, c.H_PAGE_SHIFT)) - 1):
            mem[frame_at(mem, block_pfn(block)) + word] = owner_word(mem, GIVER)
    return freed


@kernel
def what_was_filled_is_there(mem: Memory) -> int:
    """``one_got_the_object``, and no word of a page of CPU 1 has changed."""
    block = mem[slot_at(mem, 1, 0)]
    if block != 0:
        for word in range(1, (1 << fixed(mem, c.H_PAGE_SHIFT)) - 1):
            at = frame_at(mem, block_pfn(block)) + word
            if mem[at] != owner_word(mem, GIVER):
                report(mem, 1, c.X_PAYLOAD, c.AT_WORD | at, owner_word(mem, GIVER), mem[at])
    enter_owners(mem)
    give_pages_up(mem)
    return one_got_the_object(mem)


@kernel
def one_got_it(mem: Memory) -> int:
    """What was passed on was adopted once or reaped once."""
    got = 0
    for cpu in range(fixed(mem, c.H_CPUS)):
        got += mem[slot_at(mem, cpu, RESULT)] >> 1
    if got != 1:
        report(mem, 0, c.X_DOUBLE_ALLOC, PASSED, 1, got)
    return first_violation(mem)


@kernel
def adopted_with_its_mark(mem: Memory) -> int:
    """CPU 0 has the page, and its mark, if CPU 1 has marked it."""
    adopted = mem[slot_at(mem, 0, RESULT)] >> 1
    marked = mem[slot_at(mem, 1, RESULT)] >> 1
    if adopted != 1 or int(wants_poison(page_state(mem, PASSED))) != marked:
        report(mem, 1, c.M_WRONG_STATE, PASSED, marked, page_state(mem, PASSED))
    return pages_are_sound(mem)


@kernel
def one_got_the_block(mem: Memory) -> int:
    return pages_are_sound(mem) if one_got_it(mem) == 0 else first_violation(mem)


@kernel
def one_got_the_object(mem: Memory) -> int:
    return objects_are_sound(mem) if one_got_it(mem) == 0 else first_violation(mem)


def with_block(order: int = 0) -> InitialState:
    """GIVER has a block of all pages, with the owner word of CPU 0."""
    state = InitialState.booted(1 << order, max_order=order, cpus=GIVER + 1)
    pfn = alloc_pages(state.ram, GIVER, order, c.MT_MOVABLE, ONE_OWNER)
    assert pfn == PASSED, f"no block for the giver: {pfn}"
    return state


def with_object() -> InitialState:
    """GIVER has an object of the only slab."""
    state = InitialState.booted(1, cpus=GIVER + 1, caches=1)
    state.with_cache(TWO_IN_A_SLAB, cs.CF_NO_SHEAVES)
    return state.take_object(GIVER).share_object(GIVER)


def adopt_adopt(name: str) -> Program:
    return with_block().program(
        name,
        (adopt_page, adopt_page),
        check=one_got_the_block,
        story="two receivers adopt one page of a dead process: load2, then the swap of"
        " transition_owned; the second finds the first one's label, though the owner word of the"
        " page is the same",
    )


def adopt_reap(name: str) -> Program:
    return with_block().program(
        name,
        (adopt_page, reap_giver),
        check=one_got_the_block,
        story="a page is adopted while its giver is reaped: a reaper that looks at the label and"
        " frees by the owner word, which is the same, frees the page under its receiver"
        " (docs/bugs.md 49)",
    )


def adopt_reap_pair(name: str) -> Program:
    return with_block(order=1).program(
        name,
        (adopt_pair, reap_and_take),
        check=one_got_the_block,
        story="pass-adopt-reap with a block of two pages, whose first page the reaper allocates"
        " and writes to as soon as it has freed the block",
    )


def reap_reap(name: str) -> Program:
    return with_block().program(
        name,
        (reap_giver, reap_giver),
        check=one_got_the_block,
        story="two supervisors reap one life: both see the label of the dead in their walk, and the"
        " second must neither free the page again nor report that it could not",
    )


def object_adopt_adopt(name: str) -> Program:
    return with_object().program(
        name,
        (adopt_passed_object, adopt_passed_object),
        check=one_got_the_object,
        story="two receivers adopt one object: the cas of adopt_object on its owner word lets one"
        " of them have it",
    )


def object_adopt_reap(name: str) -> Program:
    return with_object().program(
        name,
        (adopt_passed_object, reap_giver),
        check=one_got_the_object,
        story="an object is adopted while its giver is reaped: cache_free asks for no owner, so a"
        " reaper that has only looked at the owner word frees it under its receiver",
    )


def object_adopt_reuse(name: str) -> Program:
    state = InitialState.booted(2, cpus=GIVER + 1, caches=1)
    state.with_cache(TWO_IN_A_SLAB, cs.CF_NO_SHEAVES)
    state.take_object(GIVER).take_object(0, 1).take_object(0, 2).take_object(0, 3)
    state = state.put_object(0, 1).put_object(0, 2).share_object(GIVER)
    return state.program(
        name,
        (adopt_passed_object, reap_and_fill),
        check=what_was_filled_is_there,
        story="the slab of the object that is adopted is released by its reaper, who allocates its"
        " page: the swap of adopt_object on a word that is no owner word any more, unless the"
        " node lock keeps the slab",
    )


def adopt_marked(name: str) -> Program:
    return with_block().program(
        name,
        (adopt_page, mark_passed),
        check=adopted_with_its_mark,
        story="poison_page marks a page while it is adopted: the receiver's swap neither fails for"
        " the mark nor takes it away (transition_owned)",
    )


PROGRAMS = catalogue(
    "pass",
    adopt_adopt,
    adopt_marked,
    adopt_reap,
    adopt_reap_pair,
    reap_reap,
    object_adopt_adopt,
    object_adopt_reap,
    object_adopt_reuse,
)
