"""bulk: lists of blocks taken and given back under one lock hold.

Imitates readahead and network receive rings (alloc_pages_bulk): requests up to 64 blocks of one
order at once, and frees them at once or one by one.
Hunts: a bulk path that forgets what the single path does (counters, owner, wake-ups), partial
success, lists that cross zones.
Must reach: alloc, free, bulk, split, merge.

::

    work area: W_DATA, one record a batch: [count][order][owner][pfn ...64]
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.pages import free_pages
from shmalloc.kernels.pages_bulk import alloc_bulk, free_bulk
from shmalloc.units import Claim, Memory, WordIndex
from shmalloc.words import fixed
from stress.oracles.filling import check_ends
from stress.oracles.owners import ID_CLAIM_BITS, check_stamp, disown, own, stamp
from stress.workloads.area import W_DATA, W_SEQUENCE, draw, fresh_id, stopping, work_at
from stress.workloads.latency import (
    L_ALLOC_BULK,
    L_FREE_BULK,
    SAMPLE_EVERY_SLOWER,
    clock_of_some,
    note,
)

BULK_BATCHES = 16
BULK_PAGES = 64
BULK_COUNT = 0
BULK_ORDER = 1
BULK_OWNER = 2
BULK_PFNS = 3
BULK_STRIDE = 80
BULK_WORDS = W_DATA + BULK_BATCHES * BULK_STRIDE
BULK_ORDERS = 3


@kernel
def bulk(mem: Memory, claim: Claim, steps: int) -> int:
    """Fill or empty ``steps`` random batches; returns the blocks moved."""
    at = work_at(mem, claim)
    done = 0
    for _ in range(steps):
        if stopping(mem):
            break
        batch = at + W_DATA + draw(mem, at, BULK_BATCHES) * BULK_STRIDE
        if mem[batch + BULK_COUNT] == 0:
            done += bulk_fill(mem, claim, at, batch)
        else:
            done += bulk_empty(mem, claim, batch, draw(mem, at, 4) == 0)
    return done


@kernel
def bulk_fill(mem: Memory, claim: Claim, at: WordIndex, batch: WordIndex) -> int:
    """Request a random number of blocks; returns the number received."""
    order = min(draw(mem, at, BULK_ORDERS), fixed(mem, c.H_MAX_ORDER))
    mt = draw(mem, at, c.MT_PCP_TYPES)
    owner = fresh_id(mem, claim, at)
    wanted = 1 + draw(mem, at, BULK_PAGES)
    began = clock_of_some(mem, mem[at + W_SEQUENCE], SAMPLE_EVERY_SLOWER)
    got = alloc_bulk(mem, claim, order, mt, owner, wanted, batch + BULK_PFNS)
    note(mem, claim, L_ALLOC_BULK, began, got)
    mem[batch + BULK_ORDER] = order
    mem[batch + BULK_OWNER] = owner
    kept = 0
    for i in range(got):
        pfn = mem[batch + BULK_PFNS + i]
        if own(mem, claim, pfn, order, owner) == 0:
            check_ends(mem, claim, pfn, order)
            stamp(mem, pfn, order, owner)
            mem[batch + BULK_PFNS + kept] = pfn
            kept += 1
    mem[batch + BULK_COUNT] = kept
    return kept


@kernel
def bulk_empty(mem: Memory, claim: Claim, batch: WordIndex, singly: int) -> int:
    """Check every block of the batch, then free all at once or one by one; returns the number."""
    count = mem[batch + BULK_COUNT]
    order = mem[batch + BULK_ORDER]
    owner = mem[batch + BULK_OWNER]
    mem[batch + BULK_COUNT] = 0
    kept = 0
    for i in range(count):
        pfn = mem[batch + BULK_PFNS + i]
        if check_stamp(mem, claim, pfn, order, owner) == 0:
            if disown(mem, claim, pfn, order, owner) == 0:
                mem[batch + BULK_PFNS + kept] = pfn
                kept += 1
    if singly:
        for i in range(kept):
            free_pages(mem, claim, mem[batch + BULK_PFNS + i], order)
    else:
        began = clock_of_some(mem, owner >> ID_CLAIM_BITS, SAMPLE_EVERY_SLOWER)
        free_bulk(mem, claim, order, kept, batch + BULK_PFNS)
        note(mem, claim, L_FREE_BULK, began, 0)
    return count


@kernel
def bulk_finish(mem: Memory, claim: Claim) -> int:
    """Free everything that the CPU holds."""
    at = work_at(mem, claim)
    given = 0
    for i in range(BULK_BATCHES):
        batch = at + W_DATA + i * BULK_STRIDE
        if mem[batch + BULK_COUNT] != 0:
            given += bulk_empty(mem, claim, batch, False)
    return given
