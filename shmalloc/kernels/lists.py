"""Doubly linked lists of free blocks, over any link store.

A node is two words, ``next`` then ``prev``, at a 16-byte aligned place. The geometry's link store
says where the node of a page lies; only a base and a stride differ::

    node of pfn = H_LINK_BASE + (pfn << H_LINK_STRIDE)
        page        the first 16 bytes of the free page itself      (the mail's question)
        descriptor  the page's two descriptor words                 (its later "Option 1")
        table       a side table                                    (what the mail was told)

Two more stores keep free blocks on no list at all (free_area.py); a per-CPU list in list form then
runs through the second descriptor word.

A link is a byte offset in the bits of LINK_MASK. The other bits of the word are preserved: in the
descriptor store they are the page's type, order, zone and version, which a lock-free walker may
read at any moment. So that store uses atomic accesses; in the other two only the holder of the zone
lock may look, and plain accesses let the explorer catch a CPU that does not hold it.

Lists are circular with a head node (Linux's list_head). Adding and removing always check the
neighbours first (Linux: CONFIG_LIST_HARDENED) and refuse a corrupt list: E_STATE, nothing written.
A link is checked before it is followed: one that leads out of the segment, or has a bit that no
link has, reads as 0, which is no node. Callers hold the lock of the list.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel
from shmalloc.units import Memory, Pfn, WordIndex
from shmalloc.words import fixed, load_relaxed, store_relaxed


@hot
def node_of(mem: Memory, pfn: Pfn) -> WordIndex:
    """Word index of the list node of ``pfn``."""
    return fixed(mem, c.H_LINK_BASE) + (pfn << fixed(mem, c.H_LINK_STRIDE))


@hot
def pfn_of(mem: Memory, node: WordIndex) -> Pfn:
    """The page whose node this is; meaningless for a list head."""
    return (node - fixed(mem, c.H_LINK_BASE)) >> fixed(mem, c.H_LINK_STRIDE)


@hot
def node_in(mem: Memory, link: int) -> WordIndex:
    """The node that a link leads to; 0 if it has other bits, or leads out of the segment."""
    if link & c.LINK_MASK != link or link >> 3 >= fixed(mem, c.H_WORDS):
        return 0
    return link >> 3


@hot
def get_link(mem: Memory, at: WordIndex) -> WordIndex:
    """Node index stored in the link word ``at``; 0: none, or what cannot be one."""
    if fixed(mem, c.H_LINKS) >= c.LINKS_DESCRIPTOR:
        return node_in(mem, load_relaxed(mem, at) & c.LINK_MASK)
    return node_in(mem, mem[at])


@hot
def leads_to(mem: Memory, at: WordIndex, node: WordIndex) -> bool:
    """Whether the link word ``at`` leads to ``node``: cheaper than to ask where it leads."""
    if fixed(mem, c.H_LINKS) >= c.LINKS_DESCRIPTOR:
        return load_relaxed(mem, at) & c.LINK_MASK == node << 3
    return mem[at] == node << 3


@hot
def set_link(mem: Memory, at: WordIndex, node: WordIndex) -> None:
    """Store ``node`` in the link word ``at``, keeping what a descriptor carries beside it."""
    if fixed(mem, c.H_LINKS) >= c.LINKS_DESCRIPTOR:
        store_relaxed(mem, at, (load_relaxed(mem, at) & c.CARRIED_MASK) | (node << 3))
    else:
        mem[at] = node << 3


@kernel
def no_link(mem: Memory) -> int:
    """What both words of a node hold that is on no list: 0, or the poison of the page it is in."""
    if fixed(mem, c.H_FILL) == c.FILL_POISON and fixed(mem, c.H_LINKS) == c.LINKS_PAGE:
        return c.POISON_WORD
    return 0


@kernel
def clear_node(mem: Memory, node: WordIndex) -> None:
    """Make ``node`` one that is on no list."""
    if fixed(mem, c.H_LINKS) >= c.LINKS_DESCRIPTOR:
        set_link(mem, node, 0)
        set_link(mem, node + 1, 0)
    else:
        nothing = no_link(mem)
        mem[node] = nothing
        mem[node + 1] = nothing


@kernel
def is_unlinked(mem: Memory, node: WordIndex) -> bool:
    """Whether ``node`` is as ``clear_node`` leaves it."""
    if fixed(mem, c.H_LINKS) >= c.LINKS_DESCRIPTOR:
        return get_link(mem, node) == 0 and get_link(mem, node + 1) == 0
    return mem[node] == no_link(mem) and mem[node + 1] == no_link(mem)


@kernel
def next_of(mem: Memory, node: WordIndex) -> WordIndex:
    return get_link(mem, node)


@kernel
def prev_of(mem: Memory, node: WordIndex) -> WordIndex:
    return get_link(mem, node + 1)


@kernel
def list_init(mem: Memory, head: WordIndex) -> None:
    set_link(mem, head, head)
    set_link(mem, head + 1, head)


@hot
def list_add(mem: Memory, head: WordIndex, node: WordIndex) -> int:
    """Insert ``node`` first (LIFO: the hottest memory is allocated next)."""
    after = next_of(mem, head)
    if after == 0 or after == node or not leads_to(mem, after + 1, head):
        return c.E_STATE
    set_link(mem, node, after)
    set_link(mem, node + 1, head)
    set_link(mem, after + 1, node)
    set_link(mem, head, node)
    return 0


@hot
def list_remove(mem: Memory, node: WordIndex) -> int:
    """Unlink ``node`` from the middle of its list in O(1); it is then as ``clear_node`` says."""
    after = next_of(mem, node)
    before = prev_of(mem, node)
    if after == 0 or before == 0:
        return c.E_STATE
    if not leads_to(mem, before, node) or not leads_to(mem, after + 1, node):
        return c.E_STATE
    set_link(mem, after + 1, before)
    set_link(mem, before, after)
    # What is no node any more has no links: the check above catches a second removal, and a
    # descriptor has a clean link field before its state changes.
    clear_node(mem, node)
    return 0
