"""The words by which the controller and the workers of a bench speak.

::

     0 ticket: one more for each order | 1 job | 2 repeats | 3 workers that take part | 4 round
     5 what to do (DO_*)
    16 arrivals at the barrier | 32 workers that are done with the order
    48 + 32 x worker:  the answer of a worker (R_*), and two words of its own for F

They lie in a file without a name (memfd), which disappears with its last process. The controller
writes an order while no worker works, raises the ticket and wakes them; a worker sleeps on the
ticket, so that waiting costs no core. Before a slice all that take part meet at the barrier.
"""

from __future__ import annotations

import mmap
import os

from shmalloc.dialect import Kernel, kernel
from shmalloc.memory import Ram
from shmalloc.units import Memory, WordIndex
from shmalloc.words import fetch_add, load, store, wait, wake
from stress.bench.ring_loops import LOST, paused

TICKET, JOB, REPEATS, WORKERS, ROUND, ACTION = range(6)
MET = 16
DONE = 32
ANSWERS = 48
ANSWER_WORDS = 32
DO_SLICE, DO_PREPARE, DO_UNDO, DO_LEAVE = range(4)
R_OPERATIONS, R_OWN_NS, R_START_NS, R_END_NS, R_SWITCHES, R_FAILED, R_F_NS = range(7)
R_F_PAIR = 16  # the pair that F swaps, in a line of its own
MOST_WORKERS = 32
WORDS = ANSWERS + MOST_WORKERS * ANSWER_WORDS
_BYTES = -(-WORDS * 8 // mmap.PAGESIZE) * mmap.PAGESIZE


def answer_at(worker: int) -> int:
    """The first word of the answer of a worker."""
    return ANSWERS + worker * ANSWER_WORDS


def make_file() -> int:
    """A new file of zeros; its descriptor is the caller's to close."""
    file = os.memfd_create("shmstress-bench")
    os.ftruncate(file, _BYTES)
    return file


def words_of(file: int) -> Ram:
    """The words in the file, unmapped with the last reference to them."""
    return Ram(mmap.mmap(file, _BYTES))


@kernel
def announce(mem: Memory) -> int:
    """Raise the ticket and wake all workers; the new ticket."""
    store(mem, MET, 0)
    store(mem, DONE, 0)
    ticket: int = load(mem, TICKET) + 1
    store(mem, TICKET, ticket)
    wake(mem, TICKET, MOST_WORKERS)
    return ticket


@kernel
def await_order(mem: Memory, seen: int) -> int:
    """The ticket, after ``seen`` or after 50 ms at most."""
    if load(mem, TICKET) == seen:
        wait(mem, TICKET, seen)
    ticket: int = load(mem, TICKET)
    return ticket


@kernel
def tell_done(mem: Memory) -> None:
    """Say that a worker is done with the order."""
    fetch_add(mem, DONE, 1)
    wake(mem, DONE, 1)


@kernel
def await_done(mem: Memory, workers: int) -> int:
    """How many workers are done: ``workers``, or fewer after 50 ms at most."""
    done: int = load(mem, DONE)
    if done < workers:
        wait(mem, DONE, done)
        done = load(mem, DONE)
    return done


@kernel
def meet(mem: Memory, target: int, spins: int) -> bool:
    """Arrive at the barrier and wait for ``target`` arrivals in all; False: some never came.

    ``spins``: looks before the core is given away.
    """
    fetch_add(mem, MET, 1)
    return await_word(mem, MET, target, spins)


@kernel
def await_word(mem: Memory, at: WordIndex, target: int, spins: int) -> bool:
    """Whether the word at ``at`` reached ``target``; waits for it."""
    waited = 0
    while load(mem, at) < target:
        waited = paused(mem, waited, spins)
        if waited > LOST:
            return False
    return True


KERNELS: tuple[Kernel, ...] = (announce, await_order, await_done, tell_done, meet)
