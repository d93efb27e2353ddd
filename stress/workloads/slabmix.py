"""slabmix: objects freed locally, objects freed by the neighbour, caches that come and go.

Imitates dentries, network buffers and module loading. Every worker creates caches, one of them
without sheaves and one with exact frees, and allocates from its own and its neighbours' (peer,
peer's peer, ...), so that workers contend; sometimes it shrinks a cache. A worker may swap an
object into a mailbox of its peer, which then frees it: a remote free. Each object is signed at both
ends, so that its next holder detects an overwrite::

    object:    [own address][cache << 16 | words][...][own address]
    work area: W_DATA [done] | caches, id + 1 | mailboxes, written by peer and owner | table

Hunts: an object given out twice or lost between sheaf, barn and slab; free lists that cross; a slab
released while an object of it lives; sheaves drained while their CPU uses them; a cache destroyed
while a sheaf of it exists.
Must reach: object alloc and free, new and gone slabs and caches, sheaf swaps.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel
from shmalloc.kernels.cache import cache_alloc, cache_free
from shmalloc.kernels.cache_bulk import cache_alloc_bulk, cache_free_bulk
from shmalloc.kernels.cache_set import cache_create, cache_destroy, cache_shrink
from shmalloc.kernels.reporting import report
from shmalloc.units import CacheId, Claim, Memory, ObjectAddress, WordIndex
from shmalloc.words import exchange, fence, load, store
from stress.workloads.area import W_CURSOR, W_DATA, W_PEER, draw, stopping, work_at
from stress.workloads.latency import (
    L_CACHE_ALLOC,
    L_CACHE_ALLOC_BULK,
    L_CACHE_FREE,
    L_CACHE_FREE_BULK,
    L_CACHE_SHRINK,
    SAMPLE_EVERY,
    SAMPLE_EVERY_SLOWER,
    clock_of,
    clock_of_some,
    note,
)

MIX_DONE = W_DATA
MIX_CACHES = W_DATA + 16
MIX_CACHE_COUNT = 3
MIX_SHEAFLESS = 1  # of these
MIX_EXACT = 2
MIX_NEIGHBOURS = 4  # a worker uses the caches of these, itself included
MIX_MAIL = W_DATA + 32
MIX_MAILS = 64
MIX_BULK = MIX_MAIL + MIX_MAILS
MIX_BULK_OBJECTS = 16
MIX_TABLE = MIX_BULK + MIX_BULK_OBJECTS
MIX_SLOTS = 512
SLABMIX_WORDS = MIX_TABLE + MIX_SLOTS
MIX_CACHE_SHIFT = 16
MIX_WORDS_MASK = 0xFFFF
MIX_FIRST_WORDS = 3  # objects of 3, 12 and 48 words
MIX_GROWTH_SHIFT = 2
MIX_BULK_ODDS = 64
MIX_STORM_ODDS = 1024
MIX_SHRINK_ODDS = 4096
MIX_MAIL_ODDS = 4
MIX_WAVE_SHIFT = 12


@kernel
def slabmix(mem: Memory, claim: Claim, steps: int) -> int:
    """Allocate, free, swap, ``steps`` times; returns the operations done."""
    at = work_at(mem, claim)
    done = 0
    if mem[at + W_CURSOR] == 0:
        mem[at + W_CURSOR] = 1  # even if it must stop at once: it makes its caches once
        mix_create(mem, claim, at)
    for _ in range(steps):
        if stopping(mem):
            break
        mem[at + W_CURSOR] = mem[at + W_CURSOR] + 1
        if draw(mem, at, MIX_STORM_ODDS) == 0:
            mix_storm(mem, claim, at)
        elif draw(mem, at, MIX_SHRINK_ODDS) == 0:
            mix_shrink(mem, claim, mix_cache(mem, at, draw(mem, at, MIX_CACHE_COUNT)))
        elif draw(mem, at, MIX_BULK_ODDS) == 0:
            mix_bulk(mem, claim, at)
        else:
            mix_one(mem, claim, at)
        done += 1
    return done


@kernel
def mix_create(mem: Memory, claim: Claim, at: WordIndex) -> None:
    """Create the worker's caches. The word of a failed one stays 0, and it is not used."""
    for i in range(MIX_CACHE_COUNT):
        words = MIX_FIRST_WORDS << (i * MIX_GROWTH_SHIFT)
        flags = cs.CF_NO_SHEAVES * (i == MIX_SHEAFLESS) + cs.CF_EXACT * (i == MIX_EXACT)
        cache_id = cache_create(mem, claim, words * 8, 0, flags, 0)
        if cache_id >= 0:
            store(mem, at + MIX_CACHES + i, cache_id + 1)


@kernel
def mix_cache(mem: Memory, at: WordIndex, which: int) -> CacheId:
    """Cache ``which`` of the worker or a neighbour; -1: not created yet, or creation failed."""
    area = at
    for _ in range(draw(mem, at, MIX_NEIGHBOURS)):
        area = work_at(mem, mem[area + W_PEER])
    return load(mem, area + MIX_CACHES + which) - 1


@kernel
def mix_one(mem: Memory, claim: Claim, at: WordIndex) -> None:
    """Fill an empty slot; free the object of a full one, or swap it with the peer's mail."""
    slot = at + MIX_TABLE + draw(mem, at, MIX_SLOTS)
    low_tide = (mem[at + W_CURSOR] >> MIX_WAVE_SHIFT) & 1 != 0
    if mem[slot] == 0:
        if not low_tide or draw(mem, at, 8) == 0:
            mem[slot] = mix_alloc(mem, claim, at, draw(mem, at, MIX_CACHE_COUNT))
    elif draw(mem, at, MIX_MAIL_ODDS) == 0:
        box = work_at(mem, mem[at + W_PEER]) + MIX_MAIL + draw(mem, at, MIX_MAILS)
        mem[slot] = exchange(mem, box, mem[slot])  # hands the object and its bytes over
    else:
        mix_free(mem, claim, mem[slot], mem[at + W_CURSOR])
        mem[slot] = 0


@kernel
def mix_alloc(mem: Memory, claim: Claim, at: WordIndex, which: int) -> ObjectAddress:
    """A signed object of a cache ``which``, or 0."""
    cache_id = mix_cache(mem, at, which)
    if cache_id < 0:
        return 0
    began = clock_of_some(mem, mem[at + W_CURSOR], SAMPLE_EVERY)
    address = cache_alloc(mem, claim, cache_id)
    note(mem, claim, L_CACHE_ALLOC, began, address)
    if address < 0:
        return 0
    mix_sign(mem, address, cache_id, MIX_FIRST_WORDS << (which * MIX_GROWTH_SHIFT))
    return address


@kernel
def mix_sign(mem: Memory, address: ObjectAddress, cache_id: CacheId, words: int) -> None:
    mem[address] = address
    mem[address + 1] = (cache_id << MIX_CACHE_SHIFT) | words
    mem[address + words - 1] = address


@kernel
def mix_check(mem: Memory, claim: Claim, address: ObjectAddress) -> int:
    """0 if both signatures are intact, else E_STATE with a report: leave the object alone."""
    found = mem[address]
    if found == address:
        found = mem[address + (mem[address + 1] & MIX_WORDS_MASK) - 1]
    if found == address:
        return 0
    report(mem, claim, c.X_PAYLOAD, address, address, found)
    return c.E_STATE


@kernel
def mix_free(mem: Memory, claim: Claim, address: ObjectAddress, number: int) -> None:
    """Check and free one object, whichever worker allocated it. ``number``: of the step."""
    if mix_check(mem, claim, address) == 0:
        cache_id = mem[address + 1] >> MIX_CACHE_SHIFT
        began = clock_of_some(mem, number, SAMPLE_EVERY)
        code = cache_free(mem, claim, cache_id, address)
        note(mem, claim, L_CACHE_FREE, began, code)


@kernel
def mix_bulk(mem: Memory, claim: Claim, at: WordIndex) -> None:
    """Allocate a list of objects at once, sign and check them, and free them at once."""
    which = draw(mem, at, MIX_CACHE_COUNT)
    cache_id = mix_cache(mem, at, which)
    if cache_id < 0:
        return
    began = clock_of_some(mem, mem[at + W_CURSOR], SAMPLE_EVERY_SLOWER)
    got = cache_alloc_bulk(mem, claim, cache_id, MIX_BULK_OBJECTS, at + MIX_BULK)
    note(mem, claim, L_CACHE_ALLOC_BULK, began, got)
    if got < 0:
        return
    for i in range(got):
        words = MIX_FIRST_WORDS << (which * MIX_GROWTH_SHIFT)
        mix_sign(mem, mem[at + MIX_BULK + i], cache_id, words)
    kept = 0
    for i in range(got):
        address = mem[at + MIX_BULK + i]
        if mix_check(mem, claim, address) == 0:
            mem[at + MIX_BULK + kept] = address
            kept += 1
    began = clock_of_some(mem, mem[at + W_CURSOR], SAMPLE_EVERY_SLOWER)
    cache_free_bulk(mem, claim, cache_id, kept, at + MIX_BULK)
    note(mem, claim, L_CACHE_FREE_BULK, began, 0)


@kernel
def mix_shrink(mem: Memory, claim: Claim, cache_id: CacheId) -> None:
    began = clock_of(mem)
    code = cache_shrink(mem, claim, cache_id)
    note(mem, claim, L_CACHE_SHRINK, began, code)


@kernel
def mix_storm(mem: Memory, claim: Claim, at: WordIndex) -> None:
    """Create a cache, use it for a few objects, and destroy it."""
    cache_id = cache_create(mem, claim, 40, 0, 0, 0)
    if cache_id < 0:
        return
    count = 1 + draw(mem, at, MIX_BULK_OBJECTS)
    if cache_alloc_bulk(mem, claim, cache_id, count, at + MIX_BULK) > 0:
        cache_free_bulk(mem, claim, cache_id, count, at + MIX_BULK)
    cache_destroy(mem, claim, cache_id)


@kernel
def slabmix_finish(mem: Memory, claim: Claim) -> int:
    """Free all objects; the last worker of the circle destroys the caches of all workers.

    A worker cannot destroy its own caches: a peer may still hold objects of them.
    """
    at = work_at(mem, claim)
    given = mix_give_all(mem, claim, at)
    store(mem, at + MIX_DONE, 1)
    fence(mem)  # if two workers finish at once, at least one sees the other's word
    if mix_all_done(mem, claim):
        other = claim
        while True:
            mix_destroy(mem, claim, work_at(mem, other))
            other = mem[work_at(mem, other) + W_PEER]
            if other == claim:
                break
    return given


@kernel
def mix_give_all(mem: Memory, claim: Claim, at: WordIndex) -> int:
    """Free the objects in the worker's table and mailboxes; returns their number."""
    given = 0
    for i in range(MIX_SLOTS):
        if mem[at + MIX_TABLE + i] != 0:
            mix_free(mem, claim, mem[at + MIX_TABLE + i], i)
            mem[at + MIX_TABLE + i] = 0
            given += 1
    for i in range(MIX_MAILS):
        address = exchange(mem, at + MIX_MAIL + i, 0)
        if address != 0:
            mix_free(mem, claim, address, i)
            given += 1
    return given


@kernel
def mix_all_done(mem: Memory, claim: Claim) -> bool:
    """Whether every worker of the circle has freed its objects."""
    other = mem[work_at(mem, claim) + W_PEER]
    while other != claim:
        if load(mem, work_at(mem, other) + MIX_DONE) == 0:
            return False
        other = mem[work_at(mem, other) + W_PEER]
    return True


@kernel
def mix_destroy(mem: Memory, claim: Claim, area: WordIndex) -> None:
    """Destroy the caches of one worker; the swap admits only one of two finishers."""
    for i in range(MIX_CACHE_COUNT):
        cache_id = exchange(mem, area + MIX_CACHES + i, 0) - 1
        if cache_id >= 0:
            cache_destroy(mem, claim, cache_id)
