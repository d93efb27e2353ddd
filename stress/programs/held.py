"""What the CPUs of a program hold, and how they allocate and free: the thread side of the oracle.

Each CPU writes what it received into its own words of the work area, which no other CPU touches
while the program runs; the check reads them when all CPUs are done (checks.py)::

    [ block x 2 | object x 4 | result | shared | .. | range ]   block: (pfn << 4 | order) + 1, or 0
                                                                object: its word address, or 0

The range is the one that the CPU keeps isolated (ranges.py).

The zone operations here are ``alloc_pages`` and ``free_pages`` without the per-CPU lists, for
programs about the buddy allocator.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.cache import cache_alloc, cache_free
from shmalloc.kernels.descriptor import claim_for_free
from shmalloc.kernels.fill import fill_on_free
from shmalloc.kernels.pages import (
    alloc_pages,
    free_pages_of,
    give,
    give_back_to_zone,
    refuse_free,
    take_from_zone,
)
from shmalloc.kernels.reporting import claim_at
from shmalloc.units import Claim, Memory, ObjectAddress, Order, Owner, Pfn, WordIndex
from shmalloc.words import fixed, load, relax, store
from stress.oracles.filling import check_filled
from stress.programs.written import check_block, check_object, sign_block, sign_object

BLOCKS = 2  # block slots of a CPU
FIRST_OBJECT = 2
OBJECTS = 4
RESULT = 6  # what one other operation of the CPU returned
SHARED = 7  # of CPU 0: an object that several CPUs free; written before they start (CPU 1: BLANK)
WORK_WORDS = 16
BLOCK_ORDER_BITS = 4
BLOCK_ORDER_MASK = 15
ONLY_ZONE = 0
ONLY_CACHE = 0


@kernel
def slot_at(mem: Memory, claim: Claim, slot: int) -> int:
    """Word index of one of the CPU's slots."""
    return fixed(mem, c.H_AT_WORK) + claim * fixed(mem, c.H_WORK_WORDS) + slot


@kernel
def block_pfn(block: int) -> int:
    return (block - 1) >> BLOCK_ORDER_BITS


@kernel
def block_order(block: int) -> int:
    return (block - 1) & BLOCK_ORDER_MASK


@kernel
def hold(mem: Memory, claim: Claim, slot: int, pfn: Pfn, order: Order) -> Pfn:
    """Note and sign a block that an allocation returned; returns ``pfn``."""
    if pfn >= 0:
        sign_block(mem, claim, pfn, order)
        mem[slot_at(mem, claim, slot)] = (pfn << BLOCK_ORDER_BITS | order) + 1
    return pfn


@kernel
def receive(mem: Memory, claim: Claim, slot: int, pfn: Pfn, order: Order) -> Pfn:
    """``hold`` for a block that comes from the free lists: it must be filled as they are."""
    if pfn >= 0:
        check_filled(mem, claim, pfn, order)
    return hold(mem, claim, slot, pfn, order)


@kernel
def let_go(mem: Memory, claim: Claim, slot: int) -> int:
    """Empty a slot and return its block or object. Call this before the free, not after it."""
    at = slot_at(mem, claim, slot)
    held = mem[at]
    mem[at] = 0
    return held


@kernel
def let_go_signed(mem: Memory, claim: Claim, slot: int) -> int:
    """``let_go`` of a block that must be as its owner left it."""
    block = let_go(mem, claim, slot)
    if block != 0:
        check_block(mem, claim, block_pfn(block), block_order(block))
    return block


@kernel
def zone_take(mem: Memory, claim: Claim, slot: int, order: Order) -> Pfn:
    """Allocate straight from the zone, past the per-CPU list."""
    pfn = take_from_zone(mem, claim, ONLY_ZONE, order, c.MT_MOVABLE)
    if pfn >= 0:
        pfn = give(mem, claim, pfn, order, c.MT_MOVABLE, claim + 1)
    return receive(mem, claim, slot, pfn, order)


@kernel
def zone_free(mem: Memory, claim: Claim, pfn: Pfn, order: Order, owner: Owner) -> int:
    """Free straight to the zone; ``owner`` 0: whatever the owner."""
    w0 = claim_for_free(mem, pfn, order, claim, owner)
    if w0 < 0:
        return refuse_free(mem, claim, -w0, pfn, order)
    fill_on_free(mem, pfn, order)
    give_back_to_zone(mem, claim, ONLY_ZONE, pfn, order)
    return 0


@kernel
def zone_put(mem: Memory, claim: Claim, slot: int) -> int:
    """Free the block of a slot straight to the zone."""
    block = let_go_signed(mem, claim, slot)
    if block == 0:
        return c.E_STATE
    return zone_free(mem, claim, block_pfn(block), block_order(block), claim + 1)


@kernel
def page_take(mem: Memory, claim: Claim, slot: int, order: Order) -> Pfn:
    """Allocate by the public operation."""
    pfn = alloc_pages(mem, claim, order, c.MT_MOVABLE, claim + 1)
    return receive(mem, claim, slot, pfn, order)


@kernel
def page_put(mem: Memory, claim: Claim, slot: int) -> int:
    """Free the block of a slot by the public operation."""
    block = let_go_signed(mem, claim, slot)
    if block == 0:
        return c.E_STATE
    return free_pages_of(mem, claim, block_pfn(block), block_order(block), claim + 1)


@kernel
def hold_object(mem: Memory, claim: Claim, slot: int, address: ObjectAddress) -> ObjectAddress:
    """Note and sign an object that an allocation returned; returns ``address``."""
    if address >= 0:
        sign_object(mem, claim, address)
        mem[slot_at(mem, claim, FIRST_OBJECT + slot)] = address
    return address


@kernel
def object_take(mem: Memory, claim: Claim, slot: int) -> ObjectAddress:
    """Allocate an object."""
    return hold_object(mem, claim, slot, cache_alloc(mem, claim, ONLY_CACHE))


@kernel
def let_go_object(mem: Memory, claim: Claim, slot: int) -> ObjectAddress:
    """Empty a slot and return its object, which must be as its owner left it; 0: none."""
    address: ObjectAddress = let_go(mem, claim, FIRST_OBJECT + slot)
    if address != 0:
        check_object(mem, claim, address)
    return address


@kernel
def object_put(mem: Memory, claim: Claim, slot: int) -> int:
    """Free the object of a slot."""
    address = let_go_object(mem, claim, slot)
    if address == 0:
        return c.E_STATE
    return cache_free(mem, claim, ONLY_CACHE, address)


@kernel
def free_shared(mem: Memory, claim: Claim) -> int:
    """Free the object that other CPUs free, too."""
    return cache_free(mem, claim, ONLY_CACHE, fixed(mem, slot_at(mem, 0, SHARED)))


@kernel
def note_result(mem: Memory, claim: Claim, value: int) -> int:
    """Store the result of an operation for the check (0 means none); returns it."""
    mem[slot_at(mem, claim, RESULT)] = value * 2 + 1
    return value


@kernel
def call_off(mem: Memory, waiter: Claim, lock: WordIndex) -> None:
    """What the looks of a waiting process write (``Rescuer``): it shall not wait for ``lock``.

    Looks come again and again, and the first word of a wait clears what an earlier one wrote.
    Programs begin with such a word, so that this one is written into a wait.
    """
    word = claim_at(mem, waiter) + c.C_GIVE_UP
    while load(mem, word) != 0:
        relax(mem)
    store(mem, word, lock)
