"""Caches of objects: the public object operations. Addresses are word indexes in the segment.

``cache_alloc`` gives an object, ``cache_free`` takes exactly what was given, from any process:
another address, an object twice, or of another cache is a misuse: reported with its code,
answered E_STATE, and nothing changes. A live object has an owner word in its slab (objects.py);
clearing it is the linearization point of a free.

    alloc   sheaf of the CPU -> spare -> barn -> partial slabs -> new slab -> everybody's sheaves
    free    check, clear the owner word -> sheaf of the CPU -> spare -> barn -> slabs

Objects of another node's slab go straight back to it. A debug cache has no sheaves and works
completely under the node lock. Every live cache has an id; creating and destroying exclude each
other by H_CACHES_LOCK. Users of a cache stop allocating from it before it is destroyed; frees may
still come: after E_BUSY the cache stays for them, and a later destroy succeeds.

The geometry in the descriptor is written before the id is known to anybody and is read plainly.
"""

from shmalloc.constants import (
    EV_OBJ_ALLOC, EV_OBJ_FAIL, EV_OBJ_FREE, E_INVAL, E_NOMEM, E_STATE, H_CACHES, H_NODES, I_SHEAF,
    M_OBJECT_BYTES, M_OBJECT_CACHE, M_OBJECT_FREE, M_OBJECT_POINTER, OP_OBJ_ALLOC, OP_OBJ_FREE,
    T_SLAB, T_TAIL,
)  # fmt: skip
from shmalloc.constants_slab import (
    CACHE_LIVE, CF_EXACT, KC_LOCK, KC_MAIN, KN_LOCK, K_CAPACITY, K_FLAGS, K_ID, K_STATE,
    SF_OBJECTS, SF_SIZE, SLAB_FROZEN,
)  # fmt: skip
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernel.bits import order_of, type_of
from shmalloc.kernel.descriptor import head_of, in_range, page_state
from shmalloc.kernel.lock import lock, owner_word, try_spin, unlock, unspin
from shmalloc.kernel.notes import event, record, report
from shmalloc.kernel.objects import (
    cache_at, cache_of_word, chain_first, chain_pfn, clear_owner, clear_owner_exactly, cpu_part,
    entry_address, entry_base, entry_index, entry_of, entry_order, has_owner_word, home_node,
    index_at, is_debug, is_slab_of, list_state, node_of_slab, node_part, object_at, objects_of,
    owner_at, set_owner,
)  # fmt: skip
from shmalloc.kernel.sheaf import (
    drain_sheaves, keep_entry, pop, push, put_one, take_one, take_slowly, unchain,
)  # fmt: skip
from shmalloc.kernel.slab import freeze, put_locked, release, slab_problem, take_chain
from shmalloc.kernel.slabdebug import bad_bytes, paint, track
from shmalloc.kernel.zone import descriptor_at, frame_at, pfn_of_word
from shmalloc.words import fixed, load2, load_relaxed


@hot
def usable_cache(mem, cache):
    """Descriptor of a cache that may be allocated from, or E_INVAL."""
    if cache < 0 or cache >= fixed(mem, H_CACHES):
        return E_INVAL
    k = cache_at(mem, cache)
    if load_relaxed(mem, k + K_STATE) != CACHE_LIVE:
        return E_INVAL
    return k


@hot
def cache_alloc(mem, cpu, cache):
    """Word address of a new object, E_NOMEM, or E_INVAL where there is no such cache."""
    return cache_alloc_at(mem, cpu, cache, 0)


@hot
def cache_alloc_at(mem, cpu, cache, site):
    """``cache_alloc`` that names its call site, for caches with CF_TRACK."""
    if cache < 0 or cache >= fixed(mem, H_CACHES):
        return E_INVAL
    k = cache_at(mem, cache)
    part = cpu_part(mem, k, cpu)
    if not try_spin(mem, part + KC_LOCK, cpu):
        return alloc_slowly(mem, cpu, k, part, site)
    # A cache without sheaves, a debug cache, a dying one and none at all have no main sheaf, so
    # this one look covers them.
    main = mem[part + KC_MAIN]
    size = 0
    if main != 0:
        size = mem[main + SF_SIZE]
    if size == 0:
        unspin(mem, part + KC_LOCK)
        return alloc_slowly(mem, cpu, k, part, site)
    entry = mem[main + SF_OBJECTS - 1 + size]
    mem[main + SF_SIZE] = size - 1
    unspin(mem, part + KC_LOCK)
    return give_object(mem, cpu, k, entry)


@unit
def alloc_slowly(mem, cpu, k, part, site):
    """Everything but an object out of the main sheaf."""
    if load_relaxed(mem, k + K_STATE) != CACHE_LIVE:
        return E_INVAL
    if is_debug(mem, k):
        return alloc_checked(mem, cpu, k, site)
    entry = take_slowly(mem, cpu, k, part)
    if entry < 0:
        entry = take_after_drain(mem, cpu, k)
    if entry < 0:
        event(mem, cpu, EV_OBJ_FAIL)
        return entry
    return give_object(mem, cpu, k, entry)


@unit
def take_after_drain(mem, cpu, k):
    """The last resort: free objects may hide in the sheaves of others."""
    drain_sheaves(mem, cpu, k)
    return take_one(mem, cpu, k)


@hot
def give_object(mem, cpu, k, entry):
    """Make a free object live and hand it over; returns its address."""
    address = entry_address(entry)
    at = owner_at(mem, entry_base(mem, entry), entry_order(entry), entry_index(entry))
    if not set_owner(mem, at, owner_word(mem, cpu)):
        report(mem, cpu, I_SHEAF, address, 0, 1)  # it was in two places: leave it to its owner
        return E_STATE
    event(mem, cpu, EV_OBJ_ALLOC)
    record(mem, cpu, OP_OBJ_ALLOC, 0, address, k)
    return address


@unit
def alloc_checked(mem, cpu, k, site):
    """Allocate from a debug cache; slabs that fail a check are frozen on the way."""
    chain = take_chain(mem, cpu, k, 1)
    if chain < 0:
        event(mem, cpu, EV_OBJ_FAIL)
        return chain
    address = object_at(mem, k, chain_pfn(chain), chain_first(chain) - 1)
    track(mem, cpu, k, address, 0, site)
    event(mem, cpu, EV_OBJ_ALLOC)
    record(mem, cpu, OP_OBJ_ALLOC, 0, address, k)
    return address


@unit
def cache_alloc_bulk(mem, cpu, cache, count, at):
    """Allocate ``count`` objects into the words at ``at``, all or nothing: ``count``, or E_NOMEM.

    Takes the CPU's lock once and each slab once.
    """
    k = usable_cache(mem, cache)
    if k < 0 or count < 0:
        return E_INVAL
    if is_debug(mem, k):
        return alloc_bulk_checked(mem, cpu, cache, count, at)
    got = pop_many(mem, cpu, k, count, at)
    while got < count:
        chain = take_chain(mem, cpu, k, count - got)
        if chain >= 0:
            got = unchain(mem, k, chain, at, got)
        else:
            entry = take_after_drain(mem, cpu, k)
            if entry < 0:
                break
            mem[at + got] = entry
            got += 1
    if got < count:
        for i in range(got):
            keep_entry(mem, cpu, k, mem[at + i])
        event(mem, cpu, EV_OBJ_FAIL)
        return E_NOMEM
    return give_all(mem, cpu, k, cache, count, at)


@kernel
def give_all(mem, cpu, k, cache, count, at):
    """Turn entries into live objects; a corrupt one undoes the request."""
    good = 0
    for i in range(count):
        address = give_object(mem, cpu, k, mem[at + i])
        if address >= 0:
            mem[at + good] = address
            good += 1
    if good < count:
        cache_free_bulk(mem, cpu, cache, good, at)
        return E_STATE
    return count


@unit
def alloc_bulk_checked(mem, cpu, cache, count, at):
    for i in range(count):
        address = cache_alloc_at(mem, cpu, cache, 0)
        if address < 0:
            for j in range(i):
                cache_free_at(mem, cpu, cache, mem[at + j], 0)
            return address
        mem[at + i] = address
    return count


@kernel
def pop_many(mem, cpu, k, count, at):
    """Up to ``count`` entries out of the CPU's main sheaf under one hold of its lock."""
    part = cpu_part(mem, k, cpu)
    got = 0
    if try_spin(mem, part + KC_LOCK, cpu):
        main = mem[part + KC_MAIN]
        if main != 0:
            while got < count and mem[main + SF_SIZE] > 0:
                mem[at + got] = pop(mem, main)
                got += 1
        unspin(mem, part + KC_LOCK)
    return got


@hot
def slab_of_address(mem, address):
    """Head pfn of the block that covers ``address``, or a negative number."""
    pfn = pfn_of_word(mem, address)
    if not in_range(mem, pfn):
        return E_INVAL
    if type_of(page_state(mem, pfn)) != T_TAIL:
        return pfn
    return head_of(mem, pfn)


@hot
def cache_free(mem, cpu, cache, address):
    """Free an object of ``cache``. Returns 0, or E_STATE for a misuse (reported, not done)."""
    return cache_free_at(mem, cpu, cache, address, 0)


@hot
def cache_free_at(mem, cpu, cache, address, site):
    """``cache_free`` that names its call site, for caches with CF_TRACK."""
    pfn = slab_of_address(mem, address)
    if pfn < 0 or cache < 0 or cache >= fixed(mem, H_CACHES):
        return refuse(mem, cpu, cache, address)
    w0 = page_state(mem, pfn)
    if not is_slab_of(w0, cache):
        return refuse(mem, cpu, cache, address)
    return free_object(mem, cpu, cache, pfn, w0, address, site)


@hot
def free_object(mem, cpu, cache, pfn, w0, address, site):
    """Free what must be a live object of the slab at ``pfn``, whose descriptor says ``w0``."""
    k = cache_at(mem, cache)
    if is_debug(mem, k):
        return free_checked(mem, cpu, k, pfn, address, site)
    entry = claim_object(mem, cpu, k, cache, pfn, w0, address)
    if entry < 0:
        return entry
    if list_state(w0) != SLAB_FROZEN:  # else it is leaked: its slab failed a check
        keep_near(mem, cpu, k, w0, entry)
    return 0


@hot
def claim_object(mem, cpu, k, cache, pfn, w0, address):
    """End the life of an object; its entry, or E_STATE where it was none (reported)."""
    base = frame_at(mem, pfn)
    index = index_at(mem, k, base, address)
    at = owner_at(mem, base, order_of(w0), index)
    if index < 0 or not has_owner_word(mem, k, address, at) or not clear_for(mem, k, at):
        return refuse(mem, cpu, cache, address)
    event(mem, cpu, EV_OBJ_FREE)
    record(mem, cpu, OP_OBJ_FREE, 0, address, k)
    return entry_of(address, index, order_of(w0))


@hot
def clear_for(mem, k, at):
    """Clear an owner word, atomically where the cache asks for it."""
    if mem[k + K_FLAGS] & CF_EXACT != 0:
        return clear_owner_exactly(mem, at)
    return clear_owner(mem, at)


@hot
def keep_near(mem, cpu, k, w0, entry):
    """Into the CPU's sheaf, or straight to the slab where that is another node's."""
    if fixed(mem, H_NODES) > 1 and node_of_slab(mem, w0) != home_node(mem, cpu):
        put_one(mem, cpu, k, entry)
    else:
        keep_entry(mem, cpu, k, entry)


@unit
def refuse(mem, cpu, cache, address):
    """Report why ``address`` cannot be freed into ``cache``; always E_STATE."""
    pfn = slab_of_address(mem, address)
    code = M_OBJECT_POINTER
    found = -1
    if pfn >= 0:
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        if type_of(w0) == T_SLAB:
            found = cache_of_word(w0)
            k = cache_at(mem, found)
            index = index_at(mem, k, frame_at(mem, pfn), address)
            if 0 <= index < objects_of(w1):
                code = M_OBJECT_CACHE
                if found == cache:
                    code = M_OBJECT_FREE
    report(mem, cpu, code, address, cache, found)
    return E_STATE


@unit
def free_checked(mem, cpu, k, pfn, address, site):
    """Free into a debug cache: every check and every change under one hold of the node lock."""
    n = node_part(k, node_of_slab(mem, page_state(mem, pfn)))
    gone = 0
    lock(mem, n + KN_LOCK, cpu)
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    result = 0
    base = frame_at(mem, pfn)
    index = index_at(mem, k, base, address)
    at = owner_at(mem, base, order_of(w0), index)
    # Looked at again under the lock: a second free may find the slab gone, its pages another's.
    known = is_slab_of(w0, mem[k + K_ID]) and index >= 0 and has_owner_word(mem, k, address, at)
    if not known or not clear_owner(mem, at):
        result = refuse(mem, cpu, mem[k + K_ID], address)
    elif list_state(w0) != SLAB_FROZEN:
        bad = slab_problem(mem, cpu, k, pfn, w0, w1)
        bad += bad_bytes(mem, cpu, k, address, 1, M_OBJECT_BYTES)
        if bad != 0:
            freeze(mem, cpu, k, n, pfn)
            result = E_STATE
        else:
            track(mem, cpu, k, address, 1, site)
            paint(mem, k, address, 0)
            gone = put_locked(mem, cpu, k, n, pfn, index + 1, address, 1)
    unlock(mem, n + KN_LOCK)
    if gone != 0:
        release(mem, cpu, pfn)
    if result == 0:
        event(mem, cpu, EV_OBJ_FREE)
        record(mem, cpu, OP_OBJ_FREE, 0, address, mem[k + K_ID])
    return result


@unit
def cache_free_bulk(mem, cpu, cache, count, at):
    """Free the objects listed in the words at ``at``; returns how many were (the rest: reported).

    The words are used as scratch: they hold no addresses afterwards.
    """
    if cache < 0 or cache >= fixed(mem, H_CACHES):
        return E_INVAL
    k = cache_at(mem, cache)
    freed = 0
    if is_debug(mem, k):
        for i in range(count):
            if cache_free_at(mem, cpu, cache, mem[at + i], 0) == 0:
                freed += 1
        return freed
    near = 0
    for i in range(count):
        entry = claim_listed(mem, cpu, k, cache, mem[at + i])
        if entry >= 0:
            freed += 1
        if entry > 0:
            mem[at + near] = entry
            near += 1
    push_all(mem, cpu, k, near, at)
    return freed


@kernel
def claim_listed(mem, cpu, k, cache, address):
    """Entry of one object of a bulk free; 0 where it is dealt with already, E_STATE refused."""
    pfn = slab_of_address(mem, address)
    if pfn < 0:
        return refuse(mem, cpu, cache, address)
    w0 = page_state(mem, pfn)
    if not is_slab_of(w0, cache):
        return refuse(mem, cpu, cache, address)
    entry = claim_object(mem, cpu, k, cache, pfn, w0, address)
    if entry < 0:
        return entry
    if list_state(w0) == SLAB_FROZEN:
        return 0
    if fixed(mem, H_NODES) > 1 and node_of_slab(mem, w0) != home_node(mem, cpu):
        put_one(mem, cpu, k, entry)
        return 0
    return entry


@kernel
def push_all(mem, cpu, k, count, at):
    """Put a list of entries into sheaves, each time as many as fit under one hold of the lock."""
    part = cpu_part(mem, k, cpu)
    done = 0
    while done < count:
        if try_spin(mem, part + KC_LOCK, cpu):
            main = mem[part + KC_MAIN]
            if main != 0:
                while done < count and mem[main + SF_SIZE] < mem[k + K_CAPACITY]:
                    push(mem, main, mem[at + done])
                    done += 1
            unspin(mem, part + KC_LOCK)
        if done < count:  # full: this one makes room
            keep_entry(mem, cpu, k, mem[at + done])
            done += 1
