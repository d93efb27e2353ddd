"""Runs: pages in a row out of whole free blocks of the highest order, for more than a block has.

A run is taken under one hold of its zone's lock: all blocks but the last one as they are, of the
last one as many pages as are needed, in ever smaller blocks; the rest of it stays free. Nothing is
isolated and no list is drained, so it costs a few hundred nanoseconds a block. A range that others
choose, of any pages, is the business of contig.py.

A block is in state PCP with the caller's label until it is handed to the owner, as in pages.py, so
what a death leaves is swept up. None has an owner before all are taken and found unchanged: else
what was taken goes back, and pages that were written to while free leave service. The pieces of a
run go back to the zone past the per-CPU lists: on a list, the last small piece would keep the run
from being found again.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import mt_of, order_of, type_of, zone_of_word
from shmalloc.kernels.buddy import take_block
from shmalloc.kernels.contig import largest_fit
from shmalloc.kernels.descriptor import free_problem, misuse_of, page_state
from shmalloc.kernels.fault_injection import is_faulty
from shmalloc.kernels.fill import intact_on_alloc, is_checked
from shmalloc.kernels.lock import lock
from shmalloc.kernels.pages import free_to_zone, give, give_back_to_zone, refuse_free
from shmalloc.kernels.reclaim import wake_if_low
from shmalloc.kernels.repair import unlock_zone
from shmalloc.kernels.retire import retire_changed
from shmalloc.kernels.slots import label
from shmalloc.kernels.watermark import keeps_minimum
from shmalloc.kernels.zone import descriptor_at, zone_at
from shmalloc.units import Claim, Memory, Order, Owner, Pfn, Word0, ZoneId, ZoneWords
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
def take_run(mem: Memory, zone: ZoneWords, claim: Claim, start: Pfn, end: Pfn) -> Pfn:
    """Take the pages [start, end) out of whole blocks, in state PCP; zone lock held.

    Returns how far it came: ``end``; ``start`` if a block is not whole any more, or the zone would
    fall below its minimum; or up to a block whose links, or whose neighbours' links, were
    overwritten. What was taken is the caller's.
    """
    if not keeps_minimum(mem, zone, end - start):
        return start
    limit = fixed(mem, c.H_MAX_ORDER)
    for at in range(start, end, 1 << limit):
        w0 = page_state(mem, at)
        if not is_whole(mem, w0) or zone_of_word(w0) != fixed(mem, zone + c.Z_INDEX):
            return start
    pfn = start
    while pfn < end:
        order = largest_fit(pfn, end, limit)
        if take_block(mem, zone, claim, pfn, order, c.T_PCP, c.MT_MOVABLE, label(mem, claim)) < 0:
            return pfn
        pfn += 1 << order
    return end


@kernel
def is_intact(mem: Memory, claim: Claim, start: Pfn, end: Pfn) -> bool:
    """Whether no page of a run in state PCP was written to while free; reports each that was."""
    intact = True
    at = start
    while at < end:
        order = order_of(page_state(mem, at))
        if not intact_on_alloc(mem, claim, at, order):
            intact = False
        at += 1 << order
    return intact


@unit
def return_run(mem: Memory, claim: Claim, zone_id: ZoneId, start: Pfn, end: Pfn) -> None:
    """Give the blocks of [start, end), in state PCP, back; changed pages leave service."""
    at = start
    while at < end:
        order = order_of(page_state(mem, at))
        if not is_checked(mem):
            give_back_to_zone(mem, claim, zone_id, at, order)
        else:
            retire_changed(mem, claim, at, order)
        at += 1 << order


@unit
def alloc_run(mem: Memory, claim: Claim, start: Pfn, end: Pfn, owner: Owner) -> int:
    """Allocate the pages [start, end), which ``find_run`` found, for ``owner``.

    Returns 0; or E_BUSY if a block is not whole any more, or was written to while it was free, or
    if the zone would fall below its minimum watermark.
    """
    if is_faulty(mem, claim, c.FAULT_PAGE):
        return c.E_BUSY
    zone_id = zone_of_word(page_state(mem, start))
    zone = zone_at(mem, zone_id)
    lock(mem, zone + c.Z_LOCK, claim)
    taken = take_run(mem, zone, claim, start, end)
    unlock_zone(mem, claim, zone)
    wake_if_low(mem, claim, zone)
    if taken < end or not is_intact(mem, claim, start, end):
        return_run(mem, claim, zone_id, start, taken)
        return c.E_BUSY
    result = 0
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
