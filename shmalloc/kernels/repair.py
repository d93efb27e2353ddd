"""Free lists whose links were overwritten from outside: which block was hit, and sound lists again.

A stray write of eight bytes to a free page hits its links if the link store is ``page``. The list
operations check every link before they follow or change it (lists.py); one that meets a wrong link
changes nothing, notes the block in Z_DAMAGED and goes on without it (buddy.py). Before the lock is
released, or at once where an allocation needs a block:

    1  every free block of the zone is compared with its two neighbours: a word that leads to no
       block of its list is wrong, and of two words that disagree the one that a third contradicts
    2  each block with a wrong word is reported by its pfn and marked
    3  lists and counters are made anew from the descriptors; the first page of a marked block,
       which was written to while it was free, leaves service, and the rest of it stays free

Where no list runs through a node of the block, its page was not what was written to: blocks are
compared with the index or the bitmap (store_check.py), reported, and stay in service.

Callers hold the zone lock and have no block of the zone between two states. Not repaired: words of
descriptors and zones (audit.py finds them) and the bytes of pages (fill.py).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import mt_of, order_of, type_of, wants_poison
from shmalloc.kernels.buddy import block_span
from shmalloc.kernels.deferred import drain_deferred
from shmalloc.kernels.descriptor import is_free_head, page_state, transition
from shmalloc.kernels.free_area import has_lists
from shmalloc.kernels.lists import get_link, is_unlinked, node_of, pfn_of
from shmalloc.kernels.lock import unlock
from shmalloc.kernels.rebuild import relist_zone, report_links
from shmalloc.kernels.store_check import check_store, is_stored
from shmalloc.kernels.zone import area_list
from shmalloc.units import Claim, Memory, Pfn, Word0, WordIndex, ZoneWords
from shmalloc.words import fixed, load_relaxed

NEXT_SIDE = 0  # of a node: its first word leads to the next one, its second one to the one before
BACK_SIDE = 1


@kernel
def unlock_zone(mem: Memory, claim: Claim, zone: ZoneWords) -> None:
    """Release the zone lock, with all lists in order and what was deferred meanwhile freed.

    A block that is deferred behind this look stays on its list for the next holder.
    """
    if load_relaxed(mem, zone + c.Z_DEFERRED) != 0:
        drain_deferred(mem, claim, zone)
    release_zone(mem, claim, zone)


@kernel
def release_zone(mem: Memory, claim: Claim, zone: ZoneWords) -> None:
    """Release the zone lock, with all lists in order; deferred blocks stay for another holder."""
    if mem[zone + c.Z_DAMAGED] != 0:
        repair_zone(mem, claim, zone)
    unlock(mem, zone + c.Z_LOCK)


@unit
def repair_zone(mem: Memory, claim: Claim, zone: ZoneWords) -> None:
    """Report and mark the blocks whose links are wrong, and make the lists anew; lock held."""
    found = mark_damaged(mem, claim, zone) if has_lists(mem) else check_store(mem, claim, zone)
    if found > 0:
        mem[zone + c.Z_DAMAGED] = 0  # else relist_zone names the block that showed it
    relist_zone(mem, claim, zone)


@kernel
def mark_damaged(mem: Memory, claim: Claim, zone: ZoneWords) -> int:
    """Report and mark every free block with a wrong link; how many."""
    marked = 0
    pfn = fixed(mem, zone + c.Z_START)
    while pfn < fixed(mem, zone + c.Z_END):
        w0 = page_state(mem, pfn)
        if type_of(w0) == c.T_FREE and wants_poison(w0):
            marked += 1  # it was reported (check_node)
        elif type_of(w0) == c.T_FREE and not is_unlinked(mem, node_of(mem, pfn)):
            if has_wrong_link(mem, zone, pfn, w0):
                report_links(mem, claim, zone, pfn)
                transition(mem, pfn, w0, w0 | c.POISON_BIT)
                marked += 1
        pfn += block_span(w0)
    return marked


@kernel
def has_wrong_link(mem: Memory, zone: ZoneWords, pfn: Pfn, w0: Word0) -> bool:
    """Whether what links a free block to others of its kind was overwritten."""
    if not has_lists(mem):
        return not is_stored(mem, zone, pfn, w0)
    head = area_list(zone, order_of(w0), mt_of(w0))
    node = node_of(mem, pfn)
    if is_wrong_link(mem, zone, head, w0, node, NEXT_SIDE):
        return True
    return is_wrong_link(mem, zone, head, w0, node, BACK_SIDE)


@kernel
def is_wrong_link(
    mem: Memory, zone: ZoneWords, head: WordIndex, w0: Word0, node: WordIndex, side: int
) -> bool:
    """Whether the word on one side of ``node``, which is on the list of ``head``, is wrong.

    ``w0``: word 0 of a block of that list. Where a node and its neighbour contradict each other,
    the node that the neighbour names instead decides: if it agrees with the neighbour, or with
    none, the word asked about is wrong, else the neighbour's.
    """
    other = get_link(mem, node + side)
    if not is_on_list(mem, zone, head, w0, other):
        return True
    third = get_link(mem, other + 1 - side)
    if third == node:
        return False
    if not is_on_list(mem, zone, head, w0, third):
        return False
    named = get_link(mem, third + side)
    if named == other or not is_on_list(mem, zone, head, w0, named):
        return True
    return get_link(mem, named + 1 - side) != third


@kernel
def is_on_list(mem: Memory, zone: ZoneWords, head: WordIndex, w0: Word0, node: WordIndex) -> bool:
    """Whether ``node`` is the head of the list, or that of a block that belongs on it."""
    if node == head:
        return True
    pfn = pfn_of(mem, node)
    if pfn < fixed(mem, zone + c.Z_START) or pfn >= fixed(mem, zone + c.Z_END):
        return False
    found = page_state(mem, pfn)
    alike = is_free_head(found, fixed(mem, zone + c.Z_INDEX), order_of(w0))
    if not alike or mt_of(found) != mt_of(w0) or node != node_of(mem, pfn):
        return False
    return not is_unlinked(mem, node)
