"""The partial and full lists of a cache's node: slabs moved, found, and listed anew.

The list node of a slab is in the slab, so it can be overwritten like any word of it. Its descriptor
says which list it is on (slab.py), and that changes only under the node lock, before the lists do.
So a list that does not agree with the slab that is moved is made anew from the descriptors of all
slabs, under the same hold of the lock; the slab is reported, and everything else goes on.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import order_of, type_of
from shmalloc.kernels.descriptor import head_of, in_range, page_state
from shmalloc.kernels.lists import list_add, list_init, list_remove
from shmalloc.kernels.objects import (
    add,
    first_node_part,
    is_slab_of,
    list_state,
    node_of_slab,
    node_part,
    slab_node,
)
from shmalloc.kernels.reporting import report
from shmalloc.kernels.zone import pfn_of_word
from shmalloc.units import CacheId, CacheWords, Claim, Memory, NodeId, NodePart, Pfn, WordIndex
from shmalloc.words import fixed, store_relaxed


@kernel
def next_slab(mem: Memory, pfn: Pfn, cache_id: CacheId) -> Pfn:
    """First slab of ``cache_id`` at or after ``pfn``, or -1. Lock-free.

    A block of another kind covered its pages at the moment it was read, so no slab of this cache
    that stays can be inside it.
    """
    while pfn < fixed(mem, c.H_PAGES):
        w0 = page_state(mem, pfn)
        if is_slab_of(w0, cache_id):
            return pfn
        if type_of(w0) == c.T_TAIL:
            pfn += 1
        else:
            pfn += 1 << order_of(w0)
    return -1


@kernel
def slab_of_node(mem: Memory, at: WordIndex) -> Pfn:
    """The block whose list node, as a slab, is at ``at``; -1 if there is none."""
    pfn = pfn_of_word(mem, at)
    if at < fixed(mem, c.H_AT_FRAMES) or not in_range(mem, pfn):
        return -1
    head = head_of(mem, pfn)
    if head < 0 or at != slab_node(mem, head, order_of(page_state(mem, head))):
        return -1
    return head


@kernel
def move_slab(
    mem: Memory, claim: Claim, lists: NodePart, node: WordIndex, before: int, after: int
) -> None:
    """Move a slab's list node from one list to another, as its descriptor says now; node lock held.

    The caller has counted the slab already, if it is new, frozen or gone.
    """
    bad = 0
    if before == c.SLAB_ON_PARTIAL:
        bad += list_remove(mem, node)
        add(mem, lists + cs.KN_NR_PARTIAL, -1)
    elif before == c.SLAB_ON_FULL:
        bad += list_remove(mem, node)
        add(mem, lists + cs.KN_NR_FULL, -1)
    if after == c.SLAB_ON_PARTIAL:
        bad += list_add(mem, lists + cs.KN_PARTIAL, node)
        add(mem, lists + cs.KN_NR_PARTIAL, 1)
    elif after == c.SLAB_ON_FULL:
        bad += list_add(mem, lists + cs.KN_FULL, node)
        add(mem, lists + cs.KN_NR_FULL, 1)
    if bad != 0:
        relist_part(mem, claim, lists, node)


@unit
def relist_part(mem: Memory, claim: Claim, lists: NodePart, at: WordIndex) -> None:
    """Report a wrong link at or beside the node ``at``, and list the slabs of a node anew."""
    report(mem, claim, c.I_LIST_LINKS, c.AT_WORD | at, c.AT_WORD | lists, 0)
    inside = lists - fixed(mem, c.H_AT_CACHES)
    stride = fixed(mem, c.H_CACHE_STRIDE)
    cache: CacheWords = fixed(mem, c.H_AT_CACHES) + inside // stride * stride
    relist_node(mem, cache, (inside % stride - first_node_part(mem)) // cs.KN_STRIDE)


@unit
def relist_node(mem: Memory, cache: CacheWords, node_id: NodeId) -> None:
    """Make the lists and counters of slabs of one node anew; node lock held."""
    lists = node_part(mem, cache, node_id)
    list_init(mem, lists + cs.KN_PARTIAL)
    list_init(mem, lists + cs.KN_FULL)
    store_relaxed(mem, lists + cs.KN_NR_PARTIAL, 0)
    store_relaxed(mem, lists + cs.KN_NR_FULL, 0)
    store_relaxed(mem, lists + cs.KN_NR_SLABS, 0)
    store_relaxed(mem, lists + cs.KN_NR_FROZEN, 0)
    pfn = next_slab(mem, 0, mem[cache + cs.K_ID])
    while pfn >= 0:
        w0 = page_state(mem, pfn)
        if node_of_slab(mem, w0) == node_id:
            count_slab(mem, lists, slab_node(mem, pfn, order_of(w0)), list_state(w0))
        pfn = next_slab(mem, pfn + (1 << order_of(w0)), mem[cache + cs.K_ID])


@kernel
def count_slab(mem: Memory, lists: NodePart, at: WordIndex, state: int) -> None:
    """Count one slab, and put it on the list that its descriptor names."""
    add(mem, lists + cs.KN_NR_SLABS, 1)
    if state == c.SLAB_ON_PARTIAL:
        list_add(mem, lists + cs.KN_PARTIAL, at)
        add(mem, lists + cs.KN_NR_PARTIAL, 1)
    elif state == c.SLAB_ON_FULL:
        list_add(mem, lists + cs.KN_FULL, at)
        add(mem, lists + cs.KN_NR_FULL, 1)
    elif state == cs.SLAB_FROZEN:
        add(mem, lists + cs.KN_NR_FROZEN, 1)
