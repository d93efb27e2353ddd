"""The array table: reference counts that every process can reach through a stale handle.

A handle names an entry, and may be used long after its array was freed. So entries live in pages
that are never given back while the segment lives, and an entry's count carries its generation::

    [ generation << 24 | references ][ data word, or next free entry ][ how allocated ][ pid ]

References 0: closed or free. A generation is never used twice, so a handle of an earlier array
is told by one read and can change nothing. Free entries form a stack in the header pair H_ARRAYS =
[entry, version]; the version defeats ABA (an entry taken and put back between our two reads).

Nothing here frees the data: who drops the last reference is told so, and does it.
"""

from __future__ import annotations

from shmalloc.constants import (
    AR_COUNT, AR_DATA, AR_GENERATION_SHIFT, AR_HOW, AR_PID, AR_REFS_MASK, AR_STRIDE, E_BUSY,
    E_NOMEM, E_STATE, H_ARRAYS, H_PAGE_SHIFT,
)  # fmt: skip
from shmalloc.dialect import kernel
from shmalloc.kernels.zone import frame_at
from shmalloc.units import Cpu, Int, Memory, Pfn, WordIndex
from shmalloc.words import cas, cas2, fixed, load, load2, load_relaxed, store, store_relaxed


@kernel
def push_entries(mem: Memory, first: WordIndex, last: WordIndex) -> None:
    """Put the chain ``first`` .. ``last`` on the stack of free entries; the swap publishes it."""
    while True:
        head, version = load2(mem, H_ARRAYS)
        store_relaxed(mem, last + AR_DATA, head)
        if cas2(mem, H_ARRAYS, head, version, first, version + 1):
            return


@kernel
def grow_entries(mem: Memory, cpu: Cpu, pfn: Pfn) -> int:
    """Make the page ``pfn``, owned by OWNER_ARRAYS and never freed, a page of free entries."""
    first = frame_at(mem, pfn)
    count = (1 << fixed(mem, H_PAGE_SHIFT)) // AR_STRIDE
    for i in range(count):
        at = first + i * AR_STRIDE
        store_relaxed(mem, at + AR_COUNT, 0)
        store_relaxed(mem, at + AR_DATA, at + AR_STRIDE)
    push_entries(mem, first, first + (count - 1) * AR_STRIDE)
    return count


@kernel
def open_entry(mem: Memory, cpu: Cpu, data: WordIndex, how: Int, pid: int) -> int:
    """Take a free entry for a new array with one reference; its word index, or E_NOMEM."""
    entry = 0
    while entry == 0:
        head, version = load2(mem, H_ARRAYS)
        if head == 0:
            return E_NOMEM
        # May be another array's data word by now; then the version has moved and the swap fails.
        following = load_relaxed(mem, head + AR_DATA)
        if cas2(mem, H_ARRAYS, head, version, following, version + 1):
            entry = head
    store_relaxed(mem, entry + AR_DATA, data)
    store_relaxed(mem, entry + AR_HOW, how)
    store_relaxed(mem, entry + AR_PID, pid)
    generation = (load_relaxed(mem, entry + AR_COUNT) >> AR_GENERATION_SHIFT) + 1
    store(mem, entry + AR_COUNT, (generation << AR_GENERATION_SHIFT) | 1)  # publishes the array
    return entry


@kernel
def add_reference(mem: Memory, cpu: Cpu, entry: WordIndex, generation: int) -> int:
    """One more user of a live array; the new count, E_STATE if it is gone, E_BUSY if full."""
    while True:
        old = load(mem, entry + AR_COUNT)
        references = old & AR_REFS_MASK
        if old >> AR_GENERATION_SHIFT != generation or references == 0:
            return E_STATE
        if references == AR_REFS_MASK:
            return E_BUSY
        if cas(mem, entry + AR_COUNT, old, old + 1):  # linearization point of an open
            return references + 1


@kernel
def drop_reference(mem: Memory, cpu: Cpu, entry: WordIndex, generation: int) -> int:
    """One user less; how many are left. With 0 the caller frees the data, then ``close_entry``."""
    while True:
        old = load(mem, entry + AR_COUNT)
        references = old & AR_REFS_MASK
        if old >> AR_GENERATION_SHIFT != generation or references == 0:
            return E_STATE
        if cas(mem, entry + AR_COUNT, old, old - 1):  # at 0 nobody can open it any more
            return references - 1


@kernel
def close_entry(mem: Memory, cpu: Cpu, entry: WordIndex) -> int:
    """Give back an entry whose last reference the caller dropped and whose data it freed."""
    push_entries(mem, entry, entry)
    return 0
