"""Runs: pages in a row out of whole free blocks of the highest order, for more than a block has.

A run is taken under one hold of its zone's lock: all blocks but the last one as they are, of the
last one as many pages as are needed, in ever smaller blocks; the rest of it stays free. Nothing is
isolated and no list is drained, so it costs a few hundred nanoseconds a block. A range that others
choose, of any pages, is the business of contig.py.

A block is in state PCP with the caller's label until it is handed to the owner, as in pages.py, so
what a death leaves is swept up. Its pieces go back to the zone past the per-CPU lists: on a list,
the last small piece would keep the run from being found again.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import mt_of, order_of, type_of, zone_of_word
from shmalloc.kernels.buddy import take_block
from shmalloc.kernels.contig import largest_fit
from shmalloc.kernels.descriptor import free_problem, misuse_of, page_state
from shmalloc.kernels.fault_injection import is_faulty
from shmalloc.kernels.lock import lock, unlock
from shmalloc.kernels.pages import free_to_zone, give, refuse_free
from shmalloc.kernels.slots import label
from shmalloc.kernels.zone import descriptor_at, zone_at
from shmalloc.units import Claim, Memory, Order, Owner, Pfn, Word0, ZoneWords
from shmalloc.words import fixed, load2


@kernel
def is_whole(mem: Memory, w0: Word0) -> bool:
    """Whether a head's word says: a free block of the highest order that may be allocated."""
    return (
        type_of(w0) == c.T_FREE
        and order_of(w0) == fixed(mem, c.H_MAX_ORDER)
        and mt_of(w0) != c.MT_ISOLATE
    )


@unit
def find_run(mem: Memory, start: Pfn, blocks: int) -> Pfn:
    """First page of so many whole blocks in a row in one zone, from the block of ``start`` on.

    E_NOMEM: there are none. Nothing is locked, so others may take them meanwhile.
    """
    step = 1 << fixed(mem, c.H_MAX_ORDER)
    at = start & -step
    found = 0
    zone_id = 0
    while at + step <= fixed(mem, c.H_PAGES):
        w0 = page_state(mem, at)
        if not is_whole(mem, w0):
            found = 0
        elif found > 0 and zone_of_word(w0) == zone_id:
            found += 1
        else:
            found = 1
            zone_id = +zone_of_word(w0)
        at += step
        if found == blocks:
            return at - blocks * step
    return c.E_NOMEM


@kernel
def take_run(mem: Memory, zone: ZoneWords, claim: Claim, start: Pfn, end: Pfn) -> int:
    """Take the pages [start, end) out of whole blocks, in state PCP; zone lock held.

    E_BUSY: a block is not whole any more; then nothing is taken.
    """
    limit = fixed(mem, c.H_MAX_ORDER)
    for at in range(start, end, 1 << limit):
        w0 = page_state(mem, at)
        if not is_whole(mem, w0) or zone_of_word(w0) != fixed(mem, zone + c.Z_INDEX):
            return c.E_BUSY
    pfn = start
    while pfn < end:
        order = largest_fit(pfn, end, limit)
        if take_block(mem, zone, claim, pfn, order, c.T_PCP, c.MT_MOVABLE, label(mem, claim)) < 0:
            return c.E_STATE
        pfn += 1 << order
    return 0


@unit
def alloc_run(mem: Memory, claim: Claim, start: Pfn, end: Pfn, owner: Owner) -> int:
    """Allocate the pages [start, end), which ``find_run`` found, for ``owner``: 0 or E_BUSY."""
    if is_faulty(mem, claim, c.FAULT_PAGE):
        return c.E_BUSY
    zone = zone_at(mem, zone_of_word(page_state(mem, start)))
    lock(mem, zone + c.Z_LOCK, claim)
    result = take_run(mem, zone, claim, start, end)
    unlock(mem, zone + c.Z_LOCK)
    at = start
    while result == 0 and at < end:
        order = order_of(page_state(mem, at))
        if give(mem, claim, at, order, c.MT_MOVABLE, owner) < 0:
            result = c.E_STATE
        at += 1 << order
    return result


@unit
def free_past_lists(mem: Memory, claim: Claim, pfn: Pfn, order: Order, owner: Owner) -> int:
    """``free_pages_of`` for a block that goes to its zone at once. Returns 0 or E_STATE."""
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    if free_problem(w0, w1, order, owner) != 0:
        return refuse_free(mem, claim, misuse_of(mem, pfn, w0, w1, order, owner), pfn, order)
    return free_to_zone(mem, claim, pfn, order, w0, w1)
