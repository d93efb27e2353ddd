"""One list of blocks of a CPU: its order and migratetype, a block put on it and taken off it.

::

    array form     pfns in the structure itself
    list form      P_HEAD -> node + 1 -> node + 1 -> 0        (lists.py says where a node lies)

In list form the chain runs through the second word of the nodes. Where a node is nothing else (link
stores ``page`` and ``table``) its first word is the complement of the second one: a stray write to
the page changes one of them and is noticed before the link is followed. The list then ends there:
the block is marked, P_DAMAGED is set, and the next refill or drain makes the CPU's lists anew from
the descriptors (pcp_repair.py).

All of it is plain data under P_LOCK. Capacity and marks are the caller's (pcp.py).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.bits import detail_of, type_of
from shmalloc.kernels.descriptor import in_range, page_state
from shmalloc.kernels.lists import clear_node, get_link, node_of, pfn_of, set_link
from shmalloc.kernels.zone import descriptor_at
from shmalloc.units import Memory, Migratetype, Order, PcpWords, Pfn, Word0, WordIndex
from shmalloc.words import cas, fixed, load_relaxed

# Type, label, order and zone of word 0: what the blocks of one list have in common.
SAME_LIST = (1 << c.MT_SHIFT) - 1


@hot
def pcp_index(mem: Memory, order: Order, mt: Migratetype) -> int:
    """List of (order, migratetype), or -1 for what is never kept per CPU."""
    if mt >= c.MT_PCP_TYPES:
        return -1
    if order < c.PCP_ORDERS:
        return order * c.MT_PCP_TYPES + mt
    if order == fixed(mem, c.H_PAGEBLOCK_ORDER):
        return c.PCP_ORDERS * c.MT_PCP_TYPES + mt
    return -1


@hot
def pcp_keeps(mem: Memory, order: Order) -> bool:
    """Whether blocks of this order are kept per CPU at all."""
    return order < c.PCP_ORDERS or order == fixed(mem, c.H_PAGEBLOCK_ORDER)


@kernel
def pcp_order(mem: Memory, index: int) -> Order:
    """Inverse of ``pcp_index``: the order that a list holds."""
    if index < c.PCP_ORDERS * c.MT_PCP_TYPES:
        return index // c.MT_PCP_TYPES
    return fixed(mem, c.H_PAGEBLOCK_ORDER)


@hot
def counted_pages(order: Order) -> int:
    """Pages that a block adds to P_COUNT; whole pageblocks have their own limit."""
    return 1 << order if order < c.PCP_ORDERS else 0


@hot
def pcp_push(mem: Memory, pcp: PcpWords, index: int, order: Order, pfn: Pfn) -> None:
    """Put a block in state PCP on a list; P_LOCK held, and the list is not at its capacity."""
    length = mem[pcp + c.P_LENGTH + index]
    if fixed(mem, c.H_PCP_FORM) == c.PCP_ARRAY:
        mem[pcp + c.P_ARRAYS + index * fixed(mem, c.H_PCP_CAPACITY) + length] = pfn
    else:
        push_node(mem, node_of(mem, pfn), mem[pcp + c.P_HEAD + index])
        mem[pcp + c.P_HEAD + index] = node_of(mem, pfn)
    mem[pcp + c.P_LENGTH + index] = length + 1
    mem[pcp + c.P_COUNT] = mem[pcp + c.P_COUNT] + counted_pages(order)


@hot
def pcp_pop(mem: Memory, pcp: PcpWords, index: int, order: Order) -> Pfn:
    """Take the block freed last off a list, or E_NOMEM; P_LOCK held."""
    length = mem[pcp + c.P_LENGTH + index]
    if length == 0:
        return c.E_NOMEM
    if fixed(mem, c.H_PCP_FORM) == c.PCP_LIST:
        return pop_node(mem, pcp, index, order)
    mem[pcp + c.P_LENGTH + index] = length - 1
    mem[pcp + c.P_COUNT] = mem[pcp + c.P_COUNT] - counted_pages(order)
    return mem[pcp + c.P_ARRAYS + index * fixed(mem, c.H_PCP_CAPACITY) + length - 1]


@hot
def push_node(mem: Memory, node: WordIndex, following: WordIndex) -> None:
    """Make ``node`` lead to ``following``, the first one so far (0: none)."""
    if fixed(mem, c.H_LINKS) >= c.LINKS_DESCRIPTOR:
        set_link(mem, node + 1, following)
    else:
        mem[node + 1] = following << 3
        mem[node] = c.LINK_MASK ^ (following << 3)


@hot
def pop_node(mem: Memory, pcp: PcpWords, index: int, order: Order) -> Pfn:
    """``pcp_pop`` in list form; the list is not empty. E_NOMEM: its first link is wrong."""
    node = mem[pcp + c.P_HEAD + index]
    length = mem[pcp + c.P_LENGTH + index]
    following = get_link(mem, node + 1)
    wrong = (following == 0) != (length == 1)
    if fixed(mem, c.H_LINKS) >= c.LINKS_DESCRIPTOR:
        wrong = wrong or is_wrong_node(mem, node, following)
    else:
        wrong = wrong or mem[node] ^ mem[node + 1] != c.LINK_MASK
    if wrong:
        cut_off(mem, pcp, index, order)
        return c.E_NOMEM
    mem[pcp + c.P_HEAD + index] = following
    mem[pcp + c.P_LENGTH + index] = length - 1
    mem[pcp + c.P_COUNT] = mem[pcp + c.P_COUNT] - counted_pages(order)
    leave_list(mem, node)
    return pfn_of(mem, node)


@hot
def leave_list(mem: Memory, node: WordIndex) -> None:
    """Clear the node of a block in state PCP; in its descriptor word 0 is its label, no link.

    What is left in a page whose bytes mean nothing while it is free means nothing either.
    """
    if fixed(mem, c.H_LINKS) >= c.LINKS_DESCRIPTOR:
        set_link(mem, node + 1, 0)
    elif fixed(mem, c.H_FILL) != c.FILL_NONE:
        clear_node(mem, node)


@kernel
def is_on_a_list(w0: Word0) -> bool:
    """Whether word 0 is that of a block on the lists of a CPU."""
    return type_of(w0) == c.T_PCP and detail_of(w0) & c.LABEL_ON_LIST != 0


@unit
def is_wrong_node(mem: Memory, node: WordIndex, following: WordIndex) -> bool:
    """Whether the words of a node in a descriptor, which lead to ``following``, were overwritten.

    They have no complement: the block and the next one must be on one list.
    """
    if following == node or not is_on_a_list(page_state(mem, pfn_of(mem, node))):
        return True
    if following == 0:
        return load_relaxed(mem, node + 1) & c.LINK_MASK != 0  # it led out of the segment
    pfn = pfn_of(mem, following)
    if not in_range(mem, pfn) or node_of(mem, pfn) != following:
        return True
    return (page_state(mem, pfn_of(mem, node)) ^ page_state(mem, pfn)) & SAME_LIST != 0


@unit
def cut_off(mem: Memory, pcp: PcpWords, index: int, order: Order) -> None:
    """End a list before its first block, whose link is wrong; the block is marked (``pcp_pop``).

    The blocks behind it still bear the label of these lists (``repair_lists``).
    """
    pfn = pfn_of(mem, mem[pcp + c.P_HEAD + index])
    w0 = page_state(mem, pfn)
    if is_on_a_list(w0):  # else an earlier link led here
        cas(mem, descriptor_at(mem, pfn), w0, w0 | c.POISON_BIT)
    counted = mem[pcp + c.P_LENGTH + index] * counted_pages(order)
    mem[pcp + c.P_COUNT] = mem[pcp + c.P_COUNT] - counted
    mem[pcp + c.P_LENGTH + index] = 0
    mem[pcp + c.P_HEAD + index] = 0
    mem[pcp + c.P_DAMAGED] = pfn + 1
