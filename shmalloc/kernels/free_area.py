"""The free blocks of one order and migratetype of a zone, over any link store.

::

    page, descriptor, table    a circular list, linked both ways (lists.py)
    index                      an array of pfns (index_store.py)
    bitmap                     a bit for each block (bitmap_store.py)

An addition and a removal need the zone lock; counters are the caller's (buddy.py). An
addition or a removal checks what it is about to change, and where that was overwritten from outside
it changes nothing and says E_STATE. The path of the lists is inlined and the other one a call, so
that a list pays one comparison for it.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.bitmap_store import bitmap_add, bitmap_clear, bitmap_first, bitmap_remove
from shmalloc.kernels.index_store import index_add, index_first, index_remove
from shmalloc.kernels.lists import (
    clear_node,
    list_add,
    list_init,
    list_remove,
    next_of,
    node_of,
    pfn_of,
)
from shmalloc.kernels.zone import area_list
from shmalloc.units import Memory, Migratetype, Order, Pfn, ZoneWords
from shmalloc.words import fixed


@hot
def has_lists(mem: Memory) -> bool:
    """Whether free blocks are on linked lists."""
    return fixed(mem, c.H_LINKS) < c.LINKS_INDEX


@hot
def area_add(mem: Memory, zone: ZoneWords, pfn: Pfn, order: Order, mt: Migratetype) -> int:
    """Add a block whose head says FREE."""
    if has_lists(mem):
        return list_add(mem, area_list(zone, order, mt), node_of(mem, pfn))
    return store_add(mem, zone, pfn, order, mt)


@hot
def area_remove(mem: Memory, zone: ZoneWords, pfn: Pfn, order: Order, mt: Migratetype) -> int:
    """Remove a block, wherever it is."""
    if has_lists(mem):
        return list_remove(mem, node_of(mem, pfn))
    return store_remove(mem, zone, pfn, order, mt)


@hot
def area_first(mem: Memory, zone: ZoneWords, order: Order, mt: Migratetype) -> Pfn:
    """The block to take next, of at least one; no page of the zone if it is damaged."""
    if has_lists(mem):
        return pfn_of(mem, next_of(mem, area_list(zone, order, mt)))
    return store_first(mem, zone, order, mt)


@kernel
def area_init(mem: Memory, zone: ZoneWords, order: Order, mt: Migratetype) -> None:
    """Make it empty, whatever it holds; its count is the caller's to clear."""
    if has_lists(mem):
        list_init(mem, area_list(zone, order, mt))
    elif fixed(mem, c.H_LINKS) == c.LINKS_BITMAP:
        bitmap_clear(mem, zone, order, mt)


@kernel
def forget_links(mem: Memory, pfn: Pfn) -> None:
    """Clear what a block knows of the place it has; only a list needs it (the next change of the
    head clears the descriptor's second word)."""
    if has_lists(mem):
        clear_node(mem, node_of(mem, pfn))


@unit
def store_add(mem: Memory, zone: ZoneWords, pfn: Pfn, order: Order, mt: Migratetype) -> int:
    if fixed(mem, c.H_LINKS) == c.LINKS_BITMAP:
        return bitmap_add(mem, zone, pfn, order, mt)
    return index_add(mem, zone, pfn, order, mt)


@unit
def store_remove(mem: Memory, zone: ZoneWords, pfn: Pfn, order: Order, mt: Migratetype) -> int:
    if fixed(mem, c.H_LINKS) == c.LINKS_BITMAP:
        return bitmap_remove(mem, zone, pfn, order, mt)
    return index_remove(mem, zone, pfn, order, mt)


@unit
def store_first(mem: Memory, zone: ZoneWords, order: Order, mt: Migratetype) -> Pfn:
    if fixed(mem, c.H_LINKS) == c.LINKS_BITMAP:
        return bitmap_first(mem, zone, order, mt)
    return index_first(mem, zone, order, mt)
