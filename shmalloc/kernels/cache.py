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
    AT_CACHE, EV_OBJ_ALLOC, EV_OBJ_FAIL, EV_OBJ_FREE, E_INVAL, E_NOMEM, E_STATE, FAULT_OBJECT,
    H_CACHES, H_NODES, M_OBJECT_BYTES, M_OBJECT_CACHE, M_OBJECT_FREE, M_OBJECT_POINTER,
    OP_OBJ_ALLOC, OP_OBJ_FREE, T_SLAB, T_TAIL,
)  # fmt: skip
from shmalloc.constants_slab import (
    CACHE_LIVE, GIVEN, KC_LOCK, KC_MAIN, KN_LOCK, K_CAPACITY, K_ID, K_STATE, SF_SIZE, SLAB_FROZEN,
)  # fmt: skip
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.bits import order_of, type_of
from shmalloc.kernels.descriptor import head_of, in_range, page_state
from shmalloc.kernels.fault_injection import is_faulty
from shmalloc.kernels.slot_intent import intend_put, intent_done
from shmalloc.kernels.lock import lock, owner_word, try_spin, unlock, unspin
from shmalloc.kernels.reporting import event, record_object, report
from shmalloc.kernels.objects import (
    cache_at, cache_of_word, chain_count, chain_first, chain_pfn, clear_owner, cpu_part,
    entry_address, entry_in_slab, entry_of, free_link, has_owner_word, home_node, index_at,
    is_debug, is_exact, is_slab_of, list_state, make_chain, node_of_slab, node_part, object_at,
    objects_of, owner_at, owner_of_entry, set_owner,
)  # fmt: skip
from shmalloc.kernels.sheaf import (
    entry_of_index, in_two_places, keep_freed, pop_live, pop_or_report, push_freed, put_freed,
    take_one, take_slowly,
)  # fmt: skip
from shmalloc.kernels.sheaf_drain import drain_sheaves
from shmalloc.kernels.slab import freeze, put_locked, release, slab_problem, take_chain
from shmalloc.kernels.slab_debug import bad_bytes, paint, track
from shmalloc.kernels.zone import descriptor_at, frame_at, pfn_of_word
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
    if is_faulty(mem, cpu, FAULT_OBJECT):
        return E_NOMEM
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
    entry = pop_live(mem, cpu, main, size)
    unspin(mem, part + KC_LOCK)
    if entry < 0:
        return in_two_places(mem, cpu, -entry)
    return hand_over(mem, cpu, k, entry)


@unit
def alloc_slowly(mem, cpu, k, part, site):
    """Everything but an object out of the main sheaf."""
    if load_relaxed(mem, k + K_STATE) != CACHE_LIVE:
        return E_INVAL
    if is_debug(mem, k):
        return alloc_checked(mem, cpu, k, site)
    entry = take_slowly(mem, cpu, k, part)
    if entry == E_NOMEM:
        # The last resort: free objects may hide in the sheaves of others.
        drain_sheaves(mem, cpu, k)
        entry = take_one(mem, cpu, k)
    if entry < 0:
        event(mem, cpu, EV_OBJ_FAIL)
        return entry
    return hand_over(mem, cpu, k, entry)


@hot
def hand_over(mem, cpu, k, entry):
    """The address of an object that is live: count and record it."""
    event(mem, cpu, EV_OBJ_ALLOC)
    record_object(mem, cpu, OP_OBJ_ALLOC, entry_address(entry), k)
    return entry_address(entry)


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
    record_object(mem, cpu, OP_OBJ_ALLOC, address, k)
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
    if is_faulty(mem, cpu, FAULT_OBJECT):
        return E_NOMEM
    got = pop_many(mem, cpu, k, count, at)
    while got < count:
        chain = take_chain(mem, cpu, k, count - got)
        if chain == E_NOMEM:
            drain_sheaves(mem, cpu, k)
            chain = take_chain(mem, cpu, k, count - got)
        if chain < 0:
            break
        got = unchain_live(mem, cpu, k, chain, at, got)
    if got < count:
        cache_free_bulk(mem, cpu, cache, got, at)
        event(mem, cpu, EV_OBJ_FAIL)
        return E_NOMEM
    return count


@kernel
def unchain_live(mem, cpu, k, chain, at, got):
    """Make the objects of our chain live and write their addresses to ``at[got:]``; the new count.

    In the order of the chain: if we die on the way, its rest is still linked.
    """
    pfn = chain_pfn(chain)
    following = chain_first(chain)
    for _ in range(chain_count(chain)):
        entry = entry_of_index(mem, k, pfn, following - 1)
        following = free_link(mem, k, entry_address(entry))
        if set_owner(mem, owner_of_entry(mem, entry), owner_word(mem, cpu)):
            mem[at + got] = hand_over(mem, cpu, k, entry)
            got += 1
        else:
            in_two_places(mem, cpu, entry)
    intent_done(mem, cpu)
    return got


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
    """Up to ``count`` objects out of the CPU's main sheaf under one hold of its lock."""
    part = cpu_part(mem, k, cpu)
    got = 0
    if try_spin(mem, part + KC_LOCK, cpu):
        main = mem[part + KC_MAIN]
        if main != 0:
            while got < count and mem[main + SF_SIZE] > 0:
                entry = pop_or_report(mem, cpu, main, mem[main + SF_SIZE])
                if entry > 0:
                    mem[at + got] = hand_over(mem, cpu, k, entry)
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
    base = frame_at(mem, pfn)
    index = index_at(mem, k, base, address)
    at = owner_at(mem, base, order_of(w0), index)
    if index < 0 or not has_owner_word(mem, k, address, at):
        return refuse(mem, cpu, cache, address)
    if not end_life(mem, cpu, k, w0, entry_of(address, index, order_of(w0)), at):
        return refuse(mem, cpu, cache, address)
    event(mem, cpu, EV_OBJ_FREE)
    record_object(mem, cpu, OP_OBJ_FREE, address, k)
    return 0


@hot
def end_life(mem, cpu, k, w0, entry, at):
    """Clear the object's owner word, the linearization point of its free, and keep it. False: the
    object is not live.

    Into the CPU's sheaf, or straight to the slab where that is another node's.
    """
    if list_state(w0) == SLAB_FROZEN:  # leaked: its slab failed a check
        return clear_owner(mem, at, 0, is_exact(mem, k))
    if fixed(mem, H_NODES) > 1 and node_of_slab(mem, w0) != home_node(mem, cpu):
        return put_freed(mem, cpu, k, entry, at)
    return keep_freed(mem, cpu, k, entry, at)


@unit
def refuse(mem, cpu, cache, address):
    """Report why ``address`` cannot be freed into ``cache``; always E_STATE."""
    pfn = slab_of_address(mem, address)
    code = M_OBJECT_POINTER
    found = -1
    if pfn >= 0:
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        if type_of(w0) == T_SLAB:
            holder = cache_of_word(w0)
            found = AT_CACHE | holder
            k = cache_at(mem, holder)
            index = index_at(mem, k, frame_at(mem, pfn), address)
            if 0 <= index < objects_of(w1):
                code = M_OBJECT_CACHE
                if holder == cache:
                    code = M_OBJECT_FREE
    report(mem, cpu, code, address, AT_CACHE | cache, found)
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
    if known:
        intend_put(mem, cpu, k, make_chain(pfn, index + 1, 1), 0)
    if not known or not clear_owner(mem, at, GIVEN | owner_word(mem, cpu), False):
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
    intent_done(mem, cpu)
    unlock(mem, n + KN_LOCK)
    if gone != 0:
        release(mem, cpu, pfn)
    if result == 0:
        event(mem, cpu, EV_OBJ_FREE)
        record_object(mem, cpu, OP_OBJ_FREE, address, k)
    return result


@unit
def cache_free_bulk(mem, cpu, cache, count, at):
    """Free the objects listed in the words at ``at``; returns how many were (the rest: reported).

    Runs of objects that fit in the CPU's sheaf go there under one hold of its lock.
    """
    if cache < 0 or cache >= fixed(mem, H_CACHES):
        return E_INVAL
    k = cache_at(mem, cache)
    freed = 0
    done = 0
    while done < count:
        if not is_debug(mem, k):
            run = push_run(mem, cpu, k, cache, count - done, at + done)
            freed += run
            done += run
        if done < count:  # no room, another node's, or a misuse: one by one
            if cache_free_at(mem, cpu, cache, mem[at + done], 0) == 0:
                freed += 1
            done += 1
    return freed


@kernel
def push_run(mem, cpu, k, cache, count, at):
    """Free objects into the CPU's main sheaf, up to the first that cannot go there; how many."""
    part = cpu_part(mem, k, cpu)
    done = 0
    if not try_spin(mem, part + KC_LOCK, cpu):
        return 0
    main = mem[part + KC_MAIN]
    if main != 0:
        while done < count and mem[main + SF_SIZE] < mem[k + K_CAPACITY]:
            entry = near_entry(mem, cpu, k, cache, mem[at + done])
            if entry < 0:
                break
            owner = owner_of_entry(mem, entry)
            if not push_freed(mem, cpu, k, main, mem[main + SF_SIZE], entry, owner):
                break
            event(mem, cpu, EV_OBJ_FREE)
            record_object(mem, cpu, OP_OBJ_FREE, mem[at + done], k)
            done += 1
    unspin(mem, part + KC_LOCK)
    return done


@kernel
def near_entry(mem, cpu, k, cache, address):
    """Entry of an object that may go in a sheaf of this CPU, or E_STATE; reports nothing."""
    pfn = slab_of_address(mem, address)
    if pfn < 0:
        return E_STATE
    w0 = page_state(mem, pfn)
    entry = entry_in_slab(mem, k, cache, pfn, w0, address)
    if entry < 0 or list_state(w0) == SLAB_FROZEN:
        return E_STATE
    if fixed(mem, H_NODES) > 1 and node_of_slab(mem, w0) != home_node(mem, cpu):
        return E_STATE
    return entry
