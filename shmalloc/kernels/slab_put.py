"""Objects that return to their slab, and slabs that become empty.

The fast half changes word 1 alone and takes no lock; it refuses if the slab's list would change.
The other half runs under the node lock and releases an empty slab if its node has partial ones to
spare. The states of a slab, and why both halves may race with a taker, are in slab.py.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import mt_of, next_word, order_of, zone_of_word
from shmalloc.kernels.descriptor import page_state, transition2
from shmalloc.kernels.lock import lock, unlock
from shmalloc.kernels.objects import (
    add,
    chain_count,
    chain_first,
    chain_pfn,
    counters,
    free_of,
    inuse_of,
    list_state,
    node_of_slab,
    node_part,
    objects_of,
    set_free_link,
    slab_node,
)
from shmalloc.kernels.reporting import event, record, report
from shmalloc.kernels.slab import freeze, on_list
from shmalloc.kernels.slab_format import give_pages_back
from shmalloc.kernels.slab_lists import move_slab
from shmalloc.kernels.slots import label
from shmalloc.kernels.zone import descriptor_at
from shmalloc.units import (
    CacheWords,
    Chain,
    Claim,
    Memory,
    NodePart,
    ObjectAddress,
    Pfn,
    Word0,
    Word1,
)
from shmalloc.words import cas2, load2, load_relaxed, relax


@kernel
def put_quickly(
    mem: Memory, claim: Claim, cache: CacheWords, chain: Chain, last: ObjectAddress
) -> bool:
    """Put a chain back without the node lock, if the slab's list does not change.

    False: the slab is full, frozen, or would become empty; nothing was done.
    """
    at = descriptor_at(mem, chain_pfn(chain))
    first = chain_first(chain)
    count = chain_count(chain)
    while True:
        w0, w1 = load2(mem, at)
        if free_of(w1) == 0 or inuse_of(w1) <= count:
            return False
        set_free_link(mem, cache, last, free_of(w1))
        # Linearization point: publishes the chain behind its first object.
        if cas2(mem, at, w0, w1, w0, counters(w1, first, inuse_of(w1) - count, objects_of(w1))):
            return True
        event(mem, claim, c.EV_CAS_FAIL)
        relax(mem)


@kernel
def put_locked(
    mem: Memory, claim: Claim, cache: CacheWords, lists: NodePart, chain: Chain, last: ObjectAddress
) -> int:
    """Put a chain back under the node lock. Returns 1 if the slab is empty and must go.

    Then it is ours alone, off every list and a plain allocated block; the caller releases it after
    the lock. Two freers cannot both see "empty": of two swaps from one pair one fails.
    """
    pfn = chain_pfn(chain)
    first = chain_first(chain)
    count = chain_count(chain)
    at = descriptor_at(mem, pfn)
    while True:
        w0, w1 = load2(mem, at)
        before = list_state(w0)
        if before == cs.SLAB_FROZEN:
            return 0
        inuse = inuse_of(w1) - count
        if inuse < 0:
            report(mem, claim, c.M_FREECHAIN, pfn, count, inuse_of(w1))
            freeze(mem, claim, cache, lists, pfn)
            return 0
        set_free_link(mem, cache, last, free_of(w1))
        if inuse == 0 and enough_partial(mem, cache, lists, before):
            if unmake(mem, claim, lists, pfn, w0, w1):
                return 1
        else:
            after = w0 if before == c.SLAB_ON_PARTIAL else on_list(w0, c.SLAB_ON_PARTIAL)
            if cas2(mem, at, w0, w1, after, counters(w1, first, inuse, objects_of(w1))):
                if before != c.SLAB_ON_PARTIAL:
                    node = slab_node(mem, pfn, order_of(w0))
                    move_slab(mem, claim, lists, node, before, c.SLAB_ON_PARTIAL)
                    event(mem, claim, c.EV_SLAB_PARTIAL)
                return 0
        event(mem, claim, c.EV_CAS_FAIL)
        relax(mem)


@kernel
def enough_partial(mem: Memory, cache: CacheWords, lists: NodePart, state: int) -> bool:
    """Whether the node has enough partial slabs without this one; node lock held."""
    others = load_relaxed(mem, lists + cs.KN_NR_PARTIAL)
    if state == c.SLAB_ON_PARTIAL:
        others -= 1
    return others >= load_relaxed(mem, cache + cs.K_MIN_PARTIAL)


@kernel
def unmake(mem: Memory, claim: Claim, lists: NodePart, pfn: Pfn, w0: Word0, w1: Word1) -> bool:
    """SLAB -> ALLOCATED for an empty slab, off its list; node lock held. False: it changed."""
    gone = next_word(
        w0, c.T_ALLOCATED, order_of(w0), zone_of_word(w0), mt_of(w0), label(mem, claim)
    )
    if not transition2(mem, pfn, w0, w1, gone | (w0 & c.POISON_BIT), cs.OWNER_SLAB):
        return False
    node = slab_node(mem, pfn, order_of(w0))
    add(mem, lists + cs.KN_NR_SLABS, -1)
    move_slab(mem, claim, lists, node, list_state(w0), c.SLAB_OFF_LIST)
    return True


@kernel
def release(mem: Memory, claim: Claim, pfn: Pfn) -> None:
    """Free the pages of a slab that was unmade; no lock held."""
    order = order_of(page_state(mem, pfn))
    event(mem, claim, c.EV_SLAB_GONE)
    record(mem, claim, c.OP_SLAB_GONE, order, pfn, 0)
    give_pages_back(mem, claim, pfn, order, cs.OWNER_SLAB)


@unit
def put_chain(
    mem: Memory, claim: Claim, cache: CacheWords, chain: Chain, last: ObjectAddress
) -> None:
    """Put a chain of objects back to their slab; ``last`` is the address of its last object.

    Their free pointers link them, except the last one's (Linux: __slab_free). The intent is
    announced and the first object marked (slot_intent.py).
    """
    if put_quickly(mem, claim, cache, chain, last):
        return
    pfn = chain_pfn(chain)
    lists = node_part(mem, cache, node_of_slab(mem, page_state(mem, pfn)))
    lock(mem, lists + cs.KN_LOCK, claim)
    gone = put_locked(mem, claim, cache, lists, chain, last)
    unlock(mem, lists + cs.KN_LOCK)
    if gone != 0:
        release(mem, claim, pfn)
