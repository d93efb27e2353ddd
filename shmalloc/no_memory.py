"""Why an allocation found no memory, in words: what is free, and what keeps it.

Said of the moment after the allocation, from counters that other processes change meanwhile.
"""

from __future__ import annotations

from shmalloc.segment import Segment
from shmalloc.sizes import format_bytes
from shmalloc.statistics import Statistics, ZoneStatistics, statistics

CURE = "free something, wait with wait_s, or create a larger arena"
CURE_OF_MARK = (
    "free something, wait with wait_s, allow it some of the reserve (Gfp.ATOMIC, Gfp.MEMALLOC), or"
    " create the arena with a smaller min_free_pages"
)


def why_none(segment: Segment, order: int = 0) -> str:
    """What is free, and the cure, for a request of 2^``order`` pages, or of less."""
    now = statistics(segment)
    keeping = kept_by_watermark(now, order)
    if keeping:
        return f"{keeping}; {CURE_OF_MARK}"
    return f"no free memory of that kind: {what_is_free(now)}; {CURE}"


def what_is_free(now: Statistics) -> str:
    """``248KiB free, the largest block has 128KiB``."""
    sizes = [order for zone in now.zones for order, n in enumerate(zone.free_blocks) if n]
    largest = now.page_bytes << max(sizes) if sizes else 0
    return f"{format_bytes(now.free_bytes)} free, the largest block has {format_bytes(largest)}"


def kept_by_watermark(now: Statistics, order: int) -> str:
    """Which zone's minimum watermark keeps memory that would do; empty if none does."""
    keeping = [zone for zone in now.zones if _keeps(zone, order)]
    if not keeping:
        return ""
    zone = max(keeping, key=lambda one: one.free_pages)
    return (
        f"the minimum watermark of zone {zone.zone} keeps its last {zone.watermarks[0]} pages, and"
        f" {zone.free_pages} are free"
    )


def _keeps(zone: ZoneStatistics, order: int) -> bool:
    """Whether a block of that order is free that the minimum does not let go."""
    return any(zone.free_blocks[order:]) and zone.free_pages - (1 << order) < zone.watermarks[0]
