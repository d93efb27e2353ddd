"""Per-CPU page lists: the fast path of pages, one structure for each (CPU, zone).

::

    P_LOCK P_COUNT P_HIGH P_HIGH_MIN P_HIGH_MAX P_BATCH P_FACTOR P_FREE_RUN
    P_LENGTH[15]  P_HEAD[15] (list form)  arrays[15][capacity] (array form: a page sheaf)

A list for each order 0..3 and migratetype, and one for whole pageblocks. LIFO, so the page freed
last, still in the cache, is allocated next. Blocks on a list are in state PCP, never FREE: no merge
can take them. Refill and drain move a batch under one hold of the zone lock.

A block bears the label of these lists (``list_label``) if and only if it is on one of them or the
lock is held: every swap to that label or from it is made under P_LOCK. So the descriptors say what
is on the lists of a CPU, when any of its users died (recover_pages.py). Under the lock, swap and
list operation may come in either order.

The lock (cpu_lock.py): users only ``try_spin`` and go to the zone if it is held (by another process
on the CPU, or a remote drainer); only a drainer waits. Order of locks: P_LOCK, then the zone's.
Everything in the structure is plain data under P_LOCK.

Auto-tuning follows Linux: refills double (P_FACTOR) while no block is freed and raise P_HIGH
towards P_HIGH_MAX; ``pcp_decay`` lowers it again.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.buddy import free_block
from shmalloc.kernels.cpu_lock import spin_or_skip, try_spin, unspin
from shmalloc.kernels.deferred import drain_deferred
from shmalloc.kernels.fallback import rmqueue
from shmalloc.kernels.lock import lock
from shmalloc.kernels.pcp_lists import pcp_order, pcp_pop, pcp_push
from shmalloc.kernels.pcp_repair import is_damaged, repair_lists
from shmalloc.kernels.reclaim import wake_if_boosted
from shmalloc.kernels.repair import unlock_zone
from shmalloc.kernels.reporting import cpu_of, event, record
from shmalloc.kernels.slots import list_label
from shmalloc.kernels.watermark import keeps_mark, mark_of
from shmalloc.kernels.zone import pcp_at, zone_at
from shmalloc.units import Claim, Cpu, Gfp, Memory, Migratetype, Order, PcpWords, ZoneId, ZoneWords
from shmalloc.words import fixed, load_relaxed


@kernel
def refill_count(mem: Memory, zone: ZoneWords, pcp: PcpWords, index: int) -> int:
    """How many blocks to fetch: a batch, doubled while none is freed, one if memory is short.

    Also one while a process waits for memory: pages on a list are hidden from it (P_LOCK is held;
    ``give_back`` in pages.py says why one check is enough).
    """
    order = pcp_order(mem, index)
    if order >= c.PCP_ORDERS or load_relaxed(mem, zone + c.Z_FREE) < load_relaxed(
        mem, zone + c.Z_LOW
    ):
        return 1
    if load_relaxed(mem, c.H_WAITERS) > 0:
        return 1
    batch = mem[pcp + c.P_BATCH]
    if order > 0:
        return max(batch >> order, 1)
    room = max(mem[pcp + c.P_HIGH] - mem[pcp + c.P_COUNT], 1)
    factor = mem[pcp + c.P_FACTOR]
    if factor < c.PCP_FACTOR_MAX:
        mem[pcp + c.P_FACTOR] = factor + 1
    if load_relaxed(mem, zone + c.Z_FREE) > load_relaxed(mem, zone + c.Z_HIGH):
        mem[pcp + c.P_HIGH] = min(mem[pcp + c.P_HIGH] + batch, mem[pcp + c.P_HIGH_MAX])
    return min(batch << factor, room)


@unit
def refill(mem: Memory, claim: Claim, zone_id: ZoneId, pcp: PcpWords, index: int, gfp: Gfp) -> int:
    """Fetch blocks for one list from the zone under one hold of its lock; returns how many."""
    if is_damaged(mem, pcp):
        repair_lists(mem, claim, zone_id, pcp)
    zone = zone_at(mem, zone_id)
    order = pcp_order(mem, index)
    mt: Migratetype = index % c.MT_PCP_TYPES
    want = refill_count(mem, zone, pcp, index)
    got = 0
    lock(mem, zone + c.Z_LOCK, claim)
    mark = mark_of(mem, zone, gfp)
    while got < want and keeps_mark(mem, zone, order, mark):
        pfn = rmqueue(mem, zone, claim, order, mt, list_label(cpu_of(mem, claim)))
        if pfn < 0:
            break
        pcp_push(mem, pcp, index, order, pfn)
        got += 1
    unlock_zone(mem, claim, zone)
    wake_if_boosted(mem, claim, zone)
    event(mem, claim, c.EV_REFILL)
    record(mem, claim, c.OP_REFILL, order, zone_id, got)
    return got


@hot
def is_full(mem: Memory, pcp: PcpWords, index: int, order: Order) -> bool:
    """Whether a list must give blocks back before it takes another."""
    if order >= c.PCP_ORDERS:
        return mem[pcp + c.P_LENGTH + index] >= c.PCP_HUGE_KEEP
    return mem[pcp + c.P_COUNT] + (1 << order) > mem[pcp + c.P_HIGH]


@kernel
def drain_count(mem: Memory, pcp: PcpWords) -> int:
    """Pages to give back when a CPU is above its high mark: what it freed lately, within limits."""
    batch = mem[pcp + c.P_BATCH]
    return min(max(mem[pcp + c.P_FREE_RUN], batch), max(mem[pcp + c.P_HIGH] - batch, batch))


@unit
def drain_some(mem: Memory, claim: Claim, zone_id: ZoneId, pcp: PcpWords, pages: int) -> int:
    """Give at least ``pages`` pages of the small orders back, lists in turn; P_LOCK held."""
    zone = zone_at(mem, zone_id)
    given = 0
    index = 0
    lock(mem, zone + c.Z_LOCK, claim)
    while given < pages and mem[pcp + c.P_COUNT] > 0:
        order = index // c.MT_PCP_TYPES
        pfn = pcp_pop(mem, pcp, index, order)
        if pfn >= 0:
            free_block(mem, zone, claim, pfn, order)
            given += 1 << order
        else:
            index = (index + 1) % (c.PCP_ORDERS * c.MT_PCP_TYPES)
    unlock_zone(mem, claim, zone)
    if is_damaged(mem, pcp):
        repair_lists(mem, claim, zone_id, pcp)
    event(mem, claim, c.EV_DRAIN)
    record(mem, claim, c.OP_DRAIN, 0, zone_id, given)
    return given


@unit
def drain_everything(mem: Memory, claim: Claim, zone_id: ZoneId, pcp: PcpWords) -> int:
    """Give every block on the lists at ``pcp`` back; P_LOCK held. Returns pages given."""
    given = empty_lists(mem, claim, zone_id, pcp)
    if is_damaged(mem, pcp):
        repair_lists(mem, claim, zone_id, pcp)
        given += empty_lists(mem, claim, zone_id, pcp)
    record(mem, claim, c.OP_DRAIN, 0, zone_id, given)
    return given


@kernel
def empty_lists(mem: Memory, claim: Claim, zone_id: ZoneId, pcp: PcpWords) -> int:
    """Give the blocks on the lists back, up to a link that is wrong; returns pages given."""
    zone = zone_at(mem, zone_id)
    given = 0
    lock(mem, zone + c.Z_LOCK, claim)
    for index in range(c.PCP_LISTS):
        order = pcp_order(mem, index)
        pfn = pcp_pop(mem, pcp, index, order)
        while pfn >= 0:
            free_block(mem, zone, claim, pfn, order)
            given += 1 << order
            pfn = pcp_pop(mem, pcp, index, order)
    unlock_zone(mem, claim, zone)
    return given


@unit
def drain_cpu(mem: Memory, claim: Claim, victim: Cpu) -> int:
    """Drain all lists of CPU ``victim``; returns pages given back, or E_AGAIN: lists were left out,
    whose lock's owner does not run."""
    given = 0
    for zone_id in range(fixed(mem, c.H_ZONES)):
        pcp = pcp_at(mem, victim, zone_id)
        held = spin_or_skip(mem, pcp + c.P_LOCK, claim, victim)
        if held < 0:
            return held
        if held != 0:
            given += drain_everything(mem, claim, zone_id, pcp)
            unspin(mem, pcp + c.P_LOCK, claim)
    if victim != cpu_of(mem, claim):
        event(mem, claim, c.EV_REMOTE_DRAIN)
    return given


@unit
def drain_all(mem: Memory, claim: Claim) -> int:
    """Drain every CPU and every zone's deferred list: afterwards no free page hides on a list that
    its zone does not see. Returns pages given back.

    E_AGAIN: the lists of a CPU were left out, whose lock's owner does not run.
    """
    given = 0
    skipped = 0
    for zone_id in range(fixed(mem, c.H_ZONES)):
        given += collect_deferred(mem, claim, zone_at(mem, zone_id))
    for victim in range(fixed(mem, c.H_CPUS)):
        pages = drain_cpu(mem, claim, victim)
        if pages < 0:
            skipped = pages
        else:
            given += pages
    return given if skipped == 0 else skipped


@kernel
def collect_deferred(mem: Memory, claim: Claim, zone: ZoneWords) -> int:
    """Give what is on the deferred list of a zone back to it; returns pages."""
    pages = 0
    if load_relaxed(mem, zone + c.Z_DEFERRED) != 0:
        lock(mem, zone + c.Z_LOCK, claim)
        pages = drain_deferred(mem, claim, zone)
        unlock_zone(mem, claim, zone)
    return pages


@unit
def pcp_decay(mem: Memory, claim: Claim) -> int:
    """Lower the CPU's high marks towards their minimum (Linux: decay_pcp_high).

    A process on the CPU calls this from time to time; it skips a structure that is in use.
    """
    for zone_id in range(fixed(mem, c.H_ZONES)):
        pcp = pcp_at(mem, cpu_of(mem, claim), zone_id)
        if load_relaxed(mem, pcp + c.P_LOCK) == 0 and try_spin(mem, pcp + c.P_LOCK, claim):
            lowered = mem[pcp + c.P_HIGH] - max(mem[pcp + c.P_HIGH] >> 3, 1)
            high = max(lowered, mem[pcp + c.P_HIGH_MIN])
            excess = mem[pcp + c.P_COUNT] - high
            if excess > 0:
                drain_some(mem, claim, zone_id, pcp, excess)
            mem[pcp + c.P_HIGH] = high  # last: a list of the dead keeps to the mark that it has
            mem[pcp + c.P_FREE_RUN] = 0
            unspin(mem, pcp + c.P_LOCK, claim)
    return 0
