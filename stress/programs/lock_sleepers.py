"""Programs about what a lock promises to threads that sleep for it (kernels/lock.py).

The memory is that of locks.py; each claim has an epoch, so an owner word is more than a number. The
programs of locks.py find two CPUs that are in, and a sleeper who is not woken. Here a second CPU
plays a fixed part, and the word and the counters are exactly known at each of its steps: when a
sleeper asks for the lock to be kept, for which threads it is kept, who gives a wait up, and what is
left then.
"""

from __future__ import annotations

from collections.abc import Sequence

from shmalloc import constants as c
from shmalloc.dialect import Kernel, kernel
from shmalloc.kernels.cpu_lock import spin_or_skip, try_spin, unspin
from shmalloc.kernels.lock import lock, lock_or_skip, take_over, unlock, wake_all
from shmalloc.kernels.reporting import claim_at
from shmalloc.units import Claim, Memory, Owner
from shmalloc.words import cas, expect, fixed, load, relax, store, wake
from stress.machine.program import Program
from stress.programs.held import call_off
from stress.programs.initial_state import catalogue
from stress.programs.locks import (
    DONE,
    LOCK,
    MAX_CPUS_HERE,
    WORDS,
    all_counted,
    count,
    value_name,
    word_name,
)
from stress.programs.naming import code_name

EPOCH = 5  # of each claim
WAITER, KEEPER = 0, 1
DEAD = MAX_CPUS_HERE  # a claim that no CPU here has
EVERY = c.MAX_CLAIMS
WAKES = DONE + MAX_CPUS_HERE  # of the keeper
LEFT = WAKES + 1  # of each CPU
WRONG = c.X_PAYLOAD


@kernel
def own(claim: Claim, epoch: int) -> Owner:
    """What the word of a lock is while this life of ``claim`` has it, without flags."""
    return epoch << 32 | (claim + 1)


@kernel
def event_of(mem: Memory, claim: Claim, which: int) -> int:
    """How often ``claim`` counted an event; for a check."""
    times: int = mem[claim_at(mem, claim) + c.C_EVENTS + which]
    return times


@kernel
def count_as_owner(mem: Memory, claim: Claim) -> None:
    """The critical section, in a lock that names its owner."""
    expect(mem, load(mem, LOCK) & ~c.LOCK_KEPT == own(claim, EPOCH), WRONG)
    count(mem, claim)


@kernel
def sleep_count(mem: Memory, claim: Claim) -> int:
    lock(mem, LOCK, claim)
    count_as_owner(mem, claim)
    unlock(mem, LOCK)
    return 1


@kernel
def skip_count(mem: Memory, claim: Claim) -> int:
    """What a recovery does: it does without a lock whose owner does not run."""
    if not lock_or_skip(mem, LOCK, claim):
        return 0
    count_as_owner(mem, claim)
    unlock(mem, LOCK)
    return 1


@kernel
def leave(mem: Memory, claim: Claim) -> int:
    """The end of a part that begins with the lock held."""
    count_as_owner(mem, claim)
    unlock(mem, LOCK)
    return 1


@kernel
def all_let_go(mem: Memory) -> int:
    """All are counted, and the lock is free for all: no flag is left, and it is kept for none."""
    return all_counted(mem) if mem[LOCK] == 0 else c.I_PROGRESS


# --- no contention -------------------------------------------------------------------------------
@kernel
def take_each_way(mem: Memory, claim: Claim) -> int:
    """No other CPU has the lock, so each way to take it takes it at once."""
    sleep_count(mem, claim)
    skip_count(mem, claim)
    if try_spin(mem, LOCK, claim):
        count_as_owner(mem, claim)
        unspin(mem, LOCK, claim)
    spin_or_skip(mem, LOCK, claim, 0)
    count_as_owner(mem, claim)
    unspin(mem, LOCK, claim)
    store(mem, LEFT + claim, 1)
    return 1


@kernel
def take_each_way_next(mem: Memory, claim: Claim) -> int:
    while load(mem, LEFT + WAITER) == 0:
        relax(mem)
    return take_each_way(mem, claim)


@kernel
def none_waited(mem: Memory) -> int:
    for claim in range(2):
        if mem[DONE + claim] != 4 or event_of(mem, claim, c.EV_LOCK_SLOW) != 0:
            return WRONG
    return all_let_go(mem)


# --- a lock that is kept -------------------------------------------------------------------------
@kernel
def keep_until_asked(mem: Memory) -> None:
    """Wakes the sleepers whenever they want it, and has the lock again when they look.

    The word changes before each wake, so no sleeper that is on its way misses it.
    """
    mine = own(KEEPER, EPOCH)
    word: int = load(mem, LOCK)
    while word & c.LOCK_HANDOFF == 0:
        if word == mine:
            relax(mem)
        elif cas(mem, LOCK, word, mine):
            mem[WAKES] = mem[WAKES] + 1
            wake(mem, LOCK, EVERY)
        word = load(mem, LOCK)


@kernel
def leave_when_asked(mem: Memory, claim: Claim) -> int:
    keep_until_asked(mem)
    return leave(mem, claim)


@kernel
def asks_in_time(mem: Memory) -> int:
    """While the keeper has the lock, the waiter has asked for it if and only if its sleeps are two
    more than its spins; and it sleeps, which only a new word or a wake ends."""
    word = mem[LOCK]
    sleeps = event_of(mem, WAITER, c.EV_LOCK_SLEEP)
    if word & ~c.LOCK_KEPT != own(KEEPER, EPOCH):
        return 0
    if (word & c.LOCK_HANDOFF != 0) != (sleeps >= fixed(mem, c.H_SPINS) + 2):
        return WRONG
    return 0 if sleeps <= 2 * mem[WAKES] + 2 else WRONG


@kernel
def waited_once(mem: Memory) -> int:
    return all_let_go(mem) if event_of(mem, WAITER, c.EV_LOCK_SLOW) == 1 else WRONG


@kernel
def inherit(mem: Memory, claim: Claim) -> int:
    """The sleeper for whom the lock is kept: it finds it so, although another CPU has come."""
    expect(mem, cas(mem, LOCK, c.LOCK_KEPT, own(claim, EPOCH) | c.LOCK_CONTENDED), WRONG)
    return leave(mem, claim)


@kernel
def withdraw(mem: Memory, claim: Claim) -> int:
    """A recovery: the thread that asked for the lock is dead."""
    wake_all(mem, LOCK)
    return 0


# --- a wait that is called off -------------------------------------------------------------------
@kernel
def stop_until_skipped(mem: Memory, claim: Claim) -> int:
    """The owner has stopped: the waiter asks for the lock, is called off, looks, and goes.

    The owner goes on then. Natively a sleeper looks by itself, after 50 ms.
    """
    keep_until_asked(mem)
    call_off(mem, WAITER, LOCK)
    word = load(mem, LOCK)
    while not cas(mem, LOCK, word, word & ~c.LOCK_CONTENDED):
        word = load(mem, LOCK)
    wake(mem, LOCK, EVERY)
    while load(mem, claim_at(mem, WAITER) + c.C_GIVE_UP) != 0:
        relax(mem)
    return leave(mem, claim)


@kernel
def waiter_skipped(mem: Memory) -> int:
    skips = event_of(mem, WAITER, c.EV_DRAIN_SKIP)
    return waited_once(mem) if mem[DONE + WAITER] == 0 and skips == 1 else WRONG


@kernel
def none_skipped(mem: Memory) -> int:
    both = mem[DONE + WAITER] + mem[DONE + KEEPER]
    return all_let_go(mem) if both == 2 else WRONG


# --- the lock of the dead ------------------------------------------------------------------------
@kernel
def recover_count(mem: Memory, claim: Claim) -> int:
    if not take_over(mem, LOCK, claim, DEAD):
        return 0
    return leave(mem, claim)


@kernel
def one_took_over(mem: Memory) -> int:
    """One of the first two CPUs, which counted it."""
    for claim in range(2):
        if event_of(mem, claim, c.EV_TAKEOVER) != mem[DONE + claim]:
            return WRONG
    return all_let_go(mem) if mem[DONE] + mem[DONE + 1] == 1 else WRONG


# --- the programs --------------------------------------------------------------------------------
KEPT = ((LOCK, c.LOCK_KEPT),)
HELD = ((LOCK, EPOCH << 32 | (KEEPER + 1)),)
HELD_AND_ASKED_FOR = ((LOCK, HELD[0][1] | c.LOCK_KEPT),)
DIED = ((LOCK, EPOCH << 32 | (DEAD + 1)),)


def called_off_before(*claims: int) -> tuple[tuple[int, int], ...]:
    """An earlier wait for the lock was called off and went on, as it got the lock."""
    return tuple((c.CPUS_AT + claim * c.C_STRIDE + c.C_GIVE_UP, LOCK) for claim in claims)


def world(
    name: str,
    threads: tuple[Kernel, ...],
    story: str,
    check: Kernel,
    invariant: Kernel | None = None,
    init: Sequence[tuple[int, int]] = (),
) -> Program:
    epochs = [(c.CPUS_AT + cpu * c.C_STRIDE + c.C_EPOCH, EPOCH) for cpu in range(MAX_CPUS_HERE)]
    return Program(
        name=name,
        words=WORDS,
        threads=threads,
        check=check,
        invariant=invariant,
        story=story,
        init=[(c.H_CPUS, len(threads)), *epochs, *init],
        observe=[("r", cpu) for cpu in range(len(threads))],
        word_name=lambda index: "wakes" if index == WAKES else word_name(index),
        value_name=value_name,
        code_name=code_name,
        world="1 lock",
    )


def in_turn_2(name: str) -> Program:
    return world(
        name,
        (take_each_way, take_each_way_next),
        "a free lock is taken at once in each way, and no wait is counted",
        check=none_waited,
    )


def asks_2(name: str) -> Program:
    return world(
        name,
        (sleep_count, leave_when_asked),
        "a sleeper that was woken and found the lock held so often asks for it: not a sleep too"
        " early, when it costs all others, and not too late, when it starves",
        init=(*HELD, (c.H_SPINS, 1)),
        check=waited_once,
        invariant=asks_in_time,
    )


def heir_2(name: str) -> Program:
    return world(
        name,
        (sleep_count, inherit),
        "the lock is kept for one that has slept: a CPU that comes now must not take it",
        init=KEPT,
        check=all_let_go,
    )


def withdrawn_3(name: str) -> Program:
    return world(
        name,
        (sleep_count, leave, withdraw),
        "the thread that asked for the lock is dead: wake_all against the release that keeps the"
        " lock, and against one that comes then and sleeps for it",
        init=HELD_AND_ASKED_FOR,
        check=all_let_go,
    )


def called_off_2(name: str) -> Program:
    return world(
        name,
        (skip_count, stop_until_skipped),
        "a wait is called off after it asked for the lock to be kept: the lock is not kept then",
        init=HELD + called_off_before(WAITER),
        check=waiter_skipped,
    )


def skip_2(name: str) -> Program:
    return world(
        name,
        (skip_count, sleep_count),
        "what called off an earlier wait does not end this one: neither of one that may be called"
        " off nor of one that may not",
        init=called_off_before(WAITER, KEEPER),
        check=none_skipped,
    )


def taken_over_3(name: str) -> Program:
    return world(
        name,
        (recover_count, recover_count, sleep_count),
        "two take over from the dead while a sleeper sets its flag: one gets the lock and the flag",
        init=DIED,
        check=one_took_over,
    )


PROGRAMS = catalogue(
    "lock", in_turn_2, asks_2, heir_2, withdrawn_3, called_off_2, skip_2, taken_over_3
)
