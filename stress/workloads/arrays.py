"""arrays: arrays opened by handles that other processes keep; the last user frees the block.

Imitates numpy arrays that processes share (shmalloc/arrays.py). Every worker keeps a shelf of
arrays, a block of pages each, and borrows from its peer's shelf: by a handle that it finds there,
even after the array is gone, or by the handle that the entry will have in its next life, which is
not yet published. The worker that drops the last reference frees the block::

    work area: W_DATA [0: entries made | 2, 3: a block on its way]
               | +8 shelf | +24 borrowed: 4 x [entry | generation | held by us | 0]
               | +40 entries of the array table

Entries lie here because pages of entries are never given back, and a run ends with all pages free.
Hunts: ABA on the stack of entries, an array that is published before its data, a reference count
that loses an update: the block is freed while a worker uses it, or never.
Must reach: alloc, free, remote free (a borrower dropped the last reference).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.array_table import (
    add_reference,
    close_entry,
    drop_reference,
    open_entry,
    push_entries,
)
from shmalloc.kernels.reporting import report
from shmalloc.units import Cpu, Memory, WordIndex
from shmalloc.words import fixed, load, load_relaxed, store, store_relaxed
from stress.oracles.owners import check_stamp
from stress.workloads.area import (
    BLOCK_ORDER_BITS,
    BLOCK_ORDER_MASK,
    W_DATA,
    W_PEER,
    draw,
    give_from,
    stopping,
    take_into,
    work_at,
)

STOCKED = W_DATA
STAGE = W_DATA + 2  # a block on its way from the allocator to an array, or back
SHELF = W_DATA + 8
BORROWED = W_DATA + 24
PLACES = 4  # on a shelf, and to borrow to
PLACE_WORDS = 4
PLACE_HELD = 2
ENTRIES_AT = W_DATA + 40
ENTRIES = 4
ARRAYS_WORDS = ENTRIES_AT + ENTRIES * c.AR_STRIDE
ARRAY_ORDERS = 2
GUESS_ODDS = 4


@kernel
def arrays(mem: Memory, cpu: Cpu, steps: int) -> int:
    """Change the worker's shelf or borrowed arrays ``steps`` times; returns the operations done."""
    at = work_at(mem, cpu)
    peer = work_at(mem, mem[at + W_PEER])
    if mem[at + STOCKED] == 0:
        stock(mem, at)
    done = 0
    for _ in range(steps):
        if stopping(mem):
            break
        place = draw(mem, at, PLACES) * PLACE_WORDS
        if draw(mem, at, 2) == 0:
            change_shelf(mem, cpu, at, at + SHELF + place)
        else:
            change_loan(mem, cpu, at, at + BORROWED + place, peer + SHELF + place)
        done += 1
    return done


@kernel
def stock(mem: Memory, at: WordIndex) -> None:
    """Put the entries of this work area on the stack that all workers share."""
    first = at + ENTRIES_AT
    for i in range(ENTRIES):
        entry = first + i * c.AR_STRIDE
        store_relaxed(mem, entry + c.AR_COUNT, 0)
        store_relaxed(mem, entry + c.AR_DATA, entry + c.AR_STRIDE)
    push_entries(mem, first, first + (ENTRIES - 1) * c.AR_STRIDE)
    mem[at + STOCKED] = 1


@kernel
def change_shelf(mem: Memory, cpu: Cpu, at: WordIndex, place: WordIndex) -> None:
    """Put a new array on a free place of the worker's shelf, or drop the array there."""
    if mem[place + PLACE_HELD] != 0:
        drop(mem, cpu, at, place)
        return
    order = min(draw(mem, at, ARRAY_ORDERS), fixed(mem, c.H_MAX_ORDER))
    if take_into(mem, cpu, at, at + STAGE, order, draw(mem, at, 2)) != 0:
        return
    entry = open_entry(mem, cpu, mem[at + STAGE], mem[at + STAGE + 1], +cpu)
    if entry == c.E_NOMEM:
        give_from(mem, cpu, at + STAGE)
        return
    store_relaxed(mem, place + 1, load_relaxed(mem, entry + c.AR_COUNT) >> c.AR_GENERATION_SHIFT)
    store(mem, place, entry)
    mem[place + PLACE_HELD] = 1


@kernel
def change_loan(mem: Memory, cpu: Cpu, at: WordIndex, place: WordIndex, shelf: WordIndex) -> None:
    """Borrow from a place of the peer's shelf, or drop what this worker borrowed before.

    The two words of a handle may come from two arrays: then the entry must have that generation.
    """
    if mem[place + PLACE_HELD] != 0:
        drop(mem, cpu, at, place)
        return
    entry = load(mem, shelf)
    generation = load_relaxed(mem, shelf + 1)
    if draw(mem, at, GUESS_ODDS) == 0:
        generation += 1
    if entry != 0 and add_reference(mem, cpu, entry, generation) > 0:
        check_data(mem, cpu, entry)
        store_relaxed(mem, place + 1, generation)
        store_relaxed(mem, place, entry)
        mem[place + PLACE_HELD] = 1


@kernel
def check_data(mem: Memory, cpu: Cpu, entry: WordIndex) -> bool:
    """Whether the array of a held reference has a block with its owner's signature."""
    data = load_relaxed(mem, entry + c.AR_DATA)
    order = data & BLOCK_ORDER_MASK
    pfn = data >> BLOCK_ORDER_BITS
    if order >= ARRAY_ORDERS or pfn < 0 or pfn + (1 << order) > fixed(mem, c.H_PAGES):
        report(mem, cpu, c.X_PAYLOAD, entry, 0, data)
        return False
    return check_stamp(mem, cpu, pfn, order, load_relaxed(mem, entry + c.AR_HOW)) == 0


@kernel
def drop(mem: Memory, cpu: Cpu, at: WordIndex, place: WordIndex) -> None:
    """Drop the reference of a place; the last one frees block and entry.

    The handle stays. A damaged block is left alone: it may have another owner.
    """
    entry = load_relaxed(mem, place)
    generation = load_relaxed(mem, place + 1)
    mem[place + PLACE_HELD] = 0
    if not check_data(mem, cpu, entry):
        return
    left = drop_reference(mem, cpu, entry, generation)
    if left < 0:
        report(mem, cpu, c.X_LOST_OWNER, entry, generation, load(mem, entry + c.AR_COUNT))
    if left != 0:
        return
    mem[at + STAGE] = load_relaxed(mem, entry + c.AR_DATA)
    mem[at + STAGE + 1] = load_relaxed(mem, entry + c.AR_HOW)
    close_entry(mem, cpu, entry)
    give_from(mem, cpu, at + STAGE)


@kernel
def arrays_finish(mem: Memory, cpu: Cpu) -> int:
    """Drop everything, and pop entries off the stack: no worker may use entries of a finished area.

    Every worker does so after its last drop, so the last one leaves no entries.
    """
    at = work_at(mem, cpu)
    given = 0
    for i in range(2 * PLACES):
        place = at + SHELF + i * PLACE_WORDS
        if mem[place + PLACE_HELD] != 0:
            drop(mem, cpu, at, place)
            given += 1
        store_relaxed(mem, place, 0)
    for _ in range(ENTRIES * fixed(mem, c.H_CPUS)):
        if open_entry(mem, cpu, 0, 0, 0) == c.E_NOMEM:
            break
    mem[at + STOCKED] = 0
    return given
