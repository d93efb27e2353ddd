"""The set of caches: create, shrink, destroy. Operations on one cache are in cache.py.

Every cache has an id, the index of its descriptor. Creating and destroying exclude each other by
H_CACHES_LOCK. The geometry in the descriptor is written before the id is published and is read
plainly afterwards; K_STATE publishes it. Users of a cache stop allocating from it before it is
destroyed. Frees may still come: after E_BUSY the cache stays for them, and destroying it again
later succeeds.

All sheaves of a cache are made here, so that freeing never needs memory.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.barn import barn_put, move_sheaf
from shmalloc.kernels.bits import mt_of, next_word, order_of, zone_of_word
from shmalloc.kernels.cache import usable_cache
from shmalloc.kernels.descriptor import page_state, transition2
from shmalloc.kernels.lists import list_init, next_of, prev_of
from shmalloc.kernels.lock import lock, lock_or_skip, owner_word, unlock
from shmalloc.kernels.object_layout import (
    draw_secret,
    lay_out_object,
    lay_out_sheaves,
    lay_out_slab,
    order_for,
    seal_of,
)
from shmalloc.kernels.objects import (
    cache_at,
    cpu_part,
    inuse_of,
    is_slab_of,
    node_of_slab,
    node_part,
    object_at,
    objects_of,
    owner_of,
)
from shmalloc.kernels.reporting import event, report
from shmalloc.kernels.sheaf_drain import drain_part, drain_sheaves, retire_sheaves
from shmalloc.kernels.slab_format import give_pages_back, slab_pages
from shmalloc.kernels.slab_lists import next_slab, relist_part, slab_of_node
from shmalloc.kernels.slab_put import release, unmake
from shmalloc.kernels.slots import label
from shmalloc.kernels.zone import descriptor_at, frame_at
from shmalloc.units import (
    CacheId,
    CacheWords,
    Claim,
    Cpu,
    Memory,
    NodeId,
    Pfn,
    Word0,
    Word1,
    WordIndex,
)
from shmalloc.words import cas, fixed, load, load2, load_relaxed, store, store_relaxed


@kernel
def legal_request(mem: Memory, object_bytes: int, align_bytes: int) -> bool:
    page_bytes = frame_at(mem, 1) * 8 - frame_at(mem, 0) * 8
    if object_bytes < 1 or align_bytes < 0 or align_bytes > page_bytes:
        return False
    return align_bytes & (align_bytes - 1) == 0


@unit
def cache_create(
    mem: Memory, claim: Claim, object_bytes: int, align_bytes: int, flags: int, template: int
) -> CacheId:
    """Make a cache of objects; its id, E_INVAL, or E_NOMEM (also: all ids are taken).

    ``align_bytes`` 0: a word. ``flags``: CF_*. ``template``: word address of the image that every
    new object is a copy of (the constructor), 0: none; it must live as long as the cache.
    """
    if not legal_request(mem, object_bytes, align_bytes):
        return c.E_INVAL
    lock(mem, c.H_CACHES_LOCK, claim)
    result: CacheId = c.E_NOMEM
    for cache_id in range(fixed(mem, c.H_CACHES)):
        if load(mem, cache_at(mem, cache_id) + cs.K_STATE) == cs.CACHE_NONE:
            cache = cache_at(mem, cache_id)
            lay_out_object(mem, cache, object_bytes, align_bytes, flags, template)
            result = +lay_out_slab(mem, cache)
            if result == 0:
                result = set_up(mem, claim, cache, cache_id)
            break
    unlock(mem, c.H_CACHES_LOCK)
    if result >= 0:
        event(mem, claim, c.EV_CACHE_NEW)
    return result


@kernel
def set_up(mem: Memory, claim: Claim, cache: CacheWords, cache_id: CacheId) -> CacheId:
    """Lists, barns and sheaves of a new cache; H_CACHES_LOCK held. Its id, or E_NOMEM."""
    mem[cache + cs.K_ID] = cache_id
    mem[cache + cs.K_SEAL] = 0
    draw_secret(mem, cache, cache_id)
    # A process may have died after it destroyed the previous cache of this id and before it said
    # so: its recovery must not take this cache for that one (docs/bugs.md 13).
    store(mem, cache + cs.K_DESTROYER, 0)
    for node_id in range(fixed(mem, c.H_NODES)):
        lists = node_part(mem, cache, node_id)
        for i in range(cs.KN_STRIDE):
            mem[lists + i] = 0
        list_init(mem, lists + cs.KN_PARTIAL)
        list_init(mem, lists + cs.KN_FULL)
    for victim in range(fixed(mem, c.H_CPUS)):
        part = cpu_part(mem, cache, victim)
        mem[part + cs.KC_MAIN] = 0
        mem[part + cs.KC_SPARE] = 0
        store(mem, part + cs.KC_LOCK, 0)
    words = lay_out_sheaves(mem, cache)
    if words > 0:
        order = order_for(mem, words)
        if order < 0:
            return c.E_NOMEM
        pfn = slab_pages(mem, claim, order, 0, cs.OWNER_SHEAVES)
        if pfn < 0:
            return +pfn
        mem[cache + cs.K_SHEAF_ORDER] = order
        mem[cache + cs.K_SHEAF_PFN] = pfn
        mem[cache + cs.K_SHEAVES] = frame_at(mem, pfn)
        hand_out_sheaves(mem, claim, cache)
    mem[cache + cs.K_SEAL] = seal_of(mem, cache)
    store(mem, cache + cs.K_STATE, cs.CACHE_LIVE)  # publishes the descriptor
    return cache_id


@kernel
def hand_out_sheaves(mem: Memory, claim: Claim, cache: CacheWords) -> None:
    """Two sheaves to each CPU, the rest to the barns in turn, all empty."""
    cpus = fixed(mem, c.H_CPUS)
    for i in range(mem[cache + cs.K_SHEAF_COUNT]):
        sheaf = mem[cache + cs.K_SHEAVES] + i * mem[cache + cs.K_SHEAF_STRIDE]
        mem[sheaf + cs.SF_NEXT] = 0
        mem[sheaf + cs.SF_SIZE] = 0
        if i < cpus:
            move_sheaf(mem, sheaf, cpu_part(mem, cache, i))
            mem[cpu_part(mem, cache, i) + cs.KC_MAIN] = sheaf
        elif i < 2 * cpus:
            move_sheaf(mem, sheaf, cpu_part(mem, cache, i - cpus))
            mem[cpu_part(mem, cache, i - cpus) + cs.KC_SPARE] = sheaf
        else:
            barn_put(mem, claim, node_part(mem, cache, i % fixed(mem, c.H_NODES)), sheaf)


@unit
def release_empty(mem: Memory, claim: Claim, cache: CacheWords, node_id: NodeId) -> int:
    """Free the pages of the empty slabs of a node; returns how many slabs.

    The list is believed a link at a time: one that was overwritten may lead back, for ever.
    """
    lists = node_part(mem, cache, node_id)
    gone: Pfn = 0  # and 1
    lock(mem, lists + cs.KN_LOCK, claim)
    at = next_of(mem, lists + cs.KN_PARTIAL)
    while at != lists + cs.KN_PARTIAL:
        following = next_of(mem, at)
        pfn = slab_of_node(mem, at)
        if pfn < 0 or following == 0 or prev_of(mem, following) != at:
            relist_part(mem, claim, lists, at)
            break
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        if inuse_of(w1) == 0 and unmake(mem, claim, lists, pfn, w0, w1):
            mem[at] = gone  # a private chain through the slabs, which are ours now
            gone = pfn + 1
        at = following
    unlock(mem, lists + cs.KN_LOCK)
    return release_chain(mem, claim, gone)


@kernel
def release_chain(mem: Memory, claim: Claim, gone: Pfn) -> int:
    """Release the slabs that ``release_empty`` chained, outside the lock."""
    count = 0
    while gone != 0:
        pfn = gone - 1
        order = order_of(page_state(mem, pfn))
        gone = mem[frame_at(mem, pfn + (1 << order)) - 2]
        release(mem, claim, pfn)
        count += 1
    return count


@unit
def cache_shrink(mem: Memory, claim: Claim, cache_id: CacheId) -> CacheWords:
    """Flush all sheaves and release every empty slab; returns how many, or E_INVAL."""
    cache = usable_cache(mem, cache_id)
    if cache < 0:
        return cache
    drain_sheaves(mem, claim, cache)
    gone = 0
    for node_id in range(fixed(mem, c.H_NODES)):
        gone += release_empty(mem, claim, cache, node_id)
    event(mem, claim, c.EV_SHRINK)
    return gone


@unit
def unplug_sheaves(mem: Memory, claim: Claim, victim: Cpu) -> int:
    """Empty the sheaves of an unplugged CPU and lock them; a process still there uses slabs.

    Returns 0; E_AGAIN: a process that does not run holds some of them.
    """
    result = 0
    lock(mem, c.H_CACHES_LOCK, claim)
    for cache_id in range(fixed(mem, c.H_CACHES)):
        cache = cache_at(mem, cache_id)
        if load(mem, cache + cs.K_STATE) == cs.CACHE_LIVE:
            if drain_part(mem, claim, cache, victim, c.LOCK_OFFLINE) < 0:
                result = c.E_AGAIN
    unlock(mem, c.H_CACHES_LOCK)
    return result


@unit
def plug_sheaves(mem: Memory, claim: Claim, victim: Cpu) -> int:
    """Unlock the sheaves of a CPU that is plugged in again."""
    lock(mem, c.H_CACHES_LOCK, claim)
    for cache_id in range(fixed(mem, c.H_CACHES)):
        part = cpu_part(mem, cache_at(mem, cache_id), victim)
        cas(mem, part + cs.KC_LOCK, c.LOCK_OFFLINE, 0)  # fails if it was never unplugged
    unlock(mem, c.H_CACHES_LOCK)
    return 0


@unit
def cache_destroy(mem: Memory, claim: Claim, cache_id: CacheId) -> int:
    """Destroy a cache: 0, E_INVAL, or E_BUSY with its live objects reported.

    After E_BUSY nothing can be allocated from it, frees still work, and it may be destroyed again.
    So it is after E_AGAIN: a process holds a lock and does not run; if that is the lock of a CPU's
    sheaves, what is in them can still be allocated there.
    """
    if cache_id < 0 or cache_id >= fixed(mem, c.H_CACHES) or is_kmalloc(mem, cache_id):
        return c.E_INVAL
    cache = cache_at(mem, cache_id)
    if not lock_or_skip(mem, c.H_CACHES_LOCK, claim):
        return c.E_AGAIN
    result = c.E_INVAL
    if load(mem, cache + cs.K_STATE) != cs.CACHE_NONE:
        result = destroy(mem, claim, cache, cache_id)
    unlock(mem, c.H_CACHES_LOCK)
    return result


@unit
def destroy(mem: Memory, claim: Claim, cache: CacheWords, cache_id: CacheId) -> int:
    """Do what ``cache_destroy`` does under H_CACHES_LOCK; if we die, recovery finishes it."""
    store(mem, cache + cs.K_DESTROYER, owner_word(mem, claim))
    result = empty_and_unmake(mem, claim, cache, cache_id)
    store(mem, cache + cs.K_DESTROYER, cs.DESTROYED if result == 0 else 0)
    return result


@kernel
def is_kmalloc(mem: Memory, cache_id: CacheId) -> bool:
    """Whether the cache is a size class of kmalloc: those live as long as the segment."""
    for i in range(cs.KMALLOC_CLASSES):
        if load_relaxed(mem, cs.H_KMALLOC + i) == cache_id + 1:
            return True
    return False


@kernel
def empty_and_unmake(mem: Memory, claim: Claim, cache: CacheWords, cache_id: CacheId) -> int:
    """Take the cache's sheaves and slabs away, then its id; 0, E_BUSY or E_AGAIN."""
    store(mem, cache + cs.K_STATE, cs.CACHE_DYING)
    store_relaxed(
        mem, cache + cs.K_MIN_PARTIAL, 0
    )  # from now on the last free of a slab releases it
    sheaves = retire_sheaves(mem, claim, cache)
    if sheaves < 0:
        return sheaves
    slabs = 0
    for node_id in range(fixed(mem, c.H_NODES)):
        release_empty(mem, claim, cache, node_id)
        slabs += load_relaxed(mem, node_part(mem, cache, node_id) + cs.KN_NR_SLABS)
    if slabs > 0:
        live = count_live(mem, claim, cache_id)
        report_live(mem, claim, cache_id, live)
        if live > 0 or slabs > frozen_slabs(mem, cache):
            return c.E_BUSY
    if sheaves != mem[cache + cs.K_SHEAF_COUNT]:
        return c.E_BUSY  # a CPU that still frees holds one
    leak_frozen(mem, claim, cache_id)
    # First the state: after a kill, sheaf pages that no cache names can be freed, while a live
    # cache that names pages of another owner would be believed.
    store(mem, cache + cs.K_STATE, cs.CACHE_NONE)
    if mem[cache + cs.K_SHEAF_COUNT] > 0:
        give_pages_back(
            mem, claim, mem[cache + cs.K_SHEAF_PFN], mem[cache + cs.K_SHEAF_ORDER], cs.OWNER_SHEAVES
        )
    event(mem, claim, c.EV_CACHE_GONE)
    return 0


@kernel
def frozen_slabs(mem: Memory, cache: CacheWords) -> int:
    count = 0
    for node_id in range(fixed(mem, c.H_NODES)):
        count += load_relaxed(mem, node_part(mem, cache, node_id) + cs.KN_NR_FROZEN)
    return count


@kernel
def hold_slab(mem: Memory, claim: Claim, cache_id: CacheId, pfn: Pfn) -> WordIndex:
    """Lock the node of the slab at ``pfn``; the lock, or 0 if it is no longer our slab.

    A free may unmake the slab between ``next_slab`` and here, and its pages may be anything then:
    code that follows the descriptor would read foreign words (docs/bugs.md 3). Slabs are unmade
    only under the lock of their node.
    """
    w0 = page_state(mem, pfn)
    if not is_slab_of(w0, cache_id):
        return 0
    at = node_part(mem, cache_at(mem, cache_id), node_of_slab(mem, w0)) + cs.KN_LOCK
    lock(mem, at, claim)
    if is_slab_of(page_state(mem, pfn), cache_id):
        return at
    unlock(mem, at)
    return 0


@kernel
def live_in_slab(mem: Memory, pfn: Pfn, w0: Word0, w1: Word1) -> int:
    """Live objects of one slab, which the caller keeps from going away."""
    live = 0
    for index in range(objects_of(w1)):
        if owner_of(mem, pfn, order_of(w0), index) != 0:
            live += 1
    return live


@kernel
def count_live(mem: Memory, claim: Claim, cache_id: CacheId) -> int:
    """Live objects of a cache."""
    live = 0
    pfn = next_slab(mem, 0, cache_id)
    while pfn >= 0:
        held = hold_slab(mem, claim, cache_id, pfn)
        if held != 0:
            w0, w1 = load2(mem, descriptor_at(mem, pfn))
            live += live_in_slab(mem, pfn, w0, w1)
            unlock(mem, held)
        pfn = next_slab(mem, pfn + 1, cache_id)
    return live


@kernel
def report_slab(
    mem: Memory, claim: Claim, cache_id: CacheId, pfn: Pfn, left: int, live: int
) -> int:
    """Report at most ``left`` live objects of one slab; how many. Node lock held."""
    cache = cache_at(mem, cache_id)
    found = 0
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    for index in range(objects_of(w1)):
        if found < left and owner_of(mem, pfn, order_of(w0), index) != 0:
            address = object_at(mem, cache, pfn, index)
            report(mem, claim, c.M_LEAKED_OBJECTS, address, c.AT_CACHE | cache_id, live)
            found += 1
    return found


@unit
def report_live(mem: Memory, claim: Claim, cache_id: CacheId, live: int) -> None:
    """Report the first live objects one by one ("Objects remaining"), each with the exact count."""
    left = min(live, cs.LEAK_REPORTS)
    pfn = next_slab(mem, 0, cache_id)
    while pfn >= 0 and left > 0:
        held = hold_slab(mem, claim, cache_id, pfn)
        if held != 0:
            left -= report_slab(mem, claim, cache_id, pfn, left, live)
            unlock(mem, held)
        pfn = next_slab(mem, pfn + 1, cache_id)


@kernel
def leak_frozen(mem: Memory, claim: Claim, cache_id: CacheId) -> None:
    """Leak the pages of frozen slabs, so that no cache owns them."""
    pfn = next_slab(mem, 0, cache_id)
    while pfn >= 0:
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        order = order_of(w0)
        kept = next_word(w0, c.T_ALLOCATED, order, zone_of_word(w0), mt_of(w0), label(mem, claim))
        transition2(mem, pfn, w0, w1, kept, cs.OWNER_FROZEN)
        pfn = next_slab(mem, pfn + (1 << order), cache_id)
