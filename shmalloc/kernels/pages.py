"""The public page operations. ``claim`` is the caller's (slots.py), ``owner`` any word.

``alloc_pages`` returns the first pfn of a block of 2^order pages, or E_NOMEM. ``free_pages`` takes
exactly what was given: another order, an inner page, a second free, a slab page or an invalid pfn
is a misuse: it is reported with its code, returns E_STATE, and the page stays as it was.

Path of an allocation: the zones in the CPU's fallback order, each first through the per-CPU list
(trylock), then through the zone; finally every per-CPU list is drained and the zones are tried once
more. A block passes through state PCP in both directions, so it always has exactly one owner. Under
the lock of the CPU's list it goes straight between the list and its owner; through the zone it is
in the caller's hands, with the caller's label, for a moment.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.bits import detail_of, wants_poison, zone_of_word
from shmalloc.kernels.buddy import free_block
from shmalloc.kernels.cpu_lock import try_spin, unspin
from shmalloc.kernels.deferred import drain_deferred
from shmalloc.kernels.descriptor import (
    free_problem,
    hand_out,
    hand_out_listed,
    in_range,
    misuse_of,
    page_state,
    take_back,
)
from shmalloc.kernels.fallback import rmqueue
from shmalloc.kernels.fault_injection import is_faulty
from shmalloc.kernels.fill import fill_on_free, intact_on_alloc, zero_on_alloc
from shmalloc.kernels.gfp import allows_zone, gfp_mt, is_known_gfp
from shmalloc.kernels.lock import lock
from shmalloc.kernels.pcp import drain_all, drain_count, drain_some, is_full, refill
from shmalloc.kernels.pcp_lists import pcp_index, pcp_keeps, pcp_pop, pcp_push
from shmalloc.kernels.reclaim import wake_if_boosted, wake_reclaimer
from shmalloc.kernels.repair import unlock_zone
from shmalloc.kernels.reporting import claim_at, cpu_of, event, has_record, record, report
from shmalloc.kernels.retire import retire_block, retire_changed
from shmalloc.kernels.slots import label, list_label
from shmalloc.kernels.waiters import leave_seat, take_seat, ticket_of, wake_waiters
from shmalloc.kernels.watermark import may_take
from shmalloc.kernels.zone import (
    block_mt,
    descriptor_at,
    own_pcp,
    pcp_at,
    zone_at,
    zonelist_length,
    zonelist_zone,
)
from shmalloc.units import (
    Claim,
    Gfp,
    Int,
    Memory,
    Migratetype,
    Order,
    Owner,
    PcpWords,
    Pfn,
    Word0,
    Word1,
    ZoneId,
)
from shmalloc.words import fixed, load, load_relaxed, wait


@unit
def take_from_zone(mem: Memory, claim: Claim, zone_id: ZoneId, order: Order, gfp: Gfp) -> Pfn:
    """One block in state PCP straight from the zone, or E_NOMEM."""
    zone = zone_at(mem, zone_id)
    pfn: Pfn = c.E_NOMEM
    lock(mem, zone + c.Z_LOCK, claim)
    if may_take(mem, zone, order, gfp):
        pfn = rmqueue(mem, zone, claim, order, gfp_mt(gfp), label(mem, claim))
    # A waiter sleeps after this look: what was deferred before it began must be seen by it.
    if pfn < 0 and load_relaxed(mem, zone + c.Z_DEFERRED) != 0:
        drain_deferred(mem, claim, zone)
        if may_take(mem, zone, order, gfp):
            pfn = rmqueue(mem, zone, claim, order, gfp_mt(gfp), label(mem, claim))
    unlock_zone(mem, claim, zone)
    wake_if_boosted(mem, claim, zone)
    return pfn


@hot
def give(mem: Memory, claim: Claim, pfn: Pfn, order: Order, mt: Migratetype, owner: Owner) -> Pfn:
    """Hand a block in state PCP that is in our hands over to its owner."""
    return count_given(mem, claim, hand_out(mem, pfn, order, claim, mt, owner), pfn, order, owner)


@hot
def give_listed(
    mem: Memory, claim: Claim, pfn: Pfn, order: Order, mt: Migratetype, owner: Owner
) -> Pfn:
    """The same for a block from the list of our CPU; P_LOCK is held."""
    given = hand_out_listed(mem, pfn, order, claim, mt, owner)
    return count_given(mem, claim, given, pfn, order, owner)


@hot
def count_given(mem: Memory, claim: Claim, given: Pfn, pfn: Pfn, order: Order, owner: Owner) -> Pfn:
    """``given``: what the change of state of block ``pfn`` has returned."""
    if given < 0:
        report(mem, claim, c.M_WRONG_STATE, pfn, c.IS_TYPE | c.T_PCP, page_state(mem, pfn))
        return c.E_STATE
    event(mem, claim, c.EV_ALLOC)
    record(mem, claim, c.OP_ALLOC, order, pfn, owner)
    return pfn


@hot
def give_intact(
    mem: Memory, claim: Claim, pfn: Pfn, order: Order, mt: Migratetype, owner: Owner
) -> Pfn:
    """``give``; or E_AGAIN, if pages of the block were written to while free: these are retired."""
    if intact_on_alloc(mem, claim, pfn, order):
        return give(mem, claim, pfn, order, mt, owner)
    retire_changed(mem, claim, pfn, order)
    return c.E_AGAIN


@hot
def give_listed_intact(
    mem: Memory, claim: Claim, pfn: Pfn, order: Order, mt: Migratetype, owner: Owner
) -> Pfn:
    """``give_intact`` for a block from the list of our CPU; P_LOCK is held."""
    if intact_on_alloc(mem, claim, pfn, order):
        return give_listed(mem, claim, pfn, order, mt, owner)
    retire_changed(mem, claim, pfn, order)
    return c.E_AGAIN


# What follows allocates for ``owner``: a pfn, E_NOMEM, E_AGAIN (a page was retired), or E_STATE.
@unit
def alloc_from_zone(
    mem: Memory, claim: Claim, zone_id: ZoneId, order: Order, gfp: Gfp, owner: Owner
) -> Pfn:
    """A block straight from the zone."""
    pfn = take_from_zone(mem, claim, zone_id, order, gfp)
    if pfn < 0:
        return pfn
    return give_intact(mem, claim, pfn, order, gfp_mt(gfp), owner)


@hot
def alloc_from_pcp(
    mem: Memory,
    claim: Claim,
    zone_id: ZoneId,
    pcp: PcpWords,
    order: Order,
    gfp: Gfp,
    index: int,
    owner: Owner,
) -> Pfn:
    """A block from the CPU's own list at ``pcp``, refilled if it is empty.

    It leaves the list and becomes the owner's under one hold of P_LOCK (pcp.py says why).
    """
    if not try_spin(mem, pcp + c.P_LOCK, claim):
        event(mem, claim, c.EV_PCP_MISS)
        return alloc_from_zone(mem, claim, zone_id, order, gfp, owner)
    pfn = pcp_pop(mem, pcp, index, order)
    if pfn < 0 and refill(mem, claim, zone_id, pcp, index, gfp) > 0:
        pfn = pcp_pop(mem, pcp, index, order)
    if pfn >= 0:
        pfn = give_listed_intact(mem, claim, pfn, order, gfp_mt(gfp), owner)
    mem[pcp + c.P_FREE_RUN] = mem[pcp + c.P_FREE_RUN] >> 1
    unspin(mem, pcp + c.P_LOCK, claim)
    return pfn


@hot
def alloc_anywhere(mem: Memory, claim: Claim, order: Order, gfp: Gfp, owner: Owner) -> Pfn:
    """A block from the first zone of the fallback order that has one."""
    index = pcp_index(mem, order, gfp_mt(gfp))
    slot = claim_at(mem, claim)
    zone_id = fixed(mem, slot + c.C_HOME_ZONE)
    if index >= 0:
        pcp = fixed(mem, slot + c.C_HOME_PCP)
        pfn = alloc_from_pcp(mem, claim, zone_id, pcp, order, gfp, index, owner)
    else:
        pfn = alloc_from_zone(mem, claim, zone_id, order, gfp, owner)
    if pfn != c.E_NOMEM:
        return pfn
    return alloc_elsewhere(mem, claim, order, gfp, 1, owner)


@unit
def alloc_elsewhere(
    mem: Memory, claim: Claim, order: Order, gfp: Gfp, first: int, owner: Owner
) -> Pfn:
    """A block from the zones of the fallback order from the ``first``-th on."""
    index = pcp_index(mem, order, gfp_mt(gfp))
    for i in range(first, zonelist_length(mem, claim)):
        zone_id = zonelist_zone(mem, claim, i)
        pfn: Pfn = c.E_NOMEM
        if allows_zone(mem, claim, zone_id, gfp):
            if index >= 0:
                pcp = pcp_at(mem, cpu_of(mem, claim), zone_id)
                pfn = alloc_from_pcp(mem, claim, zone_id, pcp, order, gfp, index, owner)
            else:
                pfn = alloc_from_zone(mem, claim, zone_id, order, gfp, owner)
        if pfn != c.E_NOMEM:
            if i > 0:
                event(mem, claim, c.EV_ZONE_FALLBACK)
            return pfn
    return c.E_NOMEM


@unit
def alloc_after_drain(mem: Memory, claim: Claim, order: Order, gfp: Gfp, owner: Owner) -> Pfn:
    """The last resort: drain the per-CPU lists, whose pages may merge into the wanted order."""
    drain_all(mem, claim)
    for i in range(zonelist_length(mem, claim)):
        zone_id = zonelist_zone(mem, claim, i)
        if allows_zone(mem, claim, zone_id, gfp):
            pfn = alloc_from_zone(mem, claim, zone_id, order, gfp, owner)
            if pfn != c.E_NOMEM:
                return pfn
    return c.E_NOMEM


@hot
def alloc_pages(mem: Memory, claim: Claim, order: Order, gfp: Gfp, owner: Owner) -> Pfn:
    """Allocate 2^order pages for ``owner``: the first pfn, E_NOMEM or E_INVAL.

    ``gfp``: a migratetype, and flags GFP_* (gfp.py). With GFP_NOFAIL never E_NOMEM; E_STOPPED if
    the run ends meanwhile.
    """
    if not has_record(mem, claim):
        return c.E_INVAL
    pfn: Pfn = c.E_INVAL
    if 0 <= order <= fixed(mem, c.H_MAX_ORDER) and 0 <= gfp < c.MT_PCP_TYPES:
        if is_faulty(mem, claim, c.FAULT_PAGE):
            return c.E_NOMEM
        pfn = alloc_anywhere(mem, claim, order, gfp | c.ALLOC_WMARK_LOW, owner)
        if pfn >= 0:
            return pfn
    return alloc_rest(mem, claim, order, gfp, owner, pfn)


@unit
def alloc_rest(mem: Memory, claim: Claim, order: Order, gfp: Gfp, owner: Owner, found: Pfn) -> Pfn:
    """What ``alloc_pages`` does not do itself: one call, as two there would cost it registers.

    ``found``: E_INVAL if it did not look, for there are flags, or it is a request for nothing.
    """
    if found == c.E_INVAL:
        return alloc_flagged(mem, claim, order, gfp, owner)
    return alloc_slow(mem, claim, order, gfp, owner, found)


@unit
def alloc_flagged(mem: Memory, claim: Claim, order: Order, gfp: Gfp, owner: Owner) -> Pfn:
    """``alloc_pages`` with flags; E_INVAL if they contradict each other, or for any other nonsense.

    An injected fault does not fail an allocation that may not fail (Linux: should_fail_alloc_page).
    """
    if order < 0 or order > fixed(mem, c.H_MAX_ORDER) or not is_known_gfp(mem, gfp):
        return c.E_INVAL
    if gfp & c.GFP_NOFAIL == 0 and is_faulty(mem, claim, c.FAULT_PAGE):
        return c.E_NOMEM
    pfn = alloc_elsewhere(mem, claim, order, gfp | c.ALLOC_WMARK_LOW, 0, owner)
    if pfn < 0:
        pfn = alloc_slow(mem, claim, order, gfp, owner, pfn)
    if pfn == c.E_NOMEM and gfp & c.GFP_NOFAIL != 0:
        pfn = alloc_seated(mem, claim, order, gfp | c.GFP_HIGH, owner)
    if pfn >= 0 and gfp & c.GFP_ZERO != 0:
        zero_on_alloc(mem, pfn, order)
    return pfn


@kernel
def wake_reclaimers(mem: Memory, claim: Claim, order: Order, gfp: Gfp) -> None:
    """Have memory reclaimed in the zones that the caller may use."""
    for i in range(zonelist_length(mem, claim)):
        zone_id = zonelist_zone(mem, claim, i)
        if allows_zone(mem, claim, zone_id, gfp):
            wake_reclaimer(mem, claim, zone_at(mem, zone_id), order)


@unit
def alloc_slow(mem: Memory, claim: Claim, order: Order, gfp: Gfp, owner: Owner, found: Pfn) -> Pfn:
    """The rest of ``alloc_pages``, which found no block above the low watermarks, or one that was
    modified while free. Now zones may be taken down to the minimum, and a reclaimer is woken."""
    if found == c.E_NOMEM:
        wake_reclaimers(mem, claim, order, gfp)
    pfn = found
    while pfn == c.E_NOMEM or pfn == c.E_AGAIN:
        pfn = alloc_elsewhere(mem, claim, order, gfp, 0, owner)
        if pfn == c.E_NOMEM and gfp & c.GFP_HASTE == 0:
            pfn = alloc_after_drain(mem, claim, order, gfp, owner)
        if pfn == c.E_NOMEM:
            event(mem, claim, c.EV_FAIL)
            record(mem, claim, c.OP_ALLOC, order, -1, pfn)
            return pfn
    return pfn


@unit
def alloc_seated(mem: Memory, claim: Claim, order: Order, gfp: Gfp, owner: Owner) -> Pfn:
    """Sleep for memory until there is some: a pfn, or E_STOPPED; never E_NOMEM.

    The caller passes GFP_HIGH: an allocation that cannot fail gets part of the reserve rather than
    wait for it (Linux: __alloc_pages_cpuset_fallback with ALLOC_MIN_RESERVE).
    """
    seat = take_seat(mem, claim)
    pfn: Pfn = c.E_NOMEM
    while pfn == c.E_NOMEM:
        ticket = ticket_of(mem, seat)
        # Tries again after the announcement, and drains every CPU's list on the way.
        pfn = alloc_slow(mem, claim, order, gfp, owner, c.E_NOMEM)
        if pfn == c.E_NOMEM and load(mem, c.H_STOP) != 0:
            pfn = c.E_STOPPED
        if pfn == c.E_NOMEM:
            event(mem, claim, c.EV_WAIT)
            wait(mem, c.H_WAKE, ticket)
            if seat < 0:
                seat = take_seat(mem, claim)
    if seat >= 0:
        leave_seat(mem, seat)
    return pfn


@unit
def give_back_to_zone(mem: Memory, claim: Claim, zone_id: ZoneId, pfn: Pfn, order: Order) -> None:
    """Return a block in state PCP to its zone, merging."""
    zone = zone_at(mem, zone_id)
    lock(mem, zone + c.Z_LOCK, claim)
    free_block(mem, zone, claim, pfn, order)
    unlock_zone(mem, claim, zone)
    wake_waiters(mem, claim)


@hot
def note_free(mem: Memory, claim: Claim, pfn: Pfn, order: Order, w0: Word0, w1: Word1) -> None:
    """Count a free of a block that was in state (w0, w1)."""
    event(mem, claim, c.EV_FREE)
    record(mem, claim, c.OP_FREE, order, pfn, w1)
    if detail_of(w0) & c.CLAIM_MASK != claim:
        event(mem, claim, c.EV_REMOTE_FREE)


@unit
def free_to_zone(mem: Memory, claim: Claim, pfn: Pfn, order: Order, w0: Word0, w1: Word1) -> int:
    """Free a block that was seen as (w0, w1) to its zone. Returns 0 or E_STATE."""
    seen = take_back(mem, pfn, order, w0, w1, label(mem, claim))
    if seen < 0:
        return refuse_free(mem, claim, -seen, pfn, order)
    note_free(mem, claim, pfn, order, seen, w1)
    if wants_poison(seen):
        retire_block(mem, claim, pfn, order)
        return 0
    fill_on_free(mem, pfn, order)
    give_back_to_zone(mem, claim, zone_of_word(seen), pfn, order)
    return 0


@hot
def keeps_off_list(mem: Memory, pcp: PcpWords, mt: Migratetype, order: Order) -> bool:
    """Whether a freed block of a pageblock of type ``mt`` must go to its zone; P_LOCK held.

    Both announcements are read under P_LOCK. A CPU that isolates the pageblock, or waits for
    memory, announces that first and drains this list afterwards: either it finds our page on the
    list, or we see the announcement here and do not hide the page.
    """
    if mt == c.MT_ISOLATE or load_relaxed(mem, c.H_WAITERS) > 0:
        return True
    # One whole pageblock more than the list keeps.
    return order >= c.PCP_ORDERS and is_full(mem, pcp, pcp_index(mem, order, mt), order)


@hot
def free_to_pcp(
    mem: Memory, claim: Claim, pcp: PcpWords, pfn: Pfn, order: Order, w0: Word0, w1: Word1
) -> int:
    """Free a block that was seen as (w0, w1) to the CPU's list, draining above the high mark.

    P_LOCK is held on entry and released here. Returns 0 or E_STATE.
    """
    mt = block_mt(mem, pfn)
    if keeps_off_list(mem, pcp, mt, order):
        unspin(mem, pcp + c.P_LOCK, claim)
        return free_to_zone(mem, claim, pfn, order, w0, w1)
    index = pcp_index(mem, order, mt)
    drained = 0
    if is_full(mem, pcp, index, order):
        drained = drain_some(mem, claim, zone_of_word(w0), pcp, drain_count(mem, pcp))
    seen = take_back(mem, pfn, order, w0, w1, list_label(cpu_of(mem, claim)))
    if seen < 0:
        unspin(mem, pcp + c.P_LOCK, claim)
        return refuse_free(mem, claim, -seen, pfn, order)
    note_free(mem, claim, pfn, order, seen, w1)
    if wants_poison(seen):
        retire_block(mem, claim, pfn, order)
    else:
        fill_on_free(mem, pfn, order)
        pcp_push(mem, pcp, index, order, pfn)
    mem[pcp + c.P_FREE_RUN] = mem[pcp + c.P_FREE_RUN] + (1 << order)
    mem[pcp + c.P_FACTOR] = mem[pcp + c.P_FACTOR] >> 1
    unspin(mem, pcp + c.P_LOCK, claim)
    if drained > 0:
        wake_waiters(mem, claim)
    return 0


@unit
def refuse_free(mem: Memory, claim: Claim, code: int, pfn: Pfn, order: Order) -> int:
    """Report a misuse with the state the page was found in (-1: there is no such page)."""
    found: Int = -1
    if in_range(mem, pfn):
        found = page_state(mem, pfn)
    report(mem, claim, code, pfn, order, found)
    return c.E_STATE


@hot
def free_pages_of(mem: Memory, claim: Claim, pfn: Pfn, order: Order, owner: Owner) -> int:
    """Free a block, checking that ``owner`` holds it (0: any owner). Returns 0, E_STATE, or E_INVAL
    for what is no claim."""
    if not has_record(mem, claim):
        return c.E_INVAL
    if not in_range(mem, pfn):
        return refuse_free(mem, claim, c.M_OUT_OF_RANGE, pfn, order)
    d = descriptor_at(mem, pfn)
    w0 = load(mem, d)  # two reads may be torn: the swap compares both and fails
    w1 = load_relaxed(mem, d + 1)
    if free_problem(w0, w1, order, owner) != 0:
        return refuse_free(mem, claim, misuse_of(mem, pfn, w0, w1, order, owner), pfn, order)
    if pcp_keeps(mem, order):
        pcp = own_pcp(mem, claim, zone_of_word(w0))
        if try_spin(mem, pcp + c.P_LOCK, claim):
            return free_to_pcp(mem, claim, pcp, pfn, order, w0, w1)
        event(mem, claim, c.EV_PCP_MISS)
    return free_to_zone(mem, claim, pfn, order, w0, w1)


@hot
def free_pages(mem: Memory, claim: Claim, pfn: Pfn, order: Order) -> int:
    """Free what ``alloc_pages`` gave. Returns 0, or E_STATE for a misuse (reported, not done)."""
    return free_pages_of(mem, claim, pfn, order, 0)
