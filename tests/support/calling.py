"""Kernels that tests call from Python in every wrong way, and from many threads."""

from shmalloc.dialect import kernel
from shmalloc.kernels.lock import lock
from shmalloc.words import fetch_add, load, store, wait, wake


@kernel
def peek(mem, cpu, i):
    return mem[i]


@kernel
def divide(mem, cpu, a, b):
    return a // b


@kernel
def both(mem, cpu, a, b):
    """Two results."""
    return b, a


@kernel
def count_up(mem, cpu, at, times):
    for _ in range(times):
        fetch_add(mem, at, 1)
    return times


@kernel
def sleep_until_set(mem, cpu, at, rounds):
    """Sleep until the word is not 0, at most ``rounds`` times 50 ms; how many times.

    The next word says that we are about to sleep.
    """
    for slept in range(rounds):
        if load(mem, at) != 0:
            return slept
        store(mem, at + 1, slept + 1)
        wait(mem, at, 0)
    return rounds


@kernel
def set_word(mem, cpu, at):
    store(mem, at, 1)
    wake(mem, at, 1)


@kernel
def lock_and_fault(mem, cpu, at):
    """Take the lock at word ``at``, and end in the middle."""
    lock(mem, at, cpu)
    return mem[-1]
