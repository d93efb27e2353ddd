"""Caches of objects: the public object operations. Addresses are word indexes in the segment.

``cache_alloc`` gives an object, ``cache_free`` takes exactly what was given, from any process:
another address, a second free, or an object of another cache is a misuse: it is reported with its
code, returns E_STATE, and changes nothing. A live object has an owner word in its slab
(objects.py); clearing it is the linearization point of a free.

    alloc   sheaf of the CPU -> spare -> barn -> partial slabs -> new slab -> sheaves of all CPUs
    free    check, clear the owner word -> sheaf of the CPU -> spare -> barn -> slabs

Objects of another node's slab go straight back to it. A debug cache has no sheaves and works
completely under the node lock. Every live cache has an id; creating and destroying exclude each
other by H_CACHES_LOCK. Users stop allocating from a cache before it is destroyed. Frees may still
come: after E_BUSY the cache stays for them, and a later destroy succeeds.

The geometry in the descriptor is written before the id is published and is read plainly.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import hot, unit
from shmalloc.kernels.bits import order_of, type_of
from shmalloc.kernels.cpu_lock import try_spin, unspin
from shmalloc.kernels.descriptor import head_of, in_range, page_state
from shmalloc.kernels.fault_injection import is_faulty
from shmalloc.kernels.lock import lock, owner_word, unlock
from shmalloc.kernels.object_init import init_on_alloc, init_on_free
from shmalloc.kernels.objects import (
    cache_at,
    cache_of_word,
    chain_first,
    chain_pfn,
    clear_owner,
    entry_address,
    entry_of,
    has_owner_word,
    home_node,
    index_at,
    is_debug,
    is_exact,
    is_slab_of,
    list_state,
    make_chain,
    node_of_slab,
    node_part,
    object_at,
    objects_of,
    own_part,
    owner_at,
)
from shmalloc.kernels.reporting import event, has_record, record_object, report
from shmalloc.kernels.sheaf import (
    in_two_places,
    keep_freed,
    pop_live,
    put_freed,
    take_one,
    take_slowly,
)
from shmalloc.kernels.sheaf_drain import drain_sheaves
from shmalloc.kernels.slab import freeze, slab_problem, take_chain
from shmalloc.kernels.slab_debug import bad_bytes, paint, track
from shmalloc.kernels.slab_put import put_locked, release
from shmalloc.kernels.slot_intent import intend_put, intent_done
from shmalloc.kernels.zone import descriptor_at, frame_at, pfn_of_word
from shmalloc.units import (
    CacheId,
    CacheWords,
    Claim,
    CpuPart,
    Entry,
    Gfp,
    Memory,
    ObjectAddress,
    Pfn,
    Word0,
    WordIndex,
)
from shmalloc.words import fixed, load2, load_relaxed


@hot
def usable_cache(mem: Memory, cache_id: CacheId) -> CacheWords:
    """Descriptor of a cache that may be allocated from, or E_INVAL."""
    if cache_id < 0 or cache_id >= fixed(mem, c.H_CACHES):
        return c.E_INVAL
    cache = cache_at(mem, cache_id)
    if load_relaxed(mem, cache + cs.K_STATE) != cs.CACHE_LIVE:
        return c.E_INVAL
    return cache


@hot
def cache_alloc(mem: Memory, claim: Claim, cache_id: CacheId) -> ObjectAddress:
    """Word address of a new object, E_NOMEM, or E_INVAL if there is no such cache."""
    return cache_alloc_at(mem, claim, cache_id, 0)


@hot
def cache_alloc_at(mem: Memory, claim: Claim, cache_id: CacheId, site: int) -> ObjectAddress:
    """``cache_alloc`` that names its call site, for caches with CF_TRACK."""
    if not has_record(mem, claim):
        return c.E_INVAL
    if cache_id < 0 or cache_id >= fixed(mem, c.H_CACHES):
        return c.E_INVAL
    if is_faulty(mem, claim, c.FAULT_OBJECT):
        return c.E_NOMEM
    cache = cache_at(mem, cache_id)
    part = own_part(mem, cache, claim)
    if not try_spin(mem, part + cs.KC_LOCK, claim):
        return alloc_slowly(mem, claim, cache, part, site, 0)
    # A cache without sheaves, a debug cache, a dying cache and a free id have no main sheaf, so
    # this one check covers them.
    main = mem[part + cs.KC_MAIN]
    size = 0
    if main != 0:
        size = mem[main + cs.SF_SIZE]
    if size == 0:
        unspin(mem, part + cs.KC_LOCK, claim)
        return alloc_slowly(mem, claim, cache, part, site, 0)
    entry = pop_live(mem, claim, main, size)
    unspin(mem, part + cs.KC_LOCK, claim)
    if entry < 0:
        return in_two_places(mem, claim, -entry)
    init_on_alloc(mem, cache, entry_address(entry))
    return hand_over(mem, claim, cache, entry)


@unit
def alloc_slowly(
    mem: Memory, claim: Claim, cache: CacheWords, part: CpuPart, site: int, gfp: Gfp
) -> ObjectAddress:
    """Every path but the one that takes from the main sheaf."""
    if load_relaxed(mem, cache + cs.K_STATE) != cs.CACHE_LIVE:
        return c.E_INVAL
    if is_debug(mem, cache):
        return alloc_checked(mem, claim, cache, site, gfp)
    entry = take_slowly(mem, claim, cache, part, gfp)
    if entry == c.E_NOMEM and gfp & c.GFP_HASTE == 0:
        # The last resort: free objects may hide in the sheaves of other CPUs.
        drain_sheaves(mem, claim, cache)
        entry = take_one(mem, claim, cache, gfp)
    if entry < 0:
        event(mem, claim, c.EV_OBJ_FAIL)
        return +entry
    init_on_alloc(mem, cache, entry_address(entry))
    return hand_over(mem, claim, cache, entry)


@hot
def hand_over(mem: Memory, claim: Claim, cache: CacheWords, entry: Entry) -> ObjectAddress:
    """Count and record an allocation; the object's address."""
    event(mem, claim, c.EV_OBJ_ALLOC)
    record_object(mem, claim, c.OP_OBJ_ALLOC, entry_address(entry), cache)
    return entry_address(entry)


@unit
def alloc_checked(
    mem: Memory, claim: Claim, cache: CacheWords, site: int, gfp: Gfp
) -> ObjectAddress:
    """Allocate from a debug cache; slabs that fail a check are frozen on the way."""
    chain = take_chain(mem, claim, cache, 1, gfp)
    if chain < 0:
        event(mem, claim, c.EV_OBJ_FAIL)
        return +chain
    address = object_at(mem, cache, chain_pfn(chain), chain_first(chain) - 1)
    init_on_alloc(mem, cache, address)
    track(mem, claim, cache, address, 0, site)
    event(mem, claim, c.EV_OBJ_ALLOC)
    record_object(mem, claim, c.OP_OBJ_ALLOC, address, cache)
    return address


@hot
def slab_of_address(mem: Memory, address: ObjectAddress) -> Pfn:
    """Head pfn of the block that covers ``address``, or a negative number."""
    pfn = pfn_of_word(mem, address)
    if not in_range(mem, pfn):
        return c.E_INVAL
    if type_of(page_state(mem, pfn)) != c.T_TAIL:
        return pfn
    return head_of(mem, pfn)


@hot
def cache_free(mem: Memory, claim: Claim, cache_id: CacheId, address: ObjectAddress) -> int:
    """Free an object of ``cache_id``. Returns 0, or E_STATE for a misuse (reported, not done)."""
    return cache_free_at(mem, claim, cache_id, address, 0)


@hot
def cache_free_at(
    mem: Memory, claim: Claim, cache_id: CacheId, address: ObjectAddress, site: int
) -> int:
    """``cache_free`` that names its call site, for caches with CF_TRACK."""
    if not has_record(mem, claim):
        return c.E_INVAL
    pfn = slab_of_address(mem, address)
    if pfn < 0 or cache_id < 0 or cache_id >= fixed(mem, c.H_CACHES):
        return refuse(mem, claim, cache_id, address)
    w0 = page_state(mem, pfn)
    if not is_slab_of(w0, cache_id):
        return refuse(mem, claim, cache_id, address)
    return free_object(mem, claim, cache_id, pfn, w0, address, site)


@hot
def free_object(
    mem: Memory,
    claim: Claim,
    cache_id: CacheId,
    pfn: Pfn,
    w0: Word0,
    address: ObjectAddress,
    site: int,
) -> int:
    """Free what must be a live object of the slab at ``pfn``, whose descriptor says ``w0``."""
    cache = cache_at(mem, cache_id)
    if is_debug(mem, cache):
        return free_checked(mem, claim, cache, pfn, address, site)
    base = frame_at(mem, pfn)
    index = index_at(mem, cache, base, address)
    at = owner_at(mem, base, order_of(w0), index)
    if index < 0 or not has_owner_word(mem, cache, address, at):
        return refuse(mem, claim, cache_id, address)
    if not end_life(mem, claim, cache, w0, entry_of(address, index, order_of(w0)), at):
        return refuse(mem, claim, cache_id, address)
    event(mem, claim, c.EV_OBJ_FREE)
    record_object(mem, claim, c.OP_OBJ_FREE, address, cache)
    return 0


@hot
def end_life(
    mem: Memory, claim: Claim, cache: CacheWords, w0: Word0, entry: Entry, at: WordIndex
) -> bool:
    """Clear the object's owner word, the linearization point of its free, and keep it. False: it
    was not live.

    Into the CPU's sheaf, or straight to the slab if that belongs to another node.
    """
    if list_state(w0) == cs.SLAB_FROZEN:  # leaked: its slab failed a check
        return clear_owner(mem, at, 0, is_exact(mem, cache))
    if fixed(mem, c.H_NODES) > 1 and node_of_slab(mem, w0) != home_node(mem, claim):
        return put_freed(mem, claim, cache, entry, at)
    return keep_freed(mem, claim, cache, entry, at)


@unit
def refuse(mem: Memory, claim: Claim, cache_id: CacheId, address: ObjectAddress) -> int:
    """Report why ``address`` cannot be freed into ``cache_id``; returns E_STATE."""
    pfn = slab_of_address(mem, address)
    code = c.M_OBJECT_POINTER
    found: CacheId = -1
    if pfn >= 0:
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        if type_of(w0) == c.T_SLAB:
            holder = cache_of_word(w0)
            found = c.AT_CACHE | holder
            cache = cache_at(mem, holder)
            index = index_at(mem, cache, frame_at(mem, pfn), address)
            if 0 <= index < objects_of(w1):
                code = c.M_OBJECT_CACHE
                if holder == cache_id:
                    code = c.M_OBJECT_FREE
    report(mem, claim, code, address, c.AT_CACHE | cache_id, found)
    return c.E_STATE


@unit
def free_checked(
    mem: Memory, claim: Claim, cache: CacheWords, pfn: Pfn, address: ObjectAddress, site: int
) -> int:
    """Free into a debug cache: every check and every change under one hold of the node lock."""
    lists = node_part(mem, cache, node_of_slab(mem, page_state(mem, pfn)))
    gone = 0
    lock(mem, lists + cs.KN_LOCK, claim)
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    result = 0
    base = frame_at(mem, pfn)
    index = index_at(mem, cache, base, address)
    at = owner_at(mem, base, order_of(w0), index)
    # Checked again under the lock: a second free may find the slab gone and its pages reused.
    known = (
        is_slab_of(w0, mem[cache + cs.K_ID])
        and index >= 0
        and has_owner_word(mem, cache, address, at)
    )
    chain = make_chain(pfn, index + 1, 1)
    if known:
        intend_put(mem, claim, cache, chain, 0)
    if not known or not clear_owner(mem, at, cs.GIVEN | owner_word(mem, claim), False):
        result = refuse(mem, claim, mem[cache + cs.K_ID], address)
    elif list_state(w0) != cs.SLAB_FROZEN:
        bad = slab_problem(mem, claim, cache, pfn, w0, w1)
        bad += bad_bytes(mem, claim, cache, address, 1, c.M_OBJECT_BYTES)
        if bad != 0:
            freeze(mem, claim, cache, lists, pfn)
            result = c.E_STATE
        else:
            track(mem, claim, cache, address, 1, site)
            init_on_free(mem, cache, address)
            paint(mem, cache, address, 0)
            gone = put_locked(mem, claim, cache, lists, chain, address)
    intent_done(mem, claim)
    unlock(mem, lists + cs.KN_LOCK)
    if gone != 0:
        release(mem, claim, pfn)
    if result == 0:
        event(mem, claim, c.EV_OBJ_FREE)
        record_object(mem, claim, c.OP_OBJ_FREE, address, cache)
    return result
