"""Pages without waiting: allocate and free where the caller may hold a lock itself.

A signal handler, a debugger, a tracer or a callback may run while its process, or the very kernel
that it interrupts, holds any lock. These kernels never wait, spin or sleep: they try each lock
once, and go on without it. They end even if all others are stopped for ever. Linux:
alloc_pages_nolock and free_pages_nolock (mm/page_alloc.c).

An allocation takes a block from the CPU's list, else from the zone, else there is none: E_AGAIN if
a lock was held, E_NOMEM if not. It drains nothing and does not wake what would bring memory. A free
cannot fail: it goes to the CPU's list if that has room, else to the zone, else on the zone's
deferred list (deferred.py). An interrupted kernel of the same claim is another process to them, as
far as memory is concerned: they write no intent. Of the claim's record they write what is counted
and drawn (events, injected faults, samples), and a count that they interrupt may be lost.

A compare-exchange is tried again in two places, each time because another process has made
progress: on the deferred list, and to release a lock whose flags a sleeper has changed.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import mt_of, next_word, order_of, wants_poison, zone_of_word
from shmalloc.kernels.buddy import free_block
from shmalloc.kernels.cpu_lock import try_spin, unspin
from shmalloc.kernels.deferred import defer_block
from shmalloc.kernels.descriptor import (
    free_problem,
    in_range,
    misuse_of,
    page_state,
    take_back,
    transition,
)
from shmalloc.kernels.fallback import rmqueue
from shmalloc.kernels.fault_injection import is_faulty
from shmalloc.kernels.fill import clear_on_alloc, fill_on_free, intact_on_alloc, is_unchanged
from shmalloc.kernels.gfp import gfp_mt
from shmalloc.kernels.lock import try_lock
from shmalloc.kernels.pages import give, give_listed, keeps_off_list, note_free, refuse_free
from shmalloc.kernels.pcp import is_full
from shmalloc.kernels.pcp_lists import pcp_index, pcp_keeps, pcp_pop, pcp_push
from shmalloc.kernels.rebuild import retire_held
from shmalloc.kernels.repair import release_zone
from shmalloc.kernels.reporting import cpu_of, event
from shmalloc.kernels.retire import retire_pages
from shmalloc.kernels.slots import label, list_label
from shmalloc.kernels.waiters import wake_waiters
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
from shmalloc.units import Claim, Gfp, Memory, Order, Owner, Pfn, Word0, Word1, ZoneId
from shmalloc.words import fixed, load, load_relaxed


@unit
def try_alloc_pages(mem: Memory, claim: Claim, order: Order, gfp: Gfp, owner: Owner) -> Pfn:
    """Allocate 2^order pages for ``owner`` without waiting: the first pfn.

    E_AGAIN: a lock was held, or a page was written to while it was free; E_NOMEM: there is no
    memory; E_INVAL.
    """
    if order < 0 or order > fixed(mem, c.H_MAX_ORDER) or gfp < 0 or gfp >= c.MT_PCP_TYPES:
        return c.E_INVAL
    if is_faulty(mem, claim, c.FAULT_PAGE):
        return c.E_NOMEM
    result: Pfn = c.E_NOMEM
    for i in range(zonelist_length(mem, claim)):
        zone_id = zonelist_zone(mem, claim, i)
        pfn = try_pcp(mem, claim, zone_id, order, gfp, owner)
        if pfn < 0:
            pfn = try_zone(mem, claim, zone_id, order, gfp, owner)
        if pfn >= 0:
            return pfn
        if pfn != c.E_NOMEM:
            result = pfn
    return result


@kernel
def try_pcp(
    mem: Memory, claim: Claim, zone_id: ZoneId, order: Order, gfp: Gfp, owner: Owner
) -> Pfn:
    """A block from the CPU's list as it is, or E_AGAIN."""
    index = pcp_index(mem, order, gfp_mt(gfp))
    pcp = pcp_at(mem, cpu_of(mem, claim), zone_id)
    if index < 0 or not try_spin(mem, pcp + c.P_LOCK, claim):
        return c.E_AGAIN
    pfn = pcp_pop(mem, pcp, index, order)
    given: Pfn = c.E_AGAIN
    if pfn >= 0 and is_unchanged(mem, pfn, order):
        clear_on_alloc(mem, pfn, order)
        given = give_listed(mem, claim, pfn, order, gfp_mt(gfp), owner)
    elif pfn >= 0:  # an ordinary allocation retires it, which takes the zone lock
        pcp_push(mem, pcp, index, order, pfn)
    unspin(mem, pcp + c.P_LOCK, claim)
    return given


@kernel
def try_zone(
    mem: Memory, claim: Claim, zone_id: ZoneId, order: Order, gfp: Gfp, owner: Owner
) -> Pfn:
    """A block from the zone: E_NOMEM if it has none, E_AGAIN if its lock is held."""
    zone = zone_at(mem, zone_id)
    if not try_lock(mem, zone + c.Z_LOCK, claim):
        event(mem, claim, c.EV_LOCK_SLOW)
        return c.E_AGAIN
    pfn: Pfn = c.E_NOMEM
    if may_take(mem, zone, order, gfp):
        pfn = rmqueue(mem, zone, claim, order, gfp_mt(gfp), label(mem, claim))
    if pfn >= 0 and not intact_on_alloc(mem, claim, pfn, order):
        retire_pages(mem, claim, zone, pfn, order)
        pfn = c.E_AGAIN
    release_zone(mem, claim, zone)
    if pfn >= 0:
        pfn = give(mem, claim, pfn, order, gfp_mt(gfp), owner)
    return pfn


@unit
def try_free_pages(mem: Memory, claim: Claim, pfn: Pfn, order: Order, owner: Owner) -> int:
    """Free a block of ``owner`` (0: any owner) without waiting. Returns 0, or E_STATE for a misuse.

    Linearization point: the swap to state PCP. Waiters for memory are woken in any case.
    """
    if not in_range(mem, pfn):
        return refuse_free(mem, claim, c.M_OUT_OF_RANGE, pfn, order)
    d = descriptor_at(mem, pfn)
    w0 = load(mem, d)  # two reads may be torn: the swap compares both and fails
    w1 = load_relaxed(mem, d + 1)
    if free_problem(w0, w1, order, owner) != 0:
        return refuse_free(mem, claim, misuse_of(mem, pfn, w0, w1, order, owner), pfn, order)
    seen = take_back(mem, pfn, order, w0, w1, label(mem, claim))
    if seen < 0:
        return refuse_free(mem, claim, -seen, pfn, order)
    settle_free(mem, claim, pfn, order, seen, w1)
    return 0


@kernel
def settle_free(mem: Memory, claim: Claim, pfn: Pfn, order: Order, seen: Word0, w1: Word1) -> None:
    """Put a block that was taken back from state (seen, w1) wherever a lock is free."""
    note_free(mem, claim, pfn, order, seen, w1)
    zone_id = zone_of_word(seen)
    if not wants_poison(seen):
        fill_on_free(mem, pfn, order)
        if try_keep(mem, claim, zone_id, pfn, order):
            return
    zone = zone_at(mem, zone_id)
    if try_lock(mem, zone + c.Z_LOCK, claim):
        if wants_poison(seen):
            retire_held(mem, claim, zone, pfn)
        else:
            free_block(mem, zone, claim, pfn, order)
        release_zone(mem, claim, zone)
        wake_waiters(mem, claim)
    else:
        defer_block(mem, claim, zone, pfn)
        wake_waiters(mem, claim)


@kernel
def try_keep(mem: Memory, claim: Claim, zone_id: ZoneId, pfn: Pfn, order: Order) -> bool:
    """Put a block with our label on the CPU's list, if its lock is free and it has room."""
    if not pcp_keeps(mem, order):
        return False
    pcp = own_pcp(mem, claim, zone_id)
    if not try_spin(mem, pcp + c.P_LOCK, claim):
        event(mem, claim, c.EV_PCP_MISS)
        return False
    mt = block_mt(mem, pfn)
    kept = False
    if not keeps_off_list(mem, pcp, mt, order):
        index = pcp_index(mem, order, mt)
        if not is_full(mem, pcp, index, order) and relabel(mem, claim, pfn):
            pcp_push(mem, pcp, index, order, pfn)
            mem[pcp + c.P_FREE_RUN] = mem[pcp + c.P_FREE_RUN] + (1 << order)
            kept = True
    unspin(mem, pcp + c.P_LOCK, claim)
    return kept


@kernel
def relabel(mem: Memory, claim: Claim, pfn: Pfn) -> bool:
    """Give a block in our hands the label of our CPU's lists; P_LOCK held."""
    w0 = page_state(mem, pfn)
    holder = list_label(cpu_of(mem, claim))
    listed = next_word(w0, c.T_PCP, order_of(w0), zone_of_word(w0), mt_of(w0), holder)
    return transition(mem, pfn, w0, listed)
