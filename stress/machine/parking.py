"""Endless spinning, for strategies that try everything: a CPU that repeats a spin has to wait.

A spin loop read some words, found nothing of use and relaxed. Running it again is pointless until
one of those words changes, and an exhaustive search would do so for ever. With PARKING a CPU whose
last FREE_SPINS + 1 spins read the same values and changed nothing is parked at ``relax``: it
continues when another CPU changes a word that its last spin read.

Why this keeps a search exhaustive: whether a CPU parks depends on nothing but what it read, and
whatever could end its wait conflicts with those reads; so the search that reverses every
conflict also tries the change before the spin. A change may come between the read and the relax as
well: then the CPU goes on at once, as if it had been parked and released. Either way its next step
needs one of the changes since its reads, whichever (RESUMING; DISTURBED tells a strategy of each).

A value that the CPU's own store buffer served only changes for it when that is flushed: it is
watched as a word of its own (OWN + word), and writes of others to the word do not count. A CPU that
read more words than can be watched does not park.

That holds for a loop that changes nothing of its own. One that counts its spins gives up some time,
and if that takes more spins than FREE_SPINS + 1, its giving up is tried only when all other CPUs
have stopped. If a kernel can give up (patience.py) and its CPU is not in the state in which it was
at its last relax (private.py), PATIENT says so, and the search is no proof. With more FREE_SPINS it
may be one.

Own words: READ_HASH, LAST_HASH, REPEATED_SPINS, DIRTY, OVERTAKEN, RESUMING, WATCHED, DISTURBED,
SPIN_STATE, PATIENT and the area WATCH.
"""

from __future__ import annotations

from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.machine import block as cb
from stress.machine.private import private_state

OWN = 1 << 40  # more than any word
PLACE_FACTOR = 0x1E3779B97F4A7C15


@scheduler
def start_watching(ctl: Control, cpu: int) -> None:
    ctl[cb.READ_HASH + cpu] = 0
    ctl[cb.LAST_HASH + cpu] = -1
    ctl[cb.REPEATED_SPINS + cpu] = 0
    ctl[cb.DIRTY + cpu] = 0
    begin_spin(ctl, cpu)


@scheduler
def begin_spin(ctl: Control, cpu: int) -> None:
    """``cpu`` has read nothing since its relax."""
    ctl[cb.WATCHED + cpu] = 0
    ctl[cb.OVERTAKEN + cpu] = 0
    ctl[cb.RESUMING + cpu] = 0


@scheduler
def watch(ctl: Control, cpu: int, at: int, value: int) -> None:
    """``cpu`` read ``value`` in word ``at``."""
    place = (at & cb.LOW_HALF) * PLACE_FACTOR  # its own buffer is the same place
    mixed = (ctl[cb.READ_HASH + cpu] + value + place + 1) * cb.HASH_FACTOR & cb.MASK62
    ctl[cb.READ_HASH + cpu] = mixed ^ mixed >> 31  # or two small values could pass for a third
    count = ctl[cb.WATCHED + cpu]
    if count < 0:
        return
    first = ctl[cb.WATCH_AT] + cpu * cb.WATCH_WORDS
    for k in range(count):
        if ctl[first + k] == at:
            return
    if count == cb.WATCH_LIMIT:
        ctl[cb.WATCHED + cpu] = -1
    else:
        ctl[first + count] = at
        ctl[cb.WATCHED + cpu] = count + 1


@scheduler
def park(ctl: Control, cpu: int) -> int:
    """``cpu`` relaxed: 1 if it has to wait for a change, else its next spin begins."""
    other = differs(ctl, cpu)
    repeated = ctl[cb.DIRTY + cpu] == 0 and ctl[cb.READ_HASH + cpu] == ctl[cb.LAST_HASH + cpu]
    ctl[cb.REPEATED_SPINS + cpu] = ctl[cb.REPEATED_SPINS + cpu] + 1 if repeated else 0
    ctl[cb.LAST_HASH + cpu] = ctl[cb.READ_HASH + cpu]
    ctl[cb.READ_HASH + cpu] = 0
    dirty = ctl[cb.DIRTY + cpu]
    ctl[cb.DIRTY + cpu] = 0
    enough = ctl[cb.REPEATED_SPINS + cpu] >= ctl[cb.FREE_SPINS]
    if dirty == 1 or not enough or ctl[cb.WATCHED + cpu] < 0:
        begin_spin(ctl, cpu)
        return 0
    if repeated and other == 1:
        ctl[cb.PATIENT] |= 1 << cpu
    ctl[cb.RESUMING + cpu] = 1
    if ctl[cb.OVERTAKEN + cpu] == 1:
        ctl[cb.REPEATED_SPINS + cpu] = 0
        return 0
    return 1


@scheduler
def differs(ctl: Control, cpu: int) -> int:
    """1 if ``cpu`` can give up a spin, and holds something else than at its last relax."""
    if ctl[cb.GIVES_UP + cpu] == 0:
        return 0
    before = ctl[cb.SPIN_STATE + cpu]
    ctl[cb.SPIN_STATE + cpu] = private_state(ctl, cpu)
    return 1 if ctl[cb.SPIN_STATE + cpu] != before else 0


@scheduler
def notice(ctl: Control, at: int) -> None:
    """Word ``at`` changed: a CPU that read it in its last spin continues, or will not park."""
    for cpu in range(ctl[cb.CPUS]):
        disturb(ctl, cpu, at)


@scheduler
def disturb(ctl: Control, cpu: int, at: int) -> None:
    """What ``cpu`` reads at ``at`` may have changed.

    Both orders of a change and a relax leave the same state: they are independent.
    """
    if watches(ctl, cpu, at) == 0:
        return
    ctl[cb.DISTURBED] |= 1 << cpu
    ctl[cb.OVERTAKEN + cpu] = 1
    if ctl[cb.STATE + cpu] == cb.YIELDED:
        ctl[cb.STATE + cpu] = cb.READY
        ctl[cb.YIELDED_COUNT] -= 1
        ctl[cb.REPEATED_SPINS + cpu] = 0


@scheduler
def watches(ctl: Control, cpu: int, at: int) -> int:
    first = ctl[cb.WATCH_AT] + cpu * cb.WATCH_WORDS
    for k in range(ctl[cb.WATCHED + cpu]):
        if ctl[first + k] == at:
            return 1
    return 0
