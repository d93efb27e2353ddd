"""The operations that an explanation is made of: a program of the allocator that is data.

Each CPU reads its operations from words of its work area that never change, so that thousands of
programs share a few kernels, and one compilation each::

    held.py's words | 16: how many | rows of four: number, slot, two values

What an operation receives goes into a slot of the CPU, as in all programs (held.py); one that finds
no block in its slot does nothing.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.cache_set import cache_shrink
from shmalloc.kernels.contig import (
    alloc_contig_range,
    free_contig_range,
    isolate_range,
    offline_range,
    online_range,
    unisolate_range,
)
from shmalloc.kernels.hotplug import plug_cpu, unplug_cpu
from shmalloc.kernels.pages_bulk import alloc_bulk, free_bulk
from shmalloc.kernels.pcp import drain_all
from shmalloc.kernels.reporting import report
from shmalloc.kernels.try_pages import try_alloc_pages, try_free_pages
from shmalloc.kernels.walk import owner_at, walk
from shmalloc.units import Claim, Memory
from shmalloc.words import fixed
from stress.oracles.cover import COVER_WORDS, check_covered
from stress.oracles.versions import check_version
from stress.programs.held import (
    FIRST_OBJECT,
    ONLY_CACHE,
    block_order,
    block_pfn,
    let_go_signed,
    object_put,
    object_take,
    page_put,
    page_take,
    receive,
    slot_at,
    zone_put,
    zone_take,
)
from stress.programs.ranges import (
    END_SHIFT,
    OFFLINE_BIT,
    PFN_MASK,
    RANGE,
    keep_offline,
    keep_range,
    let_range_go,
)

CODE = 16
ROW = 4
MOST_ROWS = 8
COVER = CODE + 1 + ROW * MOST_ROWS
EXPLAINED_WORDS = COVER + COVER_WORDS + COVER_WORDS % 2
BULK = 8  # words of a CPU's list of blocks
MOST_IN_BULK = 4

# Name -> number, and what follows it: a slot, an order, a pfn, a CPU, a count.
PAGES: dict[str, tuple[int, tuple[str, ...]]] = {
    "take": (1, ("slot", "order")),
    "put": (2, ("slot",)),
    "zone_take": (3, ("slot", "order")),
    "zone_put": (4, ("slot",)),
    "drain": (5, ()),
    "walk": (6, ("pfn",)),
    "look": (7, ("slot",)),
    "isolate": (8, ("pfn", "order")),
    "restore": (9, ()),
    "offline": (10, ("pfn", "order")),
    "online": (11, ()),
    "range": (12, ("pfn", "order")),
    "unplug": (13, ("cpu",)),
    "plug": (14, ("cpu",)),
    "bulk": (15, ("count",)),
    "try_take": (16, ("slot", "order")),
    "try_put": (17, ("slot",)),
}
OBJECTS: dict[str, tuple[int, tuple[str, ...]]] = {
    "object_take": (31, ("object",)),
    "object_put": (32, ("object",)),
    "shrink": (33, ()),
    "take": (1, ("slot", "order")),
    "put": (2, ("slot",)),
    "drain": (5, ()),
}


@kernel
def on_blocks(mem: Memory, claim: Claim, what: int, slot: int, order: int) -> int:
    if what == 5:
        return drain_all(mem, claim)
    if what == 2:
        return page_put(mem, claim, slot)
    if what == 4:
        return zone_put(mem, claim, slot)
    if mem[slot_at(mem, claim, slot)] != 0:
        return c.E_STATE  # the slot has a block, which would be lost
    if what == 1:
        return +page_take(mem, claim, slot, order)
    return +zone_take(mem, claim, slot, order)


@kernel
def operation_at(mem: Memory, claim: Claim, row: int) -> tuple[int, int, int]:
    """The ``row``-th operation of ``claim``: which, and its first and second argument."""
    at = slot_at(mem, claim, CODE) + 1 + ROW * row
    return fixed(mem, at), fixed(mem, at + 1), fixed(mem, at + 2)


@kernel
def perform_blocks(mem: Memory, claim: Claim) -> int:
    """Perform the operations of ``claim`` on blocks, and looks at them without a lock; what the
    last one returned."""
    last = 0
    for row in range(fixed(mem, slot_at(mem, claim, CODE))):
        what, first, second = operation_at(mem, claim, row)
        if what < 6:
            last = on_blocks(mem, claim, what, first, second)
        else:
            last = look_at(mem, claim, what, first)
    return last


@kernel
def perform_ranges(mem: Memory, claim: Claim) -> int:
    """The same with blocks and ranges."""
    last = 0
    for row in range(fixed(mem, slot_at(mem, claim, CODE))):
        what, first, second = operation_at(mem, claim, row)
        if what < 6:
            last = on_blocks(mem, claim, what, first, second)
        elif what < 8:
            last = look_at(mem, claim, what, first)
        else:
            last = on_range(mem, claim, what, first, first + (1 << second))
    return last


@kernel
def perform_plugs(mem: Memory, claim: Claim) -> int:
    """The same with blocks and CPUs that come and go."""
    last = 0
    for row in range(fixed(mem, slot_at(mem, claim, CODE))):
        what, first, second = operation_at(mem, claim, row)
        if what < 6:
            last = on_blocks(mem, claim, what, first, second)
        else:
            last = unplug_cpu(mem, claim, first) if what == 13 else plug_cpu(mem, claim, first)
    return last


@kernel
def perform_tries(mem: Memory, claim: Claim) -> int:
    """The same with blocks, in bulk, or without waiting."""
    last = 0
    for row in range(fixed(mem, slot_at(mem, claim, CODE))):
        what, first, second = operation_at(mem, claim, row)
        if what < 6:
            last = on_blocks(mem, claim, what, first, second)
        elif what == 15:
            last = in_bulk(mem, claim, first)
        else:
            last = tried(mem, claim, what, first, second)
    return last


@kernel
def tried(mem: Memory, claim: Claim, what: int, slot: int, order: int) -> int:
    if what == 16:
        if mem[slot_at(mem, claim, slot)] != 0:
            return c.E_STATE
        pfn = try_alloc_pages(mem, claim, order, c.MT_MOVABLE, claim + 1)
        return +receive(mem, claim, slot, pfn, order)
    block = let_go_signed(mem, claim, slot)
    if block == 0:
        return c.E_STATE
    return try_free_pages(mem, claim, block_pfn(block), block_order(block), claim + 1)


@kernel
def look_at(mem: Memory, claim: Claim, what: int, first: int) -> int:
    """Walk from a pfn without a lock, with the oracles of pages that are never in no block; or look
    up one's own block."""
    if what == 6:
        check_version(mem, claim, first)
        check_covered(mem, claim, slot_at(mem, claim, COVER), first)
        return +walk(mem, claim, first, fixed(mem, c.H_PAGES))
    block = mem[slot_at(mem, claim, first)]
    if block == 0:
        return 0
    found = owner_at(mem, block_pfn(block))
    if found != claim + 1:
        report(mem, claim, c.X_WALKER, block_pfn(block), claim + 1, found)
    return +found


@kernel
def on_range(mem: Memory, claim: Claim, what: int, start: int, end: int) -> int:
    if what == 12:
        result = alloc_contig_range(mem, claim, start, end, claim + 1)
        if result == 0:
            return free_contig_range(mem, claim, start, end)
        return result
    note = mem[slot_at(mem, claim, RANGE)]
    if what == 9 or what == 11:
        return range_back(mem, claim, what, note)
    if note != 0:
        return c.E_STATE  # a CPU keeps one range
    if what == 8:
        result = isolate_range(mem, claim, start, end)
        if result == 0:
            keep_range(mem, claim, start, end)
        return result
    result = offline_range(mem, claim, start, end)
    if result == 0:
        keep_offline(mem, claim, start, end)
    return result


@kernel
def range_back(mem: Memory, claim: Claim, what: int, note: int) -> int:
    """Give back the range that the CPU keeps, if it keeps one of that kind."""
    start = note & PFN_MASK
    end = note >> END_SHIFT & PFN_MASK
    if note == 0 or (note & OFFLINE_BIT != 0) != (what == 11):
        return c.E_STATE
    let_range_go(mem, claim)
    if what == 9:
        return unisolate_range(mem, claim, start, end)
    return online_range(mem, claim, start, end)


@kernel
def in_bulk(mem: Memory, claim: Claim, count: int) -> int:
    """Allocate pages in bulk and free them so."""
    at = slot_at(mem, claim, BULK)
    got = alloc_bulk(mem, claim, 0, c.MT_MOVABLE, claim + 1, count, at)
    if got <= 0:
        return got
    return free_bulk(mem, claim, 0, got, at)


@kernel
def perform_objects(mem: Memory, claim: Claim) -> int:
    """Perform the operations of ``claim`` on objects and pages; what the last one returned."""
    last = 0
    for row in range(fixed(mem, slot_at(mem, claim, CODE))):
        what, slot, second = operation_at(mem, claim, row)
        if what == 31:
            last = c.E_STATE  # the slot has an object, which would be lost
            if mem[slot_at(mem, claim, FIRST_OBJECT + slot)] == 0:
                last = +object_take(mem, claim, slot)
        elif what == 32:
            last = object_put(mem, claim, slot)
        elif what == 33:
            last = +cache_shrink(mem, claim, ONLY_CACHE)
        else:
            last = on_blocks(mem, claim, what, slot, second)
    return last


# A kernel, and the operations that it has: the smallest that has all is taken.
_BLOCKS = frozenset(("take", "put", "zone_take", "zone_put", "drain"))
_LOOKS = frozenset(("walk", "look"))
_RANGES = frozenset(("isolate", "restore", "offline", "online", "range"))
PERFORMERS = (
    (perform_blocks, _BLOCKS | _LOOKS),
    (perform_plugs, _BLOCKS | {"unplug", "plug"}),
    (perform_tries, _BLOCKS | {"bulk", "try_take", "try_put"}),
    (perform_ranges, _BLOCKS | _LOOKS | _RANGES),
)
