"""Programs about arrays in a dict (shmalloc/structures/kernels/array_values.py): one key, two CPUs.

One structure, a table of one bucket and two entries. The check frees what was left, ends the
structure, and then the records of the claims alone must account for every count of an array.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.lock import owner_word
from shmalloc.kernels.reporting import report
from shmalloc.kernels.shared_arrays import open_array
from shmalloc.structures.kernels.array_values import end_array_value, hold_array
from shmalloc.structures.kernels.entries import (
    BLOCK_HEADER,
    ST_ARRAYS,
    ST_PARAMETERS,
    add_block,
    end_structure,
    entry_at,
    make_structure,
    publish_structure,
)
from shmalloc.structures.kernels.hashtable import (
    D_BUCKETS,
    E_ARRAY,
    E_DATA,
    E_RECORD,
    FREE,
    NUMBER_MASK,
    USE_MASK,
    dict_find,
    dict_is_at,
    dict_place,
    dict_prepare,
    dict_shape,
    entry_of,
)
from shmalloc.structures.kernels.hashtable_writes import (
    dict_begin,
    dict_drop,
    dict_exchange,
    dict_reclaim,
)
from shmalloc.units import Claim, Memory, WordIndex
from shmalloc.words import fixed, load
from stress.machine.program import Program
from stress.programs.arrays import (
    HELD_SLOT,
    arrays_are_sound,
    check_opened,
    drop_noted,
    make_one,
    note_reference,
    open_known,
    with_array,
)
from stress.programs.held import slot_at
from stress.programs.initial_state import InitialState, catalogue
from stress.programs.structure_entries import end_every_structure

KIND = 6
KEY = 1
ENTRIES = 2
PAGE_BYTES = 512
PAGES = 10
NO_PAGES = 6  # two tables, an array and the dict: none is left
FULL = PAGE_BYTES // 8 // c.RE_STRIDE  # records of a table with one page


@kernel
def table_of(mem: Memory) -> WordIndex:
    """The table of the only structure."""
    return +fixed(mem, entry_at(mem, 0) + ST_PARAMETERS)


# --- operations, as a process makes them ---------------------------------------------------------
@kernel
def exchange_key(mem: Memory, claim: Claim, token: int) -> int:
    """Give the key the entry of ``token``, or with 0 remove it; then drop what it had."""
    d = table_of(mem)
    left = c.E_AGAIN
    while left == c.E_AGAIN:
        place, version, _ = dict_find(mem, d, KEY, 0)
        if place & NUMBER_MASK == 0 and token == 0:
            return 0
        left = dict_exchange(mem, claim, d, place, version, token)
    if left > 0:
        end_array_value(mem, claim, d, left)
    return left


@kernel
def put_held(mem: Memory, claim: Claim) -> int:
    """Let the dict have the array that we hold, and drop our own reference."""
    d = table_of(mem)
    token = dict_begin(mem, claim, d, KEY, 0)
    if token > 0:
        hold_array(mem, claim, d, token, mem[slot_at(mem, claim, HELD_SLOT)] - 1)
        exchange_key(mem, claim, token)
    return drop_noted(mem, claim)


@kernel
def remove(mem: Memory, claim: Claim) -> int:
    return exchange_key(mem, claim, 0)


@kernel
def open_value(mem: Memory, claim: Claim) -> int:
    """Open the array of the key; it is gone if the key changes meanwhile."""
    d = table_of(mem)
    while True:
        place, version, _ = dict_find(mem, d, KEY, 0)
        if place & NUMBER_MASK == 0:
            return 0
        at = entry_of(mem, d, place & NUMBER_MASK)
        pfn = load(mem, at + E_ARRAY) - 1
        generation = load(mem, at + E_RECORD + c.RE_GENERATION)
        if dict_is_at(mem, d, place, version):
            slot, sequence, _ = open_array(mem, claim, pfn, generation)
            if slot != c.E_STATE:
                check_opened(mem, claim, slot, pfn)
                return note_reference(mem, claim, slot, sequence)
            if dict_is_at(mem, d, place, version):
                report(mem, claim, c.X_LOST_OWNER, pfn, 1, 0)  # the dict has a reference


@kernel
def put_and_give_up(mem: Memory, claim: Claim) -> int:
    """A writer that is interrupted before its exchange."""
    d = table_of(mem)
    token = dict_begin(mem, claim, d, KEY, 0)
    if token > 0:
        hold_array(mem, claim, d, token, mem[slot_at(mem, claim, HELD_SLOT)] - 1)
        left = dict_drop(mem, claim, d, token)
        if left > 0:
            end_array_value(mem, claim, d, left)
    return drop_noted(mem, claim)


@kernel
def reclaim(mem: Memory, claim: Claim) -> int:
    """Free what dead writers left, as far as there is memory for it."""
    d = table_of(mem)
    result = 0
    token = dict_reclaim(mem, claim, d)
    while token != 0 and result == 0:
        result = end_array_value(mem, claim, d, token)
        token = dict_reclaim(mem, claim, d)
    return result


@kernel
def reclaim_and_drop(mem: Memory, claim: Claim) -> int:
    reclaim(mem, claim)
    return drop_noted(mem, claim)


@kernel
def remove_and_destroy(mem: Memory, claim: Claim) -> int:
    """Remove the key and destroy the dict, with a full table of our own and no free page: its array
    is left to who makes the next structure. Then there is a free record."""
    open_known(mem, claim)
    exchange_key(mem, claim, 0)
    at = entry_at(mem, 0)
    end_structure(mem, claim, at, load(mem, at))
    return drop_noted(mem, claim)


@kernel
def drop_and_make(mem: Memory, claim: Claim) -> int:
    """Make a structure, which first ends one that was left, and end it."""
    drop_noted(mem, claim)
    at = make_structure(mem, claim, KIND)
    return +at if at < 0 else end_structure(mem, claim, at, load(mem, at))


# --- what must hold ------------------------------------------------------------------------------
@kernel
def table_is_whole(mem: Memory, by: Claim) -> None:
    """After ``reclaim`` every entry is free or in the chain, and only the latter has an array."""
    d = mem[entry_at(mem, 0) + ST_ARRAYS]
    if d == 0:
        return
    reclaim(mem, by)
    dict_find(mem, d, KEY, 0)
    linked = 0
    number = mem[d + D_BUCKETS + 1]
    while number != 0:
        linked += 1
        number = mem[entry_of(mem, d, number) + 3]
    free = 0
    for entry in range(1, ENTRIES + 1):
        at = entry_of(mem, d, entry)
        is_free = mem[at] & USE_MASK == FREE
        free += int(is_free)
        if is_free and (mem[at + E_ARRAY] != 0 or mem[at + E_RECORD] != 0):
            report(mem, by, c.X_LOST_OWNER, c.AT_WORD | (at + E_RECORD), 0, mem[at + E_RECORD])
    if free + linked != ENTRIES:
        report(mem, by, c.I_PROGRESS, c.AT_WORD | d, ENTRIES, free + linked)


@kernel
def dict_arrays_are_sound(mem: Memory) -> int:
    """The dict gives back all that it had, and then all counts of arrays agree."""
    table_is_whole(mem, 0)
    end_every_structure(mem, 0)
    return arrays_are_sound(mem)


# --- states and programs -------------------------------------------------------------------------
@kernel
def make_table(mem: Memory, claim: Claim) -> int:
    """The only structure: a table without keys."""
    at = make_structure(mem, claim, KIND)
    block = add_block(mem, claim, at, 0)
    d = block + BLOCK_HEADER
    dict_prepare(mem, d, ENTRIES, 0)
    dict_shape(mem, d, ENTRIES, E_DATA, 0, 0)
    dict_place(mem, d, 0, d + D_BUCKETS + 4, ENTRIES)
    mem[at + ST_PARAMETERS] = d
    mem[at + ST_ARRAYS] = d
    return publish_structure(mem, claim, at)


def with_table(stored: bool, pages: int = PAGES) -> InitialState:
    """CPU 0 holds an array; ``stored``: and the dict has it."""
    state = with_array(pages=pages, page_bytes=PAGE_BYTES, structures=1)
    assert make_table(state.ram, 0) > 0
    if stored:
        d = table_of(state.ram)
        token = dict_begin(state.ram, 0, d, KEY, 0)
        assert (
            hold_array(state.ram, 0, d, token, state.ram[slot_at(state.ram, 0, HELD_SLOT)] - 1) == 0
        )
        assert exchange_key(state.ram, 0, token) == 0
    return state


def dict_array_put_remove(name: str) -> Program:
    return with_table(stored=False).program(
        name,
        (put_held, remove),
        check=dict_arrays_are_sound,
        story="an array comes into a dict, its maker drops it, and another CPU removes the key",
    )


def dict_array_open_remove(name: str) -> Program:
    state = with_table(stored=True)
    assert drop_noted(state.ram, 0) == 1
    return state.program(
        name,
        (open_value, remove),
        check=dict_arrays_are_sound,
        story="the dict has the last reference; one CPU opens the array while another removes it",
    )


def dict_array_replace_open(name: str) -> Program:
    state = with_table(stored=True)
    assert drop_noted(state.ram, 0) == 1
    assert make_one(state.ram, 0) >= 0
    return state.program(
        name,
        (put_held, open_value),
        check=dict_arrays_are_sound,
        story="an array replaces another one while a CPU opens what the key has",
    )


def dict_array_remove_remove(name: str) -> Program:
    state = with_table(stored=True)
    assert drop_noted(state.ram, 0) == 1
    return state.program(
        name,
        (remove, remove),
        check=dict_arrays_are_sound,
        story="two CPUs remove one key whose value is an array: one of them drops the reference",
    )


def dict_array_ending(name: str) -> Program:
    state = with_table(stored=True)
    ram = state.ram
    assert open_known(ram, 1) >= 0
    d = table_of(ram)
    place, version, _ = dict_find(ram, d, KEY, 0)
    token = dict_exchange(ram, 0, d, place, version, 0)
    at = entry_of(ram, d, token & NUMBER_MASK)
    assert ram[at + 1] == owner_word(ram, 0)
    ram[at + 1] = 0
    return state.program(
        name,
        (reclaim_and_drop, reclaim_and_drop),
        check=dict_arrays_are_sound,
        story="an entry that has left still has its array, as its writer had no memory or died:"
        " one of two CPUs drops it",
    )


def without_memory() -> InitialState:
    """The dict has the array; no page is free, and CPU 1 has one free record."""
    state = with_table(True, NO_PAGES)
    for _ in range(FULL - 1):
        assert open_known(state.ram, 1) >= 0
    return state


def dict_array_destroy(name: str) -> Program:
    return without_memory().program(
        name,
        (drop_and_make, remove_and_destroy),
        check=dict_arrays_are_sound,
        story="a CPU has no record by which to drop what the dict has: the next one does it",
    )


def dict_array_give_up(name: str) -> Program:
    state = with_table(stored=False)
    assert open_known(state.ram, 1) >= 0
    return state.program(
        name,
        (put_and_give_up, drop_noted),
        check=dict_arrays_are_sound,
        story="a writer gives up an entry that has an array already, while another CPU drops it",
    )


PROGRAMS = catalogue(
    "structure",
    dict_array_put_remove,
    dict_array_open_remove,
    dict_array_replace_open,
    dict_array_remove_remove,
    dict_array_ending,
    dict_array_destroy,
    dict_array_give_up,
)
