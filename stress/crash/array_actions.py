"""What a CPU does with arrays in its crash cases, the states, and what must hold afterwards.

The check counts the records of every table (stress/programs/arrays.py), ends every reference, and
then holds pages and objects to what all cases hold them to.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.array_recovery import copy_references, reap_tickets, recover_arrays
from shmalloc.kernels.array_table import grow
from shmalloc.kernels.reporting import report
from shmalloc.kernels.shared_arrays import drop_array, exchange_array, make_array
from shmalloc.units import Claim, Memory
from shmalloc.words import fixed
from stress.crash.initial_states import pages
from stress.crash.kernels import has_died, nothing_is_lost, untolerated
from stress.programs.arrays import (
    ARRAY,
    counts_agree,
    drop_noted,
    end_all,
    make_one,
    next_page,
    open_known,
    send_noted,
)
from stress.programs.checks import first_violation, page_locks_held
from stress.programs.held import slot_at
from stress.programs.initial_state import InitialState, reshaped
from stress.programs.structure_dict_arrays import table_is_whole
from stress.programs.structure_entries import end_every_structure

ROOM = 12


@kernel
def array_round(mem: Memory, claim: Claim) -> int:
    """Make an array, exchange it for a larger one, and drop that; the table grows on the way."""
    first, number, _, _ = make_array(mem, claim, 0)
    slot, sequence, _, _ = exchange_array(mem, claim, 1, first, number)
    return slot if slot < 0 else drop_array(mem, claim, slot, sequence)


@kernel
def open_round(mem: Memory, claim: Claim) -> int:
    """Open the array that another CPU drops meanwhile, and drop it."""
    slot = open_known(mem, claim)
    return slot if slot < 0 else drop_noted(mem, claim)


@kernel
def copy_and_end(mem: Memory, claim: Claim) -> int:
    """Before a fork that fails: the last slot's claim gets our references, and ends again."""
    child = fixed(mem, c.H_CPUS) - 1
    copied, _, _ = copy_references(mem, claim, child)
    recover_arrays(mem, claim, child)
    return copied


@kernel
def reap_absent_tickets(mem: Memory, claim: Claim) -> int:
    """Reap the ticket of the last slot's claim, and drop our own reference."""
    reap_tickets(mem, claim, fixed(mem, c.H_CPUS) - 1, 1, 0)
    return drop_noted(mem, claim)


# --- what must hold ------------------------------------------------------------------------------
@kernel
def arrays_survive(mem: Memory) -> int:
    """The dead hold nothing, all counts agree, and everything can be freed."""
    if untolerated(mem) != 0:
        return untolerated(mem)
    if page_locks_held(mem) != 0 or dead_hold_none(mem) != 0 or counts_agree(mem) != 0:
        return first_violation(mem)
    end_all(mem, int(has_died(mem, 0)))  # as below
    return nothing_is_lost(mem)


@kernel
def dict_arrays_survive(mem: Memory) -> int:
    """The same, once a living CPU has freed what is left in the dict, and ended it."""
    if untolerated(mem) != 0:
        return untolerated(mem)
    by = int(has_died(mem, 0))  # one of the two with a table: there may be no memory for another
    table_is_whole(mem, by)
    end_every_structure(mem, by)
    return arrays_survive(mem)


@kernel
def dead_hold_none(mem: Memory) -> int:
    """Of the tables of the dead only orphaned tickets are left."""
    for cpu in range(fixed(mem, c.H_CPUS)):
        root = mem[fixed(mem, c.H_AT_REFERENCES) + cpu] & ~c.TABLE_GROWS
        if has_died(mem, cpu) and root != 0:
            page = mem[root + c.RT_FIRST]
            for at in range(page, page + (1 << fixed(mem, c.H_PAGE_SHIFT)), c.RE_STRIDE):
                state = mem[at] & c.RE_STATE_MASK
                if page != 0 and state != c.RE_FREE and state != c.RE_ORPHAN:
                    report(mem, cpu, c.X_LOST_OWNER, c.AT_WORD | at, 0, mem[at])
    return first_violation(mem)


# --- states --------------------------------------------------------------------------------------
def with_one(opened_by: int = -1, sent: bool = False) -> InitialState:
    """CPU 0 holds an array, ``opened_by`` as well; ``sent``: and a ticket of it."""
    state = pages(ROOM)
    for cpu in (0, 1):
        assert grow(state.ram, cpu, cpu) == 0, "no pages for a table"
    state.ram[slot_at(state.ram, 0, ARRAY)] = pfn = next_page(state)
    assert make_one(state.ram, 0) == pfn
    if opened_by >= 0:
        assert open_known(state.ram, opened_by) >= 0
    if sent:
        assert send_noted(state.ram, 0) >= 0
        assert drop_noted(state.ram, 0) > 0
    return state


def with_absent() -> InitialState:
    """CPU 0 holds an array; no process runs on the last slot."""
    with reshaped(more_cpus=1):
        return with_one()


def with_orphan() -> InitialState:
    """The same, and the last slot's claim ended with a ticket of it in transit."""
    state = with_absent()
    absent = state.absent
    assert open_known(state.ram, absent) >= 0
    sent = send_noted(state.ram, absent)
    assert sent >= 0
    recover_arrays(state.ram, 0, absent)
    return state
