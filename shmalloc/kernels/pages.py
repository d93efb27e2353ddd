"""The public page operations. ``cpu`` is the caller's CPU slot, ``owner`` any word it likes.

``alloc_pages`` returns the first pfn of a block of 2^order pages, or E_NOMEM. ``free_pages`` takes
exactly what was given: another order, an inner page, a second free, a slab page or an invalid pfn
is a misuse: it is reported with its code, returns E_STATE, and the page stays as it was.

Path of an allocation: the zones in the CPU's fallback order, each first through the per-CPU list
(trylock), then through the zone; finally every per-CPU list is drained and the zones are tried once
more. A block passes through state PCP in both directions, so it always has exactly one owner.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.bits import detail_of, wants_poison, zone_of_word
from shmalloc.kernels.buddy import free_block
from shmalloc.kernels.descriptor import claim_for_free, hand_out, in_range, page_state
from shmalloc.kernels.fallback import rmqueue
from shmalloc.kernels.fault_injection import is_faulty
from shmalloc.kernels.fill import fill_on_free, intact_on_alloc
from shmalloc.kernels.lock import lock, try_spin, unlock, unspin
from shmalloc.kernels.pcp import (
    drain_all,
    drain_count,
    drain_some,
    is_full,
    may_take,
    pcp_at,
    pcp_index,
    pcp_keeps,
    pcp_pop,
    pcp_push,
    refill,
)
from shmalloc.kernels.poison import retire_block
from shmalloc.kernels.reporting import cpu_at, event, record, report
from shmalloc.kernels.zone import block_mt, zone_at, zonelist_length, zonelist_zone
from shmalloc.units import (
    Cpu,
    Int,
    Memory,
    Migratetype,
    Order,
    Owner,
    PcpWords,
    Pfn,
    ZoneId,
    ZoneWords,
)
from shmalloc.words import (
    cas,
    fetch_and,
    fetch_or,
    fixed,
    give_way,
    load,
    load_relaxed,
    relax,
    wait,
    wake,
)


@unit
def take_from_zone(mem: Memory, cpu: Cpu, zone_id: ZoneId, order: Order, mt: Migratetype) -> Pfn:
    """One block in state PCP straight from the zone, or E_NOMEM."""
    zone = zone_at(mem, zone_id)
    pfn: Pfn = c.E_NOMEM
    lock(mem, zone + c.Z_LOCK, cpu)
    if may_take(mem, zone, 1 << order):
        pfn = rmqueue(mem, zone, cpu, order, mt)
    unlock(mem, zone + c.Z_LOCK)
    return pfn


@hot
def take_from_pcp(
    mem: Memory, cpu: Cpu, zone_id: ZoneId, pcp: PcpWords, order: Order, mt: Migratetype, index: int
) -> Pfn:
    """One block in state PCP from the CPU's own list at ``pcp``, refilled if it is empty."""
    if not try_spin(mem, pcp + c.P_LOCK, cpu):
        event(mem, cpu, c.EV_PCP_MISS)
        return take_from_zone(mem, cpu, zone_id, order, mt)
    pfn = pcp_pop(mem, pcp, index, order)
    if pfn < 0 and refill(mem, cpu, zone_id, pcp, index) > 0:
        pfn = pcp_pop(mem, pcp, index, order)
    mem[pcp + c.P_FREE_RUN] = mem[pcp + c.P_FREE_RUN] >> 1
    unspin(mem, pcp + c.P_LOCK)
    return pfn


@hot
def take_block_for(mem: Memory, cpu: Cpu, order: Order, mt: Migratetype) -> Pfn:
    """One block in state PCP from the first zone of the fallback order that has one."""
    index = pcp_index(mem, order, mt)
    slot = cpu_at(mem, cpu)
    zone_id = fixed(mem, slot + c.C_HOME_ZONE)
    if index >= 0:
        pfn = take_from_pcp(mem, cpu, zone_id, fixed(mem, slot + c.C_HOME_PCP), order, mt, index)
    else:
        pfn = take_from_zone(mem, cpu, zone_id, order, mt)
    if pfn >= 0:
        return pfn
    return take_elsewhere(mem, cpu, order, mt, index)


@unit
def take_elsewhere(mem: Memory, cpu: Cpu, order: Order, mt: Migratetype, index: int) -> Pfn:
    """The rest of the fallback order, behind the home zone."""
    for i in range(1, zonelist_length(mem, cpu)):
        zone_id = zonelist_zone(mem, cpu, i)
        if index >= 0:
            pfn = take_from_pcp(mem, cpu, zone_id, pcp_at(mem, cpu, zone_id), order, mt, index)
        else:
            pfn = take_from_zone(mem, cpu, zone_id, order, mt)
        if pfn >= 0:
            event(mem, cpu, c.EV_ZONE_FALLBACK)
            return pfn
    return c.E_NOMEM


@unit
def take_after_drain(mem: Memory, cpu: Cpu, order: Order, mt: Migratetype) -> Pfn:
    """The last resort: drain the per-CPU lists, whose pages may merge into the wanted order."""
    drain_all(mem, cpu)
    for i in range(zonelist_length(mem, cpu)):
        pfn = take_from_zone(mem, cpu, zonelist_zone(mem, cpu, i), order, mt)
        if pfn >= 0:
            return pfn
    return c.E_NOMEM


@hot
def alloc_pages(mem: Memory, cpu: Cpu, order: Order, mt: Migratetype, owner: Owner) -> Pfn:
    """Allocate 2^order pages for ``owner``; returns the first pfn, E_NOMEM or E_INVAL."""
    if order < 0 or order > fixed(mem, c.H_MAX_ORDER) or mt < 0 or mt >= c.MT_PCP_TYPES:
        return c.E_INVAL
    if is_faulty(mem, cpu, c.FAULT_PAGE):
        return c.E_NOMEM
    pfn = take_block_for(mem, cpu, order, mt)
    if pfn >= 0 and intact_on_alloc(mem, cpu, pfn, order):
        return give(mem, cpu, pfn, order, mt, owner)
    return alloc_slow(mem, cpu, order, mt, owner, pfn)


@unit
def alloc_slow(
    mem: Memory, cpu: Cpu, order: Order, mt: Migratetype, owner: Owner, damaged: Pfn
) -> Pfn:
    """The rest of ``alloc_pages``: found nothing, or (>= 0) a block modified while free."""
    pfn = damaged
    while True:
        if pfn >= 0:
            retire_block(mem, cpu, pfn, order)  # modified while free: leak it, never reuse it
        pfn = take_block_for(mem, cpu, order, mt)
        if pfn < 0:
            pfn = take_after_drain(mem, cpu, order, mt)
        if pfn < 0:
            event(mem, cpu, c.EV_FAIL)
            record(mem, cpu, c.OP_ALLOC, order, -1, pfn)
            return pfn
        if intact_on_alloc(mem, cpu, pfn, order):
            return give(mem, cpu, pfn, order, mt, owner)


@hot
def give(mem: Memory, cpu: Cpu, pfn: Pfn, order: Order, mt: Migratetype, owner: Owner) -> Pfn:
    """Hand a block in state PCP over to its owner."""
    given = hand_out(mem, pfn, order, cpu, mt, owner)
    if given < 0:
        report(mem, cpu, c.M_WRONG_STATE, pfn, c.IS_TYPE | c.T_PCP, page_state(mem, pfn))
        return c.E_STATE
    event(mem, cpu, c.EV_ALLOC)
    record(mem, cpu, c.OP_ALLOC, order, pfn, owner)
    return pfn


@unit
def give_back_to_zone(mem: Memory, cpu: Cpu, zone_id: ZoneId, pfn: Pfn, order: Order) -> None:
    """Return a block in state PCP to its zone, merging."""
    zone = zone_at(mem, zone_id)
    lock(mem, zone + c.Z_LOCK, cpu)
    free_block(mem, zone, cpu, pfn, order)
    unlock(mem, zone + c.Z_LOCK)
    wake_waiters(mem, cpu, zone)


@hot
def wake_waiters(mem: Memory, cpu: Cpu, zone: ZoneWords) -> None:
    """Wake the sleepers for memory; called after the zone gained pages.

    No wake-up is lost: a waiter first sets its bit in H_WAITERS and arms H_WAKE (makes it odd),
    then looks at the zones under their locks. Either it found our pages, or it looked before our
    critical section, and then we see both here. Only the CPU that disarms H_WAKE wakes (one system
    call each time it was armed).
    """
    if load(mem, c.H_WAITERS) > 0 and load_relaxed(mem, zone + c.Z_FREE) > fixed(
        mem, zone + c.Z_MIN
    ):
        ticket = load(mem, c.H_WAKE)
        if ticket & 1 != 0 and cas(mem, c.H_WAKE, ticket, ticket + 1):
            wake(mem, c.H_WAKE, c.MAX_CPUS)
            event(mem, cpu, c.EV_WAKE)


@hot
def own_pcp(mem: Memory, cpu: Cpu, zone_id: ZoneId) -> PcpWords:
    """The CPU's per-CPU structure of zone ``zone_id``: one load for the home zone."""
    slot = cpu_at(mem, cpu)
    if zone_id == fixed(mem, slot + c.C_HOME_ZONE):
        return fixed(mem, slot + c.C_HOME_PCP)
    return pcp_at(mem, cpu, zone_id)


@hot
def give_back(mem: Memory, cpu: Cpu, zone_id: ZoneId, pfn: Pfn, order: Order) -> None:
    """Put a block in state PCP on the CPU's list, or in its zone if the list cannot take it."""
    pcp = own_pcp(mem, cpu, zone_id)
    if not pcp_keeps(mem, order):
        give_back_to_zone(mem, cpu, zone_id, pfn, order)
    elif not try_spin(mem, pcp + c.P_LOCK, cpu):
        event(mem, cpu, c.EV_PCP_MISS)
        give_back_to_zone(mem, cpu, zone_id, pfn, order)
    else:
        # Both are read under P_LOCK. A CPU that isolates the pageblock, or waits for memory,
        # announces that first and drains this list afterwards: either it finds our page on the
        # list, or we see the announcement here and do not hide the page.
        mt = block_mt(mem, pfn)
        if mt == c.MT_ISOLATE or load_relaxed(mem, c.H_WAITERS) > 0:
            unspin(mem, pcp + c.P_LOCK)
            give_back_to_zone(mem, cpu, zone_id, pfn, order)
        else:
            keep_on_pcp(mem, cpu, zone_id, pcp, pcp_index(mem, order, mt), pfn, order)


@hot
def keep_on_pcp(
    mem: Memory, cpu: Cpu, zone_id: ZoneId, pcp: PcpWords, index: int, pfn: Pfn, order: Order
) -> None:
    """Push on the CPU's list under its lock (held, released here), draining above the high mark."""
    drained = 0
    if is_full(mem, pcp, index, order):
        if order < c.PCP_ORDERS:
            drained = drain_some(mem, cpu, zone_id, pcp, drain_count(mem, pcp))
        else:  # one whole pageblock more than the list keeps
            unspin(mem, pcp + c.P_LOCK)
            give_back_to_zone(mem, cpu, zone_id, pfn, order)
            return
    pcp_push(mem, pcp, index, order, pfn)
    mem[pcp + c.P_FREE_RUN] = mem[pcp + c.P_FREE_RUN] + (1 << order)
    mem[pcp + c.P_FACTOR] = mem[pcp + c.P_FACTOR] >> 1
    unspin(mem, pcp + c.P_LOCK)
    if drained > 0:
        wake_waiters(mem, cpu, zone_at(mem, zone_id))


@unit
def refuse_free(mem: Memory, cpu: Cpu, code: int, pfn: Pfn, order: Order) -> int:
    """Report a misuse with the state the page was found in (-1: there is no such page)."""
    found: Int = -1
    if in_range(mem, pfn):
        found = page_state(mem, pfn)
    report(mem, cpu, code, pfn, order, found)
    return c.E_STATE


@hot
def free_pages_of(mem: Memory, cpu: Cpu, pfn: Pfn, order: Order, owner: Owner) -> int:
    """Free a block, checking that ``owner`` holds it (0: any owner). Returns 0 or E_STATE."""
    w0 = claim_for_free(mem, pfn, order, cpu, owner)
    if w0 < 0:
        return refuse_free(mem, cpu, -w0, pfn, order)
    event(mem, cpu, c.EV_FREE)
    record(mem, cpu, c.OP_FREE, order, pfn, owner)
    if detail_of(w0) & c.CPU_MASK != cpu:
        event(mem, cpu, c.EV_REMOTE_FREE)
    if wants_poison(w0):
        retire_block(mem, cpu, pfn, order)
        return 0
    fill_on_free(mem, pfn, order)
    give_back(mem, cpu, zone_of_word(w0), pfn, order)
    return 0


@hot
def free_pages(mem: Memory, cpu: Cpu, pfn: Pfn, order: Order) -> int:
    """Free what ``alloc_pages`` gave. Returns 0, or E_STATE for a misuse (reported, not done)."""
    return free_pages_of(mem, cpu, pfn, order, 0)


@kernel
def arm_wake(mem: Memory) -> int:
    """Make H_WAKE odd, so that the next free wakes us; returns what to sleep on."""
    while True:
        ticket = load(mem, c.H_WAKE)
        if ticket & 1 != 0 or cas(mem, c.H_WAKE, ticket, ticket + 1):
            return ticket | 1
        relax(mem)


@unit
def alloc_pages_wait(
    mem: Memory, cpu: Cpu, order: Order, mt: Migratetype, owner: Owner, rounds: int
) -> Pfn:
    """``alloc_pages`` that sleeps for memory, at most ``rounds`` times (50 ms each natively)."""
    pfn = alloc_pages(mem, cpu, order, mt, owner)
    if pfn != c.E_NOMEM:
        return pfn
    seat = 1 << cpu
    left = rounds
    # A slot has one seat: of the processes that share it, one sits and the others wait for it.
    while left > 0 and fetch_or(mem, c.H_WAITERS, seat) & seat != 0:
        give_way(mem)
        left -= 1
    if left == 0:
        return pfn
    pfn = wait_seated(mem, cpu, order, mt, owner, left)
    fetch_and(mem, c.H_WAITERS, ~seat)
    return pfn


@kernel
def wait_seated(
    mem: Memory, cpu: Cpu, order: Order, mt: Migratetype, owner: Owner, rounds: int
) -> Pfn:
    """Sleep and retry, announced in H_WAITERS."""
    pfn: Pfn = c.E_NOMEM
    left = rounds
    while left > 0 and load(mem, c.H_STOP) == 0:
        ticket = arm_wake(mem)
        # Tries again after the announcement, and drains every CPU's list on the way.
        pfn = alloc_pages(mem, cpu, order, mt, owner)
        if pfn != c.E_NOMEM:
            break
        event(mem, cpu, c.EV_WAIT)
        wait(mem, c.H_WAKE, ticket)
        left -= 1
    return pfn
