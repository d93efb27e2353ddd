"""The buddy allocator of one zone: split, merge, remove from the middle, fall back between types.

Everything here runs under the zone lock. It owns the zone's free areas::

    nr_free[order][migratetype]   and   list head[order][migratetype], or what is in its place

Rules of the partition are in descriptor.py. A free block of an order lies on the list of the
migratetype in its descriptor; below the pageblock order that is its pageblock's type. A split
keeps the low half (so memory fills from below), a merge asks for the buddy ``pfn ^ (1 << order)``
and the checks of Linux's page_is_buddy: not a hole, free, same order, same zone, and at pageblock
size and above types that may mix.

A list that was overwritten from outside is not changed: ``note_damage`` has it repaired before the
lock is released (repair.py), and the operation that met it does without.

What it does not do: per-CPU lists, waiting, poison (pcp.py, pages.py).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.accept import accept_for
from shmalloc.kernels.bits import mt_of, next_word, order_of, type_of, wants_poison
from shmalloc.kernels.descriptor import (
    is_free_head,
    make_free,
    make_tail,
    page_state,
    transition,
    transition2,
)
from shmalloc.kernels.fill import is_checked
from shmalloc.kernels.free_area import area_add, area_first, area_remove, forget_links
from shmalloc.kernels.lists import is_unlinked, no_link, node_of
from shmalloc.kernels.reporting import event, report
from shmalloc.kernels.slots import label
from shmalloc.kernels.zone import account, area_count, block_mt, descriptor_at, set_block_mt
from shmalloc.units import Claim, Label, Memory, Migratetype, Order, PageType, Pfn, Word0, ZoneWords
from shmalloc.words import fixed, load


@unit
def note_damage(mem: Memory, zone: ZoneWords, pfn: Pfn) -> None:
    """Note that the links of a free block, or of its neighbours, were overwritten.

    Nothing was changed on its list. The holder of the lock repairs all lists of the zone before it
    lets go (``unlock_zone``).
    """
    if mem[zone + c.Z_DAMAGED] == 0:
        mem[zone + c.Z_DAMAGED] = pfn + 1


@unit
def note_list(mem: Memory, zone: ZoneWords, order: Order, mt: Migratetype) -> None:
    """Note that a list leads out of the zone from its head: no block is known to be wrong."""
    if mem[zone + c.Z_DAMAGED] == 0:
        place = fixed(mem, zone + c.Z_INDEX) << 16 | order << 8 | mt
        mem[zone + c.Z_DAMAGED] = c.AT_LIST | place


@unit
def check_node(mem: Memory, zone: ZoneWords, claim: Claim, pfn: Pfn) -> None:
    """Report, and mark, a page that was written to where the links of a free block come now."""
    node = node_of(mem, pfn)
    if is_checked(mem) and not is_unlinked(mem, node):
        at = node if mem[node] != no_link(mem) else node + 1
        report(mem, claim, c.I_BYTES, at, no_link(mem), mem[at])
        w0 = page_state(mem, pfn)
        transition(mem, pfn, w0, w0 | c.POISON_BIT)
        note_damage(mem, zone, pfn)


@hot
def link_free(
    mem: Memory, zone: ZoneWords, claim: Claim, pfn: Pfn, order: Order, mt: Migratetype
) -> None:
    """Put a block whose head already says FREE on its list; on a damaged one, later (repair.py)."""
    if fixed(mem, c.H_FILL) != c.FILL_NONE and fixed(mem, c.H_LINKS) == c.LINKS_PAGE:
        check_node(mem, zone, claim, pfn)
    if area_add(mem, zone, pfn, order, mt) < 0:
        forget_links(mem, pfn)
        note_damage(mem, zone, pfn)
    else:
        count = area_count(zone, order, mt)
        mem[count] = mem[count] + 1


@hot
def unlink_free(mem: Memory, zone: ZoneWords, pfn: Pfn, order: Order, mt: Migratetype) -> int:
    """Take a free block off its list, from any position; E_STATE: its links are wrong."""
    if area_remove(mem, zone, pfn, order, mt) < 0:
        note_damage(mem, zone, pfn)
        return c.E_STATE
    count = area_count(zone, order, mt)
    mem[count] = mem[count] - 1
    return 0


@hot
def first_free(mem: Memory, zone: ZoneWords, order: Order, mt: Migratetype) -> Pfn:
    """The first block on a list, or E_NOMEM."""
    if mem[area_count(zone, order, mt)] == 0:
        return c.E_NOMEM
    pfn = area_first(mem, zone, order, mt)
    if fixed(mem, zone + c.Z_START) <= pfn < fixed(mem, zone + c.Z_END):
        return pfn
    note_list(mem, zone, order, mt)
    return c.E_NOMEM


@hot
def expand(
    mem: Memory, zone: ZoneWords, claim: Claim, pfn: Pfn, high: Order, low: Order, mt: Migratetype
) -> int:
    """Free the upper halves of a detached block, from ``high`` down to ``low``.

    Their heads are written while the old head still covers them; the caller's next write to the
    head of ``pfn`` shrinks it to ``low`` and uncovers them all at once.
    """
    order = high
    while order > low:
        order -= 1
        if put_piece(mem, zone, claim, pfn + (1 << order), order, mt) < 0:
            return c.E_STATE
    return 0


@hot
def take_block(
    mem: Memory,
    zone: ZoneWords,
    claim: Claim,
    pfn: Pfn,
    order: Order,
    kind: PageType,
    given_mt: Migratetype,
    holder: Label,
) -> Pfn:
    """Remove the free block at ``pfn``, cut it to ``order`` and turn its head into ``kind``.

    It has no owner yet: word 1 becomes 0. Linearization point of an allocation: the final two-word
    swap, which changes the head's state and shrinks the block in one write.
    """
    w0 = page_state(mem, pfn)
    high = order_of(w0)
    mt = mt_of(w0)
    zone_id = fixed(mem, zone + c.Z_INDEX)
    if wants_poison(w0):
        return c.E_STATE  # written to while free (check_node)
    if not is_free_head(w0, zone_id, high) or high < order:
        report(mem, claim, c.I_FREE_HEAD, pfn, c.IS_FREE | zone_id << 8 | order, w0)
        return c.E_STATE
    if unlink_free(mem, zone, pfn, high, mt) < 0:
        return c.E_STATE
    if expand(mem, zone, claim, pfn, high, order, mt) < 0:
        return c.E_STATE
    account(mem, zone, mt, -(1 << order))
    accept_for(mem, claim, pfn, order, kind)
    w0 = page_state(mem, pfn)  # unlinking cleaned the link bits of a descriptor-stored node
    taken = next_word(w0, kind, order, zone_id, given_mt, holder)
    if not transition2(mem, pfn, w0, load(mem, descriptor_at(mem, pfn) + 1), taken, 0):
        report(mem, claim, c.I_FREE_HEAD, pfn, c.IS_TYPE | kind, page_state(mem, pfn))
        return c.E_STATE
    return pfn


@hot
def mergeable(mem: Memory, zone: ZoneWords, buddy: Pfn, order: Order, mt: Migratetype) -> Word0:
    """Word 0 of the free block at ``buddy`` if a block of ``order`` and ``mt`` may merge with it.

    0 if it may not. A caller relies on the word that decided, and does not read it again.
    """
    if buddy < fixed(mem, zone + c.Z_START) or buddy + (1 << order) > fixed(mem, zone + c.Z_END):
        return 0
    w0 = page_state(mem, buddy)
    if not is_free_head(w0, fixed(mem, zone + c.Z_INDEX), order):
        return 0
    other = mt_of(w0)
    # An isolated pageblock must stay in its own blocks, or the range could never be taken.
    if other != mt and (other == c.MT_ISOLATE or mt == c.MT_ISOLATE):
        return 0
    return 0 if wants_poison(w0) else w0


@hot
def absorb(
    mem: Memory, zone: ZoneWords, claim: Claim, pfn: Pfn, order: Order, mt: Migratetype
) -> Order:
    """Detach the free buddies that ``pfn`` can merge with; returns the merged order."""
    merged = order
    start = pfn
    while merged < fixed(mem, c.H_MAX_ORDER):
        buddy = start ^ (1 << merged)
        w0 = mergeable(mem, zone, buddy, merged, mt)
        if w0 == 0 or unlink_free(mem, zone, buddy, merged, mt_of(w0)) < 0:
            return merged
        event(mem, claim, c.EV_MERGE)
        start = start & buddy
        merged += 1
    return merged


@hot
def fold(mem: Memory, claim: Claim, pfn: Pfn, order: Order, merged: Order) -> None:
    """Turn every head inside the merged block, except its first page, into a tail."""
    whole = pfn & ~((1 << merged) - 1)
    if pfn != whole and not make_tail(mem, pfn):
        report(mem, claim, c.I_FREE_HEAD, pfn, c.IS_TYPE | c.T_TAIL, page_state(mem, pfn))
    for level in range(order, merged):
        buddy = (pfn & ~((1 << level) - 1)) ^ (1 << level)
        if buddy != whole and not make_tail(mem, buddy):
            report(mem, claim, c.I_FREE_HEAD, buddy, c.IS_TYPE | c.T_TAIL, page_state(mem, buddy))


@unit
def free_block(mem: Memory, zone: ZoneWords, claim: Claim, pfn: Pfn, order: Order) -> int:
    """Return a block that the caller owns (head not FREE) to the zone, merged as far as it goes."""
    if order > fixed(mem, c.H_PAGEBLOCK_ORDER) and is_half_isolated(mem, pfn, order):
        return free_by_pageblocks(mem, zone, claim, pfn, order)
    return free_whole(mem, zone, claim, pfn, order)


@kernel
def is_half_isolated(mem: Memory, pfn: Pfn, order: Order) -> bool:
    """Whether some pageblocks of a block were isolated while it was in use, and some were not."""
    isolated = block_mt(mem, pfn) == c.MT_ISOLATE
    for at in range(pfn, pfn + (1 << order), 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)):
        if (block_mt(mem, at) == c.MT_ISOLATE) != isolated:
            return True
    return False


@unit
def free_by_pageblocks(mem: Memory, zone: ZoneWords, claim: Claim, pfn: Pfn, order: Order) -> int:
    """Free a block pageblock by pageblock: freed whole, it would end another CPU's isolation.

    Linux's split_large_buddy. All are cut before the first one may merge: until then a piece has
    the type of the whole, not that of its pageblock.
    """
    low = fixed(mem, c.H_PAGEBLOCK_ORDER)
    mt = block_mt(mem, pfn)
    account(mem, zone, mt, 1 << order)
    if put_piece(mem, zone, claim, pfn, order, mt) < 0:
        return c.E_STATE
    for at in range(pfn, pfn + (1 << order), 1 << low):
        if take_block(mem, zone, claim, at, low, c.T_ISOLATED, mt, label(mem, claim)) < 0:
            return c.E_STATE
    for at in range(pfn, pfn + (1 << order), 1 << low):
        free_whole(mem, zone, claim, at, low)
    return 0


@kernel
def free_whole(mem: Memory, zone: ZoneWords, claim: Claim, pfn: Pfn, order: Order) -> int:
    """Free a block of which all pageblocks are isolated, or none.

    Linux's __free_one_page. The type is looked up here, under the lock: a type remembered from
    before (when the page went on a per-CPU list, say) may be stale by now.
    """
    mt = block_mt(mem, pfn)
    merged = absorb(mem, zone, claim, pfn, order, mt)
    whole = pfn & ~((1 << merged) - 1)
    if merged > fixed(mem, c.H_PAGEBLOCK_ORDER):
        retype_range(mem, whole, merged, mt)
    # The leftmost head grows over all of it first, then the others may become tails.
    if not make_free(mem, whole, fixed(mem, zone + c.Z_INDEX), merged, mt):
        report(mem, claim, c.I_FREE_HEAD, whole, c.IS_TYPE | c.T_FREE, page_state(mem, whole))
        return c.E_STATE
    fold(mem, claim, pfn, order, merged)
    account(mem, zone, mt, 1 << order)
    link_free(mem, zone, claim, whole, merged, mt)
    return 0


@kernel
def retype_range(mem: Memory, pfn: Pfn, order: Order, mt: Migratetype) -> None:
    """Give all pageblocks of a block of at least pageblock size the type ``mt``."""
    step = 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)
    at = pfn
    while at < pfn + (1 << order):
        if block_mt(mem, at) != mt:
            set_block_mt(mem, at, mt)
        at += step


@kernel
def move_free_block(
    mem: Memory, zone: ZoneWords, claim: Claim, pfn: Pfn, new_mt: Migratetype
) -> int:
    """Move one free block to the list of another migratetype (Linux: move_to_free_list)."""
    w0 = page_state(mem, pfn)
    order = order_of(w0)
    old_mt = mt_of(w0)
    if old_mt == new_mt:
        return 0
    if unlink_free(mem, zone, pfn, order, old_mt) < 0:
        return c.E_STATE
    if not make_free(mem, pfn, fixed(mem, zone + c.Z_INDEX), order, new_mt):
        report(mem, claim, c.I_FREE_HEAD, pfn, c.IS_MT | new_mt, page_state(mem, pfn))
        return c.E_STATE
    account(mem, zone, old_mt, -(1 << order))
    account(mem, zone, new_mt, 1 << order)
    link_free(mem, zone, claim, pfn, order, new_mt)
    return 0


@kernel
def carve(mem: Memory, zone: ZoneWords, claim: Claim, head: Pfn, pfn: Pfn, order: Order) -> int:
    """Cut the free block at ``head`` so that [pfn, pfn + 2^order) is a free block of its own.

    All heads inside the block are written while the old head still covers them; the last write
    shrinks it and uncovers them all. Everything ends on the list of the old block's type.
    """
    w0 = page_state(mem, head)
    mt = mt_of(w0)
    if unlink_free(mem, zone, head, order_of(w0), mt) < 0:
        return c.E_STATE
    left = head
    own = order  # what stays at the old head
    level = order_of(w0)
    while level > order:
        level -= 1
        middle = left + (1 << level)
        if pfn < middle:
            put_piece(mem, zone, claim, middle, level, mt)
        else:
            if left == head:
                own = level
            else:
                put_piece(mem, zone, claim, left, level, mt)
            left = middle
    if pfn != head:
        put_piece(mem, zone, claim, pfn, order, mt)
    return put_piece(mem, zone, claim, head, own, mt)


@hot
def put_piece(
    mem: Memory, zone: ZoneWords, claim: Claim, pfn: Pfn, order: Order, mt: Migratetype
) -> int:
    """One piece of a block that is being cut: its head is written, then it goes on its list."""
    event(mem, claim, c.EV_SPLIT)
    if not make_free(mem, pfn, fixed(mem, zone + c.Z_INDEX), order, mt):
        report(mem, claim, c.I_FREE_HEAD, pfn, c.IS_TYPE | c.T_FREE, page_state(mem, pfn))
        return c.E_STATE
    link_free(mem, zone, claim, pfn, order, mt)
    return 0


@kernel
def rehome(mem: Memory, zone: ZoneWords, claim: Claim, pfn: Pfn) -> int:
    """Take a free block and free it again, after its pageblock changed type: it may merge anew."""
    w0 = page_state(mem, pfn)
    order = order_of(w0)
    if take_block(mem, zone, claim, pfn, order, c.T_ISOLATED, mt_of(w0), label(mem, claim)) < 0:
        return c.E_STATE
    return free_block(mem, zone, claim, pfn, order)


@kernel
def block_span(w0: Word0) -> int:
    """Pages to step over at a head or tail in a pfn walk."""
    if type_of(w0) == 0:
        return 1
    return 1 << order_of(w0)
