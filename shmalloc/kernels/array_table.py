"""The array table: reference counts that stay safe to reach through a stale handle.

A handle names an entry, and may be used long after its array was freed. So entries live in pages
that are not freed while the segment lives, and an entry's count carries its generation::

    [ generation << 24 | references ][ data word, or next free entry ][ how allocated ][ pid ]

References 0: closed or free. A generation is never used twice, so one read tells a handle of an
earlier array, which can change nothing. Free entries form a stack in the header pair H_ARRAYS =
[entry, version]; the version defeats ABA (an entry taken and put back between our two reads).

Nothing here frees the data: the caller that drops the last reference is told so, and frees it.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.zone import frame_at
from shmalloc.units import Cpu, Int, Memory, Pfn, WordIndex
from shmalloc.words import cas, cas2, fixed, load, load2, load_relaxed, store, store_relaxed


@kernel
def push_entries(mem: Memory, first: WordIndex, last: WordIndex) -> None:
    """Put the chain ``first`` .. ``last`` on the stack of free entries; the swap publishes it."""
    while True:
        head, version = load2(mem, c.H_ARRAYS)
        store_relaxed(mem, last + c.AR_DATA, head)
        if cas2(mem, c.H_ARRAYS, head, version, first, version + 1):
            return


@kernel
def grow_entries(mem: Memory, cpu: Cpu, pfn: Pfn) -> int:
    """Make the page ``pfn``, owned by OWNER_ARRAYS and never freed, a page of free entries."""
    first = frame_at(mem, pfn)
    count = (1 << fixed(mem, c.H_PAGE_SHIFT)) // c.AR_STRIDE
    for i in range(count):
        at = first + i * c.AR_STRIDE
        store_relaxed(mem, at + c.AR_COUNT, 0)
        store_relaxed(mem, at + c.AR_DATA, at + c.AR_STRIDE)
    push_entries(mem, first, first + (count - 1) * c.AR_STRIDE)
    return count


@kernel
def open_entry(mem: Memory, cpu: Cpu, data: WordIndex, how: Int, pid: int) -> int:
    """Take a free entry for a new array with one reference; its word index, or E_NOMEM."""
    entry = 0
    while entry == 0:
        head, version = load2(mem, c.H_ARRAYS)
        if head == 0:
            return c.E_NOMEM
        # May already be another array's data word; then the version has moved and the swap fails.
        following = load_relaxed(mem, head + c.AR_DATA)
        if cas2(mem, c.H_ARRAYS, head, version, following, version + 1):
            entry = head
    store_relaxed(mem, entry + c.AR_DATA, data)
    store_relaxed(mem, entry + c.AR_HOW, how)
    store_relaxed(mem, entry + c.AR_PID, pid)
    generation = (load_relaxed(mem, entry + c.AR_COUNT) >> c.AR_GENERATION_SHIFT) + 1
    store(mem, entry + c.AR_COUNT, (generation << c.AR_GENERATION_SHIFT) | 1)  # publishes the array
    return entry


@kernel
def add_reference(mem: Memory, cpu: Cpu, entry: WordIndex, generation: int) -> int:
    """Add a user of a live array; the new count, E_STATE if it is gone, E_BUSY if full."""
    while True:
        old = load(mem, entry + c.AR_COUNT)
        references = old & c.AR_REFS_MASK
        if old >> c.AR_GENERATION_SHIFT != generation or references == 0:
            return c.E_STATE
        if references == c.AR_REFS_MASK:
            return c.E_BUSY
        if cas(mem, entry + c.AR_COUNT, old, old + 1):  # linearization point of an open
            return references + 1


@kernel
def drop_reference(mem: Memory, cpu: Cpu, entry: WordIndex, generation: int) -> int:
    """Remove a user; how many are left. At 0 the caller frees the data, then ``close_entry``."""
    while True:
        old = load(mem, entry + c.AR_COUNT)
        references = old & c.AR_REFS_MASK
        if old >> c.AR_GENERATION_SHIFT != generation or references == 0:
            return c.E_STATE
        if cas(mem, entry + c.AR_COUNT, old, old - 1):  # at 0 it cannot be opened any more
            return references - 1


@kernel
def close_entry(mem: Memory, cpu: Cpu, entry: WordIndex) -> int:
    """Give back an entry whose last reference the caller dropped and whose data it freed."""
    push_entries(mem, entry, entry)
    return 0
