"""The first image of the free lists: every managed page goes into the largest aligned blocks.

Runs once, in one process, before the segment is published. ``image.py`` has written all words that
are geometry and, in the scratch area of CPU 0, the extents of pages to manage::

    [ n | zone, first pfn, end pfn | zone, first pfn, end pfn | ... ]

Only heads are written, one descriptor for each block (the rest of a fresh memmap is TAIL already),
so a segment of 4 GiB starts in milliseconds with almost nothing resident.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.buddy import link_free
from shmalloc.kernels.descriptor import make_free
from shmalloc.kernels.free_area import has_lists
from shmalloc.kernels.lists import list_init
from shmalloc.kernels.watermark import set_watermarks
from shmalloc.kernels.zone import account, area_list, block_mt, zone_at
from shmalloc.units import Memory, Pfn, ZoneWords
from shmalloc.words import fixed


@unit
def boot(mem: Memory) -> int:
    """Set up lists and watermarks and free every extent; the number of pages that were freed."""
    for zone_id in range(fixed(mem, c.H_ZONES)):
        if has_lists(mem):  # an index is empty when it is zero
            init_lists(mem, zone_at(mem, zone_id))
        set_watermarks(mem, zone_at(mem, zone_id))
    at = fixed(mem, c.H_AT_SCRATCH)
    pages = 0
    for i in range(mem[at]):
        extent = at + 1 + i * 3
        pages += boot_extent(mem, zone_at(mem, mem[extent]), mem[extent + 1], mem[extent + 2])
    return pages


@kernel
def init_lists(mem: Memory, zone: ZoneWords) -> None:
    """Make all lists of a zone empty."""
    for order in range(c.ORDERS):
        for mt in range(c.MT_COUNT):
            list_init(mem, area_list(zone, order, mt))


@kernel
def boot_extent(mem: Memory, zone: ZoneWords, start: Pfn, end: Pfn) -> int:
    """Free [start, end) in the largest blocks that are aligned and fit; returns its pages."""
    pfn = start
    while pfn < end:
        order = fixed(mem, c.H_MAX_ORDER)
        while pfn & ((1 << order) - 1) != 0 or pfn + (1 << order) > end:
            order -= 1
        mt = block_mt(mem, pfn)
        make_free(mem, pfn, fixed(mem, zone + c.Z_INDEX), order, mt)
        link_free(mem, zone, 0, pfn, order, mt)
        account(mem, zone, mt, 1 << order)
        pfn += 1 << order
    return end - start
