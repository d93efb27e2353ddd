"""Timed loops of two processes: one allocates, the other frees, and nothing is reused where it was
freed. What is passed goes through a ring of words in the producer's area (page_loops.py).

The producer alone writes A_HEAD, the consumer A_TAIL; both count entries since the start. A side
that finds nothing to do spins, A_SPINS times, then gives its core away, and after LOST of these it
gives up: its partner is gone. Where each worker has a core A_SPINS is PATIENT: a yield would look
as if the core had been taken away. A loop returns how many entries it did not do.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel
from shmalloc.kernels.kmalloc import kfree, kmalloc
from shmalloc.kernels.pages import alloc_pages, free_pages
from shmalloc.units import Claim, Memory, WordIndex
from shmalloc.words import give_way, load, relax, store
from stress.bench.object_loops import random_bytes
from stress.bench.page_loops import A_HEAD, A_RING, A_SPINS, A_TAIL, OWNER, RING, draw

SPINS = 2000
PATIENT = 1 << 40
LOST = 1 << 31  # minutes: the controller notices before


@hot
def paused(mem: Memory, waited: int, spins: int) -> int:
    """Wait for the partner a little; the new ``waited``."""
    if waited < spins:
        relax(mem)
    else:
        give_way(mem)
    return waited + 1


@kernel
def await_room(mem: Memory, at: WordIndex, head: int, batch: int) -> bool:
    """Whether the ring has room for ``batch`` entries behind ``head``; waits for it."""
    waited = 0
    while head + batch - load(mem, at + A_TAIL) > RING:
        waited = paused(mem, waited, mem[at + A_SPINS])
        if waited > LOST:
            return False
    return True


@kernel
def await_entries(mem: Memory, at: WordIndex, tail: int, batch: int) -> bool:
    """Whether the ring has ``batch`` entries from ``tail`` on; waits for them."""
    waited = 0
    while load(mem, at + A_HEAD) - tail < batch:
        waited = paused(mem, waited, mem[at + A_SPINS])
        if waited > LOST:
            return False
    return True


@kernel
def page_produce(mem: Memory, claim: Claim, at: WordIndex, batch: int, n: int) -> int:
    """Allocate ``n`` batches of single pages for the partner."""
    failed = 0
    for done in range(n):
        head = mem[at + A_HEAD]
        if not await_room(mem, at, head, batch):
            return (n - done) * batch
        for k in range(batch):
            pfn = alloc_pages(mem, claim, 0, c.MT_MOVABLE, OWNER)
            if pfn < 0:
                failed += 1
            mem[at + A_RING + (head + k) % RING] = pfn
        store(mem, at + A_HEAD, head + batch)
    return failed


@kernel
def page_consume(mem: Memory, claim: Claim, at: WordIndex, batch: int, n: int) -> int:
    """Free ``n`` batches of pages that the partner allocated."""
    failed = 0
    for done in range(n):
        tail = mem[at + A_TAIL]
        if not await_entries(mem, at, tail, batch):
            return (n - done) * batch
        for k in range(batch):
            pfn = mem[at + A_RING + (tail + k) % RING]
            if pfn < 0 or free_pages(mem, claim, pfn, 0) < 0:
                failed += 1
        store(mem, at + A_TAIL, tail + batch)
    return failed


@kernel
def object_produce(
    mem: Memory, claim: Claim, at: WordIndex, batch: int, most_bytes: int, n: int
) -> int:
    """Allocate ``n`` batches of objects for the partner, of random sizes up to ``most_bytes``."""
    failed = 0
    for done in range(n):
        head = mem[at + A_HEAD]
        if not await_room(mem, at, head, batch):
            return (n - done) * batch
        for k in range(batch):
            address = kmalloc(mem, claim, random_bytes(draw(mem, at), most_bytes))
            if address < 0:
                failed += 1
            mem[at + A_RING + (head + k) % RING] = address
        store(mem, at + A_HEAD, head + batch)
    return failed


@kernel
def object_consume(mem: Memory, claim: Claim, at: WordIndex, batch: int, n: int) -> int:
    """Free ``n`` batches of objects that the partner allocated."""
    failed = 0
    for done in range(n):
        tail = mem[at + A_TAIL]
        if not await_entries(mem, at, tail, batch):
            return (n - done) * batch
        for k in range(batch):
            if kfree(mem, claim, mem[at + A_RING + (tail + k) % RING]) < 0:
                failed += 1
        store(mem, at + A_TAIL, tail + batch)
    return failed
