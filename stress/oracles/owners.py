"""The owner map and the stamps: two oracles that know nothing of descriptors, lists or counters.

Owner map, one word for each page, present if the geometry says ``owner_map``::

    0                            the page has no owner
    sequence << 12 | claim + 1   the block was given to this allocation

An allocation swaps each of its pages from 0 to its id. If a swap fails, two owners hold one page
at the same time, whatever the allocator believes (X_DOUBLE_ALLOC, with both ids). A free swaps
them back (X_LOST_OWNER).

Stamp: the owner writes its id into the first and the last word of its block and reads them back
before it frees. A changed stamp means that another process wrote to this memory (X_PAYLOAD).

Rules for callers: ``own`` directly after an allocation, ``disown`` directly before the free, with
the same id. Ids are never zero and never used twice.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.reporting import report
from shmalloc.units import Claim, Memory, Order, Owner, Pfn
from shmalloc.words import cas, fixed, load

ID_CLAIM_BITS = 12  # of a claim's number + 1: all claims but the last have ids
assert c.MAX_CLAIMS <= 1 << ID_CLAIM_BITS
ID_SEQUENCE_MASK = (1 << 50) - 1


@kernel
def make_id(mem: Memory, claim: Claim, sequence: int) -> Owner:
    """An owner id that names the claim, unique while ``sequence`` is."""
    return ((sequence & ID_SEQUENCE_MASK) << ID_CLAIM_BITS) | (claim + 1)


@kernel
def own(mem: Memory, claim: Claim, pfn: Pfn, order: Order, owner: Owner) -> int:
    """Enter ``owner`` for every page of the block; 0, or E_STATE if a page has an owner already."""
    pages = 1 << order
    if pfn < 0 or pfn + pages > fixed(mem, c.H_PAGES):
        report(mem, claim, c.X_DOUBLE_ALLOC, pfn, fixed(mem, c.H_PAGES), pfn + pages)
        return c.E_STATE
    if fixed(mem, c.H_OWNER_MAP) == 0:
        return 0
    at = fixed(mem, c.H_AT_OWNERS) + pfn
    for i in range(pages):
        if not cas(mem, at + i, 0, owner):
            report(mem, claim, c.X_DOUBLE_ALLOC, pfn + i, owner, load(mem, at + i))
            return c.E_STATE
    return 0


@kernel
def disown(mem: Memory, claim: Claim, pfn: Pfn, order: Order, owner: Owner) -> int:
    """Remove ``owner`` from every page of the block; 0, or E_STATE if a page has another owner."""
    if fixed(mem, c.H_OWNER_MAP) == 0:
        return 0
    at = fixed(mem, c.H_AT_OWNERS) + pfn
    for i in range(1 << order):
        if not cas(mem, at + i, owner, 0):
            report(mem, claim, c.X_LOST_OWNER, pfn + i, owner, load(mem, at + i))
            return c.E_STATE
    return 0


@kernel
def block_words(mem: Memory, order: Order) -> int:
    return 1 << (order + fixed(mem, c.H_PAGE_SHIFT))


@kernel
def stamp(mem: Memory, pfn: Pfn, order: Order, owner: Owner) -> None:
    """Sign the block at both ends. Plain writes: the caller owns the memory, so a race is a bug."""
    first = fixed(mem, c.H_AT_FRAMES) + (pfn << fixed(mem, c.H_PAGE_SHIFT))
    mem[first] = owner
    mem[first + block_words(mem, order) - 1] = owner


@kernel
def check_stamp(mem: Memory, claim: Claim, pfn: Pfn, order: Order, owner: Owner) -> int:
    """0 if both signatures are intact, E_STATE with a report if one was overwritten."""
    first = fixed(mem, c.H_AT_FRAMES) + (pfn << fixed(mem, c.H_PAGE_SHIFT))
    last = first + block_words(mem, order) - 1
    found = mem[first]
    if found == owner:
        found = mem[last]
    if found == owner:
        return 0
    report(mem, claim, c.X_PAYLOAD, pfn, owner, found)
    return c.E_STATE
