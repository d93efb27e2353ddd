"""Objects in bulk: several objects of one cache under one hold of the CPU's lock, or of a slab's.

The object list is an array of words that the caller owns: addresses, in the order of allocation.
An allocation is all or nothing; a free reports each misuse and goes on (cache.py).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import order_of
from shmalloc.kernels.cache import cache_free_at, hand_over, slab_of_address, usable_cache
from shmalloc.kernels.cache_gfp import cache_alloc_gfp, suits_objects, zero_object
from shmalloc.kernels.cpu_lock import try_spin, unspin
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.fault_injection import is_faulty
from shmalloc.kernels.lock import owner_word
from shmalloc.kernels.object_init import init_object
from shmalloc.kernels.objects import (
    cache_at,
    chain_count,
    chain_first,
    chain_pfn,
    entry_in_slab,
    entry_of,
    home_node,
    is_debug,
    link_at,
    list_state,
    node_of_slab,
    object_at,
    own_part,
    owner_at,
    owner_of_entry,
    set_owner,
)
from shmalloc.kernels.reporting import event, record_object
from shmalloc.kernels.sheaf import in_two_places, pop_or_report, push_freed
from shmalloc.kernels.sheaf_drain import drain_sheaves
from shmalloc.kernels.slab import take_chain
from shmalloc.kernels.slot_intent import intent_done
from shmalloc.kernels.zone import frame_at
from shmalloc.units import (
    CacheId,
    CacheWords,
    Chain,
    Claim,
    Entry,
    Gfp,
    Memory,
    ObjectAddress,
    WordIndex,
)
from shmalloc.words import fixed


@unit
def cache_alloc_bulk(
    mem: Memory, claim: Claim, cache_id: CacheId, count: int, at: WordIndex
) -> int:
    """Allocate ``count`` objects into the words at ``at``, all or nothing: ``count``, or E_NOMEM.

    Takes the CPU's lock once and each slab once.
    """
    return cache_alloc_bulk_gfp(mem, claim, cache_id, count, at, 0)


@unit
def cache_alloc_bulk_gfp(
    mem: Memory, claim: Claim, cache_id: CacheId, count: int, at: WordIndex, gfp: Gfp
) -> int:
    """``cache_alloc_bulk`` with flags; E_INVAL also for GFP_NOFAIL: all of many may never come."""
    cache = usable_cache(mem, cache_id)
    if cache < 0 or count < 0 or not suits_objects(mem, cache, gfp) or gfp & c.GFP_NOFAIL != 0:
        return c.E_INVAL
    if is_debug(mem, cache):
        return alloc_bulk_checked(mem, claim, cache_id, count, at, gfp)
    if is_faulty(mem, claim, c.FAULT_OBJECT):
        return c.E_NOMEM
    got = 0
    if gfp & c.GFP_THISNODE == 0:
        got = pop_many(mem, claim, cache, count, at)
    while got < count:
        chain = take_chain(mem, claim, cache, count - got, gfp)
        if chain == c.E_NOMEM and gfp & c.GFP_HASTE == 0:
            drain_sheaves(mem, claim, cache)
            chain = take_chain(mem, claim, cache, count - got, gfp)
        if chain < 0:
            break
        got = unchain_live(mem, claim, cache, chain, at, got)
    if got < count:
        cache_free_bulk(mem, claim, cache_id, got, at)
        event(mem, claim, c.EV_OBJ_FAIL)
        return c.E_NOMEM
    if fixed(mem, c.H_INIT) != 0:
        for i in range(count):
            init_object(mem, cache, mem[at + i])
    if gfp & c.GFP_ZERO != 0:
        for i in range(count):
            zero_object(mem, cache, mem[at + i])
    return count


@kernel
def unchain_live(
    mem: Memory, claim: Claim, cache: CacheWords, chain: Chain, at: WordIndex, got: int
) -> int:
    """Make the objects of our chain live and write their addresses to ``at[got:]``; the new count.

    In the order of the chain: if the process dies midway, the rest is still linked.
    """
    pfn = chain_pfn(chain)
    order = order_of(page_state(mem, pfn))
    first = object_at(mem, cache, pfn, 0)
    stride = mem[cache + cs.K_STRIDE]
    link = mem[cache + cs.K_LINK]
    secret = mem[cache + cs.K_SECRET]
    owners = owner_at(mem, frame_at(mem, pfn), order, 0)
    us = owner_word(mem, claim)
    following = chain_first(chain)
    for _ in range(chain_count(chain)):
        address: ObjectAddress = first + (following - 1) * stride
        entry = entry_of(address, following - 1, order)
        owner: WordIndex = owners - (following - 1)
        following = link_at(mem, address, link, secret)
        if set_owner(mem, owner, us):
            mem[at + got] = hand_over(mem, claim, cache, entry)
            got += 1
        else:
            in_two_places(mem, claim, entry)
    intent_done(mem, claim)
    return got


@unit
def alloc_bulk_checked(
    mem: Memory, claim: Claim, cache_id: CacheId, count: int, at: WordIndex, gfp: Gfp
) -> int:
    for i in range(count):
        address = cache_alloc_gfp(mem, claim, cache_id, gfp)
        if address < 0:
            for j in range(i):
                cache_free_at(mem, claim, cache_id, mem[at + j], 0)
            return +address
        mem[at + i] = address
    return count


@kernel
def pop_many(mem: Memory, claim: Claim, cache: CacheWords, count: int, at: WordIndex) -> int:
    """Up to ``count`` objects out of the CPU's main sheaf under one hold of its lock."""
    part = own_part(mem, cache, claim)
    got = 0
    if try_spin(mem, part + cs.KC_LOCK, claim):
        main = mem[part + cs.KC_MAIN]
        if main != 0:
            while got < count and mem[main + cs.SF_SIZE] > 0:
                entry = pop_or_report(mem, claim, main, mem[main + cs.SF_SIZE])
                if entry > 0:
                    mem[at + got] = hand_over(mem, claim, cache, entry)
                    got += 1
        unspin(mem, part + cs.KC_LOCK, claim)
    return got


@unit
def cache_free_bulk(mem: Memory, claim: Claim, cache_id: CacheId, count: int, at: WordIndex) -> int:
    """Free the objects listed in the words at ``at``; returns how many were freed (the rest is
    reported).

    Runs of objects that fit in the CPU's sheaf go there under one hold of its lock.
    """
    if cache_id < 0 or cache_id >= fixed(mem, c.H_CACHES):
        return c.E_INVAL
    cache = cache_at(mem, cache_id)
    freed = 0
    done = 0
    while done < count:
        if not is_debug(mem, cache):
            run = push_run(mem, claim, cache, cache_id, count - done, at + done)
            freed += run
            done += run
        if done < count:  # no room, a remote slab, or a misuse: one by one
            if cache_free_at(mem, claim, cache_id, mem[at + done], 0) == 0:
                freed += 1
            done += 1
    return freed


@kernel
def push_run(
    mem: Memory, claim: Claim, cache: CacheWords, cache_id: CacheId, count: int, at: WordIndex
) -> int:
    """Free objects into the CPU's main sheaf, up to the first that cannot go there; the count."""
    part = own_part(mem, cache, claim)
    done = 0
    if not try_spin(mem, part + cs.KC_LOCK, claim):
        return 0
    main = mem[part + cs.KC_MAIN]
    if main != 0:
        while done < count and mem[main + cs.SF_SIZE] < mem[cache + cs.K_CAPACITY]:
            entry = near_entry(mem, claim, cache, cache_id, mem[at + done])
            if entry < 0:
                break
            owner = owner_of_entry(mem, entry)
            if not push_freed(mem, claim, cache, main, mem[main + cs.SF_SIZE], entry, owner):
                break
            event(mem, claim, c.EV_OBJ_FREE)
            record_object(mem, claim, c.OP_OBJ_FREE, mem[at + done], cache)
            done += 1
    unspin(mem, part + cs.KC_LOCK, claim)
    return done


@kernel
def near_entry(
    mem: Memory, claim: Claim, cache: CacheWords, cache_id: CacheId, address: ObjectAddress
) -> Entry:
    """Entry of an object that may go in a sheaf of this CPU, or E_STATE; reports nothing."""
    pfn = slab_of_address(mem, address)
    if pfn < 0:
        return c.E_STATE
    w0 = page_state(mem, pfn)
    entry = entry_in_slab(mem, cache, cache_id, pfn, w0, address)
    if entry < 0 or list_state(w0) == cs.SLAB_FROZEN:
        return c.E_STATE
    if fixed(mem, c.H_NODES) > 1 and node_of_slab(mem, w0) != home_node(mem, claim):
        return c.E_STATE
    return entry
