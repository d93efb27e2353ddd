"""The lock of a per-CPU structure: page lists, or the sheaves of a cache. It names its owner.

::

    lock     [ epoch | 0 . OFFLINE . OPEN WAITS COMMON | claim + 1 ]    0: free
    C_LOCKS  of a claim, fixed: the word of its open locks; LOCKS_GUEST, LOCKS_PLAIN
    C_HOLDS  of a claim: word index of the lock that it holds by its bias, with HOLDS_TRIES while it
             looks whether it may; 0: none

Users only ``try_spin`` and go elsewhere when it fails; only a remote drainer waits. Nearly all that
take such a lock are the one process of the CPU, and a locked instruction each time is a third of
what an allocation costs. So in a segment with H_BIASED a lock is *biased* to the claim that has the
number of its CPU. A lock that is free then names the life of that claim, by its epoch, with OPEN::

    the claim of the CPU                       any other claim
    C_HOLDS = lock | TRIES                     lock: open word -> its life | WAITS, compare-exchange
    light fence                                heavy fence
    lock is the open word of its life?         wait until C_HOLDS of that claim names another lock
    C_HOLDS = lock, else 0                     lock = its life

Either the one sees the word of the other, or the other sees C_HOLDS: the fences order the store of
each before its load (words.py), and the heavy one, which interrupts all processors, is for those
who seldom come. The release is C_HOLDS = 0, or a plain store to the lock.

TRIES holds nothing: who dies there has touched nothing. Without it the others wait, or will. So
recovery tells from C_HOLDS alone who was inside. A dead claim that WAITS has touched nothing
either; its lock is left open, for the claim of the CPU may be inside.

The claim of the CPU opens a lock when it has taken it once by a compare-exchange. Another claim on
that CPU makes the lock COMMON for good: free then means that word, and all compare and exchange.

A claim holds one per-CPU lock at a time, and takes none beneath a kernel of its own that waits
(``unblock`` in recover.py). Order of locks: this one, then zone or node.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.lock import give_up, owner_word, take_over
from shmalloc.kernels.reporting import claim_at, cpu_of
from shmalloc.units import Claim, Cpu, Memory, Owner, WordIndex
from shmalloc.words import (
    cas,
    fixed,
    give_way,
    heavy_fence,
    light_fence,
    load,
    load_relaxed,
    notice,
    store,
    store_relaxed,
)

HELD = 0  # what ``grab`` finds
TAKEN = 1
TAKEN_OPEN = 2  # it was open: the claim of the CPU may be inside


@hot
def try_spin(mem: Memory, at: WordIndex, claim: Claim) -> bool:
    """Take the per-CPU lock at word ``at`` of the claim's CPU if it is free; never waits."""
    way = fixed(mem, claim_at(mem, claim) + c.C_LOCKS)
    if way == c.LOCKS_PLAIN:
        return cas(mem, at, 0, owner_word(mem, claim))
    if way != c.LOCKS_GUEST and enter(mem, at, claim, way):
        return True
    return try_slowly(mem, at, claim)


@hot
def enter(mem: Memory, at: WordIndex, claim: Claim, opened: Owner) -> bool:
    """Take a lock that is open, as the claim of the CPU.

    Each store releases, for who waits may go on by any of them: it must see what was done under the
    lock before, which only the store behind that had to publish.
    """
    holds = claim_at(mem, claim) + c.C_HOLDS
    if load_relaxed(mem, holds) != 0:
        return False
    store(mem, holds, at | c.HOLDS_TRIES)
    light_fence(mem)
    if load(mem, at) == opened:
        store(mem, holds, at)
        return True
    store(mem, holds, 0)
    return False


@kernel
def grab(mem: Memory, at: WordIndex, claim: Claim) -> int:
    """Try once to take a lock by a compare-exchange: HELD, TAKEN or TAKEN_OPEN."""
    me = owner_word(mem, claim)
    if fixed(mem, c.H_BIASED) == 0:
        return TAKEN if cas(mem, at, 0, me) else HELD
    old = load_relaxed(mem, at)
    if old & c.LOCK_HOLDER_MASK != 0 or old == c.LOCK_OFFLINE:
        return HELD
    if old & c.LOCK_OPEN == 0:
        return TAKEN if cas(mem, at, old, me | old) else HELD
    return TAKEN_OPEN if cas(mem, at, old, me | c.LOCK_WAITS) else HELD


@kernel
def is_inside(mem: Memory, at: WordIndex, of: Claim) -> bool:
    """Whether claim ``of`` holds the lock by its bias, and not only tries to."""
    return load(mem, claim_at(mem, of) + c.C_HOLDS) == at


@kernel
def open_word(mem: Memory, of: Claim) -> Owner:
    """The word of a lock that is free and open for the claim of its CPU."""
    return load_relaxed(mem, claim_at(mem, of) + c.C_LOCKS)


@unit
def try_slowly(mem: Memory, at: WordIndex, claim: Claim) -> bool:
    """``try_spin`` by a compare-exchange, in a segment with biased locks.

    The claim of the CPU will open the lock by its release. A guest makes it common, unless it would
    have to wait for the claim of the CPU. Who holds a lock by its bias is beneath its own kernel.
    """
    slot = claim_at(mem, claim)
    got = HELD
    if load_relaxed(mem, slot + c.C_HOLDS) == 0:
        got = grab(mem, at, claim)
    if got == HELD:
        return False
    common = load_relaxed(mem, at) & c.LOCK_COMMON
    if fixed(mem, slot + c.C_LOCKS) != c.LOCKS_GUEST:
        store_relaxed(mem, at, owner_word(mem, claim) | (c.LOCK_OPEN if common == 0 else common))
        return True
    host: Claim = +cpu_of(mem, claim)
    if got == TAKEN_OPEN:
        heavy_fence(mem, claim_at(mem, host) + c.C_HOLDS)
        if load(mem, claim_at(mem, host) + c.C_HOLDS) & ~c.HOLDS_TRIES == at:
            store(mem, at, open_word(mem, host))
            return False
    store_relaxed(mem, at, owner_word(mem, claim) | c.LOCK_COMMON)
    return True


@hot
def unspin(mem: Memory, at: WordIndex, claim: Claim) -> None:
    """Release the per-CPU lock: publishes everything that was done under it."""
    slot = claim_at(mem, claim)
    if fixed(mem, slot + c.C_LOCKS) == c.LOCKS_PLAIN:
        store(mem, at, 0)
    elif load_relaxed(mem, slot + c.C_HOLDS) == at:
        store(mem, slot + c.C_HOLDS, 0)
    else:
        store(mem, at, released(mem, at, claim))


@unit
def released(mem: Memory, at: WordIndex, claim: Claim) -> Owner:
    """What a lock becomes that was taken by a compare-exchange: open, common or free."""
    old = load_relaxed(mem, at)
    if old & c.LOCK_OPEN != 0:
        return open_word(mem, claim)
    return old & c.LOCK_COMMON


@kernel
def spin_or_skip(mem: Memory, at: WordIndex, claim: Claim, of: Cpu) -> int:
    """Take a lock of CPU ``of``, waiting for its owner: 1; 0 if the CPU is unplugged.

    E_AGAIN: its owner lives and does not run (it is stopped, say), and the wait was called off.

    Does not check counts first: a count read without the lock can miss blocks that a refill has
    pushed but not yet counted, and the drain would leave pages behind (Linux 66eca1021a42).
    """
    got = grab(mem, at, claim)
    if got == HELD:
        store_relaxed(mem, claim_at(mem, claim) + c.C_GIVE_UP, 0)  # of an earlier wait that went on
        got = grab(mem, at, claim)
    while got == HELD:
        if load_relaxed(mem, at) == c.LOCK_OFFLINE:
            return 0
        if load_relaxed(mem, claim_at(mem, claim) + c.C_GIVE_UP) == at:
            return give_up(mem, claim)
        notice(mem, at)
        give_way(mem)  # its owner may be preempted: there are more workers than cores
        got = grab(mem, at, claim)
    host: Claim = +of
    return await_host(mem, at, claim, host) if got == TAKEN_OPEN else 1


@unit
def await_host(mem: Memory, at: WordIndex, claim: Claim, host: Claim) -> int:
    """Wait until the claim of the CPU has let go of a lock whose word says that we wait: 1, or
    E_AGAIN, with the lock open again."""
    if host != claim:
        holds = claim_at(mem, host) + c.C_HOLDS
        heavy_fence(mem, holds)
        store_relaxed(mem, claim_at(mem, claim) + c.C_GIVE_UP, 0)
        while load(mem, holds) & ~c.HOLDS_TRIES == at:
            if load_relaxed(mem, claim_at(mem, claim) + c.C_GIVE_UP) == holds:
                store(mem, at, open_word(mem, host))
                return give_up(mem, claim)
            notice(mem, holds)
            give_way(mem)
    store_relaxed(mem, at, owner_word(mem, claim))
    return 1


# --- recovery ------------------------------------------------------------------------------------
@kernel
def take_over_spin(mem: Memory, at: WordIndex, claim: Claim, victim: Claim, of: Cpu) -> bool:
    """``take_over`` for a lock of CPU ``of`` whose word names ``victim``, whose process is dead."""
    old = load(mem, at)
    if old & c.LOCK_WAITS != 0 and old & c.LOCK_HOLDER_MASK == victim + 1:
        host: Claim = +of
        cas(mem, at, old, open_word(mem, host))
        return False
    return take_over(mem, at, claim, victim)


@kernel
def let_go(mem: Memory, victim: Claim) -> None:
    """Release what a dead claim holds by its bias, or had tried to. All others wait until then."""
    store(mem, claim_at(mem, victim) + c.C_HOLDS, 0)
