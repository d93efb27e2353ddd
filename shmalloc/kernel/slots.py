"""CPU slots: who runs as which virtual CPU.

::

    C_STATE | C_EPOCH | [C_PID C_START] | ... | C_USERS

The pair [pid, start time] is the slot's owner, (0, 0): none. It changes by one two-word swap, which
is the linearization point of every claim: with two separate words a claimer that saw a dead owner
could throw out the living one that came in between and has the same pid. C_USERS counts the
processes that use the slot; those that only share it are not named. C_EPOCH counts the claims, so
that a lock taken in an earlier life of the slot can be told; sharing does not change it.

Who is alive is no question for a kernel: cpus.py decides it and passes the pair that it saw.
"""

from shmalloc.constants import (
    C_EPOCH, C_PID, C_STATE, C_USERS, CPU_EMPTY, CPU_OFFLINE, CPU_ONLINE, E_AGAIN, E_STATE,
)  # fmt: skip
from shmalloc.dialect import kernel
from shmalloc.kernel.notes import cpu_at
from shmalloc.words import cas, cas2, fetch_add, load, store


@kernel
def publish(mem, at, value):
    """Write one word that makes everything written before it visible (the magic of a segment)."""
    store(mem, at, value)
    return 0


@kernel
def claim_slot(mem, cpu, seen_pid, seen_start, pid, start):
    """Take the slot from the owner that was seen (none, or a dead one). E_AGAIN: it has changed."""
    slot = cpu_at(mem, cpu)
    if load(mem, slot + C_STATE) == CPU_OFFLINE:
        return E_STATE
    if not cas2(mem, slot + C_PID, seen_pid, seen_start, pid, start):
        return E_AGAIN
    if seen_pid == 0:  # else the dead owner's count is now ours
        fetch_add(mem, slot + C_USERS, 1)
    fetch_add(mem, slot + C_EPOCH, 1)
    cas(mem, slot + C_STATE, CPU_EMPTY, CPU_ONLINE)  # fails where the slot was used before
    return cpu


@kernel
def share_slot(mem, cpu):
    """Use a slot that another process owns."""
    slot = cpu_at(mem, cpu)
    if load(mem, slot + C_STATE) == CPU_OFFLINE:
        return E_STATE
    fetch_add(mem, slot + C_USERS, 1)
    return cpu


@kernel
def release_slot(mem, cpu, pid, start):
    """Stop using the slot; returns how many still do. Its lists stay for the next user."""
    slot = cpu_at(mem, cpu)
    cas2(mem, slot + C_PID, pid, start, 0, 0)  # fails where we only shared it
    return fetch_add(mem, slot + C_USERS, -1) - 1
