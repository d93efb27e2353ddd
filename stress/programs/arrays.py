"""Programs about references to arrays (array_table.py, shared_arrays.py): counts and records.

CPU 0 and CPU 1 have tables from the start. A CPU notes the slot and the sequence number of a
reference that it holds in its work area; the check counts the records of all tables itself, ends
every reference, and then all pages must be free. Where a fork is about to happen, CHILD is the
claim of the new process, which a process that died has had before.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.array_recovery import (
    copy_references,
    give_table_back,
    reap_tickets,
    recover_arrays,
)
from shmalloc.kernels.array_table import grow
from shmalloc.kernels.audit import audit, audit_teardown
from shmalloc.kernels.bits import order_of, type_of
from shmalloc.kernels.descriptor import head_of
from shmalloc.kernels.pcp import drain_all
from shmalloc.kernels.reporting import report
from shmalloc.kernels.shared_arrays import (
    drop_array,
    exchange_array,
    load_array,
    make_array,
    open_array,
    send_array,
)
from shmalloc.kernels.zone import descriptor_at, pfn_of_word
from shmalloc.units import Claim, Memory, Order, Pfn, WordIndex
from shmalloc.words import fixed, load2
from stress.machine.program import Program
from stress.programs.checks import first_violation, page_locks_held
from stress.programs.held import slot_at
from stress.programs.initial_state import InitialState, catalogue

PAGES = 8  # two tables of two pages, and arrays of up to two
FIRST_GENERATION = 1
CHILD = 2
TABLE_PAGES = 2  # of records, at most
# Words of a CPU's work area, besides those of held.py.
OPENED = 6  # the result of an open: 1 + slot, or negative
HELD_SLOT = 8  # 1 + slot of the reference that the CPU holds
HELD_NUMBER = 9
TICKET = 10  # record of the ticket that the CPU sent
TICKET_NUMBER = 11
ARRAY = 12  # of CPU 0: pfn of the array that all CPUs know


# --- what a CPU does -----------------------------------------------------------------------------
@kernel
def note_reference(mem: Memory, claim: Claim, slot: int, sequence: int) -> int:
    """Note a reference, or the code that none was given."""
    mem[slot_at(mem, claim, OPENED)] = slot + 1 if slot >= 0 else slot
    if slot >= 0:
        mem[slot_at(mem, claim, HELD_NUMBER)] = sequence
        mem[slot_at(mem, claim, HELD_SLOT)] = slot + 1
    return slot


@kernel
def make_noted(mem: Memory, claim: Claim, order: Order) -> Pfn:
    slot, sequence, data, _ = make_array(mem, claim, order)
    note_reference(mem, claim, slot, sequence)
    return +slot if slot < 0 else pfn_of_word(mem, data)


@kernel
def make_one(mem: Memory, claim: Claim) -> Pfn:
    return make_noted(mem, claim, 0)


@kernel
def drop_noted(mem: Memory, claim: Claim) -> int:
    """Drop the noted reference; what is left, which the array program ``drop_drop`` checks."""
    slot = mem[slot_at(mem, claim, HELD_SLOT)] - 1
    mem[slot_at(mem, claim, HELD_SLOT)] = 0
    left = drop_array(mem, claim, slot, mem[slot_at(mem, claim, HELD_NUMBER)])
    if left < 0:
        report(mem, claim, c.X_LOST_OWNER, slot, 0, left)
    return left


@kernel
def known_array(mem: Memory) -> Pfn:
    return mem[slot_at(mem, 0, ARRAY)]


@kernel
def check_opened(mem: Memory, claim: Claim, slot: int, pfn: Pfn) -> int:
    """An opened array has pages, which belong to it."""
    if slot >= 0:
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        if type_of(w0) != c.T_ALLOCATED or w1 & c.OWNER_ARRAY == 0:
            report(mem, claim, c.X_PAYLOAD, pfn, c.T_ALLOCATED, w0)
    return slot


@kernel
def open_known(mem: Memory, claim: Claim) -> int:
    """Open the first array of the known page by its handle; it may not exist yet, or any more."""
    pfn = known_array(mem)
    slot, sequence, _ = open_array(mem, claim, pfn, FIRST_GENERATION)
    check_opened(mem, claim, slot, pfn)
    return note_reference(mem, claim, slot, sequence)


@kernel
def load_ticket(mem: Memory, claim: Claim) -> int:
    """Load the bytes that CPU 0 sent; then drop what was held before."""
    pfn = known_array(mem)
    ticket = mem[slot_at(mem, 0, TICKET)]
    number = mem[slot_at(mem, 0, TICKET_NUMBER)]
    slot, sequence, _ = load_array(mem, claim, ticket, number, pfn, FIRST_GENERATION)
    check_opened(mem, claim, slot, pfn)
    return note_reference(mem, claim, slot, sequence)


@kernel
def send_noted(mem: Memory, claim: Claim) -> int:
    """Send the held array."""
    ticket, number = send_array(mem, claim, mem[slot_at(mem, claim, HELD_SLOT)] - 1, 1)
    mem[slot_at(mem, claim, TICKET_NUMBER)] = number
    mem[slot_at(mem, claim, TICKET)] = ticket
    return ticket


@kernel
def reap_of_zero(mem: Memory, claim: Claim) -> int:
    """CPU 0 has ended, and its tickets have waited long enough."""
    return reap_tickets(mem, claim, 0, 1, 0)


@kernel
def copy_for_child(mem: Memory, claim: Claim) -> int:
    """Before a fork: CHILD gets what we hold."""
    copied, _, _ = copy_references(mem, claim, CHILD)
    return copied


@kernel
def drop_and_make(mem: Memory, claim: Claim) -> Pfn:
    slot = mem[slot_at(mem, claim, HELD_SLOT)] - 1
    number = mem[slot_at(mem, claim, HELD_NUMBER)]
    mem[slot_at(mem, claim, HELD_SLOT)] = 0
    made, sequence, data, _ = exchange_array(mem, claim, 0, slot, number)
    note_reference(mem, claim, made, sequence)
    return +made if made < 0 else pfn_of_word(mem, data)


# --- what must hold ------------------------------------------------------------------------------
@kernel
def record_of(mem: Memory, claim: Claim, slot: int) -> WordIndex:
    """The record of a slot in a table of one root, without the allocator's own walk; 0: none."""
    root = mem[fixed(mem, c.H_AT_REFERENCES) + claim] & ~c.TABLE_GROWS
    each = (1 << fixed(mem, c.H_PAGE_SHIFT)) // c.RE_STRIDE
    if root == 0 or mem[root + c.RT_FIRST + slot // each] == 0:
        return 0
    return mem[root + c.RT_FIRST + slot // each] + slot % each * c.RE_STRIDE


@kernel
def is_reference(mem: Memory, record: WordIndex, pfn: Pfn) -> bool:
    """Whether a record counts as a reference to the array at ``pfn``, by the entry's last word."""
    word = mem[record]
    tag = mem[fixed(mem, c.H_AT_ARRAYS) + pfn * c.AR_STRIDE + c.AR_TAG]
    if word == 0 or word >> c.RE_PFN_SHIFT != pfn or word & c.RE_STATE_MASK == c.RE_MAKING:
        return False
    low = (mem[record + c.RE_SEQUENCE] & c.TAG_SEQUENCE_MASK) << 1
    said = tag >> 1 << 1 == record << c.TAG_RECORD_SHIFT - 1 | low
    state = word & c.RE_STATE_MASK
    if state == c.RE_HELD or state == c.RE_TRANSIT or state == c.RE_ORPHAN:
        return not (said and tag & 1 == c.TAG_DROPPED)
    return said and tag & 1 == c.TAG_ADDED


@kernel
def counts_agree(mem: Memory) -> int:
    """Each entry counts the records of its page, and has pages exactly if it has a reference."""
    for pfn in range(fixed(mem, c.H_PAGES)):
        entry = fixed(mem, c.H_AT_ARRAYS) + pfn * c.AR_STRIDE
        found = 0
        for cpu in range(fixed(mem, c.H_CPUS)):
            for slot in range(TABLE_PAGES * (1 << fixed(mem, c.H_PAGE_SHIFT)) // c.RE_STRIDE):
                record = record_of(mem, cpu, slot)
                if record != 0 and is_reference(mem, record, pfn):
                    found += 1
        references = mem[entry + c.AR_COUNT] & c.AR_REFS_MASK
        if references != found:
            report(mem, 0, c.I_CONSERVATION, pfn, found, references)
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        has_pages = type_of(w0) == c.T_ALLOCATED and w1 & c.OWNER_ARRAY != 0
        if references != 0 and not has_pages:
            report(mem, 0, c.X_PAYLOAD, pfn, c.T_ALLOCATED, w0)
        if has_pages and references == 0 and not continues(mem, pfn):
            report(mem, 0, c.X_LOST_OWNER, pfn, 1, order_of(w0))
    return first_violation(mem)


@kernel
def continues(mem: Memory, pfn: Pfn) -> bool:
    """Whether the page before belongs to the same array: a later block of a range or a run."""
    if pfn == 0:
        return False
    before = head_of(mem, pfn - 1)
    return before >= 0 and mem[descriptor_at(mem, pfn) + 1] == mem[descriptor_at(mem, before) + 1]


@kernel
def end_all(mem: Memory, by: Claim) -> None:
    """End every reference and free every table.

    Tickets come last: one is reaped by a reference of ours, for which we may have no other room.
    """
    for claim in range(fixed(mem, c.H_CPUS)):
        recover_arrays(mem, by, claim)
    for claim in range(fixed(mem, c.H_CPUS)):
        reap_tickets(mem, by, claim, 1, 0)
    for claim in range(fixed(mem, c.H_CPUS)):
        if give_table_back(mem, by, claim) != 0:
            report(mem, by, c.I_TEARDOWN, c.AT_WORD | claim, 0, c.E_BUSY)


@kernel
def arrays_are_sound(mem: Memory) -> int:
    """Nothing is reported, all counts agree, and everything can be freed."""
    if mem[c.H_REPORT_COUNT] != 0 or page_locks_held(mem) != 0 or counts_agree(mem) != 0:
        return first_violation(mem)
    if audit(mem, 0) != 0:
        return first_violation(mem)
    end_all(mem, 0)
    drain_all(mem, 0)
    audit_teardown(mem, 0)
    return first_violation(mem)


@kernel
def one_was_last(mem: Memory) -> int:
    """Both references are gone, and with them the pages."""
    if mem[fixed(mem, c.H_AT_ARRAYS) + known_array(mem) * c.AR_STRIDE] & c.AR_REFS_MASK != 0:
        return c.X_PAYLOAD
    return arrays_are_sound(mem)


# --- states and programs -------------------------------------------------------------------------
def with_tables(pages: int = PAGES, **changes: int) -> InitialState:
    """Both CPUs have a table, and nothing else is allocated; the known page is the next one."""
    state = InitialState.booted(pages, **changes)
    for cpu in (0, 1):
        assert grow(state.ram, cpu, cpu) == 0, "no pages for a table"
    state.ram[slot_at(state.ram, 0, ARRAY)] = next_page(state)
    return state


def next_page(state: InitialState) -> int:
    """The page that CPU 0 would be given next."""
    copy = state.ram.array.copy()
    pfn = int(make_one(state.ram, 0))
    state.ram.array[:] = copy
    assert pfn >= 0, "no page is left"
    return pfn


def with_array(sent: bool = False, **changes: int) -> InitialState:
    """The same, and CPU 0 holds an array; ``sent``: and a ticket of it."""
    state = with_tables(**changes)
    assert make_one(state.ram, 0) == known_array(state.ram)
    if sent:
        assert send_noted(state.ram, 0) >= 0
    return state


def open_read(name: str) -> Program:
    return with_tables().program(
        name,
        (make_one, open_known),
        check=arrays_are_sound,
        story="one CPU opens an array by a handle that it guessed, while the other makes it: the"
        " store of AR_COUNT publishes what the entry and the record say",
    )


def open_drop(name: str) -> Program:
    return with_array().program(
        name,
        (drop_noted, open_known),
        check=arrays_are_sound,
        story="the last reference is dropped while another CPU opens the array: either it has the"
        " array, or it is told that it is gone",
    )


def drop_drop(name: str) -> Program:
    state = with_array()
    assert open_known(state.ram, 1) >= 0
    return state.program(
        name,
        (drop_noted, drop_noted),
        check=one_was_last,
        story="two CPUs drop the last two references: exactly one frees the pages; a lost"
        " decrement would keep the array for ever",
    )


def drop_reuse(name: str) -> Program:
    return with_array().program(
        name,
        (drop_and_make, open_known),
        check=arrays_are_sound,
        story="a page is freed and becomes another array while a CPU opens it by the first one's"
        " handle: the generation refuses it",
    )


def load_load(name: str) -> Program:
    state = with_array(sent=True)
    drop_noted(state.ram, 0)
    return state.program(
        name,
        (load_ticket, load_ticket),
        check=arrays_are_sound,
        story="two CPUs load the same bytes at once: each has a reference, the ticket ends once",
    )


def load_reap(name: str) -> Program:
    state = with_array(sent=True)
    recover_arrays(state.ram, 1, 0)
    return state.program(
        name,
        (load_ticket, reap_of_zero),
        check=arrays_are_sound,
        story="an orphaned ticket is reaped while another CPU loads it: it has the array, or is"
        " told that it is gone",
    )


def copy_open(name: str) -> Program:
    state = with_array(cpus=CHILD + 1)
    assert copy_for_child(state.ram, 0) == 1
    recover_arrays(state.ram, 0, CHILD)
    return state.program(
        name,
        (copy_for_child, open_known),
        check=arrays_are_sound,
        story="a reference is copied for a child, whose claim had a copy of it before; another CPU"
        " settles the drop of that one: the new one has another number, and stays",
    )


def copy_load(name: str) -> Program:
    state = with_array(cpus=CHILD + 1)
    assert open_known(state.ram, 0) >= 0 and open_known(state.ram, CHILD) >= 0
    assert send_noted(state.ram, CHILD) >= 0
    for word in (TICKET, TICKET_NUMBER):
        state.ram[slot_at(state.ram, 0, word)] = state.ram[slot_at(state.ram, CHILD, word)]
    recover_arrays(state.ram, 0, CHILD)
    return state.program(
        name,
        (copy_for_child, load_ticket),
        check=arrays_are_sound,
        story="two references are copied for a child into a table where a ticket of the claim's"
        " last process is, which another CPU loads: one of the copies gets another slot",
    )


PROGRAMS = catalogue(
    "arrays",
    open_read,
    open_drop,
    drop_drop,
    drop_reuse,
    load_load,
    load_reap,
    copy_open,
    copy_load,
)
