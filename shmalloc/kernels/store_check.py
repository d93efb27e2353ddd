"""What an index or a bitmap says of free blocks, compared with the page descriptors.

For an audit, and for the repair of a zone in which an operation met something wrong (repair.py).
Each block is asked for its place, and each place for its block: of a block that is listed nowhere,
or of a place that names no free block, one of the two was overwritten. Descriptors are the
authority; here nothing is changed. Zone lock held, or nothing else runs.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.audit_report import wrong_word
from shmalloc.kernels.bitmap_store import (
    ALL_BITS,
    IN_WORD,
    SHIFT,
    bitmap_has,
    lowest_bit,
    words_in_use,
)
from shmalloc.kernels.bits import mt_of, order_of, type_of
from shmalloc.kernels.buddy import block_span
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.index_store import index_names, place_of
from shmalloc.kernels.reporting import report
from shmalloc.kernels.store_arrays import array_at, first_pfn, is_block_of, is_page_of, room_at
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
        if type_of(w0) == c.T_FREE and is_misplaced(mem, zone, pfn, w0):
            report_block(mem, claim, zone, pfn, order_of(w0), mt_of(w0))
            bad += 1
        pfn += block_span(w0)
    for order in range(fixed(mem, c.H_MAX_ORDER) + 1):
        for mt in range(c.MT_COUNT):
            bad += check_area(mem, claim, zone, order, mt)
    return bad


@kernel
def is_misplaced(mem: Memory, zone: ZoneWords, pfn: Pfn, w0: Word0) -> bool:
    """Whether a free block is not where it should be.

    In an index a block without a place is on its way to one: an addition failed before, and is not
    the cause.
    """
    if fixed(mem, c.H_LINKS) == c.LINKS_INDEX and place_of(mem, pfn) == 0:
        return False
    return not is_stored(mem, zone, pfn, w0)


@kernel
def is_stored(mem: Memory, zone: ZoneWords, pfn: Pfn, w0: Word0) -> bool:
    """Whether a free block is where its descriptor says."""
    if fixed(mem, c.H_LINKS) == c.LINKS_BITMAP:
        return bitmap_has(mem, zone, pfn, order_of(w0), mt_of(w0))
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
    """Report what the store names wrongly among the blocks of an order and type; how much."""
    if fixed(mem, c.H_LINKS) == c.LINKS_BITMAP:
        bad = check_summaries(mem, claim, zone, order, mt)
        at = array_at(mem, zone, 0, order, mt)
        for i in range(words_in_use(mem, zone, 0, order)):
            if mem[at + i] != 0:
                bad += check_bits(mem, claim, zone, order, mt, i)
        return bad
    return check_entries(mem, claim, zone, order, mt)


@kernel
def check_entries(mem: Memory, claim: Claim, zone: ZoneWords, order: Order, mt: Migratetype) -> int:
    """Report every free block that an entry of an index names and that has no place; how many.

    What else an entry may name wrongly shows in the block that has its place.
    """
    bad = 0
    count = min(mem[area_count(zone, order, mt)], room_at(mem, zone, 0, order))
    first = array_at(mem, zone, 0, order, mt)
    for i in range(count):
        pfn = mem[first + i]
        if is_block_of(mem, zone, pfn, order, mt) and place_of(mem, pfn) == 0:
            report_block(mem, claim, zone, pfn, order, mt)
            bad += 1
    return bad


@kernel
def check_bits(
    mem: Memory, claim: Claim, zone: ZoneWords, order: Order, mt: Migratetype, word: int
) -> int:
    """Report every bit of one word of a bitmap that is that of no free block; how many."""
    at = array_at(mem, zone, 0, order, mt) + word
    bad = wrong_word(mem, claim, c.I_LIST_LINKS, at, mem[at] & ALL_BITS)
    bits = mem[at] & ALL_BITS
    while bits != 0:
        pfn = first_pfn(mem, zone) + ((word << SHIFT | lowest_bit(bits)) << order)
        bits = bits & (bits - 1)
        if not is_page_of(mem, zone, pfn):
            report(mem, claim, c.I_LIST_LINKS, c.AT_WORD | at, 0, mem[at])
            bad += 1
        elif not is_block_of(mem, zone, pfn, order, mt):
            report_block(mem, claim, zone, pfn, order, mt)
            bad += 1
    return bad


@kernel
def check_summaries(
    mem: Memory, claim: Claim, zone: ZoneWords, order: Order, mt: Migratetype
) -> int:
    """Report every summary word that does not say which words below it are zero; how many."""
    bad = 0
    for level in range(1, c.STORE_LEVELS):
        below = array_at(mem, zone, level - 1, order, mt)
        words = words_in_use(mem, zone, level - 1, order)
        for i in range(words_in_use(mem, zone, level, order)):
            expected = 0
            for k in range(i << SHIFT, min((i + 1) << SHIFT, words)):
                expected |= int(mem[below + k] != 0) << (k & IN_WORD)
            at = array_at(mem, zone, level, order, mt) + i
            bad += wrong_word(mem, claim, c.I_LIST_LINKS, at, expected)
    return bad


@kernel
def area_length(mem: Memory, zone: ZoneWords, order: Order, mt: Migratetype) -> int:
    """How many blocks of ``order`` and ``mt`` there are by the store."""
    if fixed(mem, c.H_LINKS) != c.LINKS_BITMAP:
        return mem[area_count(zone, order, mt)]
    length = 0
    at = array_at(mem, zone, 0, order, mt)
    for i in range(at, at + words_in_use(mem, zone, 0, order)):
        bits = mem[i] & ALL_BITS
        while bits != 0:
            bits = bits & (bits - 1)
            length += 1
    return length
