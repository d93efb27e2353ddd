"""kmalloc: memory by size, of all classes and larger, freed by its owner or by a neighbour.

Imitates programs that allocate by size. The workers make the caches of the size classes one at a
time, as processes do under the lock of the segment's file; until then every size gets pages. The
words of an allocation are all written, each from its handle and its index, and all checked before
the free; a worker may swap a handle into a mailbox of its peer, which then frees it::

    handle:    address << 30 | size in bytes << 14 | tag       0: none; a size is below 2^16
    work area: W_DATA mailboxes, swapped by peer and owner | +32 table
    the last claim's area, W_BOOT: 1 + the claim that makes the classes, 0: none does

A worker that dies while it makes the classes leaves W_BOOT to its successor in the slot, which
goes on after its recovery; the others wait for that and use pages.
Hunts: a class that is too small for a size, so that neighbours overlap; an object that is given out
twice; a free that finds the wrong cache, or takes a large allocation for an object.
Must reach: alloc, free, object alloc and free, large allocations by pages.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel
from shmalloc.kernels.cache_set import cache_destroy
from shmalloc.kernels.kmalloc import kfree, kmalloc, kmalloc_boot
from shmalloc.kernels.reporting import report
from shmalloc.units import Claim, Memory, ObjectAddress, WordIndex
from shmalloc.words import cas, exchange, fixed, load, store
from stress.workloads.area import (
    W_CURSOR,
    W_DATA,
    W_PARAMETERS,
    W_PEER,
    W_SEQUENCE,
    draw,
    stopping,
    work_at,
)

W_BOOT = W_PARAMETERS + 7  # no workload has as many parameters
KMALLOC_MAIL = W_DATA
KMALLOC_MAILS = 32
KMALLOC_TABLE = KMALLOC_MAIL + KMALLOC_MAILS
KMALLOC_SLOTS = 128
KMALLOC_WORDS = KMALLOC_TABLE + KMALLOC_SLOTS
KMALLOC_MAIL_ODDS = 4
TAG_BITS = 14
TAG_MASK = (1 << TAG_BITS) - 1
SIZE_BITS = 16
SIZE_MASK = (1 << SIZE_BITS) - 1
LEAST_SHIFT = 3  # the largest size of a draw is a power of two, from 8 bytes to 32 KiB
SHIFTS = 13


@kernel
def kmalloc_step(mem: Memory, claim: Claim, steps: int) -> int:
    """Allocate, free or swap ``steps`` times; returns the operations done."""
    at = work_at(mem, claim)
    done = 0
    for _ in range(steps):
        if stopping(mem):
            break
        if mem[at + W_CURSOR] == 0 and boot_classes(mem, claim):
            mem[at + W_CURSOR] = 1
        kmalloc_one(mem, claim, at)
        done += 1
    return done


@kernel
def boot_classes(mem: Memory, claim: Claim) -> bool:
    """Make the caches of the classes that are not there; false: another worker is at it."""
    turn = work_at(mem, fixed(mem, c.H_CLAIMS) - 1) + W_BOOT
    if load(mem, turn) != claim + 1 and not cas(mem, turn, 0, claim + 1):
        return False
    kmalloc_boot(mem, claim, cs.CF_EXACT)
    store(mem, turn, 0)
    return True


@kernel
def kmalloc_one(mem: Memory, claim: Claim, at: WordIndex) -> None:
    """Fill an empty slot; free the allocation of a full one, or swap it with the peer's mail."""
    slot = at + KMALLOC_TABLE + draw(mem, at, KMALLOC_SLOTS)
    if mem[slot] == 0:
        mem[slot] = take_bytes(mem, claim, at, draw_size(mem, at))
    elif draw(mem, at, KMALLOC_MAIL_ODDS) == 0:
        box = work_at(mem, mem[at + W_PEER]) + KMALLOC_MAIL + draw(mem, at, KMALLOC_MAILS)
        mem[slot] = exchange(mem, box, mem[slot])  # hands the allocation and its words over
    else:
        give_bytes(mem, claim, mem[slot])
        mem[slot] = 0


@kernel
def draw_size(mem: Memory, at: WordIndex) -> int:
    """A size in bytes: as many of them small as large, and as many of each power of two."""
    return 1 + draw(mem, at, 1 << (LEAST_SHIFT + draw(mem, at, SHIFTS)))


@kernel
def take_bytes(mem: Memory, claim: Claim, at: WordIndex, size_bytes: int) -> int:
    """The handle of a new allocation that is written all over, 0 if there was no memory."""
    address = kmalloc(mem, claim, size_bytes)
    if address < 0:
        return 0
    mem[at + W_SEQUENCE] = mem[at + W_SEQUENCE] + 1
    tag = (mem[at + W_SEQUENCE] << 4 ^ claim) & TAG_MASK
    handle = (+address << SIZE_BITS | size_bytes) << TAG_BITS | tag
    for i in range((size_bytes + 7) >> 3):
        mem[address + i] = handle ^ i
    return handle


@kernel
def check_bytes(mem: Memory, claim: Claim, handle: int) -> int:
    """0 if all words are as they were written, else E_STATE with a report."""
    address = address_of(handle)
    for i in range(((handle >> TAG_BITS & SIZE_MASK) + 7) >> 3):
        if mem[address + i] != handle ^ i:
            report(mem, claim, c.X_PAYLOAD, address, handle ^ i, mem[address + i])
            return c.E_STATE
    return 0


@kernel
def address_of(handle: int) -> ObjectAddress:
    return handle >> (TAG_BITS + SIZE_BITS)


@kernel
def give_bytes(mem: Memory, claim: Claim, handle: int) -> None:
    """Check and free one allocation, whichever worker made it; one that was changed is left."""
    if check_bytes(mem, claim, handle) == 0:
        kfree(mem, claim, address_of(handle))


@kernel
def kmalloc_finish(mem: Memory, claim: Claim) -> int:
    """Free what is in the worker's table and mailboxes; its peer writes to neither by now."""
    at = work_at(mem, claim)
    given = 0
    for i in range(KMALLOC_MAILS + KMALLOC_SLOTS):
        handle = exchange(mem, at + KMALLOC_MAIL + i, 0)
        if handle != 0:
            give_bytes(mem, claim, handle)
            given += 1
    return given


@kernel
def unmake_classes(mem: Memory, claim: Claim) -> int:
    """Destroy the caches of the classes, which live as long as the segment: at its end, when all
    objects are freed and no other process is at work. A live object is reported; the number that
    could not be destroyed."""
    left = 0
    for size_class in range(cs.KMALLOC_CLASSES):
        cache_id = load(mem, cs.H_KMALLOC + size_class) - 1
        if cache_id >= 0:
            store(mem, cs.H_KMALLOC + size_class, 0)
            left += cache_destroy(mem, claim, cache_id) != 0
    return left
