"""Spinning without an end, for strategies that try everything: a vain spin waits for a change.

A spin loop read some words, found nothing of use and relaxed. Running it again is pointless until
one of those words changes, and an exhaustive search would do so for ever. With PARKING a CPU whose
last VAIN_SPINS + 1 spins read the same values and changed nothing is parked at ``relax``: it goes
on when somebody changes a word that its last spin read.

Why this keeps a search exhaustive: whether and when a CPU parks depends on nothing but what it
read, and whatever could end its wait conflicts with those reads; so the search that reverses every
conflict also tries the change before the spin. A value that the CPU's own store buffer served only
changes for it when that is flushed: it is watched as a word of its own (OWN + word), and writes of
others to the word do not count. Who read more words than can be watched does not park.

VAIN_SPINS must be at least the number of spins after which a kernel gives up, or its giving up is
tried only when everybody else has stopped.

Own words: READ_HASH, LAST_HASH, VAIN, DIRTY, WATCHED and the area WATCH.
"""

from shmalloc.engine.control import scheduler
from stress.machine.block import (
    DIRTY, ENABLED_BY, LAST_HASH, MASK62, READ_HASH, READY, STATE, STEPS, VAIN, VAIN_SPINS, CPUS,
    HASH_FACTOR, WATCHED, WATCH_AT, WATCH_LIMIT, WATCH_WORDS, YIELDED, YIELDED_COUNT,
)  # fmt: skip

OWN = 1 << 40  # more than any word


@scheduler
def start_watching(ctl, cpu):
    ctl[READ_HASH + cpu] = 0
    ctl[LAST_HASH + cpu] = -1
    ctl[VAIN + cpu] = 0
    ctl[DIRTY + cpu] = 0
    ctl[WATCHED + cpu] = 0


@scheduler
def watch(ctl, cpu, at, value):
    """``cpu`` read ``value`` in word ``at``."""
    ctl[READ_HASH + cpu] = ((ctl[READ_HASH + cpu] ^ value ^ (at << 40)) * HASH_FACTOR + 1) & MASK62
    count = ctl[WATCHED + cpu]
    if count < 0:
        return
    first = ctl[WATCH_AT] + cpu * WATCH_WORDS
    for k in range(count):
        if ctl[first + k] == at:
            return
    if count == WATCH_LIMIT:
        ctl[WATCHED + cpu] = -1
    else:
        ctl[first + count] = at
        ctl[WATCHED + cpu] = count + 1


@scheduler
def park(ctl, cpu):
    """``cpu`` relaxed: 1 if it has to wait for a change, else its next spin begins."""
    vain = ctl[DIRTY + cpu] == 0 and ctl[READ_HASH + cpu] == ctl[LAST_HASH + cpu]
    ctl[VAIN + cpu] = ctl[VAIN + cpu] + 1 if vain else 0
    ctl[LAST_HASH + cpu] = ctl[READ_HASH + cpu]
    ctl[READ_HASH + cpu] = 0
    dirty = ctl[DIRTY + cpu]
    ctl[DIRTY + cpu] = 0
    if dirty == 0 and ctl[VAIN + cpu] >= ctl[VAIN_SPINS] and ctl[WATCHED + cpu] >= 0:
        return 1
    ctl[WATCHED + cpu] = 0
    return 0


@scheduler
def notice(ctl, at):
    """Word ``at`` changed: whoever read it in its last spin goes on, or will not park."""
    for cpu in range(ctl[CPUS]):
        disturb(ctl, cpu, at)


@scheduler
def disturb(ctl, cpu, at):
    """What ``cpu`` reads at ``at`` may have changed.

    Both orders of a change and a relax leave the same state: they are independent.
    """
    if watches(ctl, cpu, at) == 0:
        return
    if ctl[STATE + cpu] == YIELDED:
        ctl[STATE + cpu] = READY
        ctl[ENABLED_BY + cpu] = ctl[STEPS] + 1
        ctl[YIELDED_COUNT] -= 1
        ctl[WATCHED + cpu] = 0
        ctl[VAIN + cpu] = 0
    else:
        ctl[DIRTY + cpu] = 1


@scheduler
def watches(ctl, cpu, at):
    first = ctl[WATCH_AT] + cpu * WATCH_WORDS
    for k in range(ctl[WATCHED + cpu]):
        if ctl[first + k] == at:
            return 1
    return 0
