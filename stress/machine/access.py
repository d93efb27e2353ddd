"""What a posted access does to memory: the meaning of the words, once, for both model engines.

The scheduler performs the access and leaves its value in VALUE (and VALUE1 for the second word of
load2), where the CPU finds it when it continues. The memory model decides which words a CPU sees or
changes at once (buffers.py); races.py knows what orders its accesses.
"""

from __future__ import annotations

from shmalloc.engine import ops
from shmalloc.engine.control import inlined, scheduler
from shmalloc.units import Control
from stress.machine import block as cb
from stress.machine.choices import do_choose, do_wait, do_wake
from stress.machine.parking import OWN, begin_spin, watch
from stress.machine.primitives import added, put, read_word
from stress.machine.races import check_access, check_store, swapped_both
from stress.machine.visibility import at_once, value_seen, write


@inlined
def outside(ctl: Control, op: int, at: int) -> int:
    """1 if word ``at`` may not be accessed: out of range, or a pair at an odd word."""
    if op > ops.LAST_ADDRESSED:
        return 0
    if at < 0 or at >= ctl[cb.WORDS]:
        return 1
    if op != ops.OP_CAS2 and op != ops.OP_LOAD2:
        return 0
    return at & 1


@scheduler
def fault(ctl: Control, cpu: int, outcome: int, at: int) -> None:
    ctl[cb.OUTCOME] = outcome
    ctl[cb.FAULT_CPU] = cpu
    ctl[cb.FAULT_AT] = at


@scheduler
def never_written(ctl: Control, cpu: int, at: int) -> int:
    """1 if word ``at`` was not written in this schedule, as far as ``cpu`` sees."""
    table = ctl[cb.UNDEFINED_AT] + 2 * at
    if ctl[table] == 0 or ctl[table + 1] == ctl[cb.EPOCH]:
        return 0
    ctl[cb.FORWARDED] = 0
    if at_once(ctl) == 0:
        value_seen(ctl, cpu, at, 0)  # its own store may still be in its buffer
    return 1 - ctl[cb.FORWARDED]


@scheduler
def undefined(ctl: Control, cpu: int, op: int, at: int) -> int:
    """1 if the access reads a word that was never written."""
    if ops.LAST_READ < op <= ops.LAST_STORE or op == ops.OP_WAKE:
        return 0
    if never_written(ctl, cpu, at) == 1:
        return 1
    return never_written(ctl, cpu, at + 1) if op == ops.OP_CAS2 or op == ops.OP_LOAD2 else 0


@inlined
def do_read(ctl: Control, cpu: int, op: int, at: int) -> None:
    if at_once(ctl) == 1:
        ctl[cb.VALUE + cpu] = read_word(ctl, at)
        if op == ops.OP_LOAD2:
            ctl[cb.VALUE1 + cpu] = read_word(ctl, at + 1)
    else:
        ctl[cb.FORWARDED] = 0
        ctl[cb.VALUE + cpu] = value_seen(ctl, cpu, at, 0)
        if op == ops.OP_LOAD2:
            ctl[cb.VALUE1 + cpu] = value_seen(ctl, cpu, at + 1, 1)
    if ctl[cb.PARKING] == 1:
        watch(ctl, cpu, watched(ctl, at, 0), ctl[cb.VALUE + cpu])
        if op == ops.OP_LOAD2:
            watch(ctl, cpu, watched(ctl, at + 1, 1), ctl[cb.VALUE1 + cpu])


@scheduler
def watched(ctl: Control, at: int, half: int) -> int:
    """What must change for the last read to find another value: memory, or the CPU's own buffer."""
    served = at_once(ctl) == 0 and ctl[cb.FORWARDED] >> half & 1 == 1
    return OWN + at if served else at


@inlined
def do_store(ctl: Control, cpu: int, op: int, at: int) -> None:
    value = ctl[cb.ARG + cpu]
    ctl[cb.VALUE + cpu] = value
    ctl[cb.DIRTY + cpu] = 1
    entry = write(ctl, cpu, op, at, value)
    if ctl[cb.CLOCKED] == 1:
        check_store(ctl, cpu, op, at, entry)


@inlined
def swap(ctl: Control, cpu: int, at: int) -> int:
    """``cas``: 1 if the word held ARG and is ARG1 now."""
    if read_word(ctl, at) != ctl[cb.ARG + cpu]:
        return 0
    put(ctl, at, ctl[cb.ARG1 + cpu])
    return 1


@scheduler
def swap_pair(ctl: Control, cpu: int, at: int) -> int:
    """``cas2``: 1 if the pair held ARG, ARG1 and is ARG2, ARG3 now."""
    low = read_word(ctl, at)
    high = read_word(ctl, at + 1)
    if low != ctl[cb.ARG + cpu] or high != ctl[cb.ARG1 + cpu]:
        return 0
    put(ctl, at, ctl[cb.ARG2 + cpu])
    put(ctl, at + 1, ctl[cb.ARG3 + cpu])
    if ctl[cb.CLOCKED] == 1 and low != ctl[cb.ARG2 + cpu] and high != ctl[cb.ARG3 + cpu]:
        swapped_both(ctl, at)
    return 1


@scheduler
def updated(ctl: Control, op: int, found: int, operand: int) -> int:
    """What a word that held ``found`` becomes."""
    if op == ops.OP_FETCH_ADD:
        return added(ctl, found, operand)
    if op == ops.OP_EXCHANGE:
        return operand
    if op == ops.OP_FETCH_AND:
        return found & operand
    return found | operand


@inlined
def do_update(ctl: Control, cpu: int, op: int, at: int) -> None:
    """An atomic read-modify-write. What it found is also what a spinning CPU waits to change."""
    found = read_word(ctl, at)
    if op == ops.OP_CAS:
        ctl[cb.VALUE + cpu] = swap(ctl, cpu, at)
    elif op == ops.OP_CAS2:
        second = read_word(ctl, at + 1)
        ctl[cb.VALUE + cpu] = swap_pair(ctl, cpu, at)
        if ctl[cb.PARKING] == 1:
            note_update(ctl, cpu, at + 1, second)
    else:
        ctl[cb.VALUE + cpu] = found
        put(ctl, at, updated(ctl, op, found, ctl[cb.ARG + cpu]))
    if ctl[cb.PARKING] == 1:
        note_update(ctl, cpu, at, found)


@scheduler
def note_update(ctl: Control, cpu: int, at: int, found: int) -> None:
    watch(ctl, cpu, at, found)
    if read_word(ctl, at) != found:
        ctl[cb.DIRTY + cpu] = 1


@inlined
def access(ctl: Control, cpu: int, op: int, at: int) -> None:
    """Perform the access that ``cpu`` posted; if it may not be made, OUTCOME says so."""
    if outside(ctl, op, at) == 1:
        fault(ctl, cpu, cb.MEMORY, at)
        return
    if ctl[cb.UNDEFINED_AT] != 0 and op <= ops.OP_WAIT and undefined(ctl, cpu, op, at) == 1:
        fault(ctl, cpu, cb.UNDEFINED, at)
        return
    if ctl[cb.PARKING] == 1 and ctl[cb.RESUMING + cpu] == 1:
        begin_spin(ctl, cpu)
    if op <= ops.LAST_READ:
        do_read(ctl, cpu, op, at)
    elif op <= ops.LAST_STORE:
        do_store(ctl, cpu, op, at)
        return
    elif op <= ops.LAST_WRITE:
        do_update(ctl, cpu, op, at)
    elif op == ops.OP_WAIT:
        do_wait(ctl, cpu, at)
    elif op == ops.OP_WAKE:
        do_wake(ctl, cpu, at)
    elif op == ops.OP_CHOOSE:
        do_choose(ctl, cpu)
    else:
        ctl[cb.VALUE + cpu] = 0
    if ctl[cb.CLOCKED] == 1:
        check_access(ctl, cpu, op, at)
