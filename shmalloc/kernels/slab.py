"""Slabs: a block of pages cut into objects, its free list, and the lists that slabs are on.

A slab's state is the pair of words of its head's descriptor, changed by one two-word swap::

    word 0   SLAB | cache | list state | order, zone, version        (bits.py)
    word 1   free: index + 1 | inuse | objects | frozen | version

    off list     full: no free object        <->  on partial: at least one free object
    (debug: on full)                              of the node of its zone
    frozen       failed a check: on no list, its objects are leaked, never reused

Rules. The list state changes only under the node lock, in the same swap that makes the slab full,
not full, or gone; so outside the lock "has a free object" and "says partial" always agree. Taking
objects off a free list happens under the node lock. Putting them back does not, as long as the slab
was not full and does not become empty: then only word 1 changes, and puts race with each other and
with a taker. The version in word 1 defeats ABA: without it a taker that has read "first is A, then
B" could swap B in after A and B were allocated and only A came back (mm/slab.h on
freelist_counters; bug S4).

The list node of a slab is in the slab, so nothing needs memory in order to free memory. A slab
whose last object came back stays while its node has fewer than K_MIN_PARTIAL others.

What it does not do: freed objects (slab_put.py), sheaves (sheaf.py), checks (cache.py).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import mt_of, next_word, order_of, version_of, zone_of_word
from shmalloc.kernels.descriptor import page_state, transition_owned
from shmalloc.kernels.lists import next_of
from shmalloc.kernels.lock import lock, owner_word, unlock
from shmalloc.kernels.object_chain import last_of_chain, unmark_chain
from shmalloc.kernels.objects import (
    add,
    cache_of_word,
    chain_first,
    counters,
    free_link,
    free_of,
    home_node,
    inuse_of,
    is_debug,
    list_state,
    make_chain,
    node_of_slab,
    node_part,
    object_at,
    objects_of,
    owner_at,
    set_owner,
    slab_node,
)
from shmalloc.kernels.reporting import event, record, report
from shmalloc.kernels.slab_debug import bad_bytes, bad_rest, paint
from shmalloc.kernels.slab_format import format_slab, objects_that_fit, slab_pages
from shmalloc.kernels.slab_lists import move_slab, relist_part, slab_of_node
from shmalloc.kernels.slot_intent import chain_is_ours, intend_take, intent_done
from shmalloc.kernels.zone import descriptor_at, frame_at
from shmalloc.units import (
    CacheWords,
    Chain,
    Claim,
    Gfp,
    Memory,
    NodeId,
    NodePart,
    Pfn,
    Word0,
    Word1,
)
from shmalloc.words import cas2, fixed, load2, load_relaxed, relax


@kernel
def on_list(w0: Word0, state: int) -> Word0:
    """Word 0 of the same slab on another list."""
    detail = cache_of_word(w0) | state << c.SLAB_LIST_SHIFT
    word = next_word(w0, c.T_SLAB, order_of(w0), zone_of_word(w0), mt_of(w0), detail)
    return word | (w0 & c.POISON_BIT)


@kernel
def full_state(mem: Memory, cache: CacheWords) -> int:
    """The list of a slab without free objects: none, except that debug caches track them."""
    if is_debug(mem, cache):
        return c.SLAB_ON_FULL
    return c.SLAB_OFF_LIST


@kernel
def freeze(mem: Memory, claim: Claim, cache: CacheWords, lists: NodePart, pfn: Pfn) -> None:
    """Take a slab that failed a check, with all its objects, out of service; node lock held."""
    at = descriptor_at(mem, pfn)
    while True:
        w0, w1 = load2(mem, at)
        objects = objects_of(w1)
        frozen = counters(w1, 0, objects, objects) | c.S_FROZEN_BIT
        if cas2(mem, at, w0, w1, on_list(w0, cs.SLAB_FROZEN), frozen):
            add(mem, lists + cs.KN_NR_FROZEN, 1)
            node = slab_node(mem, pfn, order_of(w0))
            move_slab(mem, claim, lists, node, list_state(w0), cs.SLAB_FROZEN)
            return
        relax(mem)  # a free of another object of it came in between


@kernel
def free_list_problem(
    mem: Memory, claim: Claim, cache: CacheWords, pfn: Pfn, w1: Word1, code: int
) -> int:
    """Walk a whole free list; 1 and one report if it is corrupt, cyclic or miscounted, else 0.

    Node lock held, or no CPU active. Linux: on_freelist.
    """
    free = objects_of(w1) - inuse_of(w1)
    if free < 0 or objects_of(w1) == 0:
        report(mem, claim, code, pfn, objects_of(w1), inuse_of(w1))  # Wrong number of objects
        return 1
    if free == 0:
        if free_of(w1) == 0:
            return 0
        report(mem, claim, code, frame_at(mem, pfn), 0, free_of(w1))  # Wrong object count
        return 1
    last = last_of_chain(mem, cache, pfn, w1, free)
    if last < 0:  # Freechain corrupt; Freelist cycle detected: more objects than were counted
        report(mem, claim, code, -last, free, free_link(mem, cache, -last) & cs.REPORT_MASK)
        return 1
    return 0


@kernel
def slab_problem(
    mem: Memory, claim: Claim, cache: CacheWords, pfn: Pfn, w0: Word0, w1: Word1
) -> int:
    """Linux's check_slab, for caches that ask for it: 0 if the slab may be trusted."""
    if mem[cache + cs.K_FLAGS] & cs.CF_CONSISTENCY == 0:
        return 0
    bad = free_list_problem(mem, claim, cache, pfn, w1, c.M_FREECHAIN)
    if bad == 0:
        bad = bad_rest(mem, claim, cache, pfn, order_of(w0), objects_of(w1), c.M_OBJECT_BYTES)
    return bad


@kernel
def pop_chain(
    mem: Memory, claim: Claim, cache: CacheWords, lists: NodePart, pfn: Pfn, want: int
) -> Chain:
    """Take up to ``want`` objects of one partial slab as a chain; node lock held.

    The claim's intent makes the chain the caller's, until ``intent_done``. E_STATE: a free pointer
    of the slab was overwritten, and it is frozen now.
    """
    at = descriptor_at(mem, pfn)
    while True:
        w0, w1 = load2(mem, at)
        free = objects_of(w1) - inuse_of(w1)
        count = min(want, free)
        last = unmark_chain(mem, cache, pfn, w0, w1, count)
        if last < 0 or count <= 0:
            report(mem, claim, c.M_FREECHAIN, pfn, free, free_of(w1))
            freeze(mem, claim, cache, lists, pfn)
            return c.E_STATE
        after = w0
        following = 0
        if count == free:
            after = on_list(w0, full_state(mem, cache))
        else:
            following = free_link(mem, cache, last)
        chain = make_chain(pfn, free_of(w1), count)
        intend_take(mem, claim, cache, chain)
        # Linearization point: from here on the chain is ours. Fails if another CPU put an object
        # back since load2; then the free list starts elsewhere.
        taken = counters(w1, following, inuse_of(w1) + count, objects_of(w1))
        if cas2(mem, at, w0, w1, after, taken):
            chain_is_ours(mem, claim)
            if count == free:
                node = slab_node(mem, pfn, order_of(w0))
                move_slab(mem, claim, lists, node, c.SLAB_ON_PARTIAL, list_state(after))
            return chain
        intent_done(mem, claim)
        event(mem, claim, c.EV_CAS_FAIL)
        relax(mem)


@kernel
def pop_checked(
    mem: Memory, claim: Claim, cache: CacheWords, lists: NodePart, pfn: Pfn, want: int
) -> Chain:
    """``pop_chain`` for any cache: of a debug cache one object, checked and made live.

    Only for a chain that is not live yet does the claim's intent name it.
    """
    if not is_debug(mem, cache):
        return pop_chain(mem, claim, cache, lists, pfn, want)
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    if slab_problem(mem, claim, cache, pfn, w0, w1) != 0:
        freeze(mem, claim, cache, lists, pfn)
        return c.E_STATE
    chain = pop_chain(mem, claim, cache, lists, pfn, 1)
    if chain < 0:
        return chain
    address = object_at(mem, cache, pfn, chain_first(chain) - 1)
    owner = owner_at(mem, frame_at(mem, pfn), order_of(w0), chain_first(chain) - 1)
    if bad_bytes(mem, claim, cache, address, 0, c.M_OBJECT_BYTES) != 0:
        chain = c.E_STATE
    else:
        paint(mem, cache, address, 1)
        if not set_owner(mem, owner, owner_word(mem, claim)):
            report(mem, claim, c.I_SLAB, address, 0, 1)
            chain = c.E_STATE
    if chain < 0:
        freeze(mem, claim, cache, lists, pfn)
    intent_done(mem, claim)
    return chain


@kernel
def take_partial(mem: Memory, claim: Claim, cache: CacheWords, node_id: NodeId, want: int) -> Chain:
    """A chain from the first good slab on the node's partial list, or E_NOMEM."""
    lists = node_part(mem, cache, node_id)
    # Read without the lock: missing a slab that arrives just now only costs a new slab.
    slabs = load_relaxed(mem, lists + cs.KN_NR_PARTIAL)
    if slabs == 0:
        return c.E_NOMEM
    chain: Chain = c.E_NOMEM
    lock(mem, lists + cs.KN_LOCK, claim)
    for _ in range(load_relaxed(mem, lists + cs.KN_NR_PARTIAL)):
        first = next_of(mem, lists + cs.KN_PARTIAL)
        if first == lists + cs.KN_PARTIAL:
            break
        pfn = slab_of_node(mem, first)
        if pfn < 0:
            relist_part(mem, claim, lists, first)
        else:
            chain = pop_checked(mem, claim, cache, lists, pfn, want)
        if chain >= 0:
            break
        chain = c.E_NOMEM  # that slab is frozen and off the list now: try the next
    unlock(mem, lists + cs.KN_LOCK)
    return chain


@kernel
def adopt(mem: Memory, claim: Claim, cache: CacheWords, pfn: Pfn, objects: int, first: int) -> int:
    """ALLOCATED -> SLAB on the partial list, with all objects free; node lock held."""
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    detail = mem[cache + cs.K_ID] | c.SLAB_ON_PARTIAL << c.SLAB_LIST_SHIFT
    order = order_of(w0)
    new0 = next_word(w0, c.T_SLAB, order, zone_of_word(w0), mt_of(w0), detail)
    new1 = counters(version_of(w0) << c.S_VERSION_SHIFT, first, 0, objects)
    if new0 < 0 or w1 != cs.OWNER_SLAB or not transition_owned(mem, pfn, w0, w1, new0, new1):
        # The pages were freed meanwhile: leak them.
        report(mem, claim, c.M_WRONG_STATE, pfn, c.IS_TYPE | c.T_ALLOCATED, w0)
        return c.E_STATE
    lists = node_part(mem, cache, node_of_slab(mem, w0))
    add(mem, lists + cs.KN_NR_SLABS, 1)
    move_slab(mem, claim, lists, slab_node(mem, pfn, order), c.SLAB_OFF_LIST, c.SLAB_ON_PARTIAL)
    return 0


@unit
def take_new(mem: Memory, claim: Claim, cache: CacheWords, want: int, gfp: Gfp) -> Chain:
    """A chain from a new slab, or E_NOMEM; smaller slabs if memory is short or fragmented."""
    order = mem[cache + cs.K_ORDER]
    pfn = slab_pages(mem, claim, order, gfp & c.GFP_OF_SLABS, cs.OWNER_SLAB)
    if pfn == c.E_NOMEM and order > mem[cache + cs.K_MIN_ORDER]:
        order = mem[cache + cs.K_MIN_ORDER]
        pfn = slab_pages(mem, claim, order, gfp & c.GFP_OF_SLABS, cs.OWNER_SLAB)
    if pfn < 0:
        return +pfn
    objects = objects_that_fit(mem, cache, order)
    first = format_slab(mem, cache, pfn, order, objects)
    lists = node_part(mem, cache, node_of_slab(mem, page_state(mem, pfn)))
    lock(mem, lists + cs.KN_LOCK, claim)
    chain: Chain = adopt(mem, claim, cache, pfn, objects, first)
    if chain == 0:
        # Under the same hold, or other CPUs could take all of them and leave us with nothing.
        chain = pop_checked(mem, claim, cache, lists, pfn, want)
    unlock(mem, lists + cs.KN_LOCK)
    event(mem, claim, c.EV_SLAB_NEW)
    record(mem, claim, c.OP_SLAB_NEW, order, pfn, mem[cache + cs.K_ID])
    return chain


@unit
def take_chain(mem: Memory, claim: Claim, cache: CacheWords, want: int, gfp: Gfp) -> Chain:
    """Up to ``want`` objects (at least one) of one slab, as a private chain; or E_NOMEM.

    The home node's partial slabs first, then a new slab, then the partial slabs of other nodes.
    With GFP_THISNODE those of the home node alone.
    """
    home = home_node(mem, claim)
    chain = take_partial(mem, claim, cache, home, want)
    if chain == c.E_NOMEM:
        chain = take_new(mem, claim, cache, want, gfp)
    node = 0
    while chain == c.E_NOMEM and node < fixed(mem, c.H_NODES):
        if node == home or gfp & c.GFP_THISNODE == 0:  # home again: a slab may have come back
            chain = take_partial(mem, claim, cache, node, want)
        node += 1
    return chain
