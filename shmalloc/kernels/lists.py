"""Doubly linked lists of free blocks, over any link store.

A node is two words, ``next`` then ``prev``, at a 16-byte aligned place. The geometry's link store
says where the node of a page lies; only a base and a stride differ::

    node of pfn = H_LINK_BASE + (pfn << H_LINK_STRIDE)
        page        the first 16 bytes of the free page itself      (the mail's question)
        descriptor  the page's two descriptor words                 (its later "Option 1")
        table       a side table                                    (what the mail was told)

A link is a byte offset in the bits of LINK_MASK. The other bits of the word are preserved: in the
descriptor store they are the page's type, order, zone and version, which a lock-free walker may
read at any moment. So that store uses atomic accesses; in the other two only the holder of the zone
lock may look, and plain accesses let the explorer catch a CPU that does not hold it.

Lists are circular with a head node (Linux's list_head). Adding and removing always check the
neighbours first (Linux: CONFIG_LIST_HARDENED) and refuse a corrupt list: E_STATE, nothing written.
Callers hold the lock of the list.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel
from shmalloc.units import Memory, Pfn, WordIndex
from shmalloc.words import fixed, load_relaxed, store_relaxed


@kernel
def node_of(mem: Memory, pfn: Pfn) -> WordIndex:
    """Word index of the list node of ``pfn``."""
    return fixed(mem, c.H_LINK_BASE) + (pfn << fixed(mem, c.H_LINK_STRIDE))


@kernel
def pfn_of(mem: Memory, node: WordIndex) -> Pfn:
    """The page whose node this is; meaningless for a list head."""
    return (node - fixed(mem, c.H_LINK_BASE)) >> fixed(mem, c.H_LINK_STRIDE)


@hot
def get_link(mem: Memory, at: WordIndex) -> WordIndex:
    """Node index stored in the link word ``at``."""
    if fixed(mem, c.H_LINKS) == c.LINKS_DESCRIPTOR:
        return (load_relaxed(mem, at) & c.LINK_MASK) >> 3
    return (mem[at] & c.LINK_MASK) >> 3


@hot
def set_link(mem: Memory, at: WordIndex, node: WordIndex) -> None:
    """Store ``node`` in the link word ``at``, keeping what a descriptor carries beside it."""
    if fixed(mem, c.H_LINKS) == c.LINKS_DESCRIPTOR:
        store_relaxed(mem, at, (load_relaxed(mem, at) & c.CARRIED_MASK) | (node << 3))
    else:
        mem[at] = node << 3


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
def insert_between(mem: Memory, node: WordIndex, before: WordIndex, after: WordIndex) -> int:
    """Link ``node`` between two neighbours that must be adjacent."""
    if next_of(mem, before) != after or prev_of(mem, after) != before:
        return c.E_STATE
    if node == before or node == after:
        return c.E_STATE
    set_link(mem, node, after)
    set_link(mem, node + 1, before)
    set_link(mem, after + 1, node)
    set_link(mem, before, node)
    return 0


@kernel
def list_add(mem: Memory, head: WordIndex, node: WordIndex) -> int:
    """Insert ``node`` first (LIFO: the hottest memory is allocated next)."""
    return insert_between(mem, node, head, next_of(mem, head))


@hot
def list_remove(mem: Memory, node: WordIndex) -> int:
    """Unlink ``node`` from the middle of its list in O(1); both its links become zero."""
    after = next_of(mem, node)
    before = prev_of(mem, node)
    if after == 0 or before == 0:
        return c.E_STATE
    if next_of(mem, before) != node or prev_of(mem, after) != node:
        return c.E_STATE
    set_link(mem, after + 1, before)
    set_link(mem, before, after)
    # Zero is no node (word 0 is the header): the check above catches a second removal, and a
    # descriptor has a clean link field before its state changes.
    set_link(mem, node, 0)
    set_link(mem, node + 1, 0)
    return 0
