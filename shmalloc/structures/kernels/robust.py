"""A robust lock: when its owner dies, the next taker gets it and is told so.

::

    RL_WORD     0 | flags | owner word     the format of kernels/lock.py
    RL_STATUS   CONSISTENT | OWNER_DIED | UNUSABLE     written by the owner alone

The word names the life that holds the lock, so a taker sees by itself that the life is over
(lives.py) and swaps the dead owner for itself. What the lock protects is then as the dead left it:
OWNER_DIED stays until an owner says ``make_consistent``, however many die before that. An owner
that unlocks without it makes the lock UNUSABLE, as with POSIX; ``keep`` leaves it to the next one.

A sleeper that did not get the lock several times asks for a handoff, as in kernels/lock.py: the
next release keeps the lock for those that have slept. The sleeper may be dead; each other one has
slept, too, when it wakes, so none waits for it longer than one sleep.

Not reentrant: a life that holds the lock is refused. Threads of a process share a life, so their
process keeps them apart (structures/locks.py).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.lock import owner_word, released_word
from shmalloc.structures.kernels.lives import life_is_over
from shmalloc.units import Claim, Memory, Owner, WordIndex
from shmalloc.words import cas, fixed, load, load_relaxed, relax, store, wait, wake

RL_WORD = 0
RL_STATUS = 1
CONSISTENT = 0
OWNER_DIED = 1
UNUSABLE = 2


@hot
def robust_holder(word: int) -> Owner:
    """The life that a lock word names, 0: none."""
    return word & ~c.LOCK_KEPT


@hot
def robust_lock(mem: Memory, claim: Claim, at: WordIndex, slept: int, sleeps: int) -> int:
    """Take the lock whose words start at ``at``; the status that its last owner left.

    CONSISTENT, or OWNER_DIED: we hold the lock. E_AGAIN: not within ``sleeps`` sleeps (``slept``:
    those of earlier calls). E_BUSY: our life holds it. E_STATE: it is unusable.
    """
    me = owner_word(mem, claim)
    if cas(mem, at + RL_WORD, 0, me):
        return robust_entered(mem, claim, at)
    return robust_lock_slow(mem, claim, at, slept, sleeps)


@unit
def robust_lock_slow(mem: Memory, claim: Claim, at: WordIndex, slept: int, sleeps: int) -> int:
    me = owner_word(mem, claim)
    spins = fixed(mem, c.H_SPINS)
    tries = spins
    last = slept + sleeps
    while True:
        old = load(mem, at + RL_WORD)
        holder = robust_holder(old)
        if holder == 0 and (old == 0 or slept > 0):
            flag = c.LOCK_CONTENDED if slept > 0 else 0
            if cas(mem, at + RL_WORD, old, me | flag):
                return robust_entered(mem, claim, at)
        elif holder == me:
            return c.E_BUSY
        elif holder != 0 and life_is_over(mem, holder):
            if cas(mem, at + RL_WORD, old, me | c.LOCK_CONTENDED):
                return robust_inherited(mem, claim, at)
        elif tries > 0:
            tries -= 1
            relax(mem)
        elif slept == last:
            return c.E_AGAIN
        else:
            flags = c.LOCK_KEPT if slept > spins else c.LOCK_CONTENDED
            if old & flags == flags or cas(mem, at + RL_WORD, old, old | flags):
                wait(mem, at + RL_WORD, old | flags)
                slept += 1


@kernel
def robust_inherited(mem: Memory, claim: Claim, at: WordIndex) -> int:
    """Note that the owner before us died; if we die first, our heir notes it."""
    if load(mem, at + RL_STATUS) == CONSISTENT:
        store(mem, at + RL_STATUS, OWNER_DIED)
    return robust_entered(mem, claim, at)


@hot
def robust_entered(mem: Memory, claim: Claim, at: WordIndex) -> int:
    """What the new owner is told; it does not keep an unusable lock."""
    status: int = load_relaxed(mem, at + RL_STATUS)
    if status == UNUSABLE:
        robust_let_go(mem, at)
        return c.E_STATE
    return status


@kernel
def make_consistent(mem: Memory, claim: Claim, at: WordIndex) -> int:
    """The owner has repaired what the lock protects. Returns 0, or E_STATE: nothing to say so."""
    if robust_holder(load_relaxed(mem, at + RL_WORD)) != owner_word(mem, claim):
        return c.E_STATE
    if load_relaxed(mem, at + RL_STATUS) != OWNER_DIED:
        return c.E_STATE
    store(mem, at + RL_STATUS, CONSISTENT)
    return 0


@hot
def robust_unlock(mem: Memory, claim: Claim, at: WordIndex, keep: int) -> int:
    """Release the lock. Returns 0, or E_STATE: our life does not hold it.

    ``keep`` 1: the next owner is told of the death as we were. Else it becomes unusable.
    """
    if robust_holder(load_relaxed(mem, at + RL_WORD)) != owner_word(mem, claim):
        return c.E_STATE
    if load_relaxed(mem, at + RL_STATUS) == OWNER_DIED and keep == 0:
        store(mem, at + RL_STATUS, UNUSABLE)
    robust_let_go(mem, at)
    return 0


@kernel
def robust_abandon(mem: Memory, claim: Claim, at: WordIndex) -> int:
    """Release a lock as a death does: the next owner is told. For a process that closes."""
    if robust_holder(load_relaxed(mem, at + RL_WORD)) != owner_word(mem, claim):
        return c.E_STATE
    if load_relaxed(mem, at + RL_STATUS) == CONSISTENT:
        store(mem, at + RL_STATUS, OWNER_DIED)
    robust_let_go(mem, at)
    return 0


@hot
def robust_let_go(mem: Memory, at: WordIndex) -> None:
    """Free the word, and wake one sleeper if there may be one."""
    old = load_relaxed(mem, at + RL_WORD)
    while not cas(mem, at + RL_WORD, old, released_word(old)):
        old = load_relaxed(mem, at + RL_WORD)
    if old & c.LOCK_CONTENDED != 0:
        wake(mem, at + RL_WORD, 1)
