"""Timed loops over pages: each is one call from Python with thousands of operations inside.

Definitions follow the benches of the allocators themselves, so that figures compare: ``repeat``,
``bulk`` and ``rand`` are LLFree's (repeat is "cached allocation" of NBBS), ``constant`` is NBBS's
constant occupancy: a random block is freed, and one of the same size is allocated in its place.

The words of one job of one worker::

     0 random state | 2 spins | 16 head and 32 tail of a ring, which two workers share
    A_RING  ..  entries of the ring
    A_ORDER ..  the order in which a batch is freed, a permutation that Python wrote
    A_HELD  ..  what is held: pfns, addresses, or pairs of words

A loop returns how many of its operations failed: 0, or the bench ends.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel
from shmalloc.kernels.pages import alloc_pages, free_pages
from shmalloc.kernels.pages_bulk import alloc_bulk, free_bulk
from shmalloc.units import Claim, Memory, Order, WordIndex
from shmalloc.words import cas2

A_RANDOM = 0
A_SPINS = 2
A_HEAD = 16
A_TAIL = 32
A_RING = 64
RING = 1024  # entries, a power of two
A_ORDER = 2048
MOST = 4096  # blocks of a batch
A_HELD = A_ORDER + MOST
AREA_WORDS = A_HELD + 2 * MOST
OWNER = 7
RANDOM_MASK = 0x7FFFFFFF
MIXED_ORDERS = 10
ORDER_BITS = 4
ORDER_MASK = 15


@kernel
def two_swaps(mem: Memory, at: WordIndex, n: int) -> int:
    """F: two uncontended two-word swaps of one pair."""
    for _ in range(n):
        cas2(mem, at, 0, 0, 1, 1)
        cas2(mem, at, 1, 1, 0, 0)
    return n


@hot
def draw(mem: Memory, at: WordIndex) -> int:
    """The next random number of the area at ``at``: 15 bits are good, those from bit 16 on."""
    seed: int = (mem[at + A_RANDOM] * 1103515245 + 12345) & RANDOM_MASK
    mem[at + A_RANDOM] = seed
    return seed


@kernel
def page_pairs(mem: Memory, claim: Claim, order: Order, n: int) -> int:
    """Allocate a block and free it at once, ``n`` times."""
    failed = 0
    for _ in range(n):
        pfn = alloc_pages(mem, claim, order, c.MT_MOVABLE, OWNER)
        if pfn < 0:
            failed += 1
        else:
            free_pages(mem, claim, pfn, order)
    return failed


@kernel
def page_mixed(mem: Memory, claim: Claim, at: WordIndex, slots: int, n: int) -> int:
    """Free the block of a random slot and allocate one of a random order from 0 to 9, ``n`` times.

    A slot is a word: 0, or ``(pfn << 4 | order) + 1``.
    """
    failed = 0
    for _ in range(n):
        seed = draw(mem, at)
        slot = at + A_HELD + (seed >> 16) % slots
        held = mem[slot] - 1
        if held >= 0:
            free_pages(mem, claim, held >> ORDER_BITS, held & ORDER_MASK)
            mem[slot] = 0
        order = (seed >> 8) % MIXED_ORDERS
        pfn = alloc_pages(mem, claim, order, c.MT_MOVABLE, OWNER)
        if pfn < 0:
            failed += 1
        else:
            mem[slot] = (pfn << ORDER_BITS | order) + 1
    return failed


@kernel
def page_constant(mem: Memory, claim: Claim, at: WordIndex, slots: int, n: int) -> int:
    """Free the block of a random slot and allocate one of the same order, ``n`` times.

    Slot k has order k % 4; a slot that is empty is filled.
    """
    failed = 0
    for _ in range(n):
        number = (draw(mem, at) >> 16) % slots
        slot = at + A_HELD + number
        order = number & 3
        if mem[slot] != 0:
            free_pages(mem, claim, (mem[slot] - 1) >> ORDER_BITS, order)
            mem[slot] = 0
        pfn = alloc_pages(mem, claim, order, c.MT_MOVABLE, OWNER)
        if pfn < 0:
            failed += 1
        else:
            mem[slot] = (pfn << ORDER_BITS | order) + 1
    return failed


@kernel
def page_clear(mem: Memory, claim: Claim, at: WordIndex, slots: int) -> int:
    """Free what the slots of ``page_mixed`` or ``page_constant`` hold."""
    failed = 0
    for slot in range(at + A_HELD, at + A_HELD + slots):
        held = mem[slot] - 1
        if held >= 0 and free_pages(mem, claim, held >> ORDER_BITS, held & ORDER_MASK) < 0:
            failed += 1
        mem[slot] = 0
    return failed


@kernel
def page_take(mem: Memory, claim: Claim, at: WordIndex, count: int) -> int:
    """Allocate ``count`` single pages into the area at ``at``."""
    failed = 0
    for k in range(count):
        pfn = alloc_pages(mem, claim, 0, c.MT_MOVABLE, OWNER)
        if pfn < 0:
            failed += 1
        mem[at + A_HELD + k] = pfn
    return failed


@kernel
def page_give(mem: Memory, claim: Claim, at: WordIndex, count: int) -> int:
    """Free the pages of the area at ``at``, whichever claim allocated them, in its order."""
    failed = 0
    for k in range(count):
        pfn = mem[at + A_HELD + mem[at + A_ORDER + k]]
        if pfn < 0 or free_pages(mem, claim, pfn, 0) < 0:
            failed += 1
    return failed


@kernel
def page_batches(mem: Memory, claim: Claim, at: WordIndex, count: int, n: int) -> int:
    """Allocate ``count`` single pages, then free them in the area's order, ``n`` times."""
    failed = 0
    for _ in range(n):
        page_take(mem, claim, at, count)
        failed += page_give(mem, claim, at, count)
    return failed


@kernel
def page_calls(mem: Memory, claim: Claim, at: WordIndex, count: int, n: int) -> int:
    """Allocate ``count`` single pages by one call and free them by another, ``n`` times."""
    failed = 0
    for _ in range(n):
        got = alloc_bulk(mem, claim, 0, c.MT_MOVABLE, OWNER, count, at + A_HELD)
        if free_bulk(mem, claim, 0, got, at + A_HELD) != count:
            failed += 1
    return failed


@kernel
def page_fragments(mem: Memory, claim: Claim, at: WordIndex, most: int, keep: int) -> int:
    """Allocate up to ``most`` single pages into the words at ``at`` and free all but every
    ``keep``-th; returns how many words were used."""
    got = 0
    while got < most:
        pfn = alloc_pages(mem, claim, 0, c.MT_MOVABLE, OWNER)
        if pfn < 0:
            break
        mem[at + got] = pfn
        got += 1
    for k in range(got):
        if k % keep != 0:
            free_pages(mem, claim, mem[at + k], 0)
            mem[at + k] = -1
    return got


@kernel
def page_defragment(mem: Memory, claim: Claim, at: WordIndex, count: int) -> int:
    """Free what ``page_fragments`` kept in ``count`` words."""
    failed = 0
    for k in range(count):
        if mem[at + k] >= 0 and free_pages(mem, claim, mem[at + k], 0) < 0:
            failed += 1
    return failed
