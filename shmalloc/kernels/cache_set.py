"""The set of caches: create, shrink, destroy. What is done with one is in cache.py.

Every cache has an id, the index of its descriptor. Creating and destroying exclude each other by
H_CACHES_LOCK. The geometry in the descriptor is written before the id is known to anybody and is
read plainly afterwards; K_STATE is what says that it is there. Users of a cache stop allocating
from it before it is destroyed. Frees may still come: after E_BUSY the cache stays for them, and
destroying it again later succeeds.

All sheaves of a cache are made here, so that freeing never needs memory.
"""

from shmalloc.constants import (
    AT_CACHE, EV_CACHE_GONE, EV_CACHE_NEW, EV_SHRINK, E_BUSY, E_INVAL, E_NOMEM, H_CACHES,
    H_CACHES_LOCK, H_CPUS, H_NODES, H_PAGES, LOCK_OFFLINE, M_LEAKED_OBJECTS, T_ALLOCATED, T_TAIL,
)  # fmt: skip
from shmalloc.constants_slab import (
    CACHE_DYING, CACHE_LIVE, CACHE_NONE, H_KMALLOC, KC_LOCK, KC_MAIN, KC_SPARE, KMALLOC_CLASSES,
    KN_FULL, KN_LOCK, KN_NR_FROZEN, KN_NR_SLABS, KN_PARTIAL, KN_STRIDE, K_DESTROYER, K_ID,
    K_MIN_PARTIAL, K_SHEAF_COUNT, K_SHEAF_ORDER, K_SHEAF_PFN, K_SHEAF_STRIDE, K_SHEAVES, K_STATE,
    LEAK_REPORTS, OWNER_FROZEN, OWNER_SHEAVES, SF_NEXT, SF_SIZE,
)  # fmt: skip
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.barn import barn_put, move_sheaf
from shmalloc.kernels.bits import mt_of, next_word, order_of, type_of, zone_of_word
from shmalloc.kernels.cache import usable_cache
from shmalloc.kernels.descriptor import head_of, page_state, turn2
from shmalloc.kernels.lists import list_init, next_of
from shmalloc.kernels.lock import lock, owner_word, unlock
from shmalloc.kernels.reporting import event, report
from shmalloc.kernels.objects import (
    cache_at, cpu_part, inuse_of, is_slab_of, node_of_slab, node_part, object_at, objects_of,
    owner_of,
)  # fmt: skip
from shmalloc.kernels.object_layout import lay_out_object, lay_out_sheaves, lay_out_slab, order_for
from shmalloc.kernels.sheaf_drain import drain_part, drain_sheaves, retire_sheaves
from shmalloc.kernels.slab import release, unmake
from shmalloc.kernels.slab_format import give_pages_back, slab_pages
from shmalloc.kernels.slots import label
from shmalloc.kernels.zone import descriptor_at, frame_at, pfn_of_word
from shmalloc.words import cas, fixed, load, load2, load_relaxed, store, store_relaxed


@kernel
def legal_request(mem, object_bytes, align_bytes):
    page_bytes = frame_at(mem, 1) * 8 - frame_at(mem, 0) * 8
    if object_bytes < 1 or align_bytes < 0 or align_bytes > page_bytes:
        return False
    return align_bytes & (align_bytes - 1) == 0


@unit
def cache_create(mem, cpu, object_bytes, align_bytes, flags, template):
    """Make a cache of objects; its id, E_INVAL, or E_NOMEM (also: all ids are taken).

    ``align_bytes`` 0: a word. ``flags``: CF_*. ``template``: word address of the image that every
    new object is a copy of (the constructor), 0: none; it must stay as long as the cache.
    """
    if not legal_request(mem, object_bytes, align_bytes):
        return E_INVAL
    lock(mem, H_CACHES_LOCK, cpu)
    result = E_NOMEM
    for cache in range(fixed(mem, H_CACHES)):
        if load(mem, cache_at(mem, cache) + K_STATE) == CACHE_NONE:
            k = cache_at(mem, cache)
            lay_out_object(mem, k, object_bytes, align_bytes, flags, template)
            result = lay_out_slab(mem, k)
            if result == 0:
                result = set_up(mem, cpu, k, cache)
            break
    unlock(mem, H_CACHES_LOCK)
    if result >= 0:
        event(mem, cpu, EV_CACHE_NEW)
    return result


@kernel
def set_up(mem, cpu, k, cache):
    """Lists, barns and sheaves of a new cache; H_CACHES_LOCK held. Its id, or E_NOMEM."""
    mem[k + K_ID] = cache
    # Whoever died when he had destroyed the last cache of this id, and had not said so yet: his
    # recovery must not take this one for his (docs/bugs.md 13).
    store(mem, k + K_DESTROYER, 0)
    for node in range(fixed(mem, H_NODES)):
        n = node_part(k, node)
        for i in range(KN_STRIDE):
            mem[n + i] = 0
        list_init(mem, n + KN_PARTIAL)
        list_init(mem, n + KN_FULL)
    for victim in range(fixed(mem, H_CPUS)):
        part = cpu_part(mem, k, victim)
        mem[part + KC_MAIN] = 0
        mem[part + KC_SPARE] = 0
        store(mem, part + KC_LOCK, 0)
    words = lay_out_sheaves(mem, k)
    if words > 0:
        order = order_for(mem, words)
        if order < 0:
            return E_NOMEM
        pfn = slab_pages(mem, cpu, order, OWNER_SHEAVES)
        if pfn < 0:
            return pfn
        mem[k + K_SHEAF_ORDER] = order
        mem[k + K_SHEAF_PFN] = pfn
        mem[k + K_SHEAVES] = frame_at(mem, pfn)
        hand_out_sheaves(mem, cpu, k)
    store(mem, k + K_STATE, CACHE_LIVE)  # publishes the descriptor
    return cache


@kernel
def hand_out_sheaves(mem, cpu, k):
    """Two sheaves to each CPU, the rest to the barns in turn, all empty."""
    cpus = fixed(mem, H_CPUS)
    for i in range(mem[k + K_SHEAF_COUNT]):
        sheaf = mem[k + K_SHEAVES] + i * mem[k + K_SHEAF_STRIDE]
        mem[sheaf + SF_NEXT] = 0
        mem[sheaf + SF_SIZE] = 0
        if i < cpus:
            move_sheaf(mem, sheaf, cpu_part(mem, k, i))
            mem[cpu_part(mem, k, i) + KC_MAIN] = sheaf
        elif i < 2 * cpus:
            move_sheaf(mem, sheaf, cpu_part(mem, k, i - cpus))
            mem[cpu_part(mem, k, i - cpus) + KC_SPARE] = sheaf
        else:
            barn_put(mem, cpu, node_part(k, i % fixed(mem, H_NODES)), sheaf)


@unit
def release_empty(mem, cpu, k, node):
    """Give the empty slabs of a node back to the pages; returns how many."""
    n = node_part(k, node)
    gone = 0
    lock(mem, n + KN_LOCK, cpu)
    at = next_of(mem, n + KN_PARTIAL)
    while at != n + KN_PARTIAL and at != 0:
        following = next_of(mem, at)
        pfn = head_of(mem, pfn_of_word(mem, at))
        if pfn < 0:
            break
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        if inuse_of(w1) == 0 and unmake(mem, cpu, n, pfn, w0, w1, at):
            mem[at] = gone  # a private chain through the slabs, which are ours now
            gone = pfn + 1
        at = following
    unlock(mem, n + KN_LOCK)
    return release_chain(mem, cpu, gone)


@kernel
def release_chain(mem, cpu, gone):
    """Release the slabs that ``release_empty`` chained, outside of the lock."""
    count = 0
    while gone != 0:
        pfn = gone - 1
        order = order_of(page_state(mem, pfn))
        gone = mem[frame_at(mem, pfn + (1 << order)) - 2]
        release(mem, cpu, pfn)
        count += 1
    return count


@unit
def cache_shrink(mem, cpu, cache):
    """Flush all sheaves and give every empty slab back; returns how many, or E_INVAL."""
    k = usable_cache(mem, cache)
    if k < 0:
        return k
    drain_sheaves(mem, cpu, k)
    gone = 0
    for node in range(fixed(mem, H_NODES)):
        gone += release_empty(mem, cpu, k, node)
    event(mem, cpu, EV_SHRINK)
    return gone


@unit
def unplug_sheaves(mem, cpu, victim):
    """Empty the sheaves of an unplugged CPU and lock them; whoever still runs there uses slabs."""
    lock(mem, H_CACHES_LOCK, cpu)
    for cache in range(fixed(mem, H_CACHES)):
        k = cache_at(mem, cache)
        if load(mem, k + K_STATE) == CACHE_LIVE:
            drain_part(mem, cpu, k, victim, LOCK_OFFLINE)
    unlock(mem, H_CACHES_LOCK)
    return 0


@unit
def plug_sheaves(mem, cpu, victim):
    """Let a CPU that is plugged in again use its sheaves."""
    lock(mem, H_CACHES_LOCK, cpu)
    for cache in range(fixed(mem, H_CACHES)):
        part = cpu_part(mem, cache_at(mem, cache), victim)
        cas(mem, part + KC_LOCK, LOCK_OFFLINE, 0)  # fails where it was never unplugged
    unlock(mem, H_CACHES_LOCK)
    return 0


@unit
def cache_destroy(mem, cpu, cache):
    """Destroy a cache: 0, E_INVAL, or E_BUSY with its live objects reported.

    After E_BUSY nothing can be allocated from it, frees go on, and destroying it again is right.
    """
    if cache < 0 or cache >= fixed(mem, H_CACHES) or is_kmalloc(mem, cache):
        return E_INVAL
    k = cache_at(mem, cache)
    lock(mem, H_CACHES_LOCK, cpu)
    result = E_INVAL
    if load(mem, k + K_STATE) != CACHE_NONE:
        result = destroy(mem, cpu, k, cache)
    unlock(mem, H_CACHES_LOCK)
    return result


@unit
def destroy(mem, cpu, k, cache):
    """What ``cache_destroy`` does under H_CACHES_LOCK; if we die, who inherits from us does it."""
    store(mem, k + K_DESTROYER, owner_word(mem, cpu))
    result = empty_and_unmake(mem, cpu, k, cache)
    store(mem, k + K_DESTROYER, 0)
    return result


@kernel
def is_kmalloc(mem, cache):
    """Whether the cache is a size class of kmalloc, which live as long as the segment."""
    for i in range(KMALLOC_CLASSES):
        if load_relaxed(mem, H_KMALLOC + i) == cache + 1:
            return True
    return False


@kernel
def empty_and_unmake(mem, cpu, k, cache):
    """Take the cache's sheaves and slabs away, then its id; 0 or E_BUSY."""
    store(mem, k + K_STATE, CACHE_DYING)
    store_relaxed(mem, k + K_MIN_PARTIAL, 0)  # from now on the last free of a slab releases it
    sheaves = retire_sheaves(mem, cpu, k)
    slabs = 0
    for node in range(fixed(mem, H_NODES)):
        release_empty(mem, cpu, k, node)
        slabs += load_relaxed(mem, node_part(k, node) + KN_NR_SLABS)
    if slabs > 0:
        live = count_live(mem, cpu, cache)
        report_live(mem, cpu, cache, live)
        if live > 0 or slabs > frozen_slabs(mem, k):
            return E_BUSY
    if sheaves != mem[k + K_SHEAF_COUNT]:
        return E_BUSY  # one is in the hands of somebody who still frees
    leak_frozen(mem, cpu, cache)
    # First the state: pages of sheaves that no cache names are free to take after a kill, while a
    # cache that names pages of somebody else would be believed.
    store(mem, k + K_STATE, CACHE_NONE)
    if mem[k + K_SHEAF_COUNT] > 0:
        give_pages_back(mem, cpu, mem[k + K_SHEAF_PFN], mem[k + K_SHEAF_ORDER], OWNER_SHEAVES)
    event(mem, cpu, EV_CACHE_GONE)
    return 0


@kernel
def frozen_slabs(mem, k):
    count = 0
    for node in range(fixed(mem, H_NODES)):
        count += load_relaxed(mem, node_part(k, node) + KN_NR_FROZEN)
    return count


@kernel
def next_slab(mem, pfn, cache):
    """First slab of ``cache`` at or behind ``pfn``, or -1. Lock-free.

    A block that is not ours covered its pages at the moment it was read, so none of our slabs
    that stay can be inside of it.
    """
    while pfn < fixed(mem, H_PAGES):
        w0 = page_state(mem, pfn)
        if is_slab_of(w0, cache):
            return pfn
        if type_of(w0) == T_TAIL:
            pfn += 1
        else:
            pfn += 1 << order_of(w0)
    return -1


@kernel
def hold_slab(mem, cpu, cache, pfn):
    """Lock the node of the slab at ``pfn``; the lock, or 0 where it is no slab of ours any more.

    A free may unmake the slab between ``next_slab`` and here, and its pages may be anything then:
    what follows the descriptor read the words of others (docs/bugs.md 3). Slabs are unmade under
    the lock of their node only.
    """
    w0 = page_state(mem, pfn)
    if not is_slab_of(w0, cache):
        return 0
    at = node_part(cache_at(mem, cache), node_of_slab(mem, w0)) + KN_LOCK
    lock(mem, at, cpu)
    if is_slab_of(page_state(mem, pfn), cache):
        return at
    unlock(mem, at)
    return 0


@kernel
def live_in_slab(mem, pfn, w0, w1):
    """Live objects of one slab, which stays one meanwhile."""
    live = 0
    for index in range(objects_of(w1)):
        if owner_of(mem, pfn, order_of(w0), index) != 0:
            live += 1
    return live


@kernel
def count_live(mem, cpu, cache):
    """Live objects of a cache."""
    live = 0
    pfn = next_slab(mem, 0, cache)
    while pfn >= 0:
        held = hold_slab(mem, cpu, cache, pfn)
        if held != 0:
            w0, w1 = load2(mem, descriptor_at(mem, pfn))
            live += live_in_slab(mem, pfn, w0, w1)
            unlock(mem, held)
        pfn = next_slab(mem, pfn + 1, cache)
    return live


@kernel
def report_slab(mem, cpu, cache, pfn, left, live):
    """Report at most ``left`` live objects of one slab; how many. Node lock held."""
    k = cache_at(mem, cache)
    found = 0
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    for index in range(objects_of(w1)):
        if found < left and owner_of(mem, pfn, order_of(w0), index) != 0:
            address = object_at(mem, k, pfn, index)
            report(mem, cpu, M_LEAKED_OBJECTS, address, AT_CACHE | cache, live)
            found += 1
    return found


@unit
def report_live(mem, cpu, cache, live):
    """Report the first live objects one by one ("Objects remaining"), each with the exact count."""
    left = min(live, LEAK_REPORTS)
    pfn = next_slab(mem, 0, cache)
    while pfn >= 0 and left > 0:
        held = hold_slab(mem, cpu, cache, pfn)
        if held != 0:
            left -= report_slab(mem, cpu, cache, pfn, left, live)
            unlock(mem, held)
        pfn = next_slab(mem, pfn + 1, cache)


@kernel
def leak_frozen(mem, cpu, cache):
    """Keep the pages of frozen slabs out of use for ever, under no cache's name."""
    pfn = next_slab(mem, 0, cache)
    while pfn >= 0:
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        order = order_of(w0)
        kept = next_word(w0, T_ALLOCATED, order, zone_of_word(w0), mt_of(w0), label(mem, cpu))
        turn2(mem, pfn, w0, w1, kept, OWNER_FROZEN)
        pfn = next_slab(mem, pfn + (1 << order), cache)
