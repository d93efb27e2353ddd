"""Programs about the two locks over one word (kernels/lock.py), in a memory of nothing else.

::

    header, CPU slots | lock | counter, plain | what each CPU did

Each CPU increments the plain word under the lock: a lock that admits two CPUs loses an update (and
is a data race); a lock that loses a wake-up is a deadlock.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import Kernel, kernel
from shmalloc.kernels.cpu_lock import spin_or_skip, try_spin, unspin
from shmalloc.kernels.lock import lock, unlock
from shmalloc.units import Claim, Memory
from shmalloc.word_values import lock_value
from shmalloc.words import fixed, store
from stress.machine.program import Program
from stress.programs.initial_state import catalogue
from stress.programs.naming import code_name

MAX_CPUS_HERE = 3
LOCK = c.CPUS_AT + MAX_CPUS_HERE * c.C_STRIDE
COUNTER = LOCK + 16  # on separate lines, only for order
DONE = COUNTER + 16  # one word a CPU: how often it held the lock
WORDS = DONE + 16


@kernel
def count(mem: Memory, claim: Claim) -> None:
    """The critical section: one plain update, and a count of it that only this CPU writes."""
    mem[COUNTER] = mem[COUNTER] + 1
    mem[DONE + claim] = mem[DONE + claim] + 1


@kernel
def sleep_count(mem: Memory, claim: Claim) -> int:
    lock(mem, LOCK, claim)
    count(mem, claim)
    unlock(mem, LOCK)
    return 1


@kernel
def sleep_count_twice(mem: Memory, claim: Claim) -> int:
    return sleep_count(mem, claim) + sleep_count(mem, claim)


@kernel
def sleep_count_thrice(mem: Memory, claim: Claim) -> int:
    return sleep_count_twice(mem, claim) + sleep_count(mem, claim)


@kernel
def try_count(mem: Memory, claim: Claim) -> int:
    """What an owner does: enters, or goes elsewhere."""
    if not try_spin(mem, LOCK, claim):
        return 0
    count(mem, claim)
    unspin(mem, LOCK, claim)
    return 1


@kernel
def spin_count(mem: Memory, claim: Claim) -> int:
    spin_or_skip(mem, LOCK, claim, 0)
    count(mem, claim)
    unspin(mem, LOCK, claim)
    return 1


@kernel
def drain_count(mem: Memory, claim: Claim) -> int:
    """What a drainer does: waits for the owner, or leaves if the CPU is unplugged."""
    if spin_or_skip(mem, LOCK, claim, 0) <= 0:
        return 0
    count(mem, claim)
    unspin(mem, LOCK, claim)
    return 1


@kernel
def unplug(mem: Memory, claim: Claim) -> int:
    """Enters once and locks out every later CPU."""
    if spin_or_skip(mem, LOCK, claim, 0) > 0:
        count(mem, claim)
        store(mem, LOCK, c.LOCK_OFFLINE)
    return 1


@kernel
def all_counted(mem: Memory) -> int:
    """The lock is free, and the counter is the sum of what each CPU counted for itself."""
    if mem[LOCK] & 0xFFFF != 0:
        return c.I_PROGRESS
    total = 0
    for cpu in range(fixed(mem, c.H_CPUS)):
        total += mem[DONE + cpu]
    return 0 if total == mem[COUNTER] else c.X_PAYLOAD


def word_name(index: int) -> str:
    if index == c.H_SPINS:
        return "spins before a sleep"
    if DONE <= index < DONE + MAX_CPUS_HERE:
        return f"times that cpu {index - DONE} counted"
    return {LOCK: "lock", COUNTER: "counter"}.get(index, "")


def value_name(index: int, value: int) -> str:
    return lock_value(value) if index == LOCK else ""


def locked(
    name: str, threads: tuple[Kernel, ...], story: str, spins: int = 0, sleeping: bool = True
) -> Program:
    """``sleeping``: tell the explorer which CPU holds the lock; for spinners it needs no owner."""
    return Program(
        name=name,
        words=WORDS,
        threads=threads,
        check=all_counted,
        story=story,
        init=[(c.H_CPUS, len(threads)), (c.H_SPINS, spins)],
        observe=[("r", cpu) for cpu in range(len(threads))],
        locks=(LOCK,) if sleeping else (),
        word_name=word_name,
        value_name=value_name,
        code_name=code_name,
        world="1 lock",
    )


def sleep_2(name: str) -> Program:
    return locked(
        name,
        (sleep_count, sleep_count),
        "cas of LOCK_CONTENDED, then wait, against exchange and wake of unlock: the flag is set"
        " after the owner released the lock, or the waiter sleeps after the only wake",
    )


def sleep_spin_2(name: str) -> Program:
    return locked(
        name,
        (sleep_count, sleep_count),
        spins=1,
        story="as lock-sleep-2, with one spin before the sleep: load_relaxed says free, cas fails",
    )


def sleep_twice_2(name: str) -> Program:
    return locked(
        name,
        (sleep_count_twice, sleep_count_twice),
        "each CPU locks twice: the owner that took the lock without the flag releases it while the"
        " other is about to sleep on the flag of an earlier hold",
    )


def sleep_3(name: str) -> Program:
    return locked(
        name,
        (sleep_count, sleep_count, sleep_count),
        "two sleepers, one wake: the CPU that is woken takes the lock with the flag set, or the"
        " other one sleeps for ever",
    )


def sleep_kept_2(name: str) -> Program:
    return locked(
        name,
        (sleep_count_thrice, sleep_count),
        "one CPU reacquires the lock again and again, so the other sleeps without getting it and"
        " asks that the lock be kept: cas of LOCK_KEPT after the exchange, against a CPU that takes"
        " the lock in between",
    )


def sleep_kept_3(name: str) -> Program:
    return locked(
        name,
        (sleep_count_twice, sleep_count, sleep_count),
        "a lock is kept for one sleeper while another sleeper or a new CPU arrives: one of the CPUs"
        " that slept, and only one, must take it",
    )


def try_try(name: str) -> Program:
    return locked(
        name,
        (try_count, try_count),
        sleeping=False,
        story="cas against cas of two processes on one slot: one enters, the other goes elsewhere",
    )


def try_spin_2(name: str) -> Program:
    return locked(
        name,
        (try_count, spin_count),
        sleeping=False,
        story="the owner's try_spin and unspin against a drainer that waits: the plain store of"
        " unspin must publish the update before the drainer's cas succeeds",
    )


def spin_spin(name: str) -> Program:
    return locked(
        name,
        (spin_count, spin_count),
        spins=1,
        sleeping=False,
        story="two drainers wait for each other: relax, then give_way, and both enter in turn",
    )


def drain_unplug_3(name: str) -> Program:
    return locked(
        name,
        (try_count, drain_count, unplug),
        sleeping=False,
        story="the third value of the word: store of LOCK_OFFLINE against the cas of a CPU that"
        " tries and of one that waits; no CPU enters after it, and none waits for ever",
    )


PROGRAMS = catalogue(
    "lock", sleep_2, sleep_spin_2, sleep_twice_2, sleep_3, sleep_kept_2, sleep_kept_3, try_try,
    try_spin_2, spin_spin, drain_unplug_3,
)  # fmt: skip
