"""The sleeping lock, over one word that names its owner.

::

    62          32 31 30 29 28 27 16 15          0
    [ owner epoch ][0][C][0][H][  0  ][ claim + 1 ]     0: free.  C: a thread sleeps

``lock``/``unlock`` protects zones and node lists: it spins a little, then sleeps on a futex (3 in
the style of Drepper's "Futexes are tricky", mutex 2: the flag says that a sleeper may exist). A
thread that releases and immediately reacquires beats any sleeper, so a sleeper can starve
(docs/decisions/0015). A thread that has slept several times without getting the lock sets H; the
next release then leaves KEPT (C and H, no owner): free, but only for a thread that has slept for
it. Linux: MUTEX_FLAG_HANDOFF.

Per-CPU structures have another lock, which never sleeps: cpu_lock.py.

The epoch is the number of the claim's life, so a lock whose owner died can be told from one held
by the slot's next process. Locks nest in one order: per-CPU, then zone or node.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.reporting import claim_at, event
from shmalloc.units import Claim, Memory, Owner, WordIndex
from shmalloc.words import cas, fixed, load, load_relaxed, relax, store_relaxed, wait, wake


@kernel
def owner_word(mem: Memory, claim: Claim) -> Owner:
    """What ``claim`` writes into a lock. Its epoch cannot change while one of its kernels runs."""
    return (fixed(mem, claim_at(mem, claim) + c.C_EPOCH) << c.LIFE_EPOCH_SHIFT) | (claim + 1)


@kernel
def lock(mem: Memory, at: WordIndex, claim: Claim) -> None:
    """Take the sleeping lock at word ``at``."""
    me = owner_word(mem, claim)
    if not cas(mem, at, 0, me):
        lock_slow(mem, at, claim, me, 0)


@kernel
def lock_or_skip(mem: Memory, at: WordIndex, claim: Claim) -> bool:
    """``lock`` for who can do without: False if the owner lives and does not run (it is stopped,
    say), and the wait was called off."""
    me = owner_word(mem, claim)
    if cas(mem, at, 0, me):
        return True
    store_relaxed(mem, claim_at(mem, claim) + c.C_GIVE_UP, 0)  # of an earlier wait that went on
    return lock_slow(mem, at, claim, me, 1)


@unit
def lock_slow(mem: Memory, at: WordIndex, claim: Claim, me: Owner, skips: int) -> bool:
    """Take the lock, asleep if that takes long; False if ``skips``, and the wait was called off."""
    event(mem, claim, c.EV_LOCK_SLOW)
    tries = fixed(mem, c.H_SPINS)
    while tries > 0:
        if load_relaxed(mem, at) == 0 and cas(mem, at, 0, me):
            return True
        relax(mem)
        tries -= 1
    sleeps = 0
    while True:
        old = load_relaxed(mem, at)
        if old == 0 or (old == c.LOCK_KEPT and sleeps > 0):
            # Taken with the flag set: we cannot know whether we were the only sleeper, and one wake
            # too many costs a system call, while one too few hangs a process.
            if cas(mem, at, old, me | c.LOCK_CONTENDED):
                return True
        elif skips != 0 and load_relaxed(mem, claim_at(mem, claim) + c.C_GIVE_UP) == at:
            give_up(mem, claim)
            wake_all(mem, at)  # we may have asked for the lock to be kept for us
            return False
        else:
            flags = c.LOCK_KEPT if sleeps > fixed(mem, c.H_SPINS) else c.LOCK_CONTENDED
            if old & flags == flags or cas(mem, at, old, old | flags):
                event(mem, claim, c.EV_LOCK_SLEEP)
                wait(mem, at, old | flags)
                sleeps += 1


@kernel
def give_up(mem: Memory, claim: Claim) -> int:
    """End a wait that was called off beneath our ``notice``: no kernel can tell who runs."""
    store_relaxed(mem, claim_at(mem, claim) + c.C_GIVE_UP, 0)
    event(mem, claim, c.EV_DRAIN_SKIP)
    return c.E_AGAIN


@kernel
def released_word(old: int) -> int:
    """The word that the release of a lock whose word is ``old`` leaves."""
    return c.LOCK_KEPT if old & c.LOCK_HANDOFF != 0 else 0


@kernel
def without_handoff(old: int) -> int:
    """The word of a lock without the request of a sleeper for a handoff."""
    return 0 if old == c.LOCK_KEPT else old & ~c.LOCK_HANDOFF


@kernel
def unlock(mem: Memory, at: WordIndex) -> None:
    """Release the sleeping lock and wake one sleeper if there may be one."""
    # The write that releases is the one that says KEPT, and only from a word that still asks for
    # it. Before a second write the sleeper could have come and gone; and a recovery may have
    # withdrawn the request of a dead sleeper since an earlier read. A lock kept for a thread that
    # never comes makes all others sleep.
    old = load_relaxed(mem, at)
    while not cas(mem, at, old, released_word(old)):
        old = load_relaxed(mem, at)
    if old & c.LOCK_CONTENDED != 0:
        wake(mem, at, 1)


@kernel
def wake_all(mem: Memory, at: WordIndex) -> None:
    """Wake all sleepers and withdraw requests for a handoff: the thread that asked may be dead."""
    old = load(mem, at)
    while old & c.LOCK_HANDOFF != 0 and not cas(mem, at, old, without_handoff(old)):
        old = load(mem, at)
    wake(mem, at, c.MAX_CLAIMS)


@kernel
def take_over(mem: Memory, at: WordIndex, claim: Claim, victim: Claim) -> bool:
    """Become the owner of a lock that ``victim``, whose process is dead, holds; False: it does not.

    What the lock protects is as the dead process left it: repair it, then release the lock.
    """
    while True:
        old = load(mem, at)
        if old & c.LOCK_HOLDER_MASK != victim + 1:
            return False
        if cas(mem, at, old, owner_word(mem, claim) | (old & c.LOCK_KEPT)):
            event(mem, claim, c.EV_TAKEOVER)
            return True
        relax(mem)  # another CPU set a flag: it sleeps, and our release wakes it


@kernel
def try_lock(mem: Memory, at: WordIndex, claim: Claim) -> bool:
    """Take the sleeping lock at word ``at`` if it is free; never waits."""
    return cas(mem, at, 0, owner_word(mem, claim))
