"""The link store ``index``: an array of pfns for each order and migratetype, no list at all.

What the mail thread proposed instead of list nodes: a free block is an entry of an array, its
descriptor remembers which one, and a block leaves the middle by a swap with the last entry::

    entry i < nr_free: a pfn         word 1 of its descriptor: (i + 1) << LINK_SHIFT, 0: no entry

Entry and descriptor name each other, so a stray write to one of them contradicts the other, and is
found before it is followed. A page's own bytes are never touched. The arrays must have room for
every block of an order in every migratetype (store_arrays.py: a single level), so they reserve
64 bytes a page. Of these only 8 a listed block are ever used: memory that is not touched is not
there.

The last entry's block gets another place although it was not asked about: only word 1 of its
descriptor changes, atomically, since a lock-free walker may read it.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel
from shmalloc.kernels.store_arrays import array_at, is_block_of, room_at
from shmalloc.kernels.zone import area_count, descriptor_at
from shmalloc.units import Memory, Migratetype, Order, Pfn, ZoneWords
from shmalloc.words import load_relaxed, store_relaxed


@hot
def place_of(mem: Memory, pfn: Pfn) -> int:
    """1 + the entry of a block by its descriptor; 0: none; negative: word 1 is no entry."""
    w1 = load_relaxed(mem, descriptor_at(mem, pfn) + 1)
    if w1 & c.LINK_MASK != w1:
        return c.E_STATE
    return w1 >> c.LINK_SHIFT


@hot
def set_place(mem: Memory, pfn: Pfn, place: int) -> None:
    store_relaxed(mem, descriptor_at(mem, pfn) + 1, place << c.LINK_SHIFT)


@kernel
def index_add(mem: Memory, zone: ZoneWords, pfn: Pfn, order: Order, mt: Migratetype) -> int:
    """Append a block; E_STATE if the count leaves no room."""
    count = mem[area_count(zone, order, mt)]
    if not 0 <= count < room_at(mem, zone, 0, order):
        return c.E_STATE
    mem[array_at(mem, zone, 0, order, mt) + count] = pfn
    set_place(mem, pfn, count + 1)
    return 0


@kernel
def index_remove(mem: Memory, zone: ZoneWords, pfn: Pfn, order: Order, mt: Migratetype) -> int:
    """Take a block out of its array; the last entry fills the gap. E_STATE: a place is wrong."""
    count = mem[area_count(zone, order, mt)]
    place = place_of(mem, pfn)
    if not 1 <= place <= count or count > room_at(mem, zone, 0, order):
        return c.E_STATE
    first = array_at(mem, zone, 0, order, mt)
    last = mem[first + count - 1]
    if mem[first + place - 1] != pfn:
        return c.E_STATE
    # Of another array it may have the same place.
    if not is_block_of(mem, zone, last, order, mt) or place_of(mem, last) != count:
        return c.E_STATE
    # If the block is itself the last one, the second write takes back what the first one says.
    mem[first + place - 1] = last
    set_place(mem, last, place)
    set_place(mem, pfn, 0)
    return 0


@kernel
def index_first(mem: Memory, zone: ZoneWords, order: Order, mt: Migratetype) -> Pfn:
    """The block that was added last; E_STATE if entry and descriptor do not name each other."""
    count = mem[area_count(zone, order, mt)]
    if not 1 <= count <= room_at(mem, zone, 0, order):
        return c.E_STATE
    pfn = mem[array_at(mem, zone, 0, order, mt) + count - 1]
    if not is_block_of(mem, zone, pfn, order, mt) or place_of(mem, pfn) != count:
        return c.E_STATE
    return pfn


@kernel
def index_names(mem: Memory, zone: ZoneWords, pfn: Pfn, order: Order, mt: Migratetype) -> bool:
    """Whether the entry that a block's descriptor names is that of the block."""
    place = place_of(mem, pfn)
    if not 1 <= place <= mem[area_count(zone, order, mt)] or place > room_at(mem, zone, 0, order):
        return False
    return mem[array_at(mem, zone, 0, order, mt) + place - 1] == pfn
