"""Programs about the robust lock and atomic words (shmalloc/structures/kernels).

Under the lock each CPU changes two plain words, one after the other, which are equal whenever the
lock is free and consistent. So a CPU that dies between the two writes leaves something to repair,
and one that is not told of it finds them unequal, which is expected never to happen.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.structures.kernels.atomics import (
    atomic_add,
    atomic_cas,
    atomic_exchange,
    atomic_load,
    pair_cas,
    pair_exchange,
    pair_load,
)
from shmalloc.structures.kernels.entries import LIVE, ST_BODY
from shmalloc.structures.kernels.robust import (
    OWNER_DIED,
    RL_STATUS,
    UNUSABLE,
    make_consistent,
    robust_abandon,
    robust_holder,
    robust_lock,
    robust_unlock,
)
from shmalloc.units import Claim, Memory
from shmalloc.words import expect
from stress.machine.program import Program
from stress.programs.initial_state import catalogue
from stress.programs.structure_world import BODY, NOTES, OVER, PATIENCE, STUCK, WRONG, done, world

LEFT = NOTES  # equal to RIGHT while the lock is free
RIGHT = NOTES + 1
REPAIRS = NOTES + 2
ENTERED = NOTES + 4  # of each CPU: how often it held the lock
NAMES = {
    BODY: "lock",
    BODY + RL_STATUS: "status",
    LEFT: "left",
    RIGHT: "right",
    REPAIRS: "repairs",
}
STATE = 1 << 8 | LIVE  # of the entry that an atomic value is in
VALUE = BODY + ST_BODY


# --- the lock ------------------------------------------------------------------------------------
@kernel
def change(mem: Memory, claim: Claim) -> None:
    """The critical section. Repair comes first, so both are equal here."""
    expect(mem, mem[LEFT] == mem[RIGHT], WRONG)
    mem[LEFT] = mem[LEFT] + 1
    mem[RIGHT] = mem[RIGHT] + 1
    mem[ENTERED + claim] = mem[ENTERED + claim] + 1


@kernel
def repair(mem: Memory, claim: Claim) -> None:
    mem[RIGHT] = mem[LEFT]
    mem[REPAIRS] = mem[REPAIRS] + 1
    make_consistent(mem, claim, BODY)


@kernel
def hold(mem: Memory, claim: Claim, sleeps: int) -> int:
    """Take, with so many sleeps at most, repair if told to, change, release; what the lock told."""
    told = robust_lock(mem, claim, BODY, 0, sleeps)
    if told < 0:
        return told
    if told == OWNER_DIED:
        repair(mem, claim)
    change(mem, claim)
    robust_unlock(mem, claim, BODY, 0)
    return told


@kernel
def hold_once(mem: Memory, claim: Claim) -> int:
    return done(mem, claim, hold(mem, claim, PATIENCE))


@kernel
def hold_and_ask_again(mem: Memory, claim: Claim) -> int:
    """A life that holds the lock is refused, and still holds it."""
    told = robust_lock(mem, claim, BODY, 0, PATIENCE)
    expect(mem, robust_lock(mem, claim, BODY, 0, PATIENCE) == c.E_BUSY, STUCK)
    if told == OWNER_DIED:
        repair(mem, claim)
    change(mem, claim)
    robust_unlock(mem, claim, BODY, 0)
    return done(mem, claim, told)


@kernel
def hold_twice(mem: Memory, claim: Claim) -> int:
    return done(mem, claim, hold(mem, claim, PATIENCE) + hold(mem, claim, PATIENCE))


@kernel
def look_and_leave(mem: Memory, claim: Claim) -> int:
    """Like ``with lock:`` of a user who cannot repair: leaves that to the next one."""
    told = robust_lock(mem, claim, BODY, 0, PATIENCE)
    if told >= 0:
        if told == 0:
            change(mem, claim)
        robust_unlock(mem, claim, BODY, 1)
    return done(mem, claim, told)


@kernel
def hold_carelessly(mem: Memory, claim: Claim) -> int:
    """Does not repair, although it was told."""
    told = robust_lock(mem, claim, BODY, 0, PATIENCE)
    if told >= 0:
        if told == 0:
            change(mem, claim)
        robust_unlock(mem, claim, BODY, 0)
    return done(mem, claim, told)


@kernel
def close_under_lock(mem: Memory, claim: Claim) -> int:
    """Half a change, then the process closes its arena."""
    told = robust_lock(mem, claim, BODY, 0, PATIENCE)
    if told >= 0:
        if told == OWNER_DIED:
            repair(mem, claim)
        mem[LEFT] = mem[LEFT] + 1
        robust_abandon(mem, claim, BODY)
    return done(mem, claim, told)


@kernel
def try_once(mem: Memory, claim: Claim) -> int:
    """Takes the lock only if that needs no sleep."""
    return done(mem, claim, hold(mem, claim, 0))


@kernel
def lock_is_whole(mem: Memory) -> int:
    """The lock is free; what it protects is whole unless it says otherwise."""
    if robust_holder(mem[BODY]) != 0:
        return STUCK
    if mem[BODY + RL_STATUS] == 0 and mem[LEFT] != mem[RIGHT]:
        return WRONG
    return 0


@kernel
def all_held(mem: Memory) -> int:
    """Besides: no CPU was left out, and no repair was made twice."""
    if lock_is_whole(mem) != 0:
        return lock_is_whole(mem)
    if mem[BODY + RL_STATUS] != 0 or mem[REPAIRS] > 1:
        return WRONG
    return 0 if mem[LEFT] == mem[ENTERED] + mem[ENTERED + 1] + mem[ENTERED + 2] else WRONG


@kernel
def unusable_or_repaired(mem: Memory) -> int:
    """The careless one made the lock unusable, unless the careful one came first."""
    if robust_holder(mem[BODY]) != 0:
        return STUCK
    if mem[REPAIRS] == 0:
        return 0 if mem[BODY + RL_STATUS] == UNUSABLE and mem[RIGHT] == 0 else WRONG
    return 0 if mem[BODY + RL_STATUS] == 0 and mem[LEFT] == mem[RIGHT] else WRONG


DEAD_HOLDER = [(BODY, OVER), (LEFT, 1)]  # it died between its two writes


def lock_2(name: str) -> Program:
    return world(
        name,
        (hold_and_ask_again, hold_once),
        all_held,
        "the cas of LOCK_CONTENDED, then wait, against the release and its wake",
        names=NAMES,
    )


def lock_twice_2(name: str) -> Program:
    return world(
        name,
        (hold_twice, hold_twice),
        all_held,
        "a sleeper asks for a handoff; its release keeps the lock for those that have slept",
        names=NAMES,
    )


def lock_3(name: str) -> Program:
    return world(
        name,
        (hold_once, hold_once, hold_once),
        all_held,
        "two sleepers: the one that is woken takes the lock with the flag of the other",
        names=NAMES,
    )


def lock_try_2(name: str) -> Program:
    return world(
        name,
        (try_once, hold_once),
        lock_is_whole,
        "one CPU takes the lock only without a sleep: it leaves no flag that makes others sleep",
        names=NAMES,
    )


def lock_inherit_2(name: str) -> Program:
    return world(
        name,
        (hold_once, hold_once),
        lock_is_whole,
        "the holder is dead: of two that swap it for themselves one wins, and is told",
        init=DEAD_HOLDER,
        names=NAMES,
    )


def lock_keep_2(name: str) -> Program:
    return world(
        name,
        (look_and_leave, hold_once),
        lock_is_whole,
        "the first heir cannot repair and leaves the lock as it was: the second is told as well",
        init=DEAD_HOLDER,
        names=NAMES,
    )


def lock_unusable_2(name: str) -> Program:
    return world(
        name,
        (hold_carelessly, hold_once),
        unusable_or_repaired,
        "the heir releases without a repair: the lock is unusable, also for one that sleeps",
        init=DEAD_HOLDER,
        names=NAMES,
    )


def lock_close_2(name: str) -> Program:
    return world(
        name,
        (close_under_lock, hold_once),
        lock_is_whole,
        "a process closes its arena under the lock: the next one is told, as of a death",
        names=NAMES,
    )


# --- atomic values -------------------------------------------------------------------------------
@kernel
def add_twice(mem: Memory, claim: Claim) -> int:
    first, _ = atomic_add(mem, BODY, STATE, 1)
    second, _ = atomic_add(mem, BODY, STATE, 1)
    return done(mem, claim, first * 10 + second)


@kernel
def add_by_cas(mem: Memory, claim: Claim) -> int:
    added = 0
    while added == 0:
        old, _ = atomic_load(mem, BODY, STATE)
        added, _ = atomic_cas(mem, BODY, STATE, old, old + 10)
    return done(mem, claim, 0)


@kernel
def exchange_and_add(mem: Memory, claim: Claim) -> int:
    """Puts nothing in and what it took out back."""
    taken, _ = atomic_exchange(mem, BODY, STATE, 0)
    atomic_add(mem, BODY, STATE, taken)
    return done(mem, claim, 0)


@kernel
def set_pair(mem: Memory, claim: Claim) -> int:
    pair_exchange(mem, BODY, STATE, claim + 1, -claim - 1)
    return done(mem, claim, 0)


@kernel
def step_pair(mem: Memory, claim: Claim) -> int:
    """Reads a pair that belongs together, and moves both halves if no other CPU did."""
    first, second, _ = pair_load(mem, BODY, STATE)
    expect(mem, first + second == 0, WRONG)
    return done(mem, claim, int(pair_cas(mem, BODY, first, second, first + 10, second - 10)))


@kernel
def added_up(mem: Memory) -> int:
    return 0 if mem[VALUE] == 12 else WRONG


@kernel
def still_twins(mem: Memory) -> int:
    return 0 if mem[VALUE] + mem[VALUE + 1] == 0 else WRONG


def atomic_add_2(name: str) -> Program:
    return world(
        name,
        (add_twice, add_by_cas),
        added_up,
        "fetch_add against a loop of load and cas: no addition is lost",
        init=[(BODY, STATE)],
    )


def atomic_exchange_3(name: str) -> Program:
    return world(
        name,
        (add_twice, add_by_cas, exchange_and_add),
        added_up,
        "a value is taken out and added again: nothing is lost or counted twice",
        init=[(BODY, STATE)],
    )


def atomic_pair_3(name: str) -> Program:
    return world(
        name,
        (set_pair, set_pair, step_pair),
        still_twins,
        "two swaps of both halves against a load2 and a cas2: no CPU sees halves of two moments",
        init=[(BODY, STATE)],
    )


PROGRAMS = catalogue(
    "structure",
    lock_2,
    lock_twice_2,
    lock_3,
    lock_try_2,
    lock_inherit_2,
    lock_keep_2,
    lock_unusable_2,
    lock_close_2,
    atomic_add_2,
    atomic_exchange_3,
    atomic_pair_3,
)
