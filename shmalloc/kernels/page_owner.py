"""Sampled allocations: which block or object was allocated by which call (Linux: mm/page_owner.c).

A table in the segment, for other processes to read while the holder lives and after it died::

    [ rate, sizes, clocks: 16 words | chance of each order: 16 | keys | entries: 16 words each ]
    key    [ 1 + pfn, or address of an object | is an object | ready ]      0: free
    entry  proof seen owner life | pid start clock next | command  [ generation | stack ] thread

Which are sampled: each page of a block, and each object, with a chance of 1 to PO_RATE that depends
on nothing else. So a block of 2^k pages is, with 1 - (1 - 1/rate)^k of PO_CHANCES (decision 0025).

A free touches nothing here. That an entry is of a dead allocation shows at its *proof*, a word of
the allocator itself that says something else since then: word 0 of the descriptor of a block, the
owner word of an object. And each allocation, sampled or not, looks whether an earlier one of the
same place has an entry, and takes that away: afterwards the proof would hold again.

Rules. An entry is written by the claim that has just allocated what it names, which no other one
knows yet. The key is not ready while it writes, so that a reader, or a claim that comes after a
death in the middle, never takes half of one for an entry. The stack is the exception: it is entered
when the call has returned to Python (``enter_stack``), with the thread, by one swap of the pair
that has the generation, which fails if the place was given to another allocation meanwhile. A claim
whose calls never return in between, a worker of a run, stands for one stack (C_OWNER_STACK).

What this does not do: free entries of dead allocations, unless another one needs their place; or
keep the allocator from anything. A full table loses samples and counts them.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.random import next_random
from shmalloc.units import CacheId, Claim, Int, Memory, ObjectAddress, Order, Pfn, WordIndex
from shmalloc.words import (
    cas,
    cas2,
    fetch_add,
    fixed,
    load,
    load2,
    load_relaxed,
    now,
    store,
    store_relaxed,
)

SEED_BITS = (1 << 61) - 1
SPREAD = 0x9E3779B1  # 2^32 / golden ratio, odd (Knuth, TAOCP 6.4)


@unit
def note_pages(mem: Memory, claim: Claim, pfn: Pfn, order: Order, owner: Int) -> None:
    """Sample the allocation of a block, by the claim that got it and passed it to no one yet."""
    proof = fixed(mem, c.H_AT_MEMMAP) + pfn * c.D_WORDS
    note(mem, claim, key_of(pfn, c.PO_PAGE), order, owner, proof)


@unit
def note_object(mem: Memory, claim: Claim, address: ObjectAddress, cache_id: CacheId) -> None:
    """Sample the allocation of an object of a cache."""
    cache = fixed(mem, c.H_AT_CACHES) + cache_id * fixed(mem, c.H_CACHE_STRIDE)
    proof = owner_word_at(mem, address, cache)
    if proof > 0:
        note(mem, claim, key_of(address, c.PO_OBJECT), 0, cache_id, proof)


@kernel
def owner_word_at(mem: Memory, address: ObjectAddress, cache: WordIndex) -> WordIndex:
    """Where the owner word of a live object lies, or -1 if its slab is not found.

    A slab with a live object does not change, so the walk to its head needs no lock.
    """
    shift = fixed(mem, c.H_PAGE_SHIFT)
    memmap = fixed(mem, c.H_AT_MEMMAP)
    pfn = (address - fixed(mem, c.H_AT_FRAMES)) >> shift
    word = load(mem, memmap + pfn * c.D_WORDS)
    while word & c.TYPE_MASK == c.T_TAIL and pfn > 0:
        pfn = pfn & (pfn - 1)
        word = load(mem, memmap + pfn * c.D_WORDS)
    stride = load_relaxed(mem, cache + cs.K_STRIDE)
    if word & c.TYPE_MASK != c.T_SLAB or stride <= 0:
        return -1
    base = fixed(mem, c.H_AT_FRAMES) + (pfn << shift)
    index = (address - base - load_relaxed(mem, cache + cs.K_FIRST)) // stride
    order = (word >> c.ORDER_SHIFT) & c.ORDER_MASK
    return base + (1 << (shift + order)) - (cs.SLAB_NODE_WORDS + 1) - index


@unit
def note_adoption(mem: Memory, where: Int, kind: int, proof: WordIndex) -> None:
    """Keep the entry of what another claim took over; by that claim, whose label it bears now."""
    table = fixed(mem, c.H_AT_PAGE_OWNER)
    key = key_of(where, kind)
    at = claim_key(mem, table, key)
    if at > 0:
        store_relaxed(mem, entry_of_key(mem, table, at) + c.PE_SEEN, seen_in(mem, kind, proof))
        store(mem, at, key | c.PO_READY)


@kernel
def note(mem: Memory, claim: Claim, key: int, order: Order, owner: Int, proof: WordIndex) -> None:
    """Write an entry if this allocation is sampled, else take away an earlier one of its place."""
    table = fixed(mem, c.H_AT_PAGE_OWNER)
    at = claim_key(mem, table, key)
    if not is_drawn(mem, claim, table, order):
        if at > 0:
            store(mem, at, 0)
        return
    if at < 0:
        at = take_key(mem, table, key)
    if at < 0:
        fetch_add(mem, table + c.PO_LOST, 1)
        return
    write_entry(mem, claim, at, owner, proof)
    store(mem, at, key | c.PO_READY)  # publishes the entry


@kernel
def key_of(where: Int, kind: int) -> int:
    """The key of what begins at ``where``, not ready."""
    return (where + 1) << c.PO_KEY_SHIFT | kind


@kernel
def window_of(mem: Memory, table: WordIndex, key: int) -> WordIndex:
    """The first of the PO_WINDOW words in which ``key`` may stand."""
    spread = ((key >> 1) & ((1 << 31) - 1)) * SPREAD
    start = (spread >> 15) & (fixed(mem, table + c.PO_ENTRIES) - 1) & -c.PO_WINDOW
    return table + c.PO_KEYS + start


@kernel
def entry_of_key(mem: Memory, table: WordIndex, at: WordIndex) -> WordIndex:
    """The entry whose key is the word ``at``."""
    first = table + c.PO_KEYS
    return first + fixed(mem, table + c.PO_ENTRIES) + (at - first) * c.PE_STRIDE


@kernel
def claim_key(mem: Memory, table: WordIndex, key: int) -> WordIndex:
    """The word that has ``key``, which is not ready from now on, or -1.

    An entry that is ready is of an earlier allocation, so a claim that needs room may take it away
    at any moment (``take_key``): only a swap makes it ours. One that is not ready was left by a
    claim that died while it wrote, and no other touches it.
    """
    at = window_of(mem, table, key)
    for i in range(c.PO_WINDOW):
        old = load(mem, at + i)
        if old == key or (old == key | c.PO_READY and cas(mem, at + i, old, key)):
            return at + i
    return -1


@kernel
def take_key(mem: Memory, table: WordIndex, key: int) -> WordIndex:
    """A word that has ``key`` now, not ready: a free one, or one of a dead allocation; or -1."""
    at = window_of(mem, table, key)
    for i in range(c.PO_WINDOW):
        if load(mem, at + i) == 0 and cas(mem, at + i, 0, key):
            return at + i
    for i in range(c.PO_WINDOW):
        old = load(mem, at + i)
        if old & c.PO_READY != 0 and is_dead_entry(mem, table, at + i, old):
            if cas(mem, at + i, old, key):
                # Its place may have been allocated again since our look, and the entry written
                # anew, ready under the same key. It is ours now, and that sample is lost.
                if not is_dead_entry(mem, table, at + i, old):
                    fetch_add(mem, table + c.PO_LOST, 1)
                return at + i
    return -1


@kernel
def is_dead_entry(mem: Memory, table: WordIndex, at: WordIndex, key: int) -> bool:
    """Whether the allocation of a complete entry has been freed."""
    entry = entry_of_key(mem, table, at)
    proof = load_relaxed(mem, entry + c.PE_PROOF)
    seen = load_relaxed(mem, entry + c.PE_SEEN)
    kind = key & c.PO_OBJECT
    if kind == c.PO_PAGE and load_relaxed(mem, entry + c.PE_OWNER) == cs.OWNER_SLAB:
        return load(mem, proof) & c.TYPE_MASK != c.T_SLAB
    return seen_in(mem, kind, proof) != seen


@kernel
def seen_in(mem: Memory, kind: int, proof: WordIndex) -> int:
    """What a proof says. The mark for poison is set in a descriptor while the block is in use."""
    if kind == c.PO_PAGE:
        return load(mem, proof) & ~c.POISON_BIT
    return load(mem, proof)


@kernel
def is_drawn(mem: Memory, claim: Claim, table: WordIndex, order: Order) -> bool:
    """Whether a block of this order is sampled, or an object (order 0)."""
    state = c.CPUS_AT + claim * c.C_STRIDE + c.C_OWNER_RANDOM
    if mem[state] == 0:
        mem[state] = ((now(mem) ^ (claim + 1) * SPREAD) & SEED_BITS) | 1
    return next_random(mem, state) >> 31 < fixed(mem, table + c.PO_CHANCES + order)


@kernel
def write_entry(mem: Memory, claim: Claim, at: WordIndex, owner: Int, proof: WordIndex) -> None:
    """Fill the entry of the key at ``at``, which is not ready, and put it on the claim's chain."""
    entry = entry_of_key(mem, fixed(mem, c.H_AT_PAGE_OWNER), at)
    kind = load_relaxed(mem, at) & c.PO_OBJECT
    record = c.CPUS_AT + claim * c.C_STRIDE
    life = fixed(mem, record + c.C_EPOCH) << c.LIFE_EPOCH_SHIFT | claim + 1
    store_relaxed(mem, entry + c.PE_PROOF, proof)
    store_relaxed(mem, entry + c.PE_SEEN, seen_in(mem, kind, proof))
    store_relaxed(mem, entry + c.PE_OWNER, owner)
    store_relaxed(mem, entry + c.PE_LIFE, life)
    store_relaxed(mem, entry + c.PE_PID, load_relaxed(mem, record + c.C_PID))
    store_relaxed(mem, entry + c.PE_START, load_relaxed(mem, record + c.C_START))
    store_relaxed(mem, entry + c.PE_CLOCK, now(mem))
    for i in range(2):
        name = load_relaxed(mem, record + c.C_COMMAND + i)
        store_relaxed(mem, entry + c.PE_COMMAND + i, name)
    generation = (load_relaxed(mem, entry + c.PE_STACK) >> 32) + 1
    store_relaxed(mem, entry + c.PE_NEXT, load_relaxed(mem, record + c.C_OWNER_LAST))
    stack = load_relaxed(mem, record + c.C_OWNER_STACK)
    store(mem, entry + c.PE_STACK, (generation & ((1 << 30) - 1)) << 32 | stack)
    store_relaxed(mem, entry + c.PE_THREAD, 0)  # a late ``enter_stack`` fails from here on
    store_relaxed(mem, record + c.C_OWNER_LAST, entry)


@unit
def enter_stack(
    mem: Memory, claim: Claim, entry: WordIndex, pending: int, handle: int, thread: int
) -> int:
    """Enter the stack and the thread of an allocation of ours, whose PE_STACK said ``pending``.

    Returns 1, or 0 if the entry is of another allocation by now.
    """
    return int(cas2(mem, entry + c.PE_STACK, pending, 0, pending | handle, thread))


@unit
def set_clocks(mem: Memory, claim: Claim, at: int, time_ns: int) -> int:
    """Write down what the kernels' clock says at ``time_ns``, in PO_CLOCKS or PO_LATER_CLOCKS."""
    pair = fixed(mem, c.H_AT_PAGE_OWNER) + at
    clock, old_ns = load2(mem, pair)
    return int(cas2(mem, pair, clock, old_ns, now(mem), time_ns))
