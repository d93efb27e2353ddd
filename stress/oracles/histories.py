"""Histories: the calls and results of each CPU, stamped from one counter, in words of memory.

For the linearizability checker, which reads them after the run (stress/linearize/recorded.py). The
area begins at an even word ``at``, is zero at the start except for CAPACITY, and has a log for each
CPU behind its header::

    header   [ CLOCK | CAPACITY | - | - ]         LOG_HEADER words
    log      [ COUNT | LOST | entry x capacity ]  of one CPU
    entry    [ CALL | RETURN | WHAT | A | B | RESULT ]

CLOCK is advanced by ``fetch_add`` for each stamp, so stamps are 1, 2, 3, ... and no two are equal.
CALL is stored before the operation begins, after WHAT, A and B; RETURN after it ended, after
RESULT. A CPU that dies leaves CALL 0 (not begun) or RETURN 0 (pending), never half an entry. COUNT
is the number of entries begun. A full log counts LOST instead: such a history proves nothing, and
the reader refuses it.

Rules for callers: one process on a CPU slot; WHAT is not 0; pass to ``log_return`` what
``log_call`` returned. A log costs two contended swaps per operation, which order all CPUs with each
other. A recorded program therefore hides data races that the clock happens to order, and delayed
stores (the swap empties the buffer). Use it to find wrong results; look for races without it.
"""

from __future__ import annotations

from shmalloc.dialect import kernel
from shmalloc.units import Cpu, Memory, WordIndex
from shmalloc.words import fetch_add, fixed

LOG_CLOCK = 0
LOG_CAPACITY = 1  # entries for each CPU; fixed
LOG_HEADER = 4
LOG_COUNT = 0
LOG_LOST = 1
LOG_ENTRIES = 2
ENTRY_CALL = 0
ENTRY_RETURN = 1
ENTRY_WHAT = 2
ENTRY_A = 3
ENTRY_B = 4
ENTRY_RESULT = 5
ENTRY_WORDS = 6
NO_ENTRY = -1


@kernel
def log_at(mem: Memory, at: WordIndex, cpu: Cpu) -> WordIndex:
    """Word index of the CPU's log."""
    return at + LOG_HEADER + cpu * (LOG_ENTRIES + fixed(mem, at + LOG_CAPACITY) * ENTRY_WORDS)


@kernel
def log_call(mem: Memory, at: WordIndex, cpu: Cpu, what: int, a: int, b: int) -> WordIndex:
    """Begin an operation: its entry, for ``log_return``; NO_ENTRY if the log is full."""
    log = log_at(mem, at, cpu)
    count = mem[log + LOG_COUNT]
    if count >= fixed(mem, at + LOG_CAPACITY):
        mem[log + LOG_LOST] = mem[log + LOG_LOST] + 1
        return NO_ENTRY
    entry = log + LOG_ENTRIES + count * ENTRY_WORDS
    mem[entry + ENTRY_WHAT] = what
    mem[entry + ENTRY_A] = a
    mem[entry + ENTRY_B] = b
    mem[log + LOG_COUNT] = count + 1
    mem[entry + ENTRY_CALL] = fetch_add(mem, at + LOG_CLOCK, 1) + 1
    return entry


@kernel
def log_return(mem: Memory, at: WordIndex, entry: WordIndex, result: int) -> int:
    """End an operation; returns ``result``."""
    if entry != NO_ENTRY:
        mem[entry + ENTRY_RESULT] = result
        mem[entry + ENTRY_RETURN] = fetch_add(mem, at + LOG_CLOCK, 1) + 1
    return result
