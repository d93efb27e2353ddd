"""The bytes around and inside the objects of a debug cache: painted, and checked.

::

    [ left red zone | object ... |pad| right red zone | free pointer | alloc track | free track ]
                    ^ address          K_RED            K_LINK         K_TRACK

    flag            free object                   live object
    CF_RED_ZONE     0xbb in both zones and pad    0xcc
    CF_POISON       0x6b ... 0xa5 (last byte)     0x5a when given out, then the user's
    CF_TRACK        the last alloc and free: [ claim + 1 | pid | sequence | call site ]

``pad`` are the bytes that fill the object's last word; they belong to the right red zone. What is
left over after the last object of a slab is 0x5a as well. Red zones and poison are written word by
word, compared as words, never interpreted (some have bit 63 set).

Linux: mm/slub.c, check_object, init_object. All of it runs under the node lock, so that a checker
that holds the lock never sees an object between two states (Linux c7323a5ad078).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.objects import object_at, owner_at
from shmalloc.kernels.reporting import claim_at, report
from shmalloc.kernels.zone import frame_at
from shmalloc.units import CacheWords, Claim, Memory, ObjectAddress, Order, Pfn, WordIndex
from shmalloc.words import fetch_add, load_relaxed


@kernel
def red_word(live: int) -> int:
    if live != 0:
        return cs.RED_LIVE_WORD
    return cs.RED_FREE_WORD


@kernel
def tail_bytes(mem: Memory, cache: CacheWords) -> int:
    """Bytes of the object's last word that belong to the object: 1 to 8."""
    return mem[cache + cs.K_OBJECT_BYTES] - 8 * (mem[cache + cs.K_OBJECT_WORDS] - 1)


@kernel
def tail_mask(mem: Memory, cache: CacheWords) -> int:
    """The bits of the last word that belong to the object."""
    tail = tail_bytes(mem, cache)
    if tail == 8:
        return -1
    return (1 << (8 * tail)) - 1


@kernel
def poison_of_tail(mem: Memory, cache: CacheWords) -> int:
    """The object's part of its last word while it is free: 0x6b, and 0xa5 as its last byte."""
    tail = tail_bytes(mem, cache)
    if tail == 8:
        return cs.POISON_END_WORD
    below = 8 * (tail - 1)
    return (cs.POISON_FREE_WORD & ((1 << below) - 1)) | (cs.POISON_END_BYTE << below)


@kernel
def paint_poison(mem: Memory, cache: CacheWords, address: ObjectAddress, live: int) -> None:
    last = address + mem[cache + cs.K_OBJECT_WORDS] - 1
    word = cs.POISON_FREE_WORD
    end = poison_of_tail(mem, cache)
    if live != 0:
        word = cs.POISON_USE_WORD
        end = cs.POISON_USE_WORD & tail_mask(mem, cache)
    for i in range(address, last):
        mem[i] = word
    mem[last] = end | (mem[last] & ~tail_mask(mem, cache))


@kernel
def paint_red(mem: Memory, cache: CacheWords, address: ObjectAddress, live: int) -> None:
    red = red_word(live)
    for i in range(address - mem[cache + cs.K_FIRST], address):
        mem[i] = red
    mem[address + mem[cache + cs.K_RED]] = red
    last = address + mem[cache + cs.K_OBJECT_WORDS] - 1
    mask = tail_mask(mem, cache)
    mem[last] = (mem[last] & mask) | (red & ~mask)


@kernel
def paint(mem: Memory, cache: CacheWords, address: ObjectAddress, live: int) -> None:
    """Give an object the bytes of its new state, 1: live or 0: free."""
    flags = mem[cache + cs.K_FLAGS]
    if flags & cs.CF_POISON != 0:
        paint_poison(mem, cache, address, live)
    if flags & cs.CF_RED_ZONE != 0:
        paint_red(mem, cache, address, live)


@kernel
def paint_rest(mem: Memory, cache: CacheWords, pfn: Pfn, order: Order, objects: int) -> None:
    """Fill what is left over after the last object."""
    if mem[cache + cs.K_FLAGS] & cs.CF_POISON != 0:
        for i in range(rest_start(mem, cache, pfn, objects), rest_end(mem, pfn, order, objects)):
            mem[i] = cs.POISON_USE_WORD


@kernel
def rest_start(mem: Memory, cache: CacheWords, pfn: Pfn, objects: int) -> WordIndex:
    return frame_at(mem, pfn) + objects * mem[cache + cs.K_STRIDE]


@kernel
def rest_end(mem: Memory, pfn: Pfn, order: Order, objects: int) -> WordIndex:
    return owner_at(mem, frame_at(mem, pfn), order, objects - 1)


@kernel
def differs(mem: Memory, claim: Claim, code: int, at: WordIndex, expected: int, mask: int) -> int:
    """1 and one report if the masked bits of word ``at`` are not the expected ones, else 0."""
    if (mem[at] ^ expected) & mask == 0:
        return 0
    report(mem, claim, code, at, expected & cs.REPORT_MASK, mem[at] & cs.REPORT_MASK)
    return 1


@kernel
def bad_red(
    mem: Memory, claim: Claim, cache: CacheWords, address: ObjectAddress, live: int, code: int
) -> int:
    """Red zones of an object that were modified: 0, 1 or 2, each reported once."""
    red = red_word(live)
    bad = 0
    for i in range(address - mem[cache + cs.K_FIRST], address):
        if bad == 0:
            bad = differs(mem, claim, code, i, red, -1)
    last = address + mem[cache + cs.K_OBJECT_WORDS] - 1
    right = differs(mem, claim, code, last, red, ~tail_mask(mem, cache))
    if right == 0:
        right = differs(mem, claim, code, address + mem[cache + cs.K_RED], red, -1)
    return bad + right


@kernel
def bad_poison(
    mem: Memory, claim: Claim, cache: CacheWords, address: ObjectAddress, code: int
) -> int:
    """1 if a free object was modified (the first such word is reported), else 0."""
    last = address + mem[cache + cs.K_OBJECT_WORDS] - 1
    for i in range(address, last):
        if differs(mem, claim, code, i, cs.POISON_FREE_WORD, -1) != 0:
            return 1
    return differs(mem, claim, code, last, poison_of_tail(mem, cache), tail_mask(mem, cache))


@unit
def bad_bytes(
    mem: Memory, claim: Claim, cache: CacheWords, address: ObjectAddress, live: int, code: int
) -> int:
    """Places of one object whose bytes do not match its state, each reported with ``code``."""
    flags = mem[cache + cs.K_FLAGS]
    bad = 0
    if flags & cs.CF_RED_ZONE != 0:
        bad += bad_red(mem, claim, cache, address, live, code)
    if flags & cs.CF_POISON != 0 and live == 0:
        bad += bad_poison(mem, claim, cache, address, code)
    return bad


@kernel
def bad_rest(
    mem: Memory, claim: Claim, cache: CacheWords, pfn: Pfn, order: Order, objects: int, code: int
) -> int:
    """1 if the words after the last object were modified, else 0."""
    if mem[cache + cs.K_FLAGS] & cs.CF_POISON != 0:
        for i in range(rest_start(mem, cache, pfn, objects), rest_end(mem, pfn, order, objects)):
            if differs(mem, claim, code, i, cs.POISON_USE_WORD, -1) != 0:
                return 1
    return 0


@unit
def track(
    mem: Memory, claim: Claim, cache: CacheWords, address: ObjectAddress, which: int, site: int
) -> None:
    """Record which claim allocated (``which`` 0) or freed (1) the object; its owner calls this."""
    if mem[cache + cs.K_FLAGS] & cs.CF_TRACK != 0:
        at = address + mem[cache + cs.K_TRACK] + which * cs.TR_WORDS
        mem[at + cs.TR_CLAIM] = claim + 1
        mem[at + cs.TR_PID] = load_relaxed(mem, claim_at(mem, claim) + c.C_PID)
        mem[at + cs.TR_SEQUENCE] = fetch_add(mem, c.H_SEQUENCE, 1) + 1
        mem[at + cs.TR_SITE] = site


@kernel
def clear_tracks(mem: Memory, cache: CacheWords, address: ObjectAddress) -> None:
    if mem[cache + cs.K_FLAGS] & cs.CF_TRACK != 0:
        for i in range(2 * cs.TR_WORDS):
            mem[address + mem[cache + cs.K_TRACK] + i] = 0


@kernel
def paint_slab(mem: Memory, cache: CacheWords, pfn: Pfn, order: Order, objects: int) -> None:
    """Paint a fresh slab: every object is free, the leftovers are unused."""
    paint_rest(mem, cache, pfn, order, objects)
    for index in range(objects):
        address = object_at(mem, cache, pfn, index)
        paint(mem, cache, address, 0)
        clear_tracks(mem, cache, address)
