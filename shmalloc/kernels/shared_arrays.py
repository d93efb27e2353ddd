"""Whole operations on arrays: make, open, drop, send, load; each one call from Python.

Built from ``pages`` and ``array_table``. The pages of an array belong to an owner word of their own
(``array_owner``), so that no reap frees what others still read, and so that recovery can tell the
pages of a half-made or half-freed array from those of any other. An array made by ``make_array`` is
one block; one made by ``make_run`` is several blocks in a row, for more than a block can have.

A *ticket* is a reference in transit: a record in the sender's table that the bytes of a pickle
name. Who loads it first takes a reference and drops the ticket, in this order; so a ticket is never
the last reference of an array that another process drops.

Nothing here reads or writes the data or its header: no process sees them until the maker passes on
the array.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.array_table import (
    add_reference,
    announce_record,
    count_held,
    drop_reference,
    entry_at,
    is_record,
    next_sequence,
    record_at,
    root_of,
    settle,
    slots_of,
    tag_of,
    take_slot,
)
from shmalloc.kernels.bits import order_of, type_of
from shmalloc.kernels.pages import alloc_pages
from shmalloc.kernels.runs import alloc_run, find_run, free_past_lists
from shmalloc.kernels.slab_format import give_pages_back
from shmalloc.kernels.zone import descriptor_at, frame_at
from shmalloc.units import Claim, Memory, Order, Owner, Pfn, WordIndex
from shmalloc.words import cas2, fixed, load, load2, load_relaxed, store, store_relaxed


@kernel
def array_owner(sequence: int) -> Owner:
    """Owner word of the pages of the array that the reference with this number made."""
    return c.OWNER_ARRAY | sequence


@unit
def array_pages(mem: Memory, claim: Claim, order: Order, owner: Owner) -> Pfn:
    """Pages for data, in other pageblocks than the tables: these stay when the arrays are gone, and
    among them would leave no large block free."""
    return alloc_pages(mem, claim, order, c.MT_MOVABLE, owner)


@unit
def make_array(mem: Memory, claim: Claim, order: Order) -> tuple[int, int, WordIndex, int]:
    """An array of 2^order pages with one reference: (slot, sequence, word of the pages, held).

    The slot is negative, a code of ``alloc_pages``, if a page is missing: nothing is made.
    ``held``: how many references the claim has now.
    """
    slot = take_slot(mem, claim)
    if slot < 0:
        return slot, 0, 0, 0
    root = root_of(mem, claim)
    record = record_at(mem, root, slot)
    sequence = next_sequence(mem, root)
    announce_record(mem, record, sequence, 0, c.RE_MAKING)
    pfn = array_pages(mem, claim, order, array_owner(sequence))
    if pfn < 0:
        store(mem, record, 0)
        return +pfn, 0, 0, 0
    enter_array(mem, record, sequence, pfn)
    count_held(mem, root, 1)
    return slot, sequence, frame_at(mem, pfn), load_relaxed(mem, root + c.RT_HELD)


@unit
def make_run(mem: Memory, claim: Claim, pages: int, near: Pfn) -> tuple[int, int, WordIndex, int]:
    """The same of so many pages out of whole blocks in a row, looked for from ``near`` on first.

    E_NOMEM: there is no such run.
    """
    limit = fixed(mem, c.H_MAX_ORDER)
    blocks = (pages + (1 << limit) - 1) >> limit
    start = find_run(mem, near, blocks)
    if start < 0:
        start = find_run(mem, 0, blocks)
    if start < 0:
        return c.E_NOMEM, 0, 0, 0
    slot = take_slot(mem, claim)
    if slot < 0:
        return slot, 0, 0, 0
    root = root_of(mem, claim)
    record = record_at(mem, root, slot)
    sequence = next_sequence(mem, root)
    announce_record(mem, record, sequence, 0, c.RE_MAKING)
    while start >= 0:
        if alloc_run(mem, claim, start, start + pages, array_owner(sequence)) == 0:
            enter_array(mem, record, sequence, start)
            count_held(mem, root, 1)
            return slot, sequence, frame_at(mem, start), load_relaxed(mem, root + c.RT_HELD)
        start = find_run(mem, start + (1 << limit), blocks)
    store(mem, record, 0)
    return c.E_NOMEM, 0, 0, 0


@kernel
def enter_array(mem: Memory, record: WordIndex, sequence: int, pfn: Pfn) -> None:
    """Publish the array that begins at ``pfn``, whose pages are allocated, with one reference."""
    entry = entry_at(mem, pfn)
    generation = (load_relaxed(mem, entry + c.AR_COUNT) >> c.AR_GENERATION_SHIFT) + 1
    store_relaxed(mem, record + c.RE_GENERATION, generation)
    store_relaxed(mem, record + c.RE_NAME, array_owner(sequence))
    store(mem, record, pfn << c.RE_PFN_SHIFT | c.RE_ENTERING)
    store(mem, entry + c.AR_TAG, tag_of(record, sequence, c.TAG_ADDED))
    store(mem, entry + c.AR_COUNT, generation << c.AR_GENERATION_SHIFT | 1)  # publishes the array
    store(mem, record, pfn << c.RE_PFN_SHIFT | c.RE_HELD)


@unit
def open_array(mem: Memory, claim: Claim, pfn: Pfn, generation: int) -> tuple[int, int, int]:
    """A reference to a live array: (slot, sequence, held). E_STATE: it is gone; E_BUSY; E_NOMEM."""
    slot = take_slot(mem, claim)
    if slot < 0:
        return slot, 0, 0
    root = root_of(mem, claim)
    record = record_at(mem, root, slot)
    sequence = next_sequence(mem, root)
    announce_record(mem, record, sequence, generation, pfn << c.RE_PFN_SHIFT | c.RE_OPENING)
    result = add_reference(mem, record, sequence, pfn, generation, 1)
    if result < 0:
        return result, 0, 0
    store(mem, record, pfn << c.RE_PFN_SHIFT | c.RE_HELD)
    count_held(mem, root, 1)
    return slot, sequence, load_relaxed(mem, root + c.RT_HELD)


@unit
def drop_array(mem: Memory, claim: Claim, slot: int, sequence: int) -> int:
    """Drop the reference of a slot; how many the array has left. With the last, its pages are free.

    E_STATE: the slot has no such reference (dropped before).
    """
    root = root_of(mem, claim)
    if slot < 0 or slot >= slots_of(mem, root):
        return c.E_STATE
    record = record_at(mem, root, slot)
    word, found = load2(mem, record)
    if found != sequence or word & c.RE_STATE_MASK != c.RE_HELD:
        return c.E_STATE
    left = drop_held(mem, claim, record, word >> c.RE_PFN_SHIFT, sequence)
    count_held(mem, root, -1)
    return left


@unit
def exchange_array(
    mem: Memory, claim: Claim, order: Order, slot: int, sequence: int
) -> tuple[int, int, WordIndex, int]:
    """``drop_array`` of the reference of a slot, if there is one, and then ``make_array``.

    One call of a program that drops and makes arrays all the time; whether there was one to drop is
    not told, as it is gone in any case.
    """
    drop_array(mem, claim, slot, sequence)
    return make_array(mem, claim, order)


@kernel
def drop_held(mem: Memory, claim: Claim, record: WordIndex, pfn: Pfn, sequence: int) -> int:
    """Drop the reference of a record that says HELD, and free what no other claim has."""
    generation = load_relaxed(mem, record + c.RE_GENERATION)
    name = load_relaxed(mem, record + c.RE_NAME)
    left = drop_reference(mem, record, sequence, pfn, generation, 1)
    if left == 0:
        free_array(mem, claim, pfn, name)
    store(mem, record, 0)
    return left


@kernel
def free_array(mem: Memory, claim: Claim, pfn: Pfn, name: Owner) -> None:
    """Free the pages of an array, one block or several in a row, which belong to ``name``.

    A first page that does not is reported, and nothing is freed: it was freed before.
    """
    at = pfn
    w0, w1 = load2(mem, descriptor_at(mem, at))
    is_run = order_of(w0) == fixed(mem, c.H_MAX_ORDER)
    while free_piece(mem, claim, at, order_of(w0), name, is_run) == 0:
        at += 1 << order_of(w0)
        if at >= fixed(mem, c.H_PAGES):
            return
        w0, w1 = load2(mem, descriptor_at(mem, at))
        if type_of(w0) != c.T_ALLOCATED or w1 != name:
            return


@kernel
def free_piece(mem: Memory, claim: Claim, pfn: Pfn, order: Order, name: Owner, is_run: bool) -> int:
    """Free one block of an array. Those of a run merge at once, so that it can be found again."""
    if is_run:
        return free_past_lists(mem, claim, pfn, order, name)
    return give_pages_back(mem, claim, pfn, order, name)


@unit
def send_array(mem: Memory, claim: Claim, slot: int, when: int) -> tuple[int, int]:
    """A ticket for the array of one of our references: (its record, its sequence), or negative.

    ``when`` dates it.
    """
    root = root_of(mem, claim)
    held = record_at(mem, root, slot)
    pfn: Pfn = load(mem, held) >> c.RE_PFN_SHIFT
    generation = load_relaxed(mem, held + c.RE_GENERATION)
    ticket = take_slot(mem, claim)
    if ticket < 0:
        return ticket, 0
    record = record_at(mem, root, ticket)
    sequence = next_sequence(mem, root)
    store_relaxed(mem, record + c.RE_NAME, when)
    announce_record(mem, record, sequence, generation, pfn << c.RE_PFN_SHIFT | c.RE_SENDING)
    result = add_reference(mem, record, sequence, pfn, generation, 0)
    if result < 0:
        return result, 0
    before = pfn << c.RE_PFN_SHIFT
    # Not a store: a process that guesses the number may load the ticket from now on.
    cas2(mem, record, before | c.RE_SENDING, sequence, before | c.RE_TRANSIT, sequence)
    return +record, sequence


@unit
def load_array(
    mem: Memory, claim: Claim, ticket: WordIndex, number: int, pfn: Pfn, generation: int
) -> tuple[int, int, int]:
    """``open_array`` with a ticket: the sender's reference ends if this is its first load.

    ``ticket`` is its record, ``number`` its sequence. None of the arguments need be true: a ticket
    that does not exist, or not for this array, is left alone, and a dead array is not opened.
    """
    slot, sequence, held = open_array(mem, claim, pfn, generation)
    if slot >= 0 and is_record(mem, ticket):
        drop_ticket(mem, ticket, number, pfn, generation)
    return slot, sequence, held


@kernel
def drop_ticket(mem: Memory, record: WordIndex, number: int, pfn: Pfn, generation: int) -> int:
    """Drop a ticket, if it still is one, by a CPU that holds the array; what is left, or E_STATE"""
    left = drop_reference(mem, record, number, pfn, generation, 0)
    if left >= 0:
        settle(mem, pfn, tag_of(record, number, c.TAG_DROPPED))
    return left
