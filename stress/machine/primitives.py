"""What changes under a schedule, and how it is put back: the seven primitives and the undo log.

The primitives are the only places where the two engines differ: interpreted they are methods
of the block, compiled they are in the kind of memory CONTROL (native_control.py).
"""

from __future__ import annotations

from typing import Any

from shmalloc.dialect import primitive
from shmalloc.engine.control import inlined, scheduler
from shmalloc.units import Control
from stress.machine import block as cb
from stress.machine.parking import notice


@primitive("none")
def launch(ctl: Any, cpu: int) -> None:
    """Prepare ``cpu`` to run its kernel from the start at the next ``resume``."""
    ctl.launch(cpu)


@primitive("none")
def resume(ctl: Any, cpu: int) -> None:
    """Let ``cpu`` run on from its posted access, done by now, until it posts the next or ends."""
    ctl.resume(cpu)


@primitive("int")
def run_kernel(ctl: Any, entry: int) -> int:
    """Run the check or invariant kernel of slot ``entry`` unscheduled; its code.

    May set OUTCOME to MEMORY.
    """
    return ctl.run_kernel(entry)


@primitive("int")
def read_word(ctl: Any, i: int) -> int:
    return ctl.read_word(i)


@primitive("none")
def write_word(ctl: Any, i: int, value: int) -> None:
    ctl.write_word(i, value)


@primitive("int")
def added(ctl: Any, a: int, b: int) -> int:
    """``a + b`` in 64 bits: interpreted, the scheduler's own arithmetic does not wrap."""
    return ctl.added(a, b)


@scheduler
def remember(ctl: Control, i: int, old: int) -> None:
    """Word ``i`` held ``old`` and is about to change: put it back before the next schedule."""
    stamp = ctl[cb.STAMPS_AT] + i
    if ctl[stamp] != ctl[cb.EPOCH]:
        ctl[stamp] = ctl[cb.EPOCH]
        at = ctl[cb.UNDO_AT] + 2 * ctl[cb.UNDO_COUNT]
        ctl[at] = i
        ctl[at + 1] = old
        ctl[cb.UNDO_COUNT] += 1


@inlined
def put(ctl: Control, i: int, value: int) -> None:
    """Word ``i`` becomes ``value``, visible to every CPU."""
    if ctl[cb.UNDEFINED_AT] != 0:
        ctl[ctl[cb.UNDEFINED_AT] + 2 * i + 1] = ctl[cb.EPOCH]
    old = read_word(ctl, i)
    if old != value:
        remember(ctl, i, old)
        write_word(ctl, i, value)
        ctl[cb.CHANGES] += 1
        if ctl[cb.PARKING] == 1:
            notice(ctl, i)


@scheduler
def restore(ctl: Control) -> None:
    """Put back every word that the last schedule changed."""
    at = ctl[cb.UNDO_AT]
    for k in range(ctl[cb.UNDO_COUNT]):
        write_word(ctl, ctl[at + 2 * k], ctl[at + 2 * k + 1])
    ctl[cb.UNDO_COUNT] = 0
    ctl[cb.EPOCH] += 1
