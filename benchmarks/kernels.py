"""The timed loops: each is one call from Python with thousands of operations inside.

Definitions follow the allocators' own benches so that figures compare: ``pair`` is LLFree's
*repeat* and NBBS' *cached allocation*; ``mixed`` frees a random slot's block and allocates a new
one of a random order; ``bulk`` allocates all, then frees all in a shuffled order.
"""

from shmalloc.dialect import kernel
from shmalloc.kernels.cache import cache_alloc, cache_free
from shmalloc.kernels.kmalloc import kfree, kmalloc
from shmalloc.kernels.pages import alloc_pages, free_pages
from shmalloc.words import cas2

RANDOM_MASK = 0x7FFFFFFF


@kernel
def two_swaps(mem, at, n):
    """F: two uncontended two-word swaps of one pair."""
    for _ in range(n):
        cas2(mem, at, 0, 0, 1, 1)
        cas2(mem, at, 1, 1, 0, 0)
    return n


@kernel
def page_pairs(mem, cpu, order, n):
    """Allocate a block and free it at once. Returns failures."""
    failed = 0
    for _ in range(n):
        pfn = alloc_pages(mem, cpu, order, 1, 7)
        if pfn < 0:
            failed += 1
        else:
            free_pages(mem, cpu, pfn, order)
    return failed


@kernel
def page_mixed(mem, cpu, at, slots, n):
    """Random replacement of blocks of orders 0..9 in ``slots`` pairs of words at ``at``."""
    seed = mem[at + 2 * slots]
    failed = 0
    for _ in range(n):
        seed = (seed * 1103515245 + 12345) & RANDOM_MASK
        slot = at + 2 * ((seed >> 16) % slots)
        if mem[slot] != 0:
            free_pages(mem, cpu, mem[slot] - 1, mem[slot + 1])
            mem[slot] = 0
        order = (seed >> 8) % 10
        pfn = alloc_pages(mem, cpu, order, 1, 7)
        if pfn < 0:
            failed += 1
        else:
            mem[slot] = pfn + 1
            mem[slot + 1] = order
    mem[at + 2 * slots] = seed
    return failed


@kernel
def page_bulk(mem, cpu, at, n, step):
    """Allocate ``n`` single pages, then free them all in strides (n and step coprime)."""
    got = 0
    for k in range(n):
        mem[at + k] = alloc_pages(mem, cpu, 0, 1, 7)
        if mem[at + k] >= 0:
            got += 1
    k = 0
    for _ in range(n):
        if mem[at + k] >= 0:
            free_pages(mem, cpu, mem[at + k], 0)
        k = (k + step) % n
    return got


@kernel
def object_pairs(mem, cpu, cache, n):
    """Allocate an object of a cache and free it at once."""
    failed = 0
    for _ in range(n):
        address = cache_alloc(mem, cpu, cache)
        if address < 0:
            failed += 1
        else:
            cache_free(mem, cpu, cache, address)
    return failed


@kernel
def kmalloc_pairs(mem, cpu, size_bytes, n):
    failed = 0
    for _ in range(n):
        address = kmalloc(mem, cpu, size_bytes)
        if address < 0:
            failed += 1
        else:
            kfree(mem, cpu, address)
    return failed
