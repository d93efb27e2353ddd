"""Programs about readers that ask, without a lock, whose page it is, while its block moves on.

This is what an RCU reader does in Linux (folio_try_get of a page that it found without a lock): it
may learn an owner that has gone since, never one that did not have the page. The second half is
the protocol that makes a stale answer harmless. An owner word names a *record* in memory of a type
that stays (SLAB_TYPESAFE_BY_RCU), which counts references; the CPU that drops the last one frees
the page that the record names::

    record, in the work area of CPU 0     references | pfn

A reader takes a reference if there is one left, then looks up again: if the page still names the
same record, the reference keeps it; if not, the record has begun another life, and the reader lets
go of a page that it never asked for.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.descriptor import claim_for_free
from shmalloc.kernels.pages import give, give_back_to_zone, take_from_zone
from shmalloc.kernels.reporting import report
from shmalloc.kernels.walk import owner_at
from shmalloc.units import Claim, Memory, Owner, Pfn, WordIndex
from shmalloc.words import cas, fetch_add, load, store
from stress.machine.program import Program
from stress.programs.checks import first_violation, page_locks_held, pages_are_sound
from stress.programs.held import ONLY_ZONE, slot_at, zone_put, zone_take
from stress.programs.initial_state import InitialState, catalogue

ASKED = 1  # the page that readers ask for: a tail of the first block
FIRST_OWNER = 1  # of CPU 0, which begins with that block
RECORD = 8  # slots of CPU 0's work area
RECORD_PFN = 9
RECORD_OWNER: Owner = 77


@kernel
def put_block(mem: Memory, claim: Claim) -> int:
    return zone_put(mem, claim, 0)


@kernel
def take_page(mem: Memory, claim: Claim) -> Pfn:
    return zone_take(mem, claim, 0, 0)


@kernel
def put_and_take(mem: Memory, claim: Claim) -> Pfn:
    """Free the pair and allocate a page of it: page 0, now a block of its own."""
    zone_put(mem, claim, 0)
    return zone_take(mem, claim, 0, 0)


@kernel
def ask(mem: Memory, claim: Claim) -> Owner:
    """Page 1 is in the block of CPU 0 or in none: page 0's next owner never has it."""
    owner = owner_at(mem, ASKED)
    if owner != 0 and owner != FIRST_OWNER:
        report(mem, claim, c.X_WALKER, ASKED, FIRST_OWNER, owner)
    return owner


@kernel
def take_named(mem: Memory, claim: Claim) -> Pfn:
    """Allocate a page, have the record name it, and hold the first reference."""
    pfn = take_from_zone(mem, claim, ONLY_ZONE, 0, c.MT_MOVABLE)
    if pfn < 0:
        return pfn
    store(mem, slot_at(mem, 0, RECORD_PFN), pfn)
    pfn = give(mem, claim, pfn, 0, c.MT_MOVABLE, RECORD_OWNER)
    # Only now: who finds a reference may count on the page.
    store(mem, slot_at(mem, 0, RECORD), 1)
    return pfn


@kernel
def drop(mem: Memory, claim: Claim) -> None:
    """Let a reference go; with the last one, free the page that the record names."""
    at = slot_at(mem, 0, RECORD)
    pfn = load(mem, slot_at(mem, 0, RECORD_PFN))
    if fetch_add(mem, at, -1) == 1:
        if claim_for_free(mem, pfn, 0, claim, RECORD_OWNER) < 0:
            report(mem, claim, c.X_LOST_OWNER, pfn, RECORD_OWNER, 0)
        else:
            give_back_to_zone(mem, claim, ONLY_ZONE, pfn, 0)


@kernel
def try_get(mem: Memory, at: WordIndex) -> bool:
    """Take a reference if there is one left (get_page_unless_zero)."""
    count = load(mem, at)
    while count > 0:
        if cas(mem, at, count, count + 1):
            return True
        count = load(mem, at)
    return False


@kernel
def reader(mem: Memory, claim: Claim) -> int:
    """Get page 0 by its record; 1 if that worked. While it is held, the page is the record's."""
    if owner_at(mem, 0) != RECORD_OWNER or not try_get(mem, slot_at(mem, 0, RECORD)):
        return 0
    kept = 0
    if owner_at(mem, 0) == RECORD_OWNER:
        kept = 1
        check_kept(mem, claim)
    drop(mem, claim)
    return kept


@kernel
def check_kept(mem: Memory, claim: Claim) -> None:
    """With a reference in hand nothing may change: neither whose the page is, nor what is named."""
    owner = owner_at(mem, 0)
    pfn = load(mem, slot_at(mem, 0, RECORD_PFN))
    if owner != RECORD_OWNER or pfn != 0:
        report(mem, claim, c.X_WALKER, 0, RECORD_OWNER, owner)


@kernel
def drop_and_reuse(mem: Memory, claim: Claim) -> Pfn:
    """Drop the record's page; if it is free then, give the record another life on another page."""
    drop(mem, claim)
    if load(mem, slot_at(mem, 0, RECORD)) != 0:
        return c.E_BUSY  # the reader has it, and will free the page
    zone_take(mem, claim, 0, 0)
    return take_named(mem, claim)


@kernel
def record_is_sound(mem: Memory) -> int:
    """No report so far; and when the last reference has gone, all pages are free."""
    if mem[c.H_REPORT_COUNT] != 0 or page_locks_held(mem) != 0:
        return first_violation(mem)
    if mem[slot_at(mem, 0, RECORD)] == 1:
        drop(mem, 0)
    return pages_are_sound(mem)


def owner_reuse(name: str) -> Program:
    state = InitialState.booted(2, max_order=1).take(0, order=1)
    return state.program(
        name,
        (put_and_take, ask),
        story="page 1 is a tail of CPU 0's pair when it is asked for; before the reader looks at"
        " page 0 the pair is freed, split, and page 0 allocated alone: its order, read together"
        " with its owner, says that it no longer reaches page 1",
    )


def owner_reuse_3(name: str) -> Program:
    state = InitialState.booted(2, max_order=1, cpus=3).take(0, order=1)
    return state.program(
        name,
        (put_block, take_page, ask),
        story="the same with another CPU as the next owner of page 0: a reader that took the owner"
        " of the head that it climbed to, and no notice of its order, would name that CPU",
    )


def get_and_reuse(name: str) -> Program:
    state = InitialState.booted(2, max_order=1)
    take_named(state.ram, 0)
    return state.program(
        name,
        (drop_and_reuse, reader),
        check=record_is_sound,
        story="between the reader's look at page 0 and its reference on the record, the page is"
        " freed and the record reused; the reference then is one of the next life, and only the"
        " second look tells",
    )


PROGRAMS = catalogue("lookup", owner_reuse, owner_reuse_3, get_and_reuse)
