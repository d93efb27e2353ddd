"""The link store ``index``: an array of pfns for each order and migratetype, no list at all.

What the mail thread proposed instead of list nodes: a free block is an entry of an array, its
descriptor remembers which one, and a block leaves the middle by a swap with the last entry::

    Z_STORE -> [ order 0: mt 0 | mt 1 | mt 2 | mt 3 ][ order 1: ... half as long ] ...
    entry i < nr_free: a pfn         word 1 of its descriptor: (i + 1) << LINK_SHIFT, 0: no entry

Entry and descriptor name each other, so a stray write to one of them contradicts the other, and is
found before it is followed. A page's own bytes are never touched. The arrays must have room for
every block of an order in every migratetype (Z_ROOM, in pages, counts from the largest block's
border to the next one), so they reserve 64 bytes a page, of which only 8 a listed block are ever
used: memory that is not touched is not there.

The last entry's block gets another place although it was not asked about: only word 1 of its
descriptor changes, atomically, since a lock-free walker may read it.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel
from shmalloc.kernels.bits import mt_of
from shmalloc.kernels.descriptor import is_free_head, page_state
from shmalloc.kernels.zone import area_count, descriptor_at
from shmalloc.units import Memory, Migratetype, Order, Pfn, WordIndex, ZoneWords
from shmalloc.words import fixed, load_relaxed, store_relaxed


@hot
def room_of(mem: Memory, zone: ZoneWords, order: Order) -> int:
    """Entries that an array has room for: there are no more blocks of that order."""
    return fixed(mem, zone + c.Z_ROOM) >> order


@hot
def entries_at(mem: Memory, zone: ZoneWords, order: Order, mt: Migratetype) -> WordIndex:
    """Word index of the first entry of ``order`` and ``mt``."""
    room = fixed(mem, zone + c.Z_ROOM)
    # The lower orders have room + room / 2 + ... entries for each type.
    before = (room - (room >> order)) * 2 * c.MT_COUNT + mt * (room >> order)
    return fixed(mem, zone + c.Z_STORE) + before


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


@hot
def is_page_of(mem: Memory, zone: ZoneWords, pfn: Pfn) -> bool:
    return fixed(mem, zone + c.Z_START) <= pfn < fixed(mem, zone + c.Z_END)


@hot
def is_block_of(mem: Memory, zone: ZoneWords, pfn: Pfn, order: Order, mt: Migratetype) -> bool:
    """Whether a number from the store is a free block of the zone, of that order and type."""
    if not is_page_of(mem, zone, pfn):
        return False
    w0 = page_state(mem, pfn)
    return is_free_head(w0, fixed(mem, zone + c.Z_INDEX), order) and mt_of(w0) == mt


@kernel
def index_add(mem: Memory, zone: ZoneWords, pfn: Pfn, order: Order, mt: Migratetype) -> int:
    """Append a block; E_STATE if the count leaves no room."""
    count = mem[area_count(zone, order, mt)]
    if not 0 <= count < room_of(mem, zone, order):
        return c.E_STATE
    mem[entries_at(mem, zone, order, mt) + count] = pfn
    set_place(mem, pfn, count + 1)
    return 0


@kernel
def index_remove(mem: Memory, zone: ZoneWords, pfn: Pfn, order: Order, mt: Migratetype) -> int:
    """Take a block out of its array; the last entry fills the gap. E_STATE: a place is wrong."""
    count = mem[area_count(zone, order, mt)]
    place = place_of(mem, pfn)
    if not 1 <= place <= count or count > room_of(mem, zone, order):
        return c.E_STATE
    first = entries_at(mem, zone, order, mt)
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
    if not 1 <= count <= room_of(mem, zone, order):
        return c.E_STATE
    pfn = mem[entries_at(mem, zone, order, mt) + count - 1]
    if not is_block_of(mem, zone, pfn, order, mt) or place_of(mem, pfn) != count:
        return c.E_STATE
    return pfn


@kernel
def index_names(mem: Memory, zone: ZoneWords, pfn: Pfn, order: Order, mt: Migratetype) -> bool:
    """Whether the entry that a block's descriptor names is that of the block."""
    place = place_of(mem, pfn)
    if not 1 <= place <= mem[area_count(zone, order, mt)] or place > room_of(mem, zone, order):
        return False
    return mem[entries_at(mem, zone, order, mt) + place - 1] == pfn
