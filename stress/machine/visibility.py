"""When a store is seen: the interface between the scheduler and the memory models.

The scheduler, the access to memory, the strategies and DPOR ask here, and only here, what the model
of this control block (MODEL) makes of a load or a store. Under sc a store is in memory at once.
Otherwise it waits in a store buffer (buffers.py) until an actor behind its CPU flushes it.

A new model answers the same questions: what a CPU reads, where its write goes, who can make a step,
and what the step of an actor behind the CPUs is.
"""

from __future__ import annotations

from shmalloc.engine.control import inlined, scheduler
from shmalloc.units import Control
from stress.machine import block as cb
from stress.machine.buffers import gather_buffered, push, seen
from stress.machine.primitives import put, read_word


@inlined
def at_once(ctl: Control) -> int:
    """1 if a store is in memory as soon as it is made, and no actor stands behind the CPUs."""
    return 1 if ctl[cb.MODEL] == cb.SC else 0


@scheduler
def value_seen(ctl: Control, cpu: int, at: int, half: int) -> int:
    """What ``cpu`` reads in word ``at``; bit ``half`` of FORWARDED: its own buffer served it."""
    if at_once(ctl) == 1:
        return read_word(ctl, at)
    return seen(ctl, cpu, at, half)


@inlined
def write(ctl: Control, cpu: int, op: int, at: int, value: int) -> int:
    """``cpu`` stores; the entry of its buffer that holds the value, 0 if memory does."""
    if at_once(ctl) == 1:
        put(ctl, at, value)
        return 0
    return push(ctl, cpu, op, at, value)


@inlined
def gather(ctl: Control) -> int:
    """The actors that can make a step, in order, to CHOICES; how many."""
    if at_once(ctl) == 0:
        return gather_buffered(ctl)
    count = 0
    for cpu in range(ctl[cb.CPUS]):
        if ctl[cb.STATE + cpu] == cb.READY:
            ctl[cb.CHOICES + count] = cpu
            count += 1
    return count


@scheduler
def has_unseen_stores(ctl: Control, cpu: int) -> int:
    """1 if ``cpu`` has made stores that others do not see yet."""
    return 1 if at_once(ctl) == 0 and ctl[cb.BUFFERED + cpu] > 0 else 0
