"""The free lists and counters of a zone, made anew from the page descriptors.

The holder of the zone lock calls this where the lists are not to be believed: after it took the
lock over from a dead process, which was killed anywhere (recover_pages.py), or because links were
overwritten from outside (repair.py). The partition into blocks is legal after every single write
(descriptor.py), so a walk over heads meets each page once, whatever its last writer was doing.

May itself be killed anywhere: it is started again, since each step reads only descriptors.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import (
    mt_of,
    next_word,
    order_of,
    out_of_service,
    type_of,
    wants_poison,
    zone_of_word,
)
from shmalloc.kernels.buddy import (
    block_span,
    carve,
    is_half_isolated,
    link_free,
    mergeable,
    rehome,
    retype_range,
    take_block,
)
from shmalloc.kernels.descriptor import (
    head_of,
    make_free,
    page_state,
    transition2,
    transition_owned,
)
from shmalloc.kernels.free_area import area_init, forget_links
from shmalloc.kernels.reporting import event, record, report
from shmalloc.kernels.watermark import set_watermarks
from shmalloc.kernels.zone import account, area_count, area_list, block_mt, descriptor_at, unmanage
from shmalloc.units import Claim, Memory, Pfn, Word0, ZoneWords
from shmalloc.words import fixed, load2, store_relaxed


@unit
def rebuild_zone(mem: Memory, claim: Claim, zone: ZoneWords) -> None:
    """Rebuild the lists and counters of a zone that a dead process had locked; lock taken over."""
    fold_zone(mem, zone)
    relist_zone(mem, claim, zone)


@unit
def relist_zone(mem: Memory, claim: Claim, zone: ZoneWords) -> None:
    """Make lists and counters anew, all free blocks merged; no head lies inside another block.

    The first page of a block that ``repair_zone`` has marked leaves service. Damage that is noted,
    and was not reported, is reported now.
    """
    damaged = mem[zone + c.Z_DAMAGED]
    if damaged > 0:
        report_links(mem, claim, zone, damaged - 1)
    elif damaged < 0:
        report_head(mem, claim, zone, damaged)
    mem[zone + c.Z_DAMAGED] = 0
    empty_zone(mem, zone)
    relink_zone(mem, claim, zone)
    retire_marked(mem, claim, zone)
    merge_range(mem, claim, zone, fixed(mem, zone + c.Z_START), fixed(mem, zone + c.Z_END))


@unit
def report_links(mem: Memory, claim: Claim, zone: ZoneWords, pfn: Pfn) -> None:
    """Report a free block whose links, or whose neighbours' links, were overwritten."""
    w0 = page_state(mem, pfn)
    place = fixed(mem, zone + c.Z_INDEX) << 16 | order_of(w0) << 8 | mt_of(w0)
    report(mem, claim, c.I_LIST_LINKS, pfn, c.AT_LIST | place, w0)


@unit
def report_head(mem: Memory, claim: Claim, zone: ZoneWords, place: int) -> None:
    """Report the head of a list, ``place`` (AT_LIST), whose first word leads to no block."""
    at = area_list(zone, place >> 8 & 0xFF, place & 0xFF)
    report(mem, claim, c.I_LIST_LINKS, c.AT_WORD | at, place, mem[at])


@kernel
def fold_zone(mem: Memory, zone: ZoneWords) -> None:
    """Turn heads that lie inside other blocks into tails."""
    pfn = fixed(mem, zone + c.Z_START)
    while pfn < fixed(mem, zone + c.Z_END):
        w0 = page_state(mem, pfn)
        kind = type_of(w0)
        if kind == c.T_FREE or kind == c.T_ISOLATED:
            for inner in range(pfn + 1, pfn + (1 << order_of(w0))):
                if type_of(page_state(mem, inner)) != c.T_TAIL:
                    fold_head(mem, inner)
        pfn += block_span(w0)


@kernel
def fold_head(mem: Memory, pfn: Pfn) -> None:
    """Fold one head inside another block: first clear its links, which may lead anywhere."""
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    kind = type_of(w0)
    if kind == c.T_ALLOCATED:  # a page of a range that was not handed over yet (give_single_pages)
        taken = next_word(w0, c.T_PCP, 0, zone_of_word(w0), mt_of(w0), 0)
        transition_owned(mem, pfn, w0, w1, taken, 0)
    elif kind == c.T_FREE:
        forget_links(mem, pfn)
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    transition2(mem, pfn, w0, w1, next_word(w0, c.T_TAIL, 0, 0, 0, 0), 0)


@kernel
def empty_zone(mem: Memory, zone: ZoneWords) -> None:
    """Empty all free lists and zero their counts."""
    for order in range(fixed(mem, c.H_MAX_ORDER) + 1):
        for mt in range(c.MT_COUNT):
            area_init(mem, zone, order, mt)
            mem[area_count(zone, order, mt)] = 0
    store_relaxed(mem, zone + c.Z_FREE, 0)
    store_relaxed(mem, zone + c.Z_FREE_ISOLATED, 0)


@kernel
def relink_zone(mem: Memory, claim: Claim, zone: ZoneWords) -> None:
    """Put every free block on the list of its pageblock's type; count what is managed."""
    managed = 0
    pfn = fixed(mem, zone + c.Z_START)
    while pfn < fixed(mem, zone + c.Z_END):
        w0 = page_state(mem, pfn)
        kind = type_of(w0)
        # An ISOLATED block never outlives a hold of the lock, and OFFLINE pages lie in isolated
        # pageblocks, unless the last act of the dead was to put them online.
        if kind == c.T_ISOLATED or (kind == c.T_OFFLINE and block_mt(mem, pfn) != c.MT_ISOLATE):
            kind = c.T_FREE
        if kind == c.T_FREE:
            w0 = cut_half_isolated(mem, zone, pfn, w0)
            relink_block(mem, zone, claim, pfn)
        if kind != c.T_OFFLINE and kind != c.T_POISONED and kind != c.T_RESERVED:
            managed += block_span(w0)
        pfn += block_span(w0)
    store_relaxed(mem, zone + c.Z_MANAGED, managed)
    set_watermarks(mem, zone)


@kernel
def cut_half_isolated(mem: Memory, zone: ZoneWords, pfn: Pfn, w0: Word0) -> Word0:
    """Cut a block that was being freed by pageblocks (buddy.py); returns its head's new word."""
    zone_id = fixed(mem, zone + c.Z_INDEX)
    low = fixed(mem, c.H_PAGEBLOCK_ORDER)
    order = order_of(w0)
    if order <= low or not is_half_isolated(mem, pfn, order):
        return w0
    for piece in range((1 << (order - low)) - 1, -1, -1):  # the head last: it covers the others
        at = pfn + (piece << low)
        make_free(mem, at, zone_id, low, block_mt(mem, at))
    return page_state(mem, pfn)


@kernel
def relink_block(mem: Memory, zone: ZoneWords, claim: Claim, pfn: Pfn) -> int:
    """Make a block without links FREE with its pageblock's type, and put it on its list."""
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    order = order_of(w0)
    mt = block_mt(mem, pfn)
    if order > fixed(mem, c.H_PAGEBLOCK_ORDER):
        retype_range(mem, pfn, order, mt)
    free = next_word(w0, c.T_FREE, order, fixed(mem, zone + c.Z_INDEX), mt, 0)
    if type_of(w0) == c.T_FREE:
        free |= w0 & c.POISON_BIT
    if not transition2(mem, pfn, w0, w1, free, 0):
        report(mem, claim, c.I_TAIL, pfn, c.IS_TYPE | c.T_FREE, w0)
        return c.E_STATE
    account(mem, zone, mt, 1 << order)
    forget_links(mem, pfn)
    link_free(mem, zone, claim, pfn, order, mt)
    return 0


@kernel
def retire_marked(mem: Memory, claim: Claim, zone: ZoneWords) -> None:
    """Poison the first page of each free block that is marked: its links lie there."""
    pfn = fixed(mem, zone + c.Z_START)
    while pfn < fixed(mem, zone + c.Z_END):
        w0 = page_state(mem, pfn)
        if type_of(w0) == c.T_FREE and wants_poison(w0):
            poison_free_page(mem, zone, claim, pfn, pfn)
            event(mem, claim, c.EV_POISONED)
            record(mem, claim, c.OP_POISON, 0, pfn, 0)
        pfn += block_span(w0)


@kernel
def retire_held(mem: Memory, claim: Claim, zone: ZoneWords, pfn: Pfn) -> None:
    """Take a block in state PCP, which is in the caller's hands, out of service; lock held."""
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    order = order_of(w0)
    detail = out_of_service(c.T_POISONED)
    retired = next_word(w0, c.T_POISONED, order, zone_of_word(w0), mt_of(w0), detail)
    if transition2(mem, pfn, w0, w1, retired, 0):
        unmanage(mem, zone, 1 << order)
    else:
        report(mem, claim, c.I_FREE_HEAD, pfn, c.IS_TYPE | c.T_PCP, page_state(mem, pfn))
    event(mem, claim, c.EV_POISONED)
    record(mem, claim, c.OP_POISON, order, pfn, 0)


@kernel
def start_of(mem: Memory, pfn: Pfn) -> Pfn:
    """First page of the block that covers ``pfn`` now, after it merged; zone lock held."""
    head = head_of(mem, pfn)
    if head < 0:
        return pfn
    return head


@kernel
def merge_range(mem: Memory, claim: Claim, zone: ZoneWords, start: Pfn, end: Pfn) -> None:
    """Merge the free blocks that begin in [start, end) as far as they go; lock held.

    From below, so one pass is enough.
    """
    pfn = start
    while pfn < end:
        w0 = page_state(mem, pfn)
        order = order_of(w0)
        if type_of(w0) == c.T_FREE and order < fixed(mem, c.H_MAX_ORDER):
            if mergeable(mem, zone, pfn ^ (1 << order), order, mt_of(w0)) != 0:
                rehome(mem, zone, claim, pfn)
                pfn = start_of(mem, pfn)
                w0 = page_state(mem, pfn)
        pfn += block_span(w0)


@kernel
def poison_free_page(mem: Memory, zone: ZoneWords, claim: Claim, head: Pfn, pfn: Pfn) -> int:
    """Cut ``pfn`` out of the free block at ``head`` and poison it; zone lock held."""
    if carve(mem, zone, claim, head, pfn, 0) < 0:
        return c.E_STATE
    mt = mt_of(page_state(mem, pfn))
    if take_block(mem, zone, claim, pfn, 0, c.T_POISONED, mt, out_of_service(c.T_POISONED)) < 0:
        return c.E_STATE
    unmanage(mem, zone, 1)
    return 0
