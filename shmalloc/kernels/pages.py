"""The public page operations. ``cpu`` is the caller's CPU slot, ``owner`` any word it likes.

``alloc_pages`` returns the first pfn of a block of 2^order pages, or E_NOMEM. ``free_pages``
takes exactly what was given: another order, an inner page, a page twice, a slab page or a pfn
that is none is a misuse: reported with its code, answered E_STATE, and the page stays as it was.

Path of an allocation: the zones in the CPU's fallback order, each first through the per-CPU list
(trylock), then through the zone; at last every per-CPU list is drained and the zones are tried
once more. A block passes through state PCP on both ways, so it always has exactly one owner.
"""

from shmalloc.constants import (
    C_HOME_PCP, C_HOME_ZONE, CPU_MASK, E_INVAL, E_NOMEM, E_STATE, EV_ALLOC, EV_BULK, EV_FAIL,
    EV_FREE, EV_PCP_MISS, EV_REMOTE_FREE, EV_WAIT, EV_WAKE, EV_ZONE_FALLBACK, FAULT_PAGE,
    H_MAX_ORDER, H_STOP, H_WAITERS, H_WAKE, M_WRONG_STATE, MAX_CPUS, MT_ISOLATE, MT_PCP_TYPES,
    OP_ALLOC, OP_FREE, P_FACTOR, P_FREE_RUN, P_LOCK, PCP_ORDERS, T_PCP, Z_FREE, Z_LOCK, Z_MIN,
)  # fmt: skip
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.bits import detail_of, wants_poison, zone_of_word
from shmalloc.kernels.buddy import free_block
from shmalloc.kernels.fill import fill_on_free, intact_on_alloc
from shmalloc.kernels.descriptor import claim_for_free, hand_out, in_range, page_state
from shmalloc.kernels.fallback import rmqueue
from shmalloc.kernels.fault_injection import faultless, is_faulty
from shmalloc.kernels.lock import lock, try_spin, unlock, unspin
from shmalloc.kernels.reporting import cpu_at, event, record, report
from shmalloc.kernels.pcp import (
    drain_all, drain_count, drain_some, is_full, may_take, pcp_at, pcp_index, pcp_keeps, pcp_pop,
    pcp_push, refill,
)  # fmt: skip
from shmalloc.kernels.poison import retire_block
from shmalloc.kernels.zone import block_mt, zone_at, zonelist_length, zonelist_zone
from shmalloc.words import (
    cas, fetch_and, fetch_or, fixed, give_way, load, load_relaxed, relax, wait, wake,
)  # fmt: skip


@unit
def take_from_zone(mem, cpu, z, order, mt):
    """One block in state PCP straight from the zone, or E_NOMEM."""
    zone = zone_at(mem, z)
    pfn = E_NOMEM
    lock(mem, zone + Z_LOCK, cpu)
    if may_take(mem, zone, 1 << order):
        pfn = rmqueue(mem, zone, cpu, order, mt, T_PCP, 0)
    unlock(mem, zone + Z_LOCK)
    return pfn


@hot
def take_from_pcp(mem, cpu, z, p, order, mt, index):
    """One block in state PCP through the CPU's own list at ``p``, refilled where it is empty."""
    if not try_spin(mem, p + P_LOCK, cpu):
        event(mem, cpu, EV_PCP_MISS)
        return take_from_zone(mem, cpu, z, order, mt)
    pfn = pcp_pop(mem, p, index, order)
    if pfn < 0 and refill(mem, cpu, z, p, index, order, mt) > 0:
        pfn = pcp_pop(mem, p, index, order)
    mem[p + P_FREE_RUN] = mem[p + P_FREE_RUN] >> 1
    unspin(mem, p + P_LOCK)
    return pfn


@hot
def take_block_for(mem, cpu, order, mt):
    """One block in state PCP from the first zone of the fallback order that has one."""
    index = pcp_index(mem, order, mt)
    slot = cpu_at(mem, cpu)
    z = fixed(mem, slot + C_HOME_ZONE)
    if index >= 0:
        pfn = take_from_pcp(mem, cpu, z, fixed(mem, slot + C_HOME_PCP), order, mt, index)
    else:
        pfn = take_from_zone(mem, cpu, z, order, mt)
    if pfn >= 0:
        return pfn
    return take_elsewhere(mem, cpu, order, mt, index)


@unit
def take_elsewhere(mem, cpu, order, mt, index):
    """The rest of the fallback order, behind the home zone."""
    for k in range(1, zonelist_length(mem, cpu)):
        z = zonelist_zone(mem, cpu, k)
        if index >= 0:
            pfn = take_from_pcp(mem, cpu, z, pcp_at(mem, cpu, z), order, mt, index)
        else:
            pfn = take_from_zone(mem, cpu, z, order, mt)
        if pfn >= 0:
            event(mem, cpu, EV_ZONE_FALLBACK)
            return pfn
    return E_NOMEM


@unit
def take_after_drain(mem, cpu, order, mt):
    """The last resort: pages that hide on per-CPU lists may merge into what is wanted."""
    drain_all(mem, cpu)
    for k in range(zonelist_length(mem, cpu)):
        pfn = take_from_zone(mem, cpu, zonelist_zone(mem, cpu, k), order, mt)
        if pfn >= 0:
            return pfn
    return E_NOMEM


@hot
def alloc_pages(mem, cpu, order, mt, owner):
    """Allocate 2^order pages for ``owner``; returns the first pfn, E_NOMEM or E_INVAL."""
    if order < 0 or order > fixed(mem, H_MAX_ORDER) or mt < 0 or mt >= MT_PCP_TYPES:
        return E_INVAL
    if is_faulty(mem, cpu, FAULT_PAGE):
        return E_NOMEM
    pfn = take_block_for(mem, cpu, order, mt)
    if pfn >= 0 and intact_on_alloc(mem, cpu, pfn, order):
        return give(mem, cpu, pfn, order, mt, owner)
    return alloc_slow(mem, cpu, order, mt, owner, pfn)


@unit
def alloc_slow(mem, cpu, order, mt, owner, damaged):
    """The rest of ``alloc_pages``: nothing was found, or (>= 0) a block that was written to."""
    pfn = damaged
    while True:
        if pfn >= 0:
            retire_block(mem, cpu, pfn, order)  # written to while it was free: leak, never reuse
        pfn = take_block_for(mem, cpu, order, mt)
        if pfn < 0:
            pfn = take_after_drain(mem, cpu, order, mt)
        if pfn < 0:
            event(mem, cpu, EV_FAIL)
            record(mem, cpu, OP_ALLOC, order, -1, pfn)
            return pfn
        if intact_on_alloc(mem, cpu, pfn, order):
            return give(mem, cpu, pfn, order, mt, owner)


@hot
def give(mem, cpu, pfn, order, mt, owner):
    """Hand a block in state PCP over to its owner."""
    given = hand_out(mem, pfn, order, cpu, mt, owner)
    if given < 0:
        report(mem, cpu, M_WRONG_STATE, pfn, order, page_state(mem, pfn))
        return E_STATE
    event(mem, cpu, EV_ALLOC)
    record(mem, cpu, OP_ALLOC, order, pfn, owner)
    return pfn


@unit
def give_back_to_zone(mem, cpu, z, pfn, order):
    """Return a block in state PCP to its zone, merging."""
    zone = zone_at(mem, z)
    lock(mem, zone + Z_LOCK, cpu)
    free_block(mem, zone, cpu, pfn, order)
    unlock(mem, zone + Z_LOCK)
    wake_waiters(mem, cpu, zone)


@hot
def wake_waiters(mem, cpu, zone):
    """Wake whoever sleeps for memory; called after the zone got pages.

    No wake-up is lost: a waiter first sets its bit in H_WAITERS and arms H_WAKE (makes it odd),
    then looks at the zones under their locks. Either it found our pages, or its look came before
    our critical section, and then we see both here. Only who disarms it (one system call for each
    time it was armed) wakes.
    """
    if load(mem, H_WAITERS) > 0 and load_relaxed(mem, zone + Z_FREE) > fixed(mem, zone + Z_MIN):
        ticket = load(mem, H_WAKE)
        if ticket & 1 != 0 and cas(mem, H_WAKE, ticket, ticket + 1):
            wake(mem, H_WAKE, MAX_CPUS)
            event(mem, cpu, EV_WAKE)


@hot
def own_pcp(mem, cpu, z):
    """The CPU's per-CPU structure of zone ``z``: one load where it is the home zone."""
    slot = cpu_at(mem, cpu)
    if z == fixed(mem, slot + C_HOME_ZONE):
        return fixed(mem, slot + C_HOME_PCP)
    return pcp_at(mem, cpu, z)


@hot
def give_back(mem, cpu, z, pfn, order):
    """Put a block in state PCP on the CPU's list, or to its zone where that cannot take it."""
    p = own_pcp(mem, cpu, z)
    if not pcp_keeps(mem, order):
        give_back_to_zone(mem, cpu, z, pfn, order)
    elif not try_spin(mem, p + P_LOCK, cpu):
        event(mem, cpu, EV_PCP_MISS)
        give_back_to_zone(mem, cpu, z, pfn, order)
    else:
        # Both are looked at under P_LOCK. Whoever isolates the pageblock, or waits for memory,
        # announces that first and drains this list afterwards: so either it finds our page on the
        # list, or we see the announcement here and do not hide the page.
        mt = block_mt(mem, pfn)
        if mt == MT_ISOLATE or load_relaxed(mem, H_WAITERS) > 0:
            unspin(mem, p + P_LOCK)
            give_back_to_zone(mem, cpu, z, pfn, order)
        else:
            keep_on_pcp(mem, cpu, z, p, pcp_index(mem, order, mt), pfn, order)


@hot
def keep_on_pcp(mem, cpu, z, p, index, pfn, order):
    """Push on the CPU's list under its lock (held, released here), draining above the high mark."""
    drained = 0
    if is_full(mem, p, index, order):
        if order < PCP_ORDERS:
            drained = drain_some(mem, cpu, z, p, drain_count(mem, p))
        else:  # a whole pageblock more than the list keeps
            unspin(mem, p + P_LOCK)
            give_back_to_zone(mem, cpu, z, pfn, order)
            return
    pcp_push(mem, p, index, order, pfn)
    mem[p + P_FREE_RUN] = mem[p + P_FREE_RUN] + (1 << order)
    mem[p + P_FACTOR] = mem[p + P_FACTOR] >> 1
    unspin(mem, p + P_LOCK)
    if drained > 0:
        wake_waiters(mem, cpu, zone_at(mem, z))


@unit
def refuse_free(mem, cpu, code, pfn, order):
    """Report a misuse with the state the page was found in (-1: there is no such page)."""
    found = -1
    if in_range(mem, pfn):
        found = page_state(mem, pfn)
    report(mem, cpu, code, pfn, order, found)
    return E_STATE


@hot
def free_pages_of(mem, cpu, pfn, order, owner):
    """Free a block, checking that ``owner`` holds it (0: anybody's). Returns 0 or E_STATE."""
    w0 = claim_for_free(mem, pfn, order, cpu, owner)
    if w0 < 0:
        return refuse_free(mem, cpu, -w0, pfn, order)
    event(mem, cpu, EV_FREE)
    record(mem, cpu, OP_FREE, order, pfn, owner)
    if detail_of(w0) & CPU_MASK != cpu:
        event(mem, cpu, EV_REMOTE_FREE)
    if wants_poison(w0):
        retire_block(mem, cpu, pfn, order)
        return 0
    fill_on_free(mem, pfn, order)
    give_back(mem, cpu, zone_of_word(w0), pfn, order)
    return 0


@hot
def free_pages(mem, cpu, pfn, order):
    """Free what ``alloc_pages`` gave. Returns 0, or E_STATE for a misuse (reported, not done)."""
    return free_pages_of(mem, cpu, pfn, order, 0)


@kernel
def arm_wake(mem):
    """Make H_WAKE odd, so that the next free wakes us; returns what to sleep on."""
    while True:
        ticket = load(mem, H_WAKE)
        if ticket & 1 != 0 or cas(mem, H_WAKE, ticket, ticket + 1):
            return ticket | 1
        relax(mem)


@unit
def alloc_pages_wait(mem, cpu, order, mt, owner, rounds):
    """``alloc_pages`` that sleeps for memory, at most ``rounds`` times (50 ms each natively)."""
    pfn = alloc_pages(mem, cpu, order, mt, owner)
    if pfn != E_NOMEM:
        return pfn
    seat = 1 << cpu
    left = rounds
    # Of the processes that share a slot only one sits in its seat; another waits for the seat.
    while left > 0 and fetch_or(mem, H_WAITERS, seat) & seat != 0:
        give_way(mem)
        left -= 1
    if left == 0:
        return pfn
    pfn = wait_seated(mem, cpu, order, mt, owner, left)
    fetch_and(mem, H_WAITERS, ~seat)
    return pfn


@kernel
def wait_seated(mem, cpu, order, mt, owner, rounds):
    """Sleep and try, announced in H_WAITERS."""
    pfn = E_NOMEM
    left = rounds
    while left > 0 and load(mem, H_STOP) == 0:
        ticket = arm_wake(mem)
        # Looks again after it announced itself, and drains every CPU's list on the way.
        pfn = alloc_pages(mem, cpu, order, mt, owner)
        if pfn != E_NOMEM:
            break
        event(mem, cpu, EV_WAIT)
        wait(mem, H_WAKE, ticket)
        left -= 1
    return pfn


@unit
def alloc_bulk(mem, cpu, order, mt, owner, count, out):
    """Allocate up to ``count`` blocks into the words at ``out``; returns how many came.

    Zones are locked once each for the whole request (keep ``count`` to some hundreds).
    """
    if order < 0 or order > fixed(mem, H_MAX_ORDER) or mt < 0 or mt >= MT_PCP_TYPES:
        return E_INVAL
    wanted = faultless(mem, cpu, FAULT_PAGE, count)
    got = 0
    for k in range(zonelist_length(mem, cpu)):
        if got < wanted:
            z = zonelist_zone(mem, cpu, k)
            got = bulk_from_zone(mem, cpu, z, order, mt, wanted, out, got)
    given = 0
    for k in range(got):
        pfn = mem[out + k]
        if not intact_on_alloc(mem, cpu, pfn, order):
            retire_block(mem, cpu, pfn, order)
        elif give(mem, cpu, pfn, order, mt, owner) >= 0:
            mem[out + given] = pfn
            given += 1
    event(mem, cpu, EV_BULK)
    return given


@kernel
def bulk_from_zone(mem, cpu, z, order, mt, count, out, got):
    """Fill ``out[got:count]`` with blocks in state PCP from one zone; returns the new ``got``."""
    zone = zone_at(mem, z)
    lock(mem, zone + Z_LOCK, cpu)
    while got < count and may_take(mem, zone, 1 << order):
        pfn = rmqueue(mem, zone, cpu, order, mt, T_PCP, 0)
        if pfn < 0:
            break
        mem[out + got] = pfn
        got += 1
    unlock(mem, zone + Z_LOCK)
    return got


@unit
def free_bulk(mem, cpu, order, count, at):
    """Free ``count`` blocks of ``order`` listed in the words at ``at``; returns how many were.

    First each block is claimed (a misuse is reported and left out; the list is compacted in
    place), then runs of blocks of one zone go back under one hold of its lock.
    """
    claimed = 0
    for k in range(count):
        pfn = mem[at + k]
        w0 = claim_for_free(mem, pfn, order, cpu, 0)
        if w0 < 0:
            refuse_free(mem, cpu, -w0, pfn, order)
        elif wants_poison(w0):
            retire_block(mem, cpu, pfn, order)
        else:
            fill_on_free(mem, pfn, order)
            event(mem, cpu, EV_FREE)
            record(mem, cpu, OP_FREE, order, pfn, 0)
            mem[at + claimed] = pfn
            claimed += 1
    bulk_to_zones(mem, cpu, order, claimed, at)
    event(mem, cpu, EV_BULK)
    return claimed


@kernel
def bulk_to_zones(mem, cpu, order, count, at):
    """Return blocks in state PCP to their zones, changing the lock only between zones."""
    held = -1
    for k in range(count):
        pfn = mem[at + k]
        held = let_go(mem, cpu, held, zone_of_word(page_state(mem, pfn)))
        free_block(mem, zone_at(mem, held), cpu, pfn, order)
    let_go(mem, cpu, held, -1)


@kernel
def let_go(mem, cpu, held, wanted):
    """Hold the lock of zone ``wanted`` instead of ``held`` (-1: none); returns ``wanted``."""
    if held != wanted:
        if held >= 0:
            unlock(mem, zone_at(mem, held) + Z_LOCK)
            wake_waiters(mem, cpu, zone_at(mem, held))
        if wanted >= 0:
            lock(mem, zone_at(mem, wanted) + Z_LOCK, cpu)
    return wanted
