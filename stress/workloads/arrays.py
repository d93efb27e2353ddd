"""arrays: arrays opened by handles that other processes keep; the last user frees the pages.

Imitates numpy arrays that processes share (shmalloc/arrays.py). Every worker keeps a shelf of
arrays and borrows from its peer's shelf: by a handle that it finds there, even after the array is
gone, or by the handle that the page's next array will have, which may not be published yet::

    work area: W_DATA shelf | +16 borrowed: 4 x [1 + slot | number | pfn | generation]

The words of an array say which one it is, so that a worker sees whether its array is still its own.
Hunts: an array that is published before its pages, a reference count that loses an update: the
pages are freed while a worker uses them, or never.
Must reach: alloc, free, remote free (a borrower dropped the last reference).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.array_recovery import give_table_back
from shmalloc.kernels.array_table import entry_at
from shmalloc.kernels.reporting import report
from shmalloc.kernels.shared_arrays import drop_array, make_array, open_array
from shmalloc.kernels.zone import frame_at, pfn_of_word
from shmalloc.units import Claim, Memory, Pfn, WordIndex
from shmalloc.words import fixed, load, load_relaxed, store, store_relaxed
from stress.workloads.area import W_DATA, W_PEER, draw, stopping, work_at

SHELF = W_DATA
BORROWED = W_DATA + 16
PLACES = 4  # on a shelf, and to borrow to
PLACE_WORDS = 4
PLACE_SLOT = 0
PLACE_NUMBER = 1
PLACE_PFN = 2
PLACE_GENERATION = 3
ARRAYS_WORDS = W_DATA + 32
ARRAY_ORDERS = 2
GUESS_ODDS = 4


@kernel
def arrays(mem: Memory, claim: Claim, steps: int) -> int:
    """Change the worker's shelf or borrowed arrays ``steps`` times; returns the operations done."""
    at = work_at(mem, claim)
    peer = work_at(mem, mem[at + W_PEER])
    done = 0
    for _ in range(steps):
        if stopping(mem):
            break
        place = draw(mem, at, PLACES) * PLACE_WORDS
        if draw(mem, at, 2) == 0:
            change_shelf(mem, claim, at, at + SHELF + place)
        else:
            change_loan(mem, claim, at, at + BORROWED + place, peer + SHELF + place)
        done += 1
    return done


@kernel
def change_shelf(mem: Memory, claim: Claim, at: WordIndex, place: WordIndex) -> None:
    """Put a new array on a free place of the worker's shelf, or drop the array there."""
    if mem[place + PLACE_SLOT] != 0:
        drop(mem, claim, place)
        return
    order = min(draw(mem, at, ARRAY_ORDERS), fixed(mem, c.H_MAX_ORDER))
    slot, number, data, _ = make_array(mem, claim, order)
    if slot < 0:
        return
    pfn = pfn_of_word(mem, data)
    generation = load_relaxed(mem, entry_at(mem, pfn)) >> c.AR_GENERATION_SHIFT
    store(mem, data, sign_of(pfn, generation))
    hold(mem, place, slot, number, pfn, generation)


@kernel
def hold(mem: Memory, place: WordIndex, slot: int, number: int, pfn: Pfn, generation: int) -> None:
    mem[place + PLACE_NUMBER] = number
    mem[place + PLACE_SLOT] = slot + 1
    store_relaxed(mem, place + PLACE_GENERATION, generation)
    store(mem, place + PLACE_PFN, pfn)  # the handle, for the peer


@kernel
def sign_of(pfn: Pfn, generation: int) -> int:
    """What the first word of an array says."""
    return generation << 32 | +pfn


@kernel
def change_loan(
    mem: Memory, claim: Claim, at: WordIndex, place: WordIndex, shelf: WordIndex
) -> None:
    """Borrow from a place of the peer's shelf, or drop what this worker borrowed before.

    The two words of a handle may come from two arrays: then the page must have had that generation.
    An array that was guessed may not be signed yet, so it is dropped unread.
    """
    if mem[place + PLACE_SLOT] != 0:
        drop(mem, claim, place)
        return
    pfn = load(mem, shelf + PLACE_PFN)
    generation = load_relaxed(mem, shelf + PLACE_GENERATION)
    guessed = draw(mem, at, GUESS_ODDS) == 0
    if guessed:
        generation += 1
    if generation == 0:
        return
    slot, number, _ = open_array(mem, claim, pfn, generation)
    if slot >= 0 and guessed:
        drop_array(mem, claim, slot, number)
    elif slot >= 0:
        hold(mem, place, slot, number, pfn, generation)
        check_sign(mem, claim, place)


@kernel
def check_sign(mem: Memory, claim: Claim, place: WordIndex) -> None:
    """The array of a held reference still says what its maker wrote."""
    pfn: Pfn = mem[place + PLACE_PFN]
    wanted = sign_of(pfn, mem[place + PLACE_GENERATION])
    found = load(mem, frame_at(mem, pfn))
    if found != wanted:
        report(mem, claim, c.X_PAYLOAD, pfn, wanted, found)


@kernel
def drop(mem: Memory, claim: Claim, place: WordIndex) -> int:
    """Drop the reference of a place; the handle stays there."""
    check_sign(mem, claim, place)
    slot = mem[place + PLACE_SLOT] - 1
    mem[place + PLACE_SLOT] = 0
    left = drop_array(mem, claim, slot, mem[place + PLACE_NUMBER])
    if left < 0:
        report(mem, claim, c.X_LOST_OWNER, mem[place + PLACE_PFN], 0, left)
    return left


@kernel
def arrays_finish(mem: Memory, claim: Claim) -> int:
    """Drop everything, and give the worker's table back: a run ends with all pages free."""
    at = work_at(mem, claim)
    given = 0
    for i in range(2 * PLACES):
        place = at + SHELF + i * PLACE_WORDS
        if mem[place + PLACE_SLOT] != 0:
            drop(mem, claim, place)
            given += 1
        store_relaxed(mem, place + PLACE_GENERATION, 0)
    give_table_back(mem, claim, claim)
    return given
