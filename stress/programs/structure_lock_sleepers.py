"""Programs about what a robust lock promises to threads that sleep for it.

The world is that of structure_locks.py. As in lock_sleepers.py a second CPU plays a fixed part: the
lock is kept for one that has slept, a sleeper asks for it in time, and one whose patience ends
leaves without it.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.structures.kernels.robust import CONSISTENT, robust_lock, robust_unlock
from shmalloc.units import Claim, Memory
from shmalloc.words import cas, expect, fixed, load, relax, store, wake
from stress.machine.program import Program
from stress.machine.vocabulary import choose
from stress.programs.initial_state import catalogue
from stress.programs.structure_locks import NAMES, all_held, change, hold_once, lock_is_whole
from stress.programs.structure_world import BODY, NOTES, PATIENCE, STUCK, WRONG, done, life, world

KEEPER = 1
WAKES = NOTES + 10  # of the keeper
GONE = WAKES + 1  # the waiter has given up
ASKS = GONE + 1  # the sleeper will ask for the lock
SLEEPS = 2  # of a waiter that gives up
MINE = life(KEEPER)  # the word while the keeper has the lock, without flags


@kernel
def leave(mem: Memory, claim: Claim) -> int:
    """The end of a part that begins with the lock held."""
    change(mem, claim)
    robust_unlock(mem, claim, BODY, 0)
    return done(mem, claim, 0)


# --- a lock that is kept -------------------------------------------------------------------------
@kernel
def inherit(mem: Memory, claim: Claim) -> int:
    """The sleeper for whom the lock is kept: it finds it so, although another CPU has come."""
    expect(mem, load(mem, BODY) == c.LOCK_KEPT, WRONG)
    expect(mem, robust_lock(mem, claim, BODY, 1, PATIENCE) == CONSISTENT, WRONG)
    return leave(mem, claim)


@kernel
def sleep_again(mem: Memory, claim: Claim) -> int:
    """It has slept as often as it spins, or once more, in earlier calls."""
    more = choose(mem, 2)
    store(mem, ASKS, more)
    slept = fixed(mem, c.H_SPINS) + more
    expect(mem, robust_lock(mem, claim, BODY, slept, PATIENCE) == CONSISTENT, WRONG)
    return leave(mem, claim)


@kernel
def leave_when_flagged(mem: Memory, claim: Claim) -> int:
    """Sees the first flags of the sleeper: it asks for the lock if it has slept once more."""
    word: int = load(mem, BODY)
    while word == MINE:
        relax(mem)
        word = load(mem, BODY)
    flags = c.LOCK_KEPT if load(mem, ASKS) == 1 else c.LOCK_CONTENDED
    expect(mem, word == MINE | flags, WRONG)
    return leave(mem, claim)


# --- patience ------------------------------------------------------------------------------------
@kernel
def give_up(mem: Memory, claim: Claim) -> int:
    """Sleeps as often as it was told, which another CPU ends, and goes without the lock."""
    told = robust_lock(mem, claim, BODY, 0, SLEEPS)
    expect(mem, told == c.E_AGAIN and load(mem, WAKES) > 0, WRONG)
    store(mem, GONE, 1)
    return done(mem, claim, told)


@kernel
def keep_until_gone(mem: Memory, claim: Claim) -> int:
    """Wakes the sleeper whenever it wants that, and has the lock again when it looks.

    The word changes before each wake, so a sleeper that is on its way does not miss it.
    """
    wakes = 0
    while load(mem, GONE) == 0:
        word = load(mem, BODY)
        if word == MINE:
            relax(mem)
        elif cas(mem, BODY, word, MINE):
            wakes += 1
            expect(mem, wakes <= SLEEPS, STUCK)
            store(mem, WAKES, wakes)
            wake(mem, BODY, 1)
    return leave(mem, claim)


# --- the programs --------------------------------------------------------------------------------
def lock_heir_2(name: str) -> Program:
    return world(
        name,
        (hold_once, inherit),
        all_held,
        "the lock is kept for one that has slept: a CPU that comes now must not take it",
        init=[(BODY, c.LOCK_KEPT)],
        names=NAMES,
    )


def lock_asks_2(name: str) -> Program:
    return world(
        name,
        (sleep_again, leave_when_flagged),
        all_held,
        "a sleeper asks for the lock when it has slept more often than it spins, and not before:"
        " sleeps of earlier calls count",
        init=[(BODY, MINE), (c.H_SPINS, 1)],
        names=NAMES,
    )


def lock_give_up_2(name: str) -> Program:
    return world(
        name,
        (give_up, keep_until_gone),
        lock_is_whole,
        "the patience of a sleeper ends after so many sleeps, which only a new word or a wake ends",
        init=[(BODY, MINE)],
        names=NAMES | {WAKES: "wakes", GONE: "gave up"},
    )


PROGRAMS = catalogue("structure", lock_heir_2, lock_asks_2, lock_give_up_2)
