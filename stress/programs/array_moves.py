"""Programs about arrays that are larger than a block, and arrays that are sent (arrays.py)."""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.shared_arrays import drop_array, load_array, make_run
from shmalloc.units import Claim, Memory
from shmalloc.words import fixed
from stress.machine.program import Program
from stress.programs.arrays import (
    FIRST_GENERATION,
    TICKET,
    TICKET_NUMBER,
    arrays_are_sound,
    drop_noted,
    known_array,
    open_known,
    send_noted,
    with_array,
    with_tables,
)
from stress.programs.held import page_put, page_take, slot_at
from stress.programs.initial_state import catalogue


@kernel
def run_round(mem: Memory, claim: Claim) -> int:
    """Make an array of a whole block and one page more, and drop it."""
    pages = (1 << fixed(mem, c.H_MAX_ORDER)) + 1
    slot, sequence, _, _ = make_run(mem, claim, pages, 1 << fixed(mem, c.H_MAX_ORDER))
    return slot if slot < 0 else drop_array(mem, claim, slot, sequence)


@kernel
def send_round(mem: Memory, claim: Claim) -> int:
    """Send the array and drop it; the ticket keeps it."""
    send_noted(mem, claim)
    return drop_noted(mem, claim)


@kernel
def load_noted(mem: Memory, claim: Claim) -> int:
    """Load what CPU 0 sent, if it did, and drop it."""
    ticket = mem[slot_at(mem, 0, TICKET)]
    number = mem[slot_at(mem, 0, TICKET_NUMBER)]
    slot, sequence, _ = load_array(mem, claim, ticket, number, known_array(mem), FIRST_GENERATION)
    return slot if slot < 0 else drop_array(mem, claim, slot, sequence)


@kernel
def page_round(mem: Memory, claim: Claim) -> int:
    """Takes a page, writes to it, and frees it; there may be none."""
    page_take(mem, claim, 0, 0)
    return page_put(mem, claim, 0)


def run_take(name: str) -> Program:
    return with_tables(max_order=1).program(
        name,
        (run_round, page_round),
        check=arrays_are_sound,
        story="an array of a whole block and one page is taken under one hold of the zone lock and"
        " dropped past the lists, while another CPU takes one of the pages: find_run looks without"
        " the lock, and take_run must look again under it",
    )


def send_open(name: str) -> Program:
    return with_array().program(
        name,
        (send_round, open_known),
        check=arrays_are_sound,
        story="an array is sent and dropped while another CPU opens it: the ticket counts before it"
        " can be found, so the drop of the sender's own reference never frees what was sent",
    )


PROGRAMS = catalogue("arrays", run_take, send_open)
