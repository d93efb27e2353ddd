"""Page descriptors in memory: how a page changes state, what covers it, what walkers may read.

One page, one pair of words, one compare-exchange for each change of state. Blocks are not written
page by page: the descriptor of every page inside a block is TAIL (type 0, so a fresh memmap is all
tails), and arithmetic finds the head. A page can only be inside the block of its *parent*, ``pfn &
(pfn - 1)`` (clear the lowest set bit): that is the page that absorbed it when it was last merged,
at the order of that bit. So at most max_order steps lead from any page to its head, no tail ever
needs rewriting, and splitting a block of 1024 pages writes one descriptor per level
(docs/decisions/0004-tails-are-arithmetic.md).

The partition of a zone into blocks is legal after every single write:

- split: the right halves get their heads first (inside the old block, so no CPU finds them), then
  one compare-exchange shrinks the left head and uncovers them all;
- merge: the leftmost head grows first and covers the others, then those become tails.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.bits import (
    detail_of,
    legal_head,
    mt_of,
    next_word,
    order_of,
    type_of,
    zone_of_word,
)
from shmalloc.kernels.reporting import cpu_of
from shmalloc.kernels.slots import label, list_label
from shmalloc.kernels.zone import descriptor_at
from shmalloc.units import (
    Claim,
    Label,
    Memory,
    Migratetype,
    Order,
    Owner,
    Pfn,
    Word0,
    Word1,
    ZoneId,
)
from shmalloc.words import cas, cas2, fixed, load, load_relaxed, store, store_relaxed


@kernel
def page_state(mem: Memory, pfn: Pfn) -> Word0:
    """Word 0 of the descriptor of ``pfn``: type, order, zone, migratetype, version."""
    return load(mem, descriptor_at(mem, pfn))


@hot
def transition(mem: Memory, pfn: Pfn, old0: Word0, new0: Word0) -> bool:
    """Change word 0 from ``old0`` to ``new0`` and leave word 1; linearization point.

    Returns False if ``new0`` is E_STATE (the transition is not allowed) or another CPU changed the
    page meanwhile. Half the cost of ``transition2``.
    """
    return new0 >= 0 and cas(mem, descriptor_at(mem, pfn), old0, new0)


@hot
def transition2(mem: Memory, pfn: Pfn, old0: Word0, old1: Word1, new0: Word0, new1: Word1) -> bool:
    """Change both words at once; linearization point of every change of owner."""
    return new0 >= 0 and cas2(mem, descriptor_at(mem, pfn), old0, old1, new0, new1)


@hot
def transition_owned(
    mem: Memory, pfn: Pfn, old0: Word0, old1: Word1, new0: Word0, new1: Word1
) -> bool:
    """``transition2`` by the owner of an allocated page, where only ``poison_page`` competes.

    That only marks the page (poison.py) and must not make the owner's change fail. ``new0`` keeps
    the mark.
    """
    if transition2(mem, pfn, old0, old1, new0 | (old0 & c.POISON_BIT), new1):
        return True
    return old0 & c.POISON_BIT == 0 and transition_marked(mem, pfn, old0, old1, new0, new1)


@unit
def transition_marked(
    mem: Memory, pfn: Pfn, old0: Word0, old1: Word1, new0: Word0, new1: Word1
) -> bool:
    """The same, from the pair that the owner saw plus the poison mark."""
    return transition2(mem, pfn, old0 | c.POISON_BIT, old1, new0 | c.POISON_BIT, new1)


@kernel
def make_free(mem: Memory, pfn: Pfn, zone_id: ZoneId, order: Order, mt: Migratetype) -> bool:
    """Make ``pfn`` the head of a free block; the caller holds the zone lock and owns the page."""
    old = page_state(mem, pfn)
    return transition(mem, pfn, old, next_word(old, c.T_FREE, order, zone_id, mt, 0))


@kernel
def make_tail(mem: Memory, pfn: Pfn) -> bool:
    """Fold a head into the block that already covers it; zone lock held."""
    old = page_state(mem, pfn)
    return transition(mem, pfn, old, next_word(old, c.T_TAIL, 0, 0, 0, 0))


@kernel
def is_free_head(w0: Word0, zone_id: ZoneId, order: Order) -> bool:
    """Whether a descriptor is a free block of exactly this order in this zone (page_is_buddy)."""
    return type_of(w0) == c.T_FREE and order_of(w0) == order and zone_of_word(w0) == zone_id


@kernel
def head_of(mem: Memory, pfn: Pfn) -> Pfn:
    """Head pfn of the block that covers ``pfn``, or E_AGAIN if the partition was changing.

    Lock-free: each step reads one descriptor once. The answer may be stale; it was true at the
    moment of the last read, if no CPU split or merged blocks around ``pfn`` meanwhile.
    """
    at = pfn
    for _ in range(fixed(mem, c.H_MAX_ORDER) + 1):
        w0 = page_state(mem, at)
        if type_of(w0) != c.T_TAIL:
            if at + (1 << order_of(w0)) > pfn:
                return at
            return c.E_AGAIN
        if at == 0:
            return c.E_AGAIN
        at = at & (at - 1)
    return c.E_AGAIN


@hot
def free_problem(w0: Word0, w1: Word1, order: Order, owner: Owner) -> int:
    """Why a page in state (w0, w1) cannot be freed by ``owner`` at ``order``: a code M_*, or 0.

    ``owner`` 0 skips the check of the owner.
    """
    kind = type_of(w0)
    if kind == c.T_ALLOCATED:
        if order_of(w0) != order:
            return c.M_WRONG_ORDER
        if owner != 0 and w1 != owner:
            return c.M_STRANGER
        return 0
    if kind == c.T_FREE or kind == c.T_PCP:
        return c.M_DOUBLE_FREE
    if kind == c.T_SLAB:
        return c.M_SLAB_AS_PAGE
    if kind == c.T_TAIL:
        return c.M_TAIL_FREE
    return c.M_WRONG_STATE


@kernel
def misuse_of(mem: Memory, pfn: Pfn, w0: Word0, w1: Word1, order: Order, owner: Owner) -> int:
    """``free_problem`` that also finds the head: a tail inside a free block was freed twice."""
    problem = free_problem(w0, w1, order, owner)
    if problem == c.M_TAIL_FREE:
        head = head_of(mem, pfn)
        if head >= 0 and type_of(page_state(mem, head)) == c.T_FREE:
            return c.M_DOUBLE_FREE
    return problem


@kernel
def in_range(mem: Memory, pfn: Pfn) -> bool:
    """Whether ``pfn`` has a descriptor at all."""
    return 0 <= pfn < fixed(mem, c.H_PAGES)


@hot
def take_back(mem: Memory, pfn: Pfn, order: Order, w0: Word0, w1: Word1, holder: Label) -> Word0:
    """Take back an allocated block that was seen as (w0, w1), for label ``holder``.

    ALLOCATED -> PCP, the linearization point of a free. Returns the old word 0, or -M_DOUBLE_FREE:
    of two CPUs that free the same page only one wins the swap, and the version keeps a late one
    from freeing the page's next life. Afterwards the block belongs to the allocator and does not
    merge.
    """
    taken = next_word(w0, c.T_PCP, order, zone_of_word(w0), mt_of(w0), holder)
    # A poisoned page keeps its mark until it is out of service, even if its freer dies.
    if transition2(mem, pfn, w0, w1, taken | (w0 & c.POISON_BIT), 0):
        return w0
    if w0 & c.POISON_BIT == 0 and transition_marked(mem, pfn, w0, w1, taken, 0):
        return w0 | c.POISON_BIT
    return -c.M_DOUBLE_FREE


@hot
def claim_for_free(mem: Memory, pfn: Pfn, order: Order, claim: Claim, owner: Owner) -> Word0:
    """Take an allocated block back into our own hands: it is on no list.

    Returns the old word 0 (>= 0), or minus the code M_* of the misuse.
    """
    if not in_range(mem, pfn):
        return -c.M_OUT_OF_RANGE
    d = descriptor_at(mem, pfn)
    w0 = load(mem, d)  # two reads may be torn: the swap below compares both and fails
    w1 = load_relaxed(mem, d + 1)
    problem = free_problem(w0, w1, order, owner)
    if problem != 0:
        return -misuse_of(mem, pfn, w0, w1, order, owner)
    return take_back(mem, pfn, order, w0, w1, label(mem, claim))


@hot
def hand_out(
    mem: Memory, pfn: Pfn, order: Order, claim: Claim, mt: Migratetype, owner: Owner
) -> Pfn:
    """Give a block that we hold as PCP to ``owner``: PCP -> ALLOCATED, linearization point."""
    d = descriptor_at(mem, pfn)
    w0 = load(mem, d)  # no other CPU changes a page that we hold; the swap checks it
    w1 = load_relaxed(mem, d + 1)
    given = next_word(w0, c.T_ALLOCATED, order, zone_of_word(w0), mt, label(mem, claim))
    if type_of(w0) != c.T_PCP or not transition2(mem, pfn, w0, w1, given, owner):
        return c.E_STATE
    return pfn


@hot
def hand_out_listed(
    mem: Memory, pfn: Pfn, order: Order, claim: Claim, mt: Migratetype, owner: Owner
) -> Pfn:
    """``hand_out`` of a block that was on the lists of the claim's CPU, whose lock is held.

    Two plain stores: no other claim changes a page with that label, so there is nothing to compare.
    Word 1 comes first. In between, the owner stands beside the state PCP: for a walker the page is
    in none's hands (``legal_pair``), and a recovery puts it back on its list (``relist_block``).
    The store of word 0 is the linearization point.
    """
    d = descriptor_at(mem, pfn)
    w0 = load(mem, d)
    given = next_word(w0, c.T_ALLOCATED, order, zone_of_word(w0), mt, label(mem, claim))
    if (w0 ^ listed_state(mem, claim)) & c.STATE_MASK != 0:
        return c.E_STATE
    store_relaxed(mem, d + 1, owner)
    store(mem, d, given)
    return pfn


@kernel
def listed_state(mem: Memory, claim: Claim) -> Word0:
    """Type and detail of a block on the lists of the claim's CPU."""
    return c.T_PCP | list_label(cpu_of(mem, claim)) << c.LINK_SHIFT


@kernel
def legal_pair(mem: Memory, w0: Word0, w1: Word1, pfn: Pfn) -> bool:
    """Whether a lock-free walker may see this pair; False: the descriptor is torn or corrupt."""
    kind = type_of(w0)
    if kind == c.T_TAIL:
        return order_of(w0) == 0 and w1 == 0
    if not legal_head(w0, pfn, fixed(mem, c.H_MAX_ORDER), fixed(mem, c.H_ZONES)):
        return False
    if kind == c.T_ALLOCATED or kind == c.T_SLAB or kind == c.T_RESERVED:
        return True
    if kind == c.T_PCP and detail_of(w0) & c.LABEL_ON_LIST != 0:
        return True  # it may be about to be handed out
    # It has no owner: word 1 holds at most a list link.
    return w1 & c.CARRIED_MASK == 0
