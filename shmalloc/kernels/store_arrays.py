"""Where the arrays of an index or a bitmap lie, and what their numbers must be before use.

A zone's part of such a store has levels; in each there is an array for every order and migratetype.
Each order has half the words of the order below it, so one multiplication finds an array::

    Z_STORE + level -> [ order 0: mt 0 | mt 1 | mt 2 | mt 3 ][ order 1: ... half as long ] ...
    Z_ROOM + level     words of one array of order 0, a multiple of 2^max_order

Blocks of an order are numbered from the border of a largest block at or before the zone.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel
from shmalloc.kernels.bits import mt_of
from shmalloc.kernels.descriptor import is_free_head, page_state
from shmalloc.units import Memory, Migratetype, Order, Pfn, WordIndex, ZoneWords
from shmalloc.words import fixed


@hot
def room_at(mem: Memory, zone: ZoneWords, level: int, order: Order) -> int:
    """Words of each array of ``order`` in a level."""
    return fixed(mem, zone + c.Z_ROOM + level) >> order


@hot
def array_at(mem: Memory, zone: ZoneWords, level: int, order: Order, mt: Migratetype) -> WordIndex:
    """Word index of the array of ``order`` and ``mt`` in a level."""
    room = fixed(mem, zone + c.Z_ROOM + level)
    # The lower orders have room + room / 2 + ... words for each type.
    before = (room - (room >> order)) * 2 * c.MT_COUNT + mt * (room >> order)
    return fixed(mem, zone + c.Z_STORE + level) + before


@hot
def first_pfn(mem: Memory, zone: ZoneWords) -> Pfn:
    """The first page of block 0, of every order; it may lie before the zone."""
    return fixed(mem, zone + c.Z_START) & -(1 << fixed(mem, c.H_MAX_ORDER))


@hot
def is_page_of(mem: Memory, zone: ZoneWords, pfn: Pfn) -> bool:
    return fixed(mem, zone + c.Z_START) <= pfn < fixed(mem, zone + c.Z_END)


@kernel
def is_block_of(mem: Memory, zone: ZoneWords, pfn: Pfn, order: Order, mt: Migratetype) -> bool:
    """Whether a number from the store is a free block of the zone, of that order and type."""
    if not is_page_of(mem, zone, pfn):
        return False
    w0 = page_state(mem, pfn)
    return is_free_head(w0, fixed(mem, zone + c.Z_INDEX), order) and mt_of(w0) == mt
