"""Programs about the array table (kernels/array_table.py): a stack of entries, counted references.

One page of two entries, which only the table owns. A CPU notes each entry that it opens in one of
its slots, as it does for objects (held.py).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.array_table import (
    add_reference,
    close_entry,
    drop_reference,
    grow_entries,
    open_entry,
)
from shmalloc.kernels.audit import audit
from shmalloc.kernels.reporting import report
from shmalloc.kernels.zone import frame_at
from shmalloc.units import Cpu, Memory, WordIndex
from shmalloc.words import fixed, load_relaxed
from stress.machine.program import Program
from stress.programs.checks import first_violation, objects_held_twice, page_locks_held
from stress.programs.held import FIRST_OBJECT, OBJECTS, RESULT, let_go, note_result, slot_at
from stress.programs.initial_state import InitialState, catalogue

ENTRIES = 2  # in a page of 64 bytes
DATA = 77  # what every array here points to
FIRST_GENERATION = 1
NONE_LEFT = 1  # what ``note_result`` keeps of 0 references


@kernel
def open_to(mem: Memory, cpu: Cpu, slot: int) -> int:
    """Open an array and note its entry."""
    entry = open_entry(mem, cpu, DATA, 0, 0)
    if entry >= 0:
        mem[slot_at(mem, cpu, FIRST_OBJECT + slot)] = entry
    return entry


@kernel
def open_one(mem: Memory, cpu: Cpu) -> int:
    return open_to(mem, cpu, 0)


@kernel
def open_two_close_one(mem: Memory, cpu: Cpu) -> int:
    """The other half of an ABA: the first entry is back on the stack, the second is not."""
    first = open_to(mem, cpu, 0)
    open_to(mem, cpu, 1)
    if first >= 0:
        entry = let_go(mem, cpu, FIRST_OBJECT)
        drop_reference(mem, cpu, entry, FIRST_GENERATION)
        close_entry(mem, cpu, entry)
    return first


@kernel
def first_entry(mem: Memory) -> WordIndex:
    return frame_at(mem, 0)


@kernel
def open_by_handle(mem: Memory, cpu: Cpu) -> int:
    """Open the first array of the first entry by its handle; it may not exist yet."""
    references = add_reference(mem, cpu, first_entry(mem), FIRST_GENERATION)
    if references > 0:
        data = load_relaxed(mem, first_entry(mem) + c.AR_DATA)
        if data != DATA:
            report(mem, cpu, c.X_PAYLOAD, first_entry(mem), DATA, data)
    return references


@kernel
def drop_by_handle(mem: Memory, cpu: Cpu) -> int:
    return note_result(mem, cpu, drop_reference(mem, cpu, first_entry(mem), FIRST_GENERATION))


@kernel
def held_entries(mem: Memory, entry: WordIndex) -> int:
    """Number of slots that hold ``entry``; for ``entry`` 0, that hold any entry."""
    held = 0
    for slot in range(fixed(mem, c.H_CPUS) * OBJECTS):
        noted = mem[slot_at(mem, slot // OBJECTS, FIRST_OBJECT + slot % OBJECTS)]
        if noted != 0 and (entry == 0 or noted == entry):
            held += 1
    return held


@kernel
def take_all_free(mem: Memory) -> int:
    """Pop every entry off the stack; returns their number. Reports an entry that is also held."""
    free = 0
    for _ in range(ENTRIES + 1):
        entry = open_entry(mem, 0, 0, 0, 0)
        if entry != c.E_NOMEM:
            free += 1
            if held_entries(mem, entry) != 0:
                report(mem, 0, c.X_DOUBLE_ALLOC, entry, 0, 1)
    return free


@kernel
def pages_stay_sound(mem: Memory) -> int:
    """Stages 1 and 3 of all checks (checks.py): nothing is reported and the pages recount."""
    if mem[c.H_REPORT_COUNT] == 0 and page_locks_held(mem) == 0:
        audit(mem, 0)
    return first_violation(mem)


@kernel
def entries_are_sound(mem: Memory) -> int:
    """No entry is held twice, or held and free; held and free entries together are all of them."""
    if pages_stay_sound(mem) != 0 or objects_held_twice(mem) != 0:
        return first_violation(mem)
    free = take_all_free(mem)
    if free + held_entries(mem, 0) != ENTRIES:
        report(mem, 0, c.I_CONSERVATION, 0, ENTRIES, free + held_entries(mem, 0))
    return first_violation(mem)


@kernel
def all_dropped(mem: Memory) -> int:
    """The first entry has no references left, and exactly one CPU was told that none is left."""
    if pages_stay_sound(mem) != 0:
        return first_violation(mem)
    if mem[first_entry(mem) + c.AR_COUNT] & c.AR_REFS_MASK != 0:
        return c.X_PAYLOAD
    told = 0
    for cpu in range(fixed(mem, c.H_CPUS)):
        if mem[slot_at(mem, cpu, RESULT)] == NONE_LEFT:
            told += 1
    return 0 if told == 1 else c.X_PAYLOAD


def with_entries() -> InitialState:
    """The two entries on the stack, the first one of the page on top; no CPU holds the page."""
    state = InitialState.booted(1).take(0).forget(0)
    made = grow_entries(state.ram, 0, 0)
    assert made == ENTRIES, f"{made} entries in a page"
    return state


def take_return(name: str) -> Program:
    return with_entries().program(
        name,
        (open_one, open_two_close_one),
        check=entries_are_sound,
        story="between load2 and the swap of open_entry, the other CPU takes two entries and"
        " returns one: the head is the same again, but the entry behind it is in use; only the"
        " version tells them apart (ABA)",
    )


def take_take(name: str) -> Program:
    return with_entries().program(
        name,
        (open_one, open_one),
        check=entries_are_sound,
        story="two CPUs open an array at once: both swap the head of the stack from one reading",
    )


def open_read(name: str) -> Program:
    return with_entries().program(
        name,
        (open_one, open_by_handle),
        check=entries_are_sound,
        story="one CPU opens an array by its handle while the other creates it: the store of"
        " AR_COUNT publishes the data word; add_reference reads it only after swapping the count",
    )


def drop_drop(name: str) -> Program:
    state = with_entries()
    entry = open_entry(state.ram, 0, DATA, 0, 0)
    add_reference(state.ram, 1, entry, FIRST_GENERATION)
    return state.program(
        name,
        (drop_by_handle, drop_by_handle),
        check=all_dropped,
        story="two CPUs drop the last two references: exactly one learns that its reference was"
        " the last; a lost decrement would keep the array for ever",
    )


PROGRAMS = catalogue("arrays", take_return, take_take, open_read, drop_drop)
