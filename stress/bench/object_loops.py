"""Timed loops over objects: of one cache, or by size (kmalloc). page_loops.py has the area.

``threadtest``, ``larson`` and ``xmalloc`` are the benches of Hoard, of Larson and Krishnan, and of
Lever and Boreham, by what they do: N objects allocated, then all freed; objects of random sizes
that replace others, which another thread may have allocated; objects that one thread allocates and
another frees. ``ycsb`` is cxlalloc's mix of 50 % reads, 25 % inserts and 25 % deletes.
"""

from __future__ import annotations

from shmalloc.dialect import hot, kernel
from shmalloc.kernels.cache import cache_alloc, cache_free
from shmalloc.kernels.cache_bulk import cache_alloc_bulk, cache_free_bulk
from shmalloc.kernels.kmalloc import kfree, kmalloc
from shmalloc.units import CacheId, Claim, Memory, WordIndex
from stress.bench.page_loops import A_HELD, A_ORDER, draw

LEAST_BYTES = 16


@kernel
def object_pairs(mem: Memory, claim: Claim, cache_id: CacheId, n: int) -> int:
    """Allocate an object of a cache and free it at once, ``n`` times."""
    failed = 0
    for _ in range(n):
        address = cache_alloc(mem, claim, cache_id)
        if address < 0:
            failed += 1
        else:
            cache_free(mem, claim, cache_id, address)
    return failed


@kernel
def kmalloc_pairs(mem: Memory, claim: Claim, size_bytes: int, n: int) -> int:
    """The same by size."""
    failed = 0
    for _ in range(n):
        address = kmalloc(mem, claim, size_bytes)
        if address < 0:
            failed += 1
        else:
            kfree(mem, claim, address)
    return failed


@kernel
def object_take(mem: Memory, claim: Claim, at: WordIndex, cache_id: CacheId, count: int) -> int:
    """Allocate ``count`` objects into the area at ``at``."""
    failed = 0
    for k in range(count):
        address = cache_alloc(mem, claim, cache_id)
        if address < 0:
            failed += 1
        mem[at + A_HELD + k] = address
    return failed


@kernel
def object_give(mem: Memory, claim: Claim, at: WordIndex, cache_id: CacheId, count: int) -> int:
    """Free the objects of the area at ``at``, whichever claim allocated them, in its order."""
    failed = 0
    for k in range(count):
        address = mem[at + A_HELD + mem[at + A_ORDER + k]]
        if cache_free(mem, claim, cache_id, address) < 0:
            failed += 1
    return failed


@kernel
def object_batches(
    mem: Memory, claim: Claim, at: WordIndex, cache_id: CacheId, count: int, n: int
) -> int:
    """Allocate ``count`` objects one by one, then free them in the area's order, ``n`` times."""
    failed = 0
    for _ in range(n):
        object_take(mem, claim, at, cache_id, count)
        failed += object_give(mem, claim, at, cache_id, count)
    return failed


@kernel
def object_calls(
    mem: Memory, claim: Claim, at: WordIndex, cache_id: CacheId, count: int, n: int
) -> int:
    """Allocate ``count`` objects by one call and free them by another, ``n`` times."""
    failed = 0
    for _ in range(n):
        got = cache_alloc_bulk(mem, claim, cache_id, count, at + A_HELD)
        if cache_free_bulk(mem, claim, cache_id, got, at + A_HELD) != count:
            failed += 1
    return failed


@kernel
def kmalloc_batches(
    mem: Memory, claim: Claim, at: WordIndex, size_bytes: int, count: int, n: int
) -> int:
    """Allocate ``count`` objects by size, then free them in the area's order, ``n`` times."""
    failed = 0
    for _ in range(n):
        for k in range(count):
            mem[at + A_HELD + k] = kmalloc(mem, claim, size_bytes)
        for k in range(count):
            if kfree(mem, claim, mem[at + A_HELD + mem[at + A_ORDER + k]]) < 0:
                failed += 1
    return failed


@hot
def random_bytes(seed: int, most_bytes: int) -> int:
    """A size from LEAST_BYTES to ``most_bytes``."""
    return LEAST_BYTES + (seed >> 8) % (most_bytes - LEAST_BYTES + 1)


@kernel
def kmalloc_replace(
    mem: Memory, claim: Claim, at: WordIndex, slots: int, most_bytes: int, n: int
) -> int:
    """Free the object of a random slot and allocate one of a random size, ``n`` times."""
    failed = 0
    for _ in range(n):
        seed = draw(mem, at)
        slot = at + A_HELD + (seed >> 16) % slots
        if mem[slot] != 0:
            kfree(mem, claim, mem[slot])
        address = kmalloc(mem, claim, random_bytes(seed, most_bytes))
        if address < 0:
            failed += 1
            address = 0
        mem[slot] = address
    return failed


@kernel
def kmalloc_table(
    mem: Memory, claim: Claim, at: WordIndex, slots: int, size_bytes: int, n: int
) -> int:
    """One operation of a table of ``slots`` objects, ``n`` times: half read, a quarter insert, a
    quarter delete. An insert of a key that exists replaces its object."""
    failed = 0
    total = 0
    for _ in range(n):
        seed = draw(mem, at)
        slot = at + A_HELD + (seed >> 16) % slots
        what = (seed >> 8) & 3
        held = mem[slot]
        if what < 2:
            if held != 0:
                total += mem[held]
        elif held != 0:
            kfree(mem, claim, held)
            mem[slot] = 0
        if what == 2:
            address = kmalloc(mem, claim, size_bytes)
            if address < 0:
                failed += 1
            else:
                mem[address] = seed
                mem[slot] = address
    mem[at + 1] = total
    return failed


@kernel
def kmalloc_clear(mem: Memory, claim: Claim, at: WordIndex, slots: int) -> int:
    """Free what the slots of ``kmalloc_replace`` or ``kmalloc_table`` hold."""
    failed = 0
    for slot in range(at + A_HELD, at + A_HELD + slots):
        if mem[slot] != 0 and kfree(mem, claim, mem[slot]) < 0:
            failed += 1
        mem[slot] = 0
    return failed
