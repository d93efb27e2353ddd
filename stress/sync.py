"""Blocking synchronization for programs of the explorer: kernels over ``wait`` and ``wake``.

A CPU that waits here sleeps, so nothing spins and a deadlock is a deadlock: every strategy reports
it, with who holds what and who waits for which word. All state is in words of memory, 0 at the
start but for a semaphore, whose word is its count::

    mutex      [ 0 | W | cpu + 1 ]        W (bit 16): a CPU may sleep
    condition  changes of it so far
    semaphore  count
    rwlock     [ readers | writer + 1 ]   readers from bit 16 on
    barrier    [ rounds | CPUs that have arrived ]
    once       0, RUNNING or DONE
    thread     0, STARTED or ENDED

A mutex and an rwlock name their owner as ``Program(locks=[...])`` wants it: with that a cycle of
CPUs that wait for each other is reported the moment it closes.

Rules of the callers: a wait for a condition is in a loop that looks at what it waits for; who
unlocks holds the lock, which is expected (``NOT_HELD``); a barrier has the same number of parties
each time; a thread is started once (``NOT_NEW``). The kernels also run natively, in processes.
"""

from __future__ import annotations

from shmalloc.dialect import kernel
from shmalloc.units import Cpu, Memory, WordIndex
from shmalloc.words import cas, exchange, expect, fetch_add, load, store, wait, wake

HOLDER = 0xFFFF  # 1 + the CPU that holds a mutex, or writes under an rwlock
WAITED = 1 << 16
READER = 1 << 16
ARRIVED = 0xFFFF
ROUND = 1 << 16
RUNNING = 1
DONE = 2
STARTED = 1
ENDED = 2
ALL = 0xFFFF  # more than there are CPUs

NOT_HELD = -1001  # codes of what is expected of the callers
NO_READER = -1002
NOT_RUNNING = -1003
NOT_NEW = -1004


# --- mutex ---------------------------------------------------------------------------------------
@kernel
def mutex_lock(mem: Memory, at: WordIndex, cpu: Cpu) -> None:
    """Take the mutex at word ``at``; sleep while another CPU holds it."""
    if cas(mem, at, 0, cpu + 1):
        return
    while True:
        old = load(mem, at)
        if old == 0:
            # we may have slept, and not alone: the flag stays for the others
            if cas(mem, at, 0, (cpu + 1) | WAITED):
                return
        elif old & WAITED != 0 or cas(mem, at, old, old | WAITED):
            wait(mem, at, old | WAITED)


@kernel
def mutex_trylock(mem: Memory, at: WordIndex, cpu: Cpu) -> bool:
    """Take the mutex if it is free; never waits."""
    return cas(mem, at, 0, cpu + 1)


@kernel
def mutex_unlock(mem: Memory, at: WordIndex, cpu: Cpu) -> None:
    """Release the mutex, and wake one sleeper if there may be one."""
    old = exchange(mem, at, 0)
    expect(mem, old & HOLDER == cpu + 1, NOT_HELD)
    if old & WAITED != 0:
        wake(mem, at, 1)


# --- condition variable --------------------------------------------------------------------------
@kernel
def condition_wait(mem: Memory, at: WordIndex, mutex: WordIndex, cpu: Cpu) -> None:
    """Release ``mutex``, sleep until the condition is signalled, and take the mutex again.

    It may return without a signal, as every condition variable does.
    """
    seen = load(mem, at)
    mutex_unlock(mem, mutex, cpu)
    wait(mem, at, seen)
    mutex_lock(mem, mutex, cpu)


@kernel
def condition_signal(mem: Memory, at: WordIndex) -> None:
    """Wake one CPU that waits for the condition, and none that begins to wait from now on."""
    fetch_add(mem, at, 1)
    wake(mem, at, 1)


@kernel
def condition_broadcast(mem: Memory, at: WordIndex) -> None:
    """Wake every CPU that waits for the condition."""
    fetch_add(mem, at, 1)
    wake(mem, at, ALL)


# --- semaphore -----------------------------------------------------------------------------------
@kernel
def semaphore_wait(mem: Memory, at: WordIndex) -> None:
    """Take one of the count; sleep while it is 0."""
    while True:
        count = load(mem, at)
        if count == 0:
            wait(mem, at, 0)
        elif cas(mem, at, count, count - 1):
            return


@kernel
def semaphore_post(mem: Memory, at: WordIndex) -> None:
    """Give one to the count."""
    fetch_add(mem, at, 1)
    wake(mem, at, 1)


# --- readers and writer --------------------------------------------------------------------------
@kernel
def read_lock(mem: Memory, at: WordIndex) -> None:
    """Read under the rwlock at word ``at``, together with other readers."""
    while True:
        old = load(mem, at)
        if old & HOLDER != 0:
            wait(mem, at, old)
        elif cas(mem, at, old, old + READER):
            return


@kernel
def read_unlock(mem: Memory, at: WordIndex) -> None:
    """The last reader lets a writer in."""
    old = fetch_add(mem, at, -READER)
    expect(mem, old >= READER, NO_READER)
    if old < 2 * READER:
        wake(mem, at, ALL)


@kernel
def write_lock(mem: Memory, at: WordIndex, cpu: Cpu) -> None:
    """Write under the rwlock, alone. Readers that keep coming can keep a writer waiting."""
    while True:
        old = load(mem, at)
        if old != 0:
            wait(mem, at, old)
        elif cas(mem, at, 0, cpu + 1):
            return


@kernel
def write_unlock(mem: Memory, at: WordIndex, cpu: Cpu) -> None:
    old = exchange(mem, at, 0)
    expect(mem, old == cpu + 1, NOT_HELD)
    wake(mem, at, ALL)


# --- barrier -------------------------------------------------------------------------------------
@kernel
def barrier_wait(mem: Memory, at: WordIndex, parties: int) -> bool:
    """Sleep until ``parties`` CPUs have arrived; True for the one that came last."""
    old = fetch_add(mem, at, 1)
    begun = old // ROUND
    if (old & ARRIVED) + 1 == parties:
        store(mem, at, (begun + 1) * ROUND)
        wake(mem, at, ALL)
        return True
    while True:
        now_at = load(mem, at)
        if now_at // ROUND != begun:
            return False
        wait(mem, at, now_at)


# --- once ----------------------------------------------------------------------------------------
@kernel
def once_begin(mem: Memory, at: WordIndex) -> bool:
    """True for one CPU, which calls ``once_end`` when it has done what is to be done once.

    The others sleep until then.
    """
    while True:
        old = load(mem, at)
        if old == DONE:
            return False
        if old == RUNNING:
            wait(mem, at, RUNNING)
        elif cas(mem, at, 0, RUNNING):
            return True


@kernel
def once_end(mem: Memory, at: WordIndex) -> None:
    old = exchange(mem, at, DONE)
    expect(mem, old == RUNNING, NOT_RUNNING)
    wake(mem, at, ALL)


# --- threads that are started and joined ---------------------------------------------------------
@kernel
def thread_start(mem: Memory, at: WordIndex) -> None:
    """Start the thread whose word is ``at``: what was written before is seen by it."""
    old = exchange(mem, at, STARTED)
    expect(mem, old == 0, NOT_NEW)
    wake(mem, at, ALL)


@kernel
def thread_begin(mem: Memory, at: WordIndex) -> None:
    """The first call of a thread that another one starts: sleep until it does."""
    while load(mem, at) == 0:
        wait(mem, at, 0)


@kernel
def thread_end(mem: Memory, at: WordIndex) -> None:
    """The last call of a thread that others join."""
    store(mem, at, ENDED)
    wake(mem, at, ALL)


@kernel
def thread_join(mem: Memory, at: WordIndex) -> None:
    """Sleep until the thread has ended; what it wrote is seen."""
    while True:
        state = load(mem, at)
        if state == ENDED:
            return
        wait(mem, at, state)
