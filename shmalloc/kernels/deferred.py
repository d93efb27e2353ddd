"""Blocks that are freed and not in their zone yet: the deferred list of a zone.

::

    Z_DEFERRED -> node + 1 -> node + 1 -> 0      nodes as on a per-CPU list (pcp_lists.py)

A free that may not wait (try_pages.py) and finds the zone lock held puts its block here. The list
has no lock: any process pushes by one compare-exchange of Z_DEFERRED, and only the holder of the
zone lock takes off, one block after the other. So a node that is read as the first one stays on the
list, and no compare-exchange is fooled by one that was taken off and came back. Each ordinary
holder of the lock frees what is on the list before it lets go (repair.py). Linux:
zone->trylock_free_pages.

A block on the list is in state PCP, which does not merge, with the label of a life: of the one that
freed it, or of a holder of the lock that was about to take it off. Its owner by that label may be
dead, or live and know nothing of it any more. So a recovery takes off first, and then frees what
else bears the label of the dead: that was in its hands.

A node is overwritten by a stray write like any word of a free page. The list then ends there, with
a report; the blocks behind are lost until the segment ends, since they cannot be told from those
that their lives have in their hands.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import (
    detail_of,
    mt_of,
    next_word,
    order_of,
    type_of,
    wants_poison,
    zone_of_word,
)
from shmalloc.kernels.buddy import free_block
from shmalloc.kernels.descriptor import page_state, transition2
from shmalloc.kernels.lists import get_link, node_of, pfn_of
from shmalloc.kernels.pcp_lists import leave_list, push_node
from shmalloc.kernels.rebuild import retire_held
from shmalloc.kernels.reporting import event, report
from shmalloc.kernels.slots import label
from shmalloc.kernels.zone import descriptor_at
from shmalloc.units import Claim, Memory, Pfn, Word0, WordIndex, ZoneId, ZoneWords
from shmalloc.words import cas, exchange, fixed, load, load2, load_relaxed


@kernel
def is_deferred(w0: Word0, zone_id: ZoneId) -> bool:
    """Whether word 0 is that of a block of the zone that may be on its deferred list."""
    alike = type_of(w0) == c.T_PCP and zone_of_word(w0) == zone_id
    return alike and detail_of(w0) & c.LABEL_ON_LIST == 0


@unit
def defer_block(mem: Memory, claim: Claim, zone: ZoneWords, pfn: Pfn) -> None:
    """Put a block in state PCP, which is in our hands and bears our label, on the deferred list.

    A try fails only where another process has just put one on, or taken one off.
    """
    node = node_of(mem, pfn)
    first = load_relaxed(mem, zone + c.Z_DEFERRED)
    push_node(mem, node, first)
    while not cas(mem, zone + c.Z_DEFERRED, first, node):  # publishes the node
        first = load_relaxed(mem, zone + c.Z_DEFERRED)
        push_node(mem, node, first)
    event(mem, claim, c.EV_DEFER)


@unit
def drain_deferred(mem: Memory, claim: Claim, zone: ZoneWords) -> int:
    """Free the blocks on the deferred list, or retire those that are marked for poison; zone lock
    held. Returns pages."""
    pages = 0
    node = load(mem, zone + c.Z_DEFERRED)
    while node != 0:
        taken = take_deferred(mem, claim, zone, node)
        if taken < 0:
            return pages
        pages += taken
        node = load(mem, zone + c.Z_DEFERRED)
    return pages


@kernel
def take_deferred(mem: Memory, claim: Claim, zone: ZoneWords, node: WordIndex) -> int:
    """Take the first block, whose node is ``node``, off and free it; its pages.

    0: it is not the first one any more; E_STATE: its node was overwritten, and the list is empty
    now. First our label: killed behind the compare-exchange, we have the block in our hands.
    """
    if is_wrong_deferred(mem, zone, node):
        cut_deferred(mem, claim, zone, node)
        return c.E_STATE
    pfn = pfn_of(mem, node)
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    order = order_of(w0)
    mine = next_word(w0, c.T_PCP, order, zone_of_word(w0), mt_of(w0), label(mem, claim))
    if not transition2(mem, pfn, w0, w1, mine | (w0 & c.POISON_BIT), w1):
        cut_deferred(mem, claim, zone, node)
        return c.E_STATE
    if not cas(mem, zone + c.Z_DEFERRED, node, get_link(mem, node + 1)):
        return 0
    leave_list(mem, node)
    event(mem, claim, c.EV_DEFER_DRAIN)
    if wants_poison(w0):
        retire_held(mem, claim, zone, pfn)
    else:
        free_block(mem, zone, claim, pfn, order)
    return 1 << order


@kernel
def is_node_in(mem: Memory, zone: ZoneWords, node: WordIndex) -> bool:
    """Whether ``node`` is that of a block of the zone that may be on its deferred list."""
    pfn = pfn_of(mem, node)
    if pfn < fixed(mem, zone + c.Z_START) or pfn >= fixed(mem, zone + c.Z_END):
        return False
    return node == node_of(mem, pfn) and is_deferred(
        page_state(mem, pfn), fixed(mem, zone + c.Z_INDEX)
    )


@kernel
def is_wrong_deferred(mem: Memory, zone: ZoneWords, node: WordIndex) -> bool:
    """Whether a node of the list, or what it leads to, is none; zone lock held."""
    if not is_node_in(mem, zone, node):
        return True
    if fixed(mem, c.H_LINKS) < c.LINKS_DESCRIPTOR and mem[node] ^ mem[node + 1] != c.LINK_MASK:
        return True
    following = get_link(mem, node + 1)
    if following == 0:
        # Links in descriptors have no complement: one that leads out of the segment reads as 0.
        in_descriptor = fixed(mem, c.H_LINKS) >= c.LINKS_DESCRIPTOR
        return in_descriptor and load_relaxed(mem, node + 1) & c.LINK_MASK != 0
    return following == node or not is_node_in(mem, zone, following)


@unit
def cut_deferred(mem: Memory, claim: Claim, zone: ZoneWords, node: WordIndex) -> None:
    """End the list before its first node, which was overwritten, and report it."""
    exchange(mem, zone + c.Z_DEFERRED, 0)
    zone_id = fixed(mem, zone + c.Z_INDEX)
    report(mem, claim, c.I_LIST_LINKS, c.AT_WORD | node, c.AT_ZONE | zone_id, 0)
