"""The link store ``bitmap``: a bit for each block of an order and migratetype, no node anywhere.

The other thing that the mail thread asked about. A bit that is set says that the block is free; who
looks for one takes the first, so memory fills from below whatever was freed last. Two levels of
summary make that four loads: a bit of a summary says that the word below it is not zero::

    level 2   [....1...]                    scanned word by word: one bit for each 32,768 blocks
    level 1   [1......1] ...
    level 0   [...1...1] ... [........]     bit n % 32 of word n / 32: block n (store_arrays.py)

A bit repeats what the descriptor says, so a bitmap can be lost and made anew, and a wrong bit shows
only where the two are compared, which is done before one is used: a bit that is to be set must be
clear, one to be cleared must be set, and a block that the search found must be free, of that order
and type. E_STATE means that one was not; the zone's bitmaps are made anew before its lock is
released (repair.py), so a change that stopped halfway is none.

32 bits of a word are used, since bit 63 of a word has no meaning anywhere in a segment. In all that
is two bytes a page. A page's own bytes, and its second descriptor word, are never touched.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel
from shmalloc.kernels.store_arrays import array_at, first_pfn, is_block_of, room_at
from shmalloc.kernels.zone import area_count
from shmalloc.units import Memory, Migratetype, Order, Pfn, ZoneWords
from shmalloc.words import fixed

SHIFT = 5  # log2 of the bits of a word that are used
IN_WORD = 31
ALL_BITS = 0xFFFFFFFF
ODD = 0xAAAAAAAA  # the numbers of bits with bit 0 set, with bit 1 set, ...
ODD_PAIRS = 0xCCCCCCCC
ODD_FOURS = 0xF0F0F0F0
ODD_BYTES = 0xFF00FF00
ODD_HALF = 0xFFFF0000


@hot
def lowest_bit(word: int) -> int:
    """Number of the lowest bit that is set, of a word that is not 0, without a branch."""
    bit = word & -word
    low = int(bit & ODD != 0) | int(bit & ODD_PAIRS != 0) << 1 | int(bit & ODD_FOURS != 0) << 2
    return low | int(bit & ODD_BYTES != 0) << 3 | int(bit & ODD_HALF != 0) << 4


@hot
def block_number(mem: Memory, zone: ZoneWords, pfn: Pfn, order: Order) -> int:
    """Which block of an order begins at ``pfn``."""
    return (pfn - first_pfn(mem, zone)) >> order


@kernel
def bitmap_add(mem: Memory, zone: ZoneWords, pfn: Pfn, order: Order, mt: Migratetype) -> int:
    """Set the bit of a block, and those of the summaries above a word that was zero."""
    number = block_number(mem, zone, pfn, order)
    for level in range(c.STORE_LEVELS):
        at = array_at(mem, zone, level, order, mt) + (number >> SHIFT)
        word = mem[at]
        if word >> (number & IN_WORD) & 1 != 0:
            return c.E_STATE
        mem[at] = word | 1 << (number & IN_WORD)
        if word != 0:
            return 0
        number = number >> SHIFT
    return 0


@kernel
def bitmap_remove(mem: Memory, zone: ZoneWords, pfn: Pfn, order: Order, mt: Migratetype) -> int:
    """Clear the bit of a block, and those of the summaries above a word that becomes zero.

    After the last block is gone no bit may be left: no later operation would meet it.
    """
    number = block_number(mem, zone, pfn, order)
    for level in range(c.STORE_LEVELS):
        at = array_at(mem, zone, level, order, mt) + (number >> SHIFT)
        word = mem[at]
        if word >> (number & IN_WORD) & 1 == 0:
            return c.E_STATE
        mem[at] = word ^ 1 << (number & IN_WORD)
        if word != 1 << (number & IN_WORD):
            return c.E_STATE if mem[area_count(zone, order, mt)] == 1 else 0
        number = number >> SHIFT
    return 0


@kernel
def words_in_use(mem: Memory, zone: ZoneWords, level: int, order: Order) -> int:
    """Words of an array of a level that have bits of blocks of the zone."""
    last = block_number(mem, zone, fixed(mem, zone + c.Z_END) - 1, order)
    return (last >> (SHIFT * (level + 1))) + 1


@kernel
def bitmap_first(mem: Memory, zone: ZoneWords, order: Order, mt: Migratetype) -> Pfn:
    """The first free block, by address; E_STATE if the levels or the descriptor disagree."""
    top = array_at(mem, zone, c.STORE_LEVELS - 1, order, mt)
    for i in range(words_in_use(mem, zone, c.STORE_LEVELS - 1, order)):
        if mem[top + i] & ALL_BITS != 0:
            return descend(mem, zone, order, mt, i)
    return c.E_STATE


@kernel
def descend(mem: Memory, zone: ZoneWords, order: Order, mt: Migratetype, word: int) -> Pfn:
    """The first block below word number ``word`` of the highest level."""
    number = word
    for level in range(c.STORE_LEVELS - 1, -1, -1):
        if number >= room_at(mem, zone, level, order):
            return c.E_STATE
        bits = mem[array_at(mem, zone, level, order, mt) + number] & ALL_BITS
        if bits == 0:
            return c.E_STATE
        number = number << SHIFT | lowest_bit(bits)
    pfn = first_pfn(mem, zone) + (number << order)
    return pfn if is_block_of(mem, zone, pfn, order, mt) else c.E_STATE


@kernel
def bitmap_has(mem: Memory, zone: ZoneWords, pfn: Pfn, order: Order, mt: Migratetype) -> bool:
    """Whether the bit of a block is set."""
    number = block_number(mem, zone, pfn, order)
    word = mem[array_at(mem, zone, 0, order, mt) + (number >> SHIFT)]
    return word >> (number & IN_WORD) & 1 != 0


@kernel
def bitmap_clear(mem: Memory, zone: ZoneWords, order: Order, mt: Migratetype) -> None:
    """Clear all bits, of all levels."""
    for level in range(c.STORE_LEVELS):
        at = array_at(mem, zone, level, order, mt)
        for i in range(at, at + words_in_use(mem, zone, level, order)):
            mem[i] = 0
