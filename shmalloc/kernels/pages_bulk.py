"""Pages in bulk: many blocks of one order under one hold of each zone lock.

The block list is an array of words that the caller owns. ``alloc_bulk`` writes pfns to it, and
``free_bulk`` reads pfns from it and compacts it in place. Both run the same transitions as single
pages (pages.py) and bypass the per-CPU lists. Misuse is reported page by page.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import wants_poison, zone_of_word
from shmalloc.kernels.buddy import free_block
from shmalloc.kernels.descriptor import claim_for_free, page_state
from shmalloc.kernels.fallback import rmqueue
from shmalloc.kernels.fault_injection import faultless
from shmalloc.kernels.fill import fill_on_free, intact_on_alloc, zero_on_alloc
from shmalloc.kernels.gfp import allows_zone, gfp_mt, is_known_gfp
from shmalloc.kernels.lock import lock
from shmalloc.kernels.pages import alloc_slow, give, note_free, refuse_free, wake_reclaimers
from shmalloc.kernels.reclaim import wake_if_boosted
from shmalloc.kernels.repair import unlock_zone
from shmalloc.kernels.reporting import event
from shmalloc.kernels.retire import retire_block, retire_changed
from shmalloc.kernels.slots import label
from shmalloc.kernels.waiters import wake_waiters
from shmalloc.kernels.watermark import keeps_mark, mark_of
from shmalloc.kernels.zone import zone_at, zonelist_length, zonelist_zone
from shmalloc.units import Claim, Gfp, Memory, Order, Owner, WordIndex, ZoneId
from shmalloc.words import fixed


@unit
def alloc_bulk(
    mem: Memory,
    claim: Claim,
    order: Order,
    gfp: Gfp,
    owner: Owner,
    count: int,
    out: WordIndex,
) -> int:
    """Allocate up to ``count`` blocks into the words at ``out``; returns how many.

    Each zone is locked once or twice for the whole request (keep ``count`` to a few hundred).
    ``gfp``: a migratetype, and flags (gfp.py). E_INVAL also for GFP_NOFAIL: all of many may never
    come.

    As ``alloc_pages``, it takes what is above the low marks of all zones, then wakes reclaimers and
    takes them down to the minimum; if that gives nothing, it allocates one block as that does, with
    a drain. 0 blocks, so, where that has none either. (Linux: alloc_pages_bulk, which stops at the
    low mark, and falls back to one page alike.)
    """
    if order < 0 or order > fixed(mem, c.H_MAX_ORDER) or not is_known_gfp(mem, gfp):
        return c.E_INVAL
    if gfp & c.GFP_NOFAIL != 0:
        return c.E_INVAL
    wanted = faultless(mem, claim, c.FAULT_PAGE, count)
    got = 0
    for tier in range(2):
        asked: Gfp = gfp | c.ALLOC_WMARK_LOW
        if tier > 0:
            asked = gfp
            if got < wanted:
                wake_reclaimers(mem, claim, order, gfp)
        for i in range(zonelist_length(mem, claim)):
            zone_id = zonelist_zone(mem, claim, i)
            if got < wanted and allows_zone(mem, claim, zone_id, gfp):
                got = bulk_from_zone(mem, claim, zone_id, order, asked, wanted, out, got)
    given = 0
    for i in range(got):
        pfn = mem[out + i]
        if not intact_on_alloc(mem, claim, pfn, order):
            retire_changed(mem, claim, pfn, order)
        elif give(mem, claim, pfn, order, gfp_mt(gfp), owner) >= 0:
            if gfp & c.GFP_ZERO != 0:
                zero_on_alloc(mem, pfn, order)
            mem[out + given] = pfn
            given += 1
    if given == 0 and wanted > 0:
        given = bulk_one(mem, claim, order, gfp, owner, out)
    event(mem, claim, c.EV_BULK)
    return given


@unit
def bulk_one(
    mem: Memory, claim: Claim, order: Order, gfp: Gfp, owner: Owner, out: WordIndex
) -> int:
    """One block into the word at ``out``, where a list got none; how many: 1 or 0."""
    pfn = alloc_slow(mem, claim, order, gfp, owner, c.E_AGAIN)  # reclaimers were woken
    if pfn < 0:
        return 0
    if gfp & c.GFP_ZERO != 0:
        zero_on_alloc(mem, pfn, order)
    mem[out] = pfn
    return 1


@kernel
def bulk_from_zone(
    mem: Memory,
    claim: Claim,
    zone_id: ZoneId,
    order: Order,
    gfp: Gfp,
    count: int,
    out: WordIndex,
    got: int,
) -> int:
    """Fill ``out[got:count]`` with blocks in state PCP from one zone; returns the new ``got``."""
    zone = zone_at(mem, zone_id)
    lock(mem, zone + c.Z_LOCK, claim)
    mark = mark_of(mem, zone, gfp)
    while got < count and keeps_mark(mem, zone, order, mark):
        pfn = rmqueue(mem, zone, claim, order, gfp_mt(gfp), label(mem, claim))
        if pfn < 0:
            break
        mem[out + got] = pfn
        got += 1
    unlock_zone(mem, claim, zone)
    wake_if_boosted(mem, claim, zone)
    return got


@unit
def free_bulk(mem: Memory, claim: Claim, order: Order, count: int, at: WordIndex) -> int:
    """Free ``count`` blocks of ``order`` listed in the words at ``at``; returns how many were
    freed, those included that leave service for a mark (poison.py).

    First each block is claimed (a misuse is reported and left out; the list is compacted in
    place), then runs of blocks of one zone go back under one hold of its lock.
    """
    claimed = 0
    freed = 0
    for i in range(count):
        pfn = mem[at + i]
        w0 = claim_for_free(mem, pfn, order, claim, 0)
        if w0 < 0:
            refuse_free(mem, claim, -w0, pfn, order)
        else:
            freed += 1
            note_free(mem, claim, pfn, order, w0, 0)
            if wants_poison(w0):
                retire_block(mem, claim, pfn, order)
            else:
                fill_on_free(mem, pfn, order)
                mem[at + claimed] = pfn
                claimed += 1
    bulk_to_zones(mem, claim, order, claimed, at)
    event(mem, claim, c.EV_BULK)
    return freed


@kernel
def bulk_to_zones(mem: Memory, claim: Claim, order: Order, count: int, at: WordIndex) -> None:
    """Return blocks in state PCP to their zones, changing the lock only between zones."""
    held: ZoneId = -1
    for i in range(count):
        pfn = mem[at + i]
        held = hold_zone(mem, claim, held, zone_of_word(page_state(mem, pfn)))
        free_block(mem, zone_at(mem, held), claim, pfn, order)
    hold_zone(mem, claim, held, -1)


@kernel
def hold_zone(mem: Memory, claim: Claim, held: ZoneId, wanted: ZoneId) -> ZoneId:
    """Hold the lock of zone ``wanted`` instead of ``held`` (-1: none); returns ``wanted``."""
    if held != wanted:
        if held >= 0:
            unlock_zone(mem, claim, zone_at(mem, held))
            wake_waiters(mem, claim)
        if wanted >= 0:
            lock(mem, zone_at(mem, wanted) + c.Z_LOCK, claim)
    return wanted
