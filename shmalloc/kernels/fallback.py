"""Fallback when a migratetype has no free block: claim a pageblock, or steal one block.

Migratetypes keep unmovable pages from scattering over every pageblock. The rules are those of Linux
(__rmqueue): first try the lists of the type; then *claim*, from the top order down, a whole
pageblock or one that is at least half free or compatible, and retype it; at last *steal* the
smallest block that fits from another type and leave the pageblock's type alone. All under the zone
lock.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.bits import mt_of, order_of, type_of
from shmalloc.kernels.buddy import block_span, first_free, move_free_block, retype_range, take_block
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.repair import repair_zone
from shmalloc.kernels.reporting import event
from shmalloc.kernels.watermark import boost_watermark
from shmalloc.kernels.zone import set_block_mt
from shmalloc.units import Claim, Label, Memory, Migratetype, Order, Pfn, ZoneWords
from shmalloc.words import fixed


@kernel
def fallback_type(mt: Migratetype, attempt: int) -> Migratetype:
    """The ``attempt``-th (0, 1) type to turn to when ``mt`` is exhausted."""
    if mt == c.MT_UNMOVABLE:
        return c.MT_RECLAIMABLE if attempt == 0 else c.MT_MOVABLE
    if mt == c.MT_MOVABLE:
        return c.MT_RECLAIMABLE if attempt == 0 else c.MT_UNMOVABLE
    return c.MT_UNMOVABLE if attempt == 0 else c.MT_MOVABLE


@hot
def find_smallest(mem: Memory, zone: ZoneWords, order: Order, mt: Migratetype) -> Pfn:
    """The first block of the smallest order >= ``order`` on the lists of ``mt``, or E_NOMEM."""
    for at in range(order, fixed(mem, c.H_MAX_ORDER) + 1):
        pfn = first_free(mem, zone, at, mt)
        if pfn >= 0:
            return pfn
    return c.E_NOMEM


@unit
def rmqueue(
    mem: Memory, zone: ZoneWords, claim: Claim, order: Order, mt: Migratetype, holder: Label
) -> Pfn:
    """Take one block of ``order`` for ``mt`` out of the zone, in state PCP with label ``holder``;
    zone lock held. A list whose links were overwritten is repaired first."""
    taken = remove_block(mem, zone, claim, order, mt, holder)
    if taken < 0 and mem[zone + c.Z_DAMAGED] != 0:
        repair_zone(mem, claim, zone)
        taken = remove_block(mem, zone, claim, order, mt, holder)
    return taken


@kernel
def remove_block(
    mem: Memory, zone: ZoneWords, claim: Claim, order: Order, mt: Migratetype, holder: Label
) -> Pfn:
    """The same, from the lists as they are."""
    pfn = find_smallest(mem, zone, order, mt)
    if pfn < 0:
        pfn = rmqueue_claim(mem, zone, claim, order, mt)
    if pfn < 0:
        pfn = find_steal(mem, zone, order, mt)
        if pfn < 0:
            return c.E_NOMEM
        event(mem, claim, c.EV_STEAL)
        raise_watermarks(mem, claim, zone)
    return take_block(mem, zone, claim, pfn, order, c.T_PCP, mt, holder)


@unit
def raise_watermarks(mem: Memory, claim: Claim, zone: ZoneWords) -> None:
    """Have more memory reclaimed, for types begin to mix in a pageblock of the zone.

    The lock's holder wakes the reclaimer after releasing it (``wake_if_boosted``).
    """
    if boost_watermark(mem, zone):
        event(mem, claim, c.EV_BOOST)


@kernel
def find_steal(mem: Memory, zone: ZoneWords, order: Order, mt: Migratetype) -> Pfn:
    """The smallest fitting block of another type."""
    for at in range(order, fixed(mem, c.H_MAX_ORDER) + 1):
        for attempt in range(2):
            pfn = first_free(mem, zone, at, fallback_type(mt, attempt))
            if pfn >= 0:
                return pfn
    return c.E_NOMEM


@kernel
def may_claim(mem: Memory, order: Order, mt: Migratetype) -> bool:
    """Whether taking a block of ``order`` justifies retyping its pageblock (Linux's rule)."""
    return order >= fixed(mem, c.H_PAGEBLOCK_ORDER) // 2 or mt != c.MT_MOVABLE


@unit
def rmqueue_claim(mem: Memory, zone: ZoneWords, claim: Claim, order: Order, mt: Migratetype) -> Pfn:
    """Retype a pageblock for ``mt``; returns a block of it that fits, or E_NOMEM."""
    at = fixed(mem, c.H_MAX_ORDER)
    while at >= order:
        for attempt in range(2):
            pfn = first_free(mem, zone, at, fallback_type(mt, attempt))
            if pfn >= 0 and may_claim(mem, at, mt) and claim_block(mem, zone, claim, pfn, at, mt):
                event(mem, claim, c.EV_CLAIM)
                return find_smallest(mem, zone, order, mt)
        at -= 1
    return c.E_NOMEM


@kernel
def claim_block(
    mem: Memory, zone: ZoneWords, claim: Claim, pfn: Pfn, order: Order, mt: Migratetype
) -> bool:
    """Move the free block at ``pfn`` and, if worthwhile, its whole pageblock to ``mt``."""
    if order >= fixed(mem, c.H_PAGEBLOCK_ORDER):
        retype_range(mem, pfn, order, mt)
        return move_free_block(mem, zone, claim, pfn, mt) == 0
    pages = 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)
    start = pfn & ~(pages - 1)
    if start < fixed(mem, zone + c.Z_START) or start + pages > fixed(mem, zone + c.Z_END):
        return False  # a pageblock shared with another zone is not ours to retype
    if free_or_alike(mem, start, start + pages, mt) * 2 < pages:
        return False
    raise_watermarks(mem, claim, zone)
    set_block_mt(mem, pfn, mt)
    move_free_pages(mem, zone, claim, start, start + pages, mt)
    return True


@kernel
def free_or_alike(mem: Memory, start: Pfn, end: Pfn, mt: Migratetype) -> int:
    """Pages of a pageblock that are free, or in use by allocations of a compatible type."""
    pages = 0
    at = start
    while at < end:
        w0 = page_state(mem, at)
        kind = type_of(w0)
        in_use = kind == c.T_ALLOCATED or kind == c.T_PCP or kind == c.T_SLAB
        # Movable pages count only for a movable claim; the other two types mix.
        alike = (mt_of(w0) == c.MT_MOVABLE) == (mt == c.MT_MOVABLE)
        if kind == c.T_FREE or (in_use and alike):
            pages += 1 << order_of(w0)
        at += block_span(w0)
    return pages


@kernel
def move_free_pages(
    mem: Memory, zone: ZoneWords, claim: Claim, start: Pfn, end: Pfn, mt: Migratetype
) -> int:
    """Move every free block inside [start, end) to the lists of ``mt``; returns pages moved."""
    moved = 0
    at = start
    while at < end:
        w0 = page_state(mem, at)
        if type_of(w0) == c.T_FREE and move_free_block(mem, zone, claim, at, mt) == 0:
            moved += 1 << order_of(w0)
        at += block_span(w0)
    return moved
