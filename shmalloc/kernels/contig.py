"""Ranges: isolate pageblocks, take a contiguous range of pages, put memory offline and back.

Isolation gives a range of whole pageblocks the type ISOLATE: pages freed there stay there, and none
is allocated. A free block that crosses the range's edge is carved first, so that no block ever has
two types. Then the per-CPU lists are drained; if every page of the range is free then, the range
can be taken. Nothing is moved: a page in use means E_BUSY (Linux would migrate it).

A pageblock names the claim that isolated it, so that recovery can end the isolation if the claim's
process died (recover_pages.py); an offline pageblock names none.

The range lies in one zone and its pageblocks are not shared with another (E_INVAL).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.accept import accept_for
from shmalloc.kernels.bits import next_word, order_of, out_of_service, type_of, zone_of_word
from shmalloc.kernels.buddy import block_span, carve, free_block, rehome, take_block
from shmalloc.kernels.descriptor import head_of, in_range, page_state, transition2
from shmalloc.kernels.fault_injection import is_faulty
from shmalloc.kernels.fill import intact_on_alloc
from shmalloc.kernels.lock import lock
from shmalloc.kernels.pages import free_pages
from shmalloc.kernels.pcp import drain_all
from shmalloc.kernels.reclaim import wake_if_low
from shmalloc.kernels.repair import unlock_zone
from shmalloc.kernels.reporting import event, record, report
from shmalloc.kernels.slots import label, label_claim
from shmalloc.kernels.waiters import wake_waiters
from shmalloc.kernels.watermark import keeps_minimum
from shmalloc.kernels.zone import (
    block_mt,
    descriptor_at,
    isolate_block,
    isolator_of,
    keep_isolated,
    restore_block,
    unmanage,
    zone_at,
    zone_of,
)
from shmalloc.units import Claim, Memory, Order, Owner, PageType, Pfn, ZoneId, ZoneWords
from shmalloc.words import fixed, load2


@kernel
def range_zone(mem: Memory, start: Pfn, end: Pfn) -> ZoneId:
    """Zone of a range of whole pageblocks that no other zone shares, or E_INVAL."""
    if start >= end or not in_range(mem, start) or not in_range(mem, end - 1):
        return c.E_INVAL
    zone_id = zone_of(mem, start)
    if zone_id < 0 or (start | end) & ((1 << fixed(mem, c.H_PAGEBLOCK_ORDER)) - 1) != 0:
        return c.E_INVAL
    zone = zone_at(mem, zone_id)
    if start < fixed(mem, zone + c.Z_START) or end > fixed(mem, zone + c.Z_END):
        return c.E_INVAL
    return zone_id


@unit
def set_isolated(mem: Memory, zone: ZoneWords, claim: Claim, start: Pfn, end: Pfn) -> int:
    """Type every pageblock of the range ISOLATE and rehome its free blocks; zone lock held."""
    step = 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)
    for at in range(start, end, step):
        if block_mt(mem, at) == c.MT_ISOLATE:
            return c.E_BUSY
    carve_pageblocks(mem, zone, claim, start, end)
    for at in range(start, end, step):
        isolate_block(mem, at, label(mem, claim))
    rehome_range(mem, zone, claim, start, end)
    return 0


@kernel
def carve_pageblocks(mem: Memory, zone: ZoneWords, claim: Claim, start: Pfn, end: Pfn) -> None:
    """Cut larger free blocks so that each pageblock of the range can change its type alone.

    A block may cross the edges of the range: the parts below and above lie in other CPUs'
    pageblocks (if two neighbours isolate at once, their free pages have merged across the border).
    """
    order = fixed(mem, c.H_PAGEBLOCK_ORDER)
    for at in range(start, end, 1 << order):
        head = head_of(mem, at)
        if head >= 0:
            w0 = page_state(mem, head)
            if type_of(w0) == c.T_FREE and order_of(w0) > order:
                carve(mem, zone, claim, head, at, order)


@kernel
def rehome_range(mem: Memory, zone: ZoneWords, claim: Claim, start: Pfn, end: Pfn) -> None:
    """Move every free block of the range to the list of its pageblock's new type, merging anew."""
    at = start
    while at < end:
        w0 = page_state(mem, at)
        if type_of(w0) == c.T_FREE:
            rehome(mem, zone, claim, at)
        at += block_span(w0)


@unit
def restore_types(mem: Memory, zone: ZoneWords, claim: Claim, start: Pfn, end: Pfn) -> None:
    """End the isolation of a range: old types, free blocks on their lists; zone lock held."""
    carve_pageblocks(mem, zone, claim, start, end)
    for at in range(start, end, 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)):
        if block_mt(mem, at) == c.MT_ISOLATE:
            restore_block(mem, at)
    rehome_range(mem, zone, claim, start, end)


@kernel
def may_end(mem: Memory, claim: Claim, start: Pfn, end: Pfn, offline: int) -> bool:
    """Whether ``claim`` may end every isolation in [start, end); zone lock held.

    Its own, that of a life that is over, and with ``offline`` those that outlived their maker.
    """
    for at in range(start, end, 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)):
        if block_mt(mem, at) == c.MT_ISOLATE:
            holder = isolator_of(mem, at)
            if holder < 0:
                if offline == 0:
                    return False
            elif holder != label(mem, claim) and holder == label(mem, label_claim(holder)):
                return False
    return True


@unit
def isolate_range(mem: Memory, claim: Claim, start: Pfn, end: Pfn) -> int:
    """Isolate the pageblocks of [start, end). Returns 0, E_INVAL, or E_BUSY if one already is, or
    if a process that does not run holds per-CPU lists."""
    zone_id = range_zone(mem, start, end)
    if zone_id < 0:
        return c.E_INVAL
    zone = zone_at(mem, zone_id)
    lock(mem, zone + c.Z_LOCK, claim)
    result = set_isolated(mem, zone, claim, start, end)
    unlock_zone(mem, claim, zone)
    # Pages of the range may sit on per-CPU lists; their type is looked up when they drain.
    if result == 0 and drain_all(mem, claim) < 0:
        unisolate_range(mem, claim, start, end)  # who does not run may go on and give them out
        result = c.E_BUSY
    if result == 0:
        event(mem, claim, c.EV_ISOLATE)
        record(mem, claim, c.OP_ISOLATE, 0, start, end)
    return result


@unit
def unisolate_range(mem: Memory, claim: Claim, start: Pfn, end: Pfn) -> int:
    """Restore the old types of the pageblocks of [start, end). Returns 0, E_INVAL, or E_BUSY if one
    of them is offline or another claim has isolated it: then nothing was done."""
    zone_id = range_zone(mem, start, end)
    if zone_id < 0:
        return c.E_INVAL
    zone = zone_at(mem, zone_id)
    result = c.E_BUSY
    lock(mem, zone + c.Z_LOCK, claim)
    if may_end(mem, claim, start, end, 0):
        restore_types(mem, zone, claim, start, end)
        result = 0
    unlock_zone(mem, claim, zone)
    wake_waiters(mem, claim)
    return result


@kernel
def all_free(mem: Memory, start: Pfn, end: Pfn, allow_poisoned: int) -> bool:
    """Whether every page of [start, end) is free (or, if allowed, poisoned); zone lock held."""
    at = head_of(mem, start)
    if at < 0:
        return False
    while at < end:
        w0 = page_state(mem, at)
        kind = type_of(w0)
        if kind != c.T_FREE and not (allow_poisoned != 0 and kind == c.T_POISONED):
            return False
        at += 1 << order_of(w0)
    return True


@kernel
def largest_fit(at: Pfn, end: Pfn, limit: Order) -> Order:
    """The largest order <= ``limit`` whose block is aligned at ``at`` and ends by ``end``."""
    order = limit
    while order > 0 and (at & ((1 << order) - 1) != 0 or at + (1 << order) > end):
        order -= 1
    return order


@kernel
def take_free_at(
    mem: Memory, zone: ZoneWords, claim: Claim, at: Pfn, end: Pfn, kind: PageType
) -> Order:
    """Take the largest block at ``at`` that fits before ``end`` out of the free block over it.

    Returns its order, or a negative code; zone lock held.
    """
    head = head_of(mem, at)
    if head < 0:
        return c.E_STATE
    order = largest_fit(at, end, order_of(page_state(mem, head)))
    if head != at or order != order_of(page_state(mem, at)):
        if carve(mem, zone, claim, head, at, order) < 0:
            return c.E_STATE
    holder = label(mem, claim)
    if kind == c.T_OFFLINE:
        holder = out_of_service(kind)
    if take_block(mem, zone, claim, at, order, kind, c.MT_MOVABLE, holder) < 0:
        return c.E_STATE
    if kind == c.T_ISOLATED:  # for an owner (give_single_pages)
        accept_for(mem, claim, at, order, c.T_PCP)
    return order


@kernel
def give_single_pages(mem: Memory, claim: Claim, pfn: Pfn, order: Order, owner: Owner) -> int:
    """Turn an ISOLATED block into single ALLOCATED pages, right to left under the old head.

    A page that was written to while free is reported and marked: it leaves service when it is
    freed. Returns how many are.
    """
    zone_id = zone_of_word(page_state(mem, pfn))
    changed = 0
    at = pfn + (1 << order) - 1
    while at >= pfn:
        w0, w1 = load2(mem, descriptor_at(mem, at))
        given = next_word(w0, c.T_ALLOCATED, 0, zone_id, c.MT_MOVABLE, label(mem, claim))
        if not intact_on_alloc(mem, claim, at, 0):
            given |= c.POISON_BIT
            changed += 1
        if not transition2(mem, at, w0, w1, given, owner):
            report(mem, claim, c.I_FREE_HEAD, at, c.IS_TYPE | c.T_ALLOCATED, w0)
        event(mem, claim, c.EV_ALLOC)
        record(mem, claim, c.OP_ALLOC, 0, at, owner)
        at -= 1
    return changed


@unit
def alloc_contig_range(mem: Memory, claim: Claim, start: Pfn, end: Pfn, owner: Owner) -> int:
    """Allocate exactly the pages [start, end) as single pages of ``owner``.

    Returns 0; E_BUSY if one of them is in use or was written to while it was free; E_NOMEM if the
    zone would fall below its minimum watermark; or E_INVAL. Free them one by one, or with
    ``free_contig_range``. Linux's function of this name, which looks at no watermark: there the
    pages in use are moved, and memory is reclaimed to make room for them.
    """
    if start < 0 or start >= end:
        return c.E_INVAL
    if is_faulty(mem, claim, c.FAULT_PAGE):
        return c.E_BUSY
    step = 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)
    first = start & ~(step - 1)
    last = (end + step - 1) & ~(step - 1)
    result = isolate_range(mem, claim, first, last)
    if result < 0:
        return result
    zone = zone_at(mem, zone_of(mem, start))
    lock(mem, zone + c.Z_LOCK, claim)
    failed_at: Pfn = start
    result = may_take_range(mem, zone, start, end)
    if result == 0:
        failed_at = take_range(mem, zone, claim, start, end, owner)
    unlock_zone(mem, claim, zone)
    if failed_at >= 0:
        free_contig_range(mem, claim, start, failed_at)
        if result == 0:
            result = c.E_BUSY
    else:
        event(mem, claim, c.EV_CONTIG)
    unisolate_range(mem, claim, first, last)
    wake_if_low(mem, claim, zone)
    return result


@kernel
def may_take_range(mem: Memory, zone: ZoneWords, start: Pfn, end: Pfn) -> int:
    """0 if the isolated pages [start, end) may be taken; E_BUSY if one is in use; E_NOMEM if too
    few pages would stay free. Zone lock held."""
    if not all_free(mem, start, end, 0):
        return c.E_BUSY
    # The zone's counter is without what is isolated: that is the range, and what comes back.
    if not keeps_minimum(mem, zone, -free_around(mem, start, end)):
        return c.E_NOMEM
    return 0


@kernel
def free_around(mem: Memory, start: Pfn, end: Pfn) -> int:
    """Free pages of the pageblocks of [start, end) outside of it, which are isolated with it only
    until it is taken; zone lock held."""
    step = 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)
    return free_pages_in(mem, start & -step, start) + free_pages_in(
        mem, end, (end + step - 1) & -step
    )


@kernel
def free_pages_in(mem: Memory, start: Pfn, end: Pfn) -> int:
    """Free pages of [start, end); zone lock held."""
    if start == end:
        return 0
    pages = 0
    at = head_of(mem, start)
    while 0 <= at < end:
        w0 = page_state(mem, at)
        behind = at + block_span(w0)
        if type_of(w0) == c.T_FREE:
            pages += min(behind, end) - max(at, start)
        at = behind
    return pages


@kernel
def take_range(
    mem: Memory, zone: ZoneWords, claim: Claim, start: Pfn, end: Pfn, owner: Owner
) -> Pfn:
    """Give all pages of [start, end) to ``owner``. Returns -1; or, if a block cannot be had or was
    written to, how far it came: [start, here) has to go back."""
    at = start
    while at < end:
        order = take_free_at(mem, zone, claim, at, end, c.T_ISOLATED)
        if order < 0:
            return at
        changed = give_single_pages(mem, claim, at, order, owner)
        at += 1 << order
        if changed != 0:
            return at
    return -1


@unit
def free_contig_range(mem: Memory, claim: Claim, start: Pfn, end: Pfn) -> int:
    """Free the single pages [start, end); returns how many were freed."""
    freed = 0
    for pfn in range(start, end):
        if free_pages(mem, claim, pfn, 0) == 0:
            freed += 1
    return freed


@unit
def offline_range(mem: Memory, claim: Claim, start: Pfn, end: Pfn) -> int:
    """Take the pageblocks [start, end) out of service. Returns 0, E_BUSY (in use) or E_INVAL.

    Poisoned pages may be among them. The pageblocks stay isolated until ``online_range``.
    """
    result: int = isolate_range(mem, claim, start, end)
    if result < 0:
        return result
    zone = zone_at(mem, zone_of(mem, start))
    lock(mem, zone + c.Z_LOCK, claim)
    result = c.E_BUSY
    if all_free(mem, start, end, 1):
        result = take_offline(mem, zone, claim, start, end)
    if result == 0:
        for at in range(start, end, 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)):
            keep_isolated(mem, at)  # it names no isolator now: recovery leaves it alone
    unlock_zone(mem, claim, zone)
    if result < 0:
        unisolate_range(mem, claim, start, end)
        return result
    event(mem, claim, c.EV_OFFLINE)
    record(mem, claim, c.OP_OFFLINE, 0, start, end)
    return 0


@kernel
def take_offline(mem: Memory, zone: ZoneWords, claim: Claim, start: Pfn, end: Pfn) -> int:
    """Turn the free pages of an isolated range OFFLINE; zone lock held. Returns 0 or a code.

    By pageblock, so that each can go online alone. The first page may lie inside a block that
    begins in a neighbour's isolated pageblock (the two merged): ``take_free_at`` carves it off.
    """
    at = start
    while at < end:
        head = head_of(mem, at)
        if head >= 0 and type_of(page_state(mem, head)) == c.T_FREE:
            border = (at | ((1 << fixed(mem, c.H_PAGEBLOCK_ORDER)) - 1)) + 1
            order = take_free_at(mem, zone, claim, at, border, c.T_OFFLINE)
            if order < 0:
                return +order
            unmanage(mem, zone, 1 << order)
            at += 1 << order
        else:
            at += block_span(page_state(mem, at))
    return 0


@unit
def online_range(mem: Memory, claim: Claim, start: Pfn, end: Pfn) -> int:
    """Put the pageblocks [start, end) back in service; returns the pages gained, E_INVAL, or E_BUSY
    if another claim has isolated one of them: then nothing was done."""
    zone_id = range_zone(mem, start, end)
    if zone_id < 0:
        return c.E_INVAL
    zone = zone_at(mem, zone_id)
    pages = c.E_BUSY
    lock(mem, zone + c.Z_LOCK, claim)
    if may_end(mem, claim, start, end, 1):
        restore_types(mem, zone, claim, start, end)
        pages = bring_online(mem, zone, claim, start, end)
    unlock_zone(mem, claim, zone)
    wake_waiters(mem, claim)
    return pages


@kernel
def bring_online(mem: Memory, zone: ZoneWords, claim: Claim, start: Pfn, end: Pfn) -> int:
    """Free the OFFLINE blocks of [start, end), whose pageblocks have their types back; pages."""
    pages = 0
    at = start
    while at < end:
        w0 = page_state(mem, at)
        if type_of(w0) == c.T_OFFLINE:
            unmanage(mem, zone, -(1 << order_of(w0)))
            free_block(mem, zone, claim, at, order_of(w0))
            pages += 1 << order_of(w0)
        at += block_span(w0)
    return pages
