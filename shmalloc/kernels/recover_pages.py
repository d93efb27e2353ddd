"""Pages after a kill: rebuild zones and per-CPU lists from the page descriptors.

The descriptors are the authority. The partition into blocks is legal after every single write
(descriptor.py), so a walk over heads meets each page once, whatever its last writer was doing;
everything else (lists, counters) is discarded and rebuilt. Labels tell what the dead held::

    zone        heads inside of a FREE or ISOLATED block: a split, a merge or a range was under
                way, they become tails; ISOLATED: back to FREE; types: what the pageblock says
    lists       of a CPU whose lock the dead held: every block with their label (pcp.py)
    sweep       blocks in state PCP, and pages on the way from or to a slab, with the label of the
                dead; pageblocks that it had isolated

Everything here runs under the lock of what it rebuilds, taken over from the dead. It may itself be
killed anywhere; the next recoverer then starts again, since each step reads only descriptors.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import (
    detail_of,
    mt_of,
    next_word,
    order_of,
    out_of_service,
    type_of,
    wants_poison,
    zone_of_word,
)
from shmalloc.kernels.buddy import (
    area_count,
    area_list,
    block_span,
    free_block,
    is_half_isolated,
    link_free,
    mergeable,
    rehome,
    retype_range,
)
from shmalloc.kernels.contig import bring_online, restore_types
from shmalloc.kernels.descriptor import (
    head_of,
    make_free,
    page_state,
    transition2,
    transition_owned,
)
from shmalloc.kernels.fill import fill_on_free
from shmalloc.kernels.lists import list_init, node_of, set_link
from shmalloc.kernels.lock import lock, unlock
from shmalloc.kernels.pcp import pcp_index, pcp_push
from shmalloc.kernels.poison import retire_block, unmanage
from shmalloc.kernels.reporting import report
from shmalloc.kernels.slots import label, list_label
from shmalloc.kernels.waiters import wake_waiters
from shmalloc.kernels.zone import account, block_mt, descriptor_at, isolator_of, pcp_at, zone_at
from shmalloc.units import Claim, Cpu, Memory, PcpWords, Pfn, Word0, ZoneId, ZoneWords
from shmalloc.words import fixed, load2, store_relaxed


@unit
def rebuild_zone(mem: Memory, claim: Claim, zone: ZoneWords) -> None:
    """Rebuild a zone's lists and counters, all free blocks merged; lock held."""
    fold_zone(mem, zone)
    empty_zone(mem, zone)
    relink_zone(mem, claim, zone)
    merge_zone(mem, claim, zone)


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
        set_link(mem, node_of(mem, pfn), 0)
        set_link(mem, node_of(mem, pfn) + 1, 0)
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    transition2(mem, pfn, w0, w1, next_word(w0, c.T_TAIL, 0, 0, 0, 0), 0)


@kernel
def empty_zone(mem: Memory, zone: ZoneWords) -> None:
    """Empty all free lists and zero their counts."""
    for order in range(c.ORDERS):
        for mt in range(c.MT_COUNT):
            list_init(mem, area_list(zone, order, mt))
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
    if not transition2(mem, pfn, w0, w1, free, 0):
        report(mem, claim, c.I_TAIL, pfn, c.IS_TYPE | c.T_FREE, w0)
        return c.E_STATE
    account(mem, zone, mt, 1 << order)
    return link_free(mem, zone, claim, pfn, order, mt)


@kernel
def start_of(mem: Memory, pfn: Pfn) -> Pfn:
    """First page of the block that covers ``pfn`` now, after it merged; zone lock held."""
    head = head_of(mem, pfn)
    if head < 0:
        return pfn
    return head


@kernel
def merge_zone(mem: Memory, claim: Claim, zone: ZoneWords) -> None:
    """Merge what the dead had cut or not yet merged. From below, so one pass is enough."""
    pfn = fixed(mem, zone + c.Z_START)
    while pfn < fixed(mem, zone + c.Z_END):
        w0 = page_state(mem, pfn)
        order = order_of(w0)
        if type_of(w0) == c.T_FREE and order < fixed(mem, c.H_MAX_ORDER):
            if mergeable(mem, zone, pfn ^ (1 << order), order, mt_of(w0)) != 0:
                rehome(mem, zone, claim, pfn)
                pfn = start_of(mem, pfn)
                w0 = page_state(mem, pfn)
        pfn += block_span(w0)


@unit
def rebuild_lists(mem: Memory, claim: Claim, owner: Cpu, zone_id: ZoneId) -> None:
    """Rebuild the lists of CPU ``owner`` in one zone from the labels; P_LOCK taken over.

    The zone's lock is not needed: a block with that label keeps it while we hold P_LOCK, so at no
    moment does another head cover it.
    """
    pcp = pcp_at(mem, owner, zone_id)
    clear_lists(mem, pcp)
    zone = zone_at(mem, zone_id)
    pfn = fixed(mem, zone + c.Z_START)
    while pfn < fixed(mem, zone + c.Z_END):
        w0 = page_state(mem, pfn)
        if type_of(w0) == c.T_PCP and detail_of(w0) == list_label(owner):
            relist_block(mem, claim, pcp, pfn, w0)
        pfn += block_span(w0)


@kernel
def relist_block(mem: Memory, claim: Claim, pcp: PcpWords, pfn: Pfn, w0: Word0) -> None:
    """Put a block back on its list, filled anew; or retire it, if its page is marked for poison."""
    order = order_of(w0)
    if wants_poison(w0):
        retire_block(mem, claim, pfn, order)
        return
    fill_on_free(mem, pfn, order)
    pcp_push(mem, pcp, pcp_index(mem, order, mt_of(w0)), order, pfn)


@kernel
def clear_lists(mem: Memory, pcp: PcpWords) -> None:
    """Empty the lists of a CPU; its P_LOCK held."""
    for index in range(c.PCP_LISTS):
        mem[pcp + c.P_LENGTH + index] = 0
        mem[pcp + c.P_HEAD + index] = 0
    mem[pcp + c.P_COUNT] = 0


@unit
def sweep_zone(mem: Memory, claim: Claim, zone_id: ZoneId, victim: Claim) -> int:
    """Give a zone back the blocks that a dead claim had in its hands; returns pages."""
    zone = zone_at(mem, zone_id)
    lock(mem, zone + c.Z_LOCK, claim)
    end_isolations(mem, claim, zone, victim)
    given = sweep_blocks(mem, claim, zone, victim)
    unlock(mem, zone + c.Z_LOCK)
    wake_waiters(mem, claim, zone)
    return given


@kernel
def end_isolations(mem: Memory, claim: Claim, zone: ZoneWords, victim: Claim) -> None:
    """End the isolation of pageblocks that the dead had isolated or was putting offline."""
    step = 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)
    at = (fixed(mem, zone + c.Z_START) + step - 1) & -step
    while at + step <= fixed(mem, zone + c.Z_END):
        if block_mt(mem, at) == c.MT_ISOLATE and isolator_of(mem, at) == label(mem, victim):
            restore_types(mem, zone, claim, at, at + step)
            bring_online(mem, zone, claim, at, at + step)
        at += step


@kernel
def sweep_blocks(mem: Memory, claim: Claim, zone: ZoneWords, victim: Claim) -> int:
    """Free every block that only the dead knew of; zone lock held. Returns pages."""
    given = 0
    pfn = fixed(mem, zone + c.Z_START)
    while pfn < fixed(mem, zone + c.Z_END):
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        # Pages on their way from or to a slab are ALLOCATED by OWNER_SLAB, held by one claim only.
        loose = type_of(w0) == c.T_PCP or (type_of(w0) == c.T_ALLOCATED and w1 == cs.OWNER_SLAB)
        if loose and detail_of(w0) == label(mem, victim):
            given += block_span(w0)
            sweep_block(mem, claim, zone, pfn)
            pfn = start_of(mem, pfn)
            w0 = page_state(mem, pfn)
        pfn += block_span(w0)
    return given


@kernel
def sweep_block(mem: Memory, claim: Claim, zone: ZoneWords, pfn: Pfn) -> None:
    """Free one orphaned block; or retire it, if its page is marked for poison."""
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    order = order_of(w0)
    zone_id = zone_of_word(w0)
    if type_of(w0) == c.T_ALLOCATED:
        taken = next_word(w0, c.T_PCP, order, zone_id, mt_of(w0), detail_of(w0))
        transition_owned(mem, pfn, w0, w1, taken, 0)
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
    if wants_poison(w0):
        if transition2(
            mem,
            pfn,
            w0,
            w1,
            next_word(w0, c.T_POISONED, order, zone_id, mt_of(w0), out_of_service(c.T_POISONED)),
            0,
        ):
            unmanage(mem, zone, 1 << order)
        return
    taken = next_word(w0, c.T_PCP, order, zone_id, mt_of(w0), label(mem, claim))
    if transition2(mem, pfn, w0, w1, taken, 0):
        set_link(mem, node_of(mem, pfn) + 1, 0)
        fill_on_free(mem, pfn, order)
        free_block(mem, zone, claim, pfn, order)
