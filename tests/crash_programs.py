"""A toy with a two-word update, and ways to recover it: one that is right, and wrong ones.

::

    0 lock: 0, or cpu + 1   1 balance of A   2 balance of B   3 amount under way, 0: nothing
    4 balance of B before   8.. died
"""

from shmalloc.dialect import kernel
from shmalloc.words import cas, load, relax, store
from stress import Program
from stress.crash import CrashCase

LOCK, A, B, AMOUNT, BEFORE, DIED = 0, 1, 2, 3, 4, 8
TOTAL = 100
WORDS = 16


@kernel
def take(mem, cpu):
    while not cas(mem, LOCK, 0, cpu + 1):
        relax(mem)


@kernel
def transfer(mem, cpu):
    """Move 10 + cpu from A to B, noting first what is to be done."""
    take(mem, cpu)
    mem[BEFORE] = mem[B]
    store(mem, AMOUNT, 10 + cpu)
    mem[A] = mem[A] - 10 - cpu
    mem[B] = mem[B] + 10 + cpu
    store(mem, AMOUNT, 0)
    store(mem, LOCK, 0)
    return 0


@kernel
def dead_holder(mem):
    """1 + the dead CPU that holds the lock, or 0."""
    owner = load(mem, LOCK)
    if owner != 0 and load(mem, DIED + owner - 1) != 0:
        return owner
    return 0


@kernel
def finish_transfer(mem):
    """What is under way is done from its note: the same however often it is done."""
    amount = load(mem, AMOUNT)
    if amount != 0:
        mem[B] = mem[BEFORE] + amount
        mem[A] = TOTAL - mem[B]
        store(mem, AMOUNT, 0)


@kernel
def recover_well(mem, cpu):
    owner = dead_holder(mem)
    if owner != 0:
        finish_transfer(mem)
        store(mem, LOCK, 0)
    return 0


@kernel
def recover_nothing(mem, cpu):
    return 0


@kernel
def recover_lock_only(mem, cpu):
    """Opens the lock and leaves half a transfer behind."""
    if dead_holder(mem) != 0:
        store(mem, LOCK, 0)
    return 0


@kernel
def recover_in_haste(mem, cpu):
    """Right, unless it dies itself: it strikes the note before it has done what that says."""
    owner = dead_holder(mem)
    if owner != 0:
        amount = load(mem, AMOUNT)
        store(mem, AMOUNT, 0)
        if amount != 0:
            mem[B] = mem[BEFORE] + amount
            mem[A] = TOTAL - mem[B]
        store(mem, LOCK, 0)
    return 0


@kernel
def balanced(mem):
    if mem[LOCK] != 0:
        return 1
    return 0 if mem[A] + mem[B] == TOTAL else 2


@kernel
def never(mem):
    """A check that nothing passes."""
    return 3


@kernel
def mends(mem):
    """A check that makes what it demands."""
    mem[A] = TOTAL - mem[B]
    return 0


@kernel
def transfers(mem, cpu, times):
    """A thread with an argument."""
    for _ in range(times):
        transfer(mem, cpu)


PROGRAM = Program(
    name="transfer", words=WORDS, threads=[transfer, transfer], check=balanced, init=[(A, TOTAL)]
)


def case_of(recover):
    return CrashCase(PROGRAM, recover, DIED, balanced)
