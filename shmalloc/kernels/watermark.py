"""Watermarks: how many pages of a zone must stay free, and which allocations may take more.

::

    free pages   ................. | Z_HIGH | Z_LOW | Z_MIN |  half  |  ...   0
                  a reclaimer rests|        |       |       |        |
                                   it works |       |       |        |
                              allocations try other zones first, and wake it
                                                    only with a reserve (GFP_HIGH, ...)

Free are the pages on the zone's lists: not those on per-CPU lists, which were taken already. The
marks are compared under the zone lock that the pages are taken under, so no two allocations pass on
the same pages, and an ordinary one leaves Z_MIN pages, always. (Linux compares before it locks.)

``Z_MIN`` is the geometry's minimum in proportion to the pages that are managed now. The distance
to ``Z_LOW``, and from there to ``Z_HIGH``, is a quarter of it, at least a 64th of the zone. Where
types begin to mix in a pageblock, ``Z_BOOST`` raises both, so that memory is reclaimed before more
of them do; it ends when a reclaimer has worked. It does not raise Z_MIN, for no process is bound to
reclaim.

All words change under the zone lock; reads without it see each of them as it was at some moment.
Linux, mm/page_alloc.c: __zone_watermark_ok, setup_per_zone_wmarks, boost_watermark.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.units import Gfp, Memory, Order, ZoneWords
from shmalloc.words import fixed, load_relaxed, store_relaxed


@kernel
def set_watermarks(mem: Memory, zone: ZoneWords) -> None:
    """Recompute the marks after Z_MANAGED changed; zone lock held, or at boot."""
    managed = load_relaxed(mem, zone + c.Z_MANAGED)
    least = fixed(mem, zone + c.Z_MIN_PRESENT) * managed // max(fixed(mem, zone + c.Z_PRESENT), 1)
    step = max(least >> 2, managed >> c.WATERMARK_SHIFT)
    store_relaxed(mem, zone + c.Z_MIN, least)
    store_relaxed(mem, zone + c.Z_LOW, least + step)
    store_relaxed(mem, zone + c.Z_HIGH, least + 2 * step)
    if load_relaxed(mem, zone + c.Z_BOOST) > most_boost(mem, zone):
        store_relaxed(mem, zone + c.Z_BOOST, most_boost(mem, zone))


@kernel
def most_boost(mem: Memory, zone: ZoneWords) -> int:
    """How far Z_BOOST may go: one and a half times the high mark, at least a pageblock.

    0 in a zone of less than four pageblocks, where it would be most of the memory.
    """
    pages = 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)
    high = load_relaxed(mem, zone + c.Z_HIGH)
    if pages * 4 > load_relaxed(mem, zone + c.Z_MANAGED) or high == 0:
        return 0
    return max(pages, high + (high >> 1))


@kernel
def lowest_mark(mark: int, gfp: Gfp) -> int:
    """What an allocation with ``gfp`` (GFP_*) must leave where others leave the minimum ``mark``.

    GFP_HIGH has half of the reserve, one that cannot wait another quarter of the rest; GFP_OOM has
    half of what the others leave; GFP_MEMALLOC has all.
    """
    least = mark
    if gfp & c.GFP_MEMALLOC != 0:
        return 0
    if gfp & c.GFP_HIGH != 0:
        least -= least >> 1
        if gfp & c.GFP_NOWAIT != 0:
            least -= least >> 2
    if gfp & c.GFP_OOM != 0:
        least -= least >> 1
    return least


@kernel
def mark_of(mem: Memory, zone: ZoneWords, gfp: Gfp) -> int:
    """The pages that an allocation with ``gfp`` must leave free in the zone; zone lock held."""
    if gfp & c.ALLOC_WMARK_LOW != 0:
        return load_relaxed(mem, zone + c.Z_LOW) + load_relaxed(mem, zone + c.Z_BOOST)
    return lowest_mark(load_relaxed(mem, zone + c.Z_MIN), gfp)


@kernel
def keeps_mark(mem: Memory, zone: ZoneWords, order: Order, mark: int) -> bool:
    """Whether the zone keeps ``mark`` free pages after giving 2^``order``; zone lock held.

    The part of ``zone_watermark_ok`` that ``rmqueue`` does not see by itself: it finds a block.
    """
    return load_relaxed(mem, zone + c.Z_FREE) - (1 << order) >= mark


@kernel
def keeps_minimum(mem: Memory, zone: ZoneWords, pages: int) -> bool:
    """Whether the zone keeps Z_MIN after giving so many pages, in whatever blocks; lock held.

    For allocations without flags: runs and ranges (runs.py, contig.py).
    """
    return load_relaxed(mem, zone + c.Z_FREE) - pages >= load_relaxed(mem, zone + c.Z_MIN)


@kernel
def may_take(mem: Memory, zone: ZoneWords, order: Order, gfp: Gfp) -> bool:
    """Whether an allocation with ``gfp`` may take 2^``order`` pages; zone lock held."""
    return keeps_mark(mem, zone, order, mark_of(mem, zone, gfp))


@kernel
def zone_watermark_ok(mem: Memory, zone: ZoneWords, order: Order, mark: int) -> bool:
    """Whether a block of ``order`` can be taken, and ``mark`` pages stay free: enough pages, and
    a list of that order or a higher one, of a type that is allocated from, is not empty.

    A hint without the zone lock. Linux: __zone_watermark_ok.
    """
    if load_relaxed(mem, zone + c.Z_FREE) - (1 << order) < mark:
        return False
    if order == 0:
        return True
    for at in range(order, fixed(mem, c.H_MAX_ORDER) + 1):
        for mt in range(c.MT_PCP_TYPES):
            if load_relaxed(mem, zone + c.Z_COUNTS + at * c.MT_COUNT + mt) > 0:
                return True
    return False


@kernel
def is_below_low(mem: Memory, zone: ZoneWords) -> bool:
    """Whether the zone has so few free pages that a reclaimer is to work; a hint."""
    mark = load_relaxed(mem, zone + c.Z_LOW) + load_relaxed(mem, zone + c.Z_BOOST)
    return load_relaxed(mem, zone + c.Z_FREE) < mark


@kernel
def is_balanced(mem: Memory, zone: ZoneWords, order: Order) -> bool:
    """Whether a reclaimer may rest: a block of ``order`` can be had above the high mark; a hint."""
    mark = load_relaxed(mem, zone + c.Z_HIGH) + load_relaxed(mem, zone + c.Z_BOOST)
    return zone_watermark_ok(mem, zone, order, mark)


@kernel
def boost_watermark(mem: Memory, zone: ZoneWords) -> bool:
    """Raise the low and high marks by a pageblock; whether they were raised. Zone lock held."""
    before = load_relaxed(mem, zone + c.Z_BOOST)
    pages = 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)
    boost = min(before + pages, most_boost(mem, zone))
    if boost <= before:
        return False
    store_relaxed(mem, zone + c.Z_BOOST, boost)
    return True


@kernel
def end_boost(mem: Memory, zone: ZoneWords, pages: int) -> None:
    """Lower the boost by ``pages``, as far as there is one; zone lock held, by a reclaimer."""
    boost = load_relaxed(mem, zone + c.Z_BOOST)
    store_relaxed(mem, zone + c.Z_BOOST, boost - min(boost, pages))
