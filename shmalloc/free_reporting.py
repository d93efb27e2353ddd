"""Free page reporting: the memory of free pages goes back to the system, which backs it anew later.

One pageblock at a time: it is isolated, so that no free page of it can be allocated meanwhile, the
frames of its free blocks are discarded (MADV_REMOVE), as far as they are whole pages of the system,
which may be larger than ours, and it is put back in service. Blocks that are freed in between stay
as they are. Linux does the same for a hypervisor (mm/page_reporting.c).

Rules: the geometry says ``reporting``, so that no list runs through the frames; the caller owns a
CPU slot, as whose ``run`` calls kernels. A pageblock that another process has isolated is left out.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator

from shmalloc import constants as c
from shmalloc.kernels.contig import isolate_range, unisolate_range
from shmalloc.segment import Segment

Run = Callable[..., int]


def pageblocks(segment: Segment) -> range:
    """First pfns of the pageblocks that are whole."""
    step = 1 << segment.geometry.pageblock_order
    return range(0, segment.geometry.pages - step + 1, step)


def report_pageblock(segment: Segment, run: Run, start: int) -> int:
    """Discard the free blocks of the pageblock at pfn ``start``; the bytes that were given back."""
    end = start + (1 << segment.geometry.pageblock_order)
    if run(isolate_range, start, end) != 0:
        return 0
    try:
        return sum(_discard(segment, *block) for block in _free_blocks(segment, start, end))
    finally:
        run(unisolate_range, start, end)


def _free_blocks(segment: Segment, start: int, end: int) -> Iterator[tuple[int, int]]:
    """(pfn, pages) of the free blocks of an isolated range: they can only grow meanwhile."""
    words, layout = segment.ram.array, segment.layout
    pfn = start
    while pfn < end:
        word0 = int(words[layout.descriptor(pfn)])
        order = (word0 >> c.ORDER_SHIFT) & c.ORDER_MASK
        if word0 & c.TYPE_MASK == c.T_FREE:
            yield pfn, min(1 << order, end - pfn)
        pfn += 1 << order


def _discard(segment: Segment, pfn: int, pages: int) -> int:
    size = pages * segment.geometry.page_bytes
    start, end = whole_system_pages(segment.layout.frame(pfn) * 8, size, mmap.PAGESIZE)
    if end > start:
        segment.discard(start // 8, end - start)
    return max(end - start, 0)


def whole_system_pages(start: int, size: int, system: int) -> tuple[int, int]:
    """The whole pages of the system in ``size`` bytes from ``start`` on: [start, end), or none.

    MADV_REMOVE rounds up: of a page that a block only has a part of, it would take the rest too.
    """
    return -(-start // system) * system, (start + size) // system * system
