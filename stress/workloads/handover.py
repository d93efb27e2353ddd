"""handover: blocks and objects that the receiver makes its own, and then keeps or frees.

Imitates processes that pass memory on and may die afterwards: who receives it adopts it from the
life of the giver, so that it outlives that. Each worker pushes into the ring of its peer and takes
from its own ring, with one producer and one consumer as in handoff::

    entry:     [block, or handle of an object] [owner id of the block] [giver's life] [cache + 1]
    work area: W_DATA [head: producer writes] | +16 [tail: consumer writes] | +32 ring | blocks kept
               | objects kept (handles, as in kmalloc.py)

Everything is written by the giver and checked by the receiver. Once it is adopted it is no longer
the giver's, so that a second adoption from that life is refused. A block is freed as its new
owner's (``free_pages_of``). Where workers are killed a worker hands over to itself: only then does
the controller know whose memory it reaps.
Hunts: an adoption that leaves the label or the owner word of the giver, or takes memory that is not
the giver's; a free that looks at the owner too early.
Must reach: alloc, free, remote free, object alloc and free.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.bits import type_of
from shmalloc.kernels.cache import slab_of_address
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.lock import owner_word
from shmalloc.kernels.objects import cache_of_word
from shmalloc.kernels.pages import free_pages_of
from shmalloc.kernels.reap import adopt_object, adopt_pages
from shmalloc.kernels.reporting import report
from shmalloc.units import CacheId, Claim, Memory, ObjectAddress, Order, Owner, Pfn, WordIndex
from shmalloc.words import fixed, load, load_relaxed, store
from stress.oracles.owners import check_stamp, disown, own, stamp
from stress.workloads.area import (
    BLOCK_ORDER_BITS,
    BLOCK_ORDER_MASK,
    BLOCK_WORDS,
    W_CURSOR,
    W_DATA,
    W_PEER,
    draw,
    fresh_id,
    leave_block,
    stopping,
    take_into,
    work_at,
)
from stress.workloads.kmalloc import address_of, boot_classes, check_bytes, give_bytes, take_bytes

PASS_HEAD = W_DATA
PASS_TAIL = W_DATA + 16
PASS_ENTRIES = W_DATA + 32
PASS_SLOTS = 256
PASS_STRIDE = 4
PASS_WHAT = 0
PASS_OWNER = 1
PASS_LIFE = 2
PASS_CACHE = 3
KEPT_BLOCKS = PASS_ENTRIES + PASS_SLOTS * PASS_STRIDE
KEPT = 64
KEPT_OBJECTS = KEPT_BLOCKS + KEPT * BLOCK_WORDS
PASS_STAGE = KEPT_OBJECTS + KEPT  # holds a block before the push, and after the pop
HANDOVER_WORDS = PASS_STAGE + BLOCK_WORDS
HANDOVER_ORDERS = 4
HANDOVER_BURST = 8
HANDOVER_BYTES = 256  # most of an object
AGAIN_ODDS = 4


@kernel
def handover(mem: Memory, claim: Claim, steps: int) -> int:
    """Give and receive ``steps`` times; returns the operations done."""
    at = work_at(mem, claim)
    peer = work_at(mem, mem[at + W_PEER])
    done = 0
    for _ in range(steps):
        if stopping(mem):
            break
        if mem[at + W_CURSOR] == 0 and boot_classes(mem, claim):
            mem[at + W_CURSOR] = 1
        for _ in range(1 + draw(mem, at, HANDOVER_BURST)):
            done += pass_on(mem, claim, at, peer)
        for _ in range(1 + draw(mem, at, HANDOVER_BURST)):
            done += receive(mem, claim, at)
    return done


@kernel
def pass_on(mem: Memory, claim: Claim, at: WordIndex, peer: WordIndex) -> int:
    """Push a new block or object unless the peer's ring is full; returns the operations done."""
    head = load_relaxed(mem, peer + PASS_HEAD)
    if head - load(mem, peer + PASS_TAIL) >= PASS_SLOTS:
        return 0
    entry = peer + PASS_ENTRIES + (head % PASS_SLOTS) * PASS_STRIDE
    if draw(mem, at, 2) == 0:
        filled = write_block(mem, claim, at, entry)
    else:
        filled = write_object(mem, claim, at, entry)
    if filled:
        mem[entry + PASS_LIFE] = owner_word(mem, claim)
        store(mem, peer + PASS_HEAD, head + 1)  # publishes the entry and what was written
    return 1


@kernel
def write_block(mem: Memory, claim: Claim, at: WordIndex, entry: WordIndex) -> bool:
    """Allocate a block for an entry of the peer's ring; false if there is none."""
    stage = at + PASS_STAGE
    order = min(draw(mem, at, HANDOVER_ORDERS) * draw(mem, at, 2), fixed(mem, c.H_MAX_ORDER))
    if take_into(mem, claim, at, stage, order, draw(mem, at, 2)) != 0:
        return False
    mem[entry + PASS_WHAT] = mem[stage]
    mem[entry + PASS_OWNER] = mem[stage + 1]
    mem[entry + PASS_CACHE] = 0
    mem[stage + 1] = 0
    return True


@kernel
def write_object(mem: Memory, claim: Claim, at: WordIndex, entry: WordIndex) -> bool:
    """Allocate an object for an entry; false if there is none, or if its class has no cache."""
    handle = take_bytes(mem, claim, at, 1 + draw(mem, at, HANDOVER_BYTES))
    if handle == 0:
        return False
    w0 = page_state(mem, slab_of_address(mem, address_of(handle)))
    if type_of(w0) != c.T_SLAB:
        give_bytes(mem, claim, handle)
        return False
    mem[entry + PASS_WHAT] = handle
    mem[entry + PASS_CACHE] = cache_of_word(w0) + 1
    return True


@kernel
def receive(mem: Memory, claim: Claim, at: WordIndex) -> int:
    """Adopt the oldest entry of this worker's ring and keep it; returns the operations done."""
    tail = load_relaxed(mem, at + PASS_TAIL)
    if load(mem, at + PASS_HEAD) == tail:
        return 0
    entry = at + PASS_ENTRIES + (tail % PASS_SLOTS) * PASS_STRIDE
    what = mem[entry + PASS_WHAT]
    giver = mem[entry + PASS_LIFE]
    if mem[entry + PASS_CACHE] == 0:
        receive_block(mem, claim, at, what, mem[entry + PASS_OWNER], giver)
    else:
        receive_object(mem, claim, at, what, mem[entry + PASS_CACHE] - 1, giver)
    store(mem, at + PASS_TAIL, tail + 1)  # gives the entry back to the producer
    return 1


@kernel
def receive_block(
    mem: Memory, claim: Claim, at: WordIndex, block: int, old: Owner, giver: Owner
) -> None:
    """Adopt a block under an id of this worker; whatever its place had is freed."""
    pfn: Pfn = block >> BLOCK_ORDER_BITS
    order: Order = block & BLOCK_ORDER_MASK
    owner = fresh_id(mem, claim, at)
    if check_stamp(mem, claim, pfn, order, old) != 0:
        return
    if adopt_pages(mem, claim, pfn, order, giver, owner) != 0:
        report(mem, claim, c.X_LOST_OWNER, pfn, giver, page_state(mem, pfn))
        return
    if disown(mem, claim, pfn, order, old) != 0 or own(mem, claim, pfn, order, owner) != 0:
        return
    stamp(mem, pfn, order, owner)
    if giver != owner_word(mem, claim) and draw(mem, at, AGAIN_ODDS) == 0:
        if adopt_pages(mem, claim, pfn, order, giver, owner) == 0:
            report(mem, claim, c.X_LOST_OWNER, pfn, owner, giver)
    place = at + KEPT_BLOCKS + draw(mem, at, KEPT) * BLOCK_WORDS
    free_kept(mem, claim, place)
    mem[place] = block
    mem[place + 1] = owner


@kernel
def free_kept(mem: Memory, claim: Claim, place: WordIndex) -> int:
    """Free the block at a place as its owner; returns 1, or 0 if there is none."""
    owner = mem[place + 1]
    if owner == 0:
        return 0
    order = mem[place] & BLOCK_ORDER_MASK
    pfn = leave_block(mem, claim, place)
    if pfn >= 0:
        free_pages_of(mem, claim, pfn, order, owner)
    return 1


@kernel
def receive_object(
    mem: Memory, claim: Claim, at: WordIndex, handle: int, cache_id: CacheId, giver: Owner
) -> None:
    """Adopt an object; whatever its place had is freed."""
    address: ObjectAddress = address_of(handle)
    if check_bytes(mem, claim, handle) != 0:
        return
    if adopt_object(mem, claim, cache_id, address, giver) != 0:
        report(mem, claim, c.X_LOST_OWNER, address, giver, cache_id)
        return
    if giver != owner_word(mem, claim) and draw(mem, at, AGAIN_ODDS) == 0:
        if adopt_object(mem, claim, cache_id, address, giver) == 0:
            report(mem, claim, c.X_LOST_OWNER, address, owner_word(mem, claim), giver)
    place = at + KEPT_OBJECTS + draw(mem, at, KEPT)
    if mem[place] != 0:
        give_bytes(mem, claim, mem[place])
    mem[place] = handle


@kernel
def handover_finish(mem: Memory, claim: Claim) -> int:
    """Receive what is in this worker's ring and free all; every producer is parked by now."""
    at = work_at(mem, claim)
    given = 0
    for _ in range(PASS_SLOTS):
        given += receive(mem, claim, at)
    for i in range(KEPT):
        given += free_kept(mem, claim, at + KEPT_BLOCKS + i * BLOCK_WORDS)
        handle = mem[at + KEPT_OBJECTS + i]
        if handle != 0:
            mem[at + KEPT_OBJECTS + i] = 0
            give_bytes(mem, claim, handle)
            given += 1
    return given
