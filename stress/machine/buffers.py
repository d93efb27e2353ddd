"""Store buffers: what a CPU wrote and others do not see yet (tso, pso).

Each CPU has a queue of DEPTH entries, oldest first::

    word | value | op | clock of CPUS words

``store`` and plain writes enter it; a read takes the youngest own entry of its word, else memory.
A *flush* makes one entry visible and is a step of its own, by an actor behind the CPUs: under tso
the oldest entry (one actor for each CPU), under pso any entry that is the oldest of its word (one
actor for each place in the queue), a release store (``store``) only when it is the oldest of all:
it publishes what was written before it. Locked operations, fences and system calls (wait, wake)
need an empty buffer: their CPU cannot make the step before. A CPU whose buffer is full cannot
store, and BUFFER_FULL says so: the axioms know no end of a buffer, so what a longer one allows was
not tried.

Agrees with the axiomatic x86-TSO of Sewell et al. (CACM 2010). pso is SPARC's, where a release
store is what C11 makes of one: a membar #StoreStore before it, that holds for it alone. Later
relaxed stores may overtake it, and later loads may, as under tso.
"""

from __future__ import annotations

from shmalloc.engine import ops
from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.machine import block as cb
from stress.machine.parking import OWN, disturb
from stress.machine.primitives import put, read_word


@scheduler
def entry_of(ctl: Control, cpu: int, place: int) -> int:
    """Where the entry at ``place`` in the queue of ``cpu`` lies."""
    size = cb.ENTRY_CLOCK + ctl[cb.CPUS]
    return ctl[cb.BUFFERS_AT] + (cpu * ctl[cb.DEPTH] + place) * size


@scheduler
def seen(ctl: Control, cpu: int, i: int, half: int) -> int:
    """What ``cpu`` reads in word ``i``; notes in FORWARDED whether its own buffer served it."""
    for back in range(ctl[cb.BUFFERED + cpu]):
        entry = entry_of(ctl, cpu, ctl[cb.BUFFERED + cpu] - 1 - back)
        if ctl[entry + cb.ENTRY_AT] == i:
            ctl[cb.FORWARDED] |= 1 << half
            return ctl[entry + cb.ENTRY_VALUE]
    return read_word(ctl, i)


@scheduler
def push(ctl: Control, cpu: int, op: int, i: int, value: int) -> int:
    """``cpu`` wrote ``value`` to word ``i``; the entry."""
    entry = entry_of(ctl, cpu, ctl[cb.BUFFERED + cpu])
    ctl[entry + cb.ENTRY_AT] = i
    ctl[entry + cb.ENTRY_VALUE] = value
    ctl[entry + cb.ENTRY_OP] = op
    ctl[cb.BUFFERED + cpu] += 1
    return entry


@scheduler
def drains(op: int) -> int:
    """1 if ``op`` needs an empty buffer."""
    if op == ops.OP_FENCE or op == ops.OP_WAIT or op == ops.OP_WAKE or op == ops.OP_HEAVY_FENCE:
        return 1
    return 1 if ops.LAST_STORE < op <= ops.LAST_WRITE else 0


@scheduler
def is_buffered(ctl: Control, i: int) -> int:
    """1 if some CPU has stored to word ``i`` and others do not see it yet."""
    for cpu in range(ctl[cb.CPUS]):
        for place in range(ctl[cb.BUFFERED + cpu]):
            if ctl[entry_of(ctl, cpu, place) + cb.ENTRY_AT] == i:
                return 1
    return 0


@scheduler
def hindered(ctl: Control, cpu: int) -> int:
    """1 if the buffer of ``cpu`` forbids the step it posted."""
    op = ctl[cb.OP + cpu]
    count = ctl[cb.BUFFERED + cpu]
    if op == ops.OP_HEAVY_FENCE and is_buffered(ctl, ctl[cb.AT + cpu]) == 1:
        return 1
    if count == 0:
        return 0
    if drains(op) == 1:
        return 1
    if count < ctl[cb.DEPTH] or op < ops.FIRST_WRITE or op > ops.LAST_STORE:
        return 0
    ctl[cb.BUFFER_FULL] = 1
    return 1


@scheduler
def may_overtake(ctl: Control, cpu: int, place: int) -> int:
    """1 if the entry may be flushed before those in front of it (pso)."""
    if place > 0 and ctl[entry_of(ctl, cpu, place) + cb.ENTRY_OP] == ops.OP_STORE:
        return 0
    at = ctl[entry_of(ctl, cpu, place) + cb.ENTRY_AT]
    for earlier in range(place):
        if ctl[entry_of(ctl, cpu, earlier) + cb.ENTRY_AT] == at:
            return 0
    return 1


@scheduler
def gather_buffered(ctl: Control) -> int:
    """The actors that can make a step: CPUs first, then buffers; how many."""
    cpus = ctl[cb.CPUS]
    count = 0
    for cpu in range(cpus):
        if ctl[cb.STATE + cpu] == cb.READY and hindered(ctl, cpu) == 0:
            ctl[cb.CHOICES + count] = cpu
            count += 1
    for cpu in range(cpus):
        if ctl[cb.BUFFERED + cpu] > 0:
            if ctl[cb.MODEL] == cb.TSO:
                ctl[cb.CHOICES + count] = cpus + cpu
                count += 1
            else:
                count = gather_entries(ctl, cpu, count)
    return count


@scheduler
def gather_entries(ctl: Control, cpu: int, count: int) -> int:
    for place in range(ctl[cb.BUFFERED + cpu]):
        if may_overtake(ctl, cpu, place) == 1:
            ctl[cb.CHOICES + count] = ctl[cb.CPUS] + cpu * cb.PSO_DEPTH + place
            count += 1
    return count


@scheduler
def owner_of(ctl: Control, actor: int) -> int:
    """The CPU whose buffer ``actor`` flushes, or that it is."""
    cpus = ctl[cb.CPUS]
    if actor < cpus:
        return actor
    if ctl[cb.MODEL] == cb.TSO:
        return actor - cpus
    return (actor - cpus) // cb.PSO_DEPTH


@scheduler
def flusher_of(ctl: Control, cpu: int) -> int:
    """The actor that flushes the oldest entry of ``cpu``."""
    cpus = ctl[cb.CPUS]
    return cpus + cpu if ctl[cb.MODEL] == cb.TSO else cpus + cpu * cb.PSO_DEPTH


@scheduler
def flushed_entry(ctl: Control, actor: int) -> int:
    """The entry that a flush by ``actor`` makes visible."""
    place = 0 if ctl[cb.MODEL] == cb.TSO else (actor - ctl[cb.CPUS]) % cb.PSO_DEPTH
    return entry_of(ctl, owner_of(ctl, actor), place)


@scheduler
def make_visible(ctl: Control, actor: int) -> None:
    """Flush: write the entry of ``actor`` to memory and close the gap in the queue."""
    cpu = owner_of(ctl, actor)
    entry = flushed_entry(ctl, actor)
    size = cb.ENTRY_CLOCK + ctl[cb.CPUS]
    ctl[cb.FLUSHED_AT] = ctl[entry + cb.ENTRY_AT]
    put(ctl, ctl[entry + cb.ENTRY_AT], ctl[entry + cb.ENTRY_VALUE])
    if ctl[cb.PARKING] == 1:
        disturb(ctl, cpu, OWN + ctl[entry + cb.ENTRY_AT])
    last = entry_of(ctl, cpu, ctl[cb.BUFFERED + cpu] - 1)
    for k in range(last - entry):
        ctl[entry + k] = ctl[entry + k + size]
    ctl[cb.BUFFERED + cpu] -= 1
