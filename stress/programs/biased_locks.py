"""Programs about the per-CPU lock that is biased to the claim of its CPU (kernels/cpu_lock.py).

The memory is that of locks.py: records of claims, one lock, a counter under it. The lock is that of
CPU 0, and each thread is the claim of its number: 0 takes the lock by its bias, GUEST (1) works on
CPU 0 too, and the others drain. Where the critical section is broken into, the counter loses an
update, which is a data race as well.

A lock is free in the end if it is open, common or 0, and no claim holds one by its bias.
"""

from __future__ import annotations

from collections.abc import Sequence

from shmalloc import constants as c
from shmalloc.dialect import Kernel, kernel
from shmalloc.kernels.cpu_lock import spin_or_skip, try_spin, unspin
from shmalloc.kernels.reporting import claim_at
from shmalloc.units import Claim, Memory
from shmalloc.words import fixed, store
from stress.machine.program import Program
from stress.programs.initial_state import catalogue
from stress.programs.locks import (
    COUNTER,
    DONE,
    LOCK,
    MAX_CPUS_HERE,
    WORDS,
    count,
    value_name,
    word_name,
)
from stress.programs.naming import code_name

EPOCH = 3
GUEST = 1
OPEN = EPOCH << c.LIFE_EPOCH_SHIFT | c.LOCK_OPEN
OLD = (EPOCH - 2) << c.LIFE_EPOCH_SHIFT | c.LOCK_OPEN  # for an earlier life of claim 0
FLAGS = (1 << c.LIFE_EPOCH_SHIFT) - 1
CALLED_OFF = 2  # what a drain returns that was called off


@kernel
def try_count(mem: Memory, claim: Claim) -> int:
    """What a user does: enters, or goes elsewhere. How often it entered."""
    if not try_spin(mem, LOCK, claim):
        return 0
    count(mem, claim)
    unspin(mem, LOCK, claim)
    return 1


@kernel
def try_count_twice(mem: Memory, claim: Claim) -> int:
    return try_count(mem, claim) + try_count(mem, claim)


@kernel
def drain_count(mem: Memory, claim: Claim) -> int:
    got = spin_or_skip(mem, LOCK, claim, 0)
    if got == c.E_AGAIN:
        return CALLED_OFF
    if got > 0:
        count(mem, claim)
        unspin(mem, LOCK, claim)
    return got


@kernel
def drain_until_done(mem: Memory, claim: Claim) -> int:
    """Drains again if the first time was called off."""
    got = drain_count(mem, claim)
    if got == CALLED_OFF:
        got = CALLED_OFF + drain_count(mem, claim)
    return got


@kernel
def unplug(mem: Memory, claim: Claim) -> int:
    """Enters once and locks out every later claim."""
    if spin_or_skip(mem, LOCK, claim, 0) > 0:
        count(mem, claim)
        store(mem, LOCK, c.LOCK_OFFLINE)
    return 1


@kernel
def try_beneath(mem: Memory, claim: Claim) -> int:
    """Runs a kernel beneath one that holds the lock by the bias: it must not get in, nor let go."""
    if not try_spin(mem, LOCK, claim):
        return 0
    before = mem[COUNTER]
    if try_spin(mem, LOCK, claim):
        unspin(mem, LOCK, claim)
    mem[COUNTER] = before + 1
    mem[DONE + claim] = mem[DONE + claim] + 1
    unspin(mem, LOCK, claim)
    return 1


@kernel
def call_off(mem: Memory, claim: Claim) -> int:
    """Calls off what claim 1 waits for, as if claim 0 did not run: at any time, so that most often
    it is of no wait, or of an earlier one."""
    store(mem, claim_at(mem, 1) + c.C_GIVE_UP, claim_at(mem, 0) + c.C_HOLDS)
    return 1


@kernel
def is_free(mem: Memory) -> bool:
    """Whether the lock is free, closed or open, and no claim holds it by its bias."""
    word = mem[LOCK]
    if word != 0 and word != c.LOCK_COMMON and word != c.LOCK_OFFLINE:
        if word & FLAGS != c.LOCK_OPEN:
            return False
    held = 0
    for claim in range(fixed(mem, c.H_CPUS)):
        held |= mem[claim_at(mem, claim) + c.C_HOLDS]
    return held == 0


@kernel
def all_counted(mem: Memory) -> int:
    """The lock is free, and the counter is the sum of what each claim counted for itself."""
    if not is_free(mem):
        return c.I_PROGRESS
    total = 0
    for claim in range(fixed(mem, c.H_CPUS)):
        total += mem[DONE + claim]
    return 0 if total == mem[COUNTER] else c.X_PAYLOAD


def world(
    name: str,
    threads: tuple[Kernel, ...],
    story: str,
    lock: int = OPEN,
    guests: Sequence[int] = (),
) -> Program:
    """``lock``: its word at first. ``guests``: claims that work on CPU 0 beside claim 0."""
    records = []
    for claim in range(MAX_CPUS_HERE):
        at = c.CPUS_AT + claim * c.C_STRIDE
        way = c.LOCKS_GUEST if claim in guests else OPEN
        records += [(at + c.C_EPOCH, EPOCH), (at + c.C_LOCKS, way)]
        records += [(at + c.C_CPU, 0 if claim in guests else claim)]
    return Program(
        name=name,
        words=WORDS,
        threads=threads,
        check=all_counted,
        story=story,
        init=[(c.H_CPUS, len(threads)), (c.H_BIASED, 1), *records, (LOCK, lock)],
        observe=[("r", cpu) for cpu in range(len(threads))],
        word_name=word_name,
        value_name=value_name,
        code_name=code_name,
        world="1 lock",
    )


def drain(name: str) -> Program:
    return world(
        name,
        (try_count_twice, drain_count),
        "the stores of the claim of the CPU against the compare-exchange and the heavy fence of a"
        " drainer: one of the two sees the other",
    )


def drain_3(name: str) -> Program:
    return world(
        name,
        (try_count, drain_count, drain_count),
        "two drainers: the second one finds the lock held by a first one that still waits, and then"
        " free and not open",
    )


def opened(name: str) -> Program:
    return world(
        name,
        (try_count_twice, drain_count),
        "a lock that was never taken: the claim of the CPU opens it by its release, while a drainer"
        " comes, for which no fence is needed before that and one is behind it",
        lock=0,
    )


def next_life(name: str) -> Program:
    return world(
        name,
        (try_count_twice, drain_count),
        "a lock that is open for an earlier life of the claim: the new life does not enter by its"
        " stores before it has taken the lock once",
        lock=OLD,
    )


def guest(name: str) -> Program:
    return world(
        name,
        (try_count_twice, try_count),
        "a second claim comes to the CPU: it makes the lock common, or goes elsewhere while the"
        " claim of the CPU is inside, and then leaves the lock open",
        guests=(GUEST,),
    )


def guest_drain_3(name: str) -> Program:
    return world(
        name,
        (try_count, try_count, drain_count),
        "the claim of the CPU, a guest and a drainer: the guest tells the drainer's hold from that"
        " of the claim of the CPU",
        guests=(GUEST,),
    )


def beneath(name: str) -> Program:
    return world(
        name,
        (try_beneath, drain_count),
        "a kernel that runs beneath one that holds the lock by the bias finds it held, and the"
        " drainer waits until the outer one lets go",
    )


def unplugged(name: str) -> Program:
    return world(
        name,
        (try_count, unplug, drain_count),
        "store of LOCK_OFFLINE behind the wait for the claim of the CPU: none enters after it",
    )


def called_off(name: str) -> Program:
    return world(
        name,
        (try_count, drain_until_done, call_off),
        "a drainer's wait for the claim of the CPU is called off: it leaves the lock open, as that"
        " claim may be inside, and waits for it again the next time",
    )


PROGRAMS = catalogue(
    "lock-biased",
    drain,
    drain_3,
    opened,
    next_life,
    guest,
    guest_drain_3,
    beneath,
    unplugged,
    called_off,
)
