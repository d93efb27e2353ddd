"""What an index or a bitmap says of free blocks, compared with the page descriptors.

For an audit, and for the repair of a zone in which an operation met something wrong (repair.py).
Each block is asked for its place, and each place for its block: of a block that is listed nowhere,
or of a place that names no free block, one of the two was overwritten. Descriptors are the
authority; here nothing is changed. Zone lock held, or nothing else runs.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import mt_of, order_of, type_of
from shmalloc.kernels.buddy import block_span
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.index_store import entries_at, index_names, is_block_of, place_of, room_of
from shmalloc.kernels.reporting import report
from shmalloc.kernels.zone import area_count
from shmalloc.units import Claim, Memory, Migratetype, Order, Pfn, Word0, ZoneWords
from shmalloc.words import fixed


@unit
def check_store(mem: Memory, claim: Claim, zone: ZoneWords) -> int:
    """Report every free block of a zone that is not where its descriptor says; how many."""
    bad = 0
    pfn = fixed(mem, zone + c.Z_START)
    while pfn < fixed(mem, zone + c.Z_END):
        w0 = page_state(mem, pfn)
        # A block without a place is on its way to one: an addition failed, and is not the cause.
        if type_of(w0) == c.T_FREE and place_of(mem, pfn) != 0:
            if not is_stored(mem, zone, pfn, w0):
                report_block(mem, claim, zone, pfn, order_of(w0), mt_of(w0))
                bad += 1
        pfn += block_span(w0)
    for order in range(fixed(mem, c.H_MAX_ORDER) + 1):
        for mt in range(c.MT_COUNT):
            bad += check_area(mem, claim, zone, order, mt)
    return bad


@kernel
def is_stored(mem: Memory, zone: ZoneWords, pfn: Pfn, w0: Word0) -> bool:
    """Whether a free block is where its descriptor says."""
    return index_names(mem, zone, pfn, order_of(w0), mt_of(w0))


@kernel
def report_block(
    mem: Memory, claim: Claim, zone: ZoneWords, pfn: Pfn, order: Order, mt: Migratetype
) -> None:
    """Report a page whose place among the free blocks of ``order`` and ``mt`` is wrong."""
    place = fixed(mem, zone + c.Z_INDEX) << 16 | order << 8 | mt
    report(mem, claim, c.I_LIST_LINKS, pfn, c.AT_LIST | place, page_state(mem, pfn))


@kernel
def check_area(mem: Memory, claim: Claim, zone: ZoneWords, order: Order, mt: Migratetype) -> int:
    """Report every free block that an entry names and that has no place; how many.

    What else an entry may name wrongly shows in the block that has its place.
    """
    bad = 0
    count = min(mem[area_count(zone, order, mt)], room_of(mem, zone, order))
    first = entries_at(mem, zone, order, mt)
    for i in range(count):
        pfn = mem[first + i]
        if is_block_of(mem, zone, pfn, order, mt) and place_of(mem, pfn) == 0:
            report_block(mem, claim, zone, pfn, order, mt)
            bad += 1
    return bad


@kernel
def area_length(mem: Memory, zone: ZoneWords, order: Order, mt: Migratetype) -> int:
    """How many blocks of ``order`` and ``mt`` there are by the store."""
    return mem[area_count(zone, order, mt)]
