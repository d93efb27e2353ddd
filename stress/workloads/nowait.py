"""nowait: blocks taken and freed without waiting, beside ordinary operations on the same zones.

Imitates tracers and signal handlers that allocate, in processes that go on allocating themselves.
Every second operation is one that never waits; large blocks go to the zone, whose lock another
worker may hold: then the allocation fails, and the free is deferred.
Hunts: a deferred block that is lost, or freed twice; a list that is pushed to while it is drained;
a lock that is left behind.
Must reach: alloc, free, split, merge, deferred frees and their end.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.try_pages import try_alloc_pages, try_free_pages
from shmalloc.units import Claim, Memory, WordIndex
from stress.workloads.area import (
    BLOCK_ORDER_MASK,
    BLOCK_WORDS,
    W_DATA,
    draw,
    enter_block,
    fresh_id,
    give_all,
    give_from,
    leave_block,
    stopping,
    take_into,
    work_at,
)
from stress.workloads.orders import orders_pick

NOWAIT_SLOTS = 64
NOWAIT_WORDS = W_DATA + NOWAIT_SLOTS * BLOCK_WORDS


@kernel
def nowait(mem: Memory, claim: Claim, steps: int) -> int:
    """Run ``steps`` allocations or frees, every second one without waiting; their number."""
    at = work_at(mem, claim)
    done = 0
    for _ in range(steps):
        if stopping(mem):
            break
        entry = at + W_DATA + draw(mem, at, NOWAIT_SLOTS) * BLOCK_WORDS
        patient = draw(mem, at, 2)
        if mem[entry + 1] == 0:
            take(mem, claim, at, entry, patient)
        elif patient != 0:
            give_from(mem, claim, entry)
        else:
            try_give(mem, claim, entry)
        done += 1
    return done


@kernel
def take(mem: Memory, claim: Claim, at: WordIndex, entry: WordIndex, patient: int) -> None:
    """Allocate into the empty slot ``entry``; that it fails is no error."""
    order = orders_pick(mem, at)
    mt = draw(mem, at, c.MT_PCP_TYPES)
    if patient != 0:
        take_into(mem, claim, at, entry, order, mt)
    else:
        owner = fresh_id(mem, claim, at)
        pfn = try_alloc_pages(mem, claim, order, mt, owner)
        if pfn >= 0:
            enter_block(mem, claim, entry, pfn, order, owner)


@kernel
def try_give(mem: Memory, claim: Claim, entry: WordIndex) -> int:
    """Free the block held in slot ``entry`` without waiting."""
    order = mem[entry] & BLOCK_ORDER_MASK
    pfn = leave_block(mem, claim, entry)
    return pfn if pfn < 0 else try_free_pages(mem, claim, pfn, order, 0)


@kernel
def nowait_finish(mem: Memory, claim: Claim) -> int:
    """Free everything that the CPU holds."""
    return give_all(mem, claim, work_at(mem, claim) + W_DATA, NOWAIT_SLOTS)
