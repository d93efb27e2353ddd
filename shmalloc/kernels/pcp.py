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

The lock: users only ``try_spin`` and go to the zone if it is held (by another process on the CPU,
or a remote drainer); only a drainer waits. Order of locks: P_LOCK, then the zone's. Everything in
the structure is plain data under P_LOCK.

Auto-tuning follows Linux: refills double (P_FACTOR) while no block is freed and raise P_HIGH
towards P_HIGH_MAX; ``pcp_decay`` lowers it again.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.buddy import free_block
from shmalloc.kernels.fallback import rmqueue
from shmalloc.kernels.lists import get_link, node_of, pfn_of, set_link
from shmalloc.kernels.lock import lock, owner_word, unlock, unspin
from shmalloc.kernels.reporting import cpu_of, event, record
from shmalloc.kernels.slots import list_label
from shmalloc.kernels.zone import pcp_at, zone_at
from shmalloc.units import (
    Claim,
    Cpu,
    Memory,
    Migratetype,
    Order,
    PcpWords,
    Pfn,
    WordIndex,
    ZoneId,
    ZoneWords,
)
from shmalloc.words import cas, fixed, give_way, load_relaxed, notice


@hot
def pcp_index(mem: Memory, order: Order, mt: Migratetype) -> int:
    """List of (order, migratetype), or -1 for what is never kept per CPU."""
    if mt >= c.MT_PCP_TYPES:
        return -1
    if order < c.PCP_ORDERS:
        return order * c.MT_PCP_TYPES + mt
    if order == fixed(mem, c.H_PAGEBLOCK_ORDER):
        return c.PCP_ORDERS * c.MT_PCP_TYPES + mt
    return -1


@hot
def pcp_keeps(mem: Memory, order: Order) -> bool:
    """Whether blocks of this order are kept per CPU at all."""
    return order < c.PCP_ORDERS or order == fixed(mem, c.H_PAGEBLOCK_ORDER)


@kernel
def pcp_order(mem: Memory, index: int) -> Order:
    """Inverse of ``pcp_index``: the order that a list holds."""
    if index < c.PCP_ORDERS * c.MT_PCP_TYPES:
        return index // c.MT_PCP_TYPES
    return fixed(mem, c.H_PAGEBLOCK_ORDER)


@hot
def counted_pages(order: Order) -> int:
    """Pages that a block adds to P_COUNT; whole pageblocks have their own limit."""
    return 1 << order if order < c.PCP_ORDERS else 0


@hot
def pcp_push(mem: Memory, pcp: PcpWords, index: int, order: Order, pfn: Pfn) -> None:
    """Put a block in state PCP on a list; P_LOCK held, and the list is not at its capacity."""
    length = mem[pcp + c.P_LENGTH + index]
    if fixed(mem, c.H_PCP_FORM) == c.PCP_ARRAY:
        mem[pcp + c.P_ARRAYS + index * fixed(mem, c.H_PCP_CAPACITY) + length] = pfn
    else:
        node = node_of(mem, pfn)
        set_link(mem, node + 1, mem[pcp + c.P_HEAD + index])
        mem[pcp + c.P_HEAD + index] = node
    mem[pcp + c.P_LENGTH + index] = length + 1
    mem[pcp + c.P_COUNT] = mem[pcp + c.P_COUNT] + counted_pages(order)


@hot
def pcp_pop(mem: Memory, pcp: PcpWords, index: int, order: Order) -> Pfn:
    """Take the block freed last off a list, or E_NOMEM; P_LOCK held."""
    length = mem[pcp + c.P_LENGTH + index]
    if length == 0:
        return c.E_NOMEM
    mem[pcp + c.P_LENGTH + index] = length - 1
    mem[pcp + c.P_COUNT] = mem[pcp + c.P_COUNT] - counted_pages(order)
    if fixed(mem, c.H_PCP_FORM) == c.PCP_ARRAY:
        return mem[pcp + c.P_ARRAYS + index * fixed(mem, c.H_PCP_CAPACITY) + length - 1]
    node = mem[pcp + c.P_HEAD + index]
    mem[pcp + c.P_HEAD + index] = get_link(mem, node + 1)
    set_link(mem, node + 1, 0)
    return pfn_of(mem, node)


@kernel
def refill_count(mem: Memory, zone: ZoneWords, pcp: PcpWords, index: int) -> int:
    """How many blocks to fetch: a batch, doubled while none is freed, one if memory is short.

    Also one while a process waits for memory: pages on a list are hidden from it (P_LOCK is held;
    ``give_back`` in pages.py says why one check is enough).
    """
    order = pcp_order(mem, index)
    if order >= c.PCP_ORDERS or load_relaxed(mem, zone + c.Z_FREE) < fixed(mem, zone + c.Z_LOW):
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
    if load_relaxed(mem, zone + c.Z_FREE) > fixed(mem, zone + c.Z_HIGH):
        mem[pcp + c.P_HIGH] = min(mem[pcp + c.P_HIGH] + batch, mem[pcp + c.P_HIGH_MAX])
    return min(batch << factor, room)


@kernel
def may_take(mem: Memory, zone: ZoneWords, pages: int) -> bool:
    """Whether the zone stays at or above its minimum watermark after giving ``pages``."""
    return load_relaxed(mem, zone + c.Z_FREE) - pages >= fixed(mem, zone + c.Z_MIN)


@unit
def refill(mem: Memory, claim: Claim, zone_id: ZoneId, pcp: PcpWords, index: int) -> int:
    """Fetch blocks for one list from the zone under one hold of its lock; returns how many."""
    zone = zone_at(mem, zone_id)
    order = pcp_order(mem, index)
    mt: Migratetype = index % c.MT_PCP_TYPES
    want = refill_count(mem, zone, pcp, index)
    got = 0
    lock(mem, zone + c.Z_LOCK, claim)
    while got < want and may_take(mem, zone, 1 << order):
        pfn = rmqueue(mem, zone, claim, order, mt, list_label(cpu_of(mem, claim)))
        if pfn < 0:
            break
        pcp_push(mem, pcp, index, order, pfn)
        got += 1
    unlock(mem, zone + c.Z_LOCK)
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
    unlock(mem, zone + c.Z_LOCK)
    event(mem, claim, c.EV_DRAIN)
    record(mem, claim, c.OP_DRAIN, 0, zone_id, given)
    return given


@unit
def drain_everything(mem: Memory, claim: Claim, zone_id: ZoneId, pcp: PcpWords) -> int:
    """Give every block on the lists at ``pcp`` back; P_LOCK held. Returns pages given."""
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
    unlock(mem, zone + c.Z_LOCK)
    record(mem, claim, c.OP_DRAIN, 0, zone_id, given)
    return given


@kernel
def spin_for_drain(mem: Memory, at: WordIndex, claim: Claim) -> bool:
    """Take another CPU's P_LOCK, waiting for its owner; False if the CPU is unplugged.

    Does not check counts first: a count read without the lock can miss blocks that a refill has
    pushed but not yet counted, and the drain would leave pages behind (Linux 66eca1021a42).
    """
    while not cas(mem, at, 0, owner_word(mem, claim)):
        if load_relaxed(mem, at) == c.LOCK_OFFLINE:
            return False
        notice(mem, at)
        give_way(mem)  # its owner may be preempted: there are more workers than cores
    return True


@unit
def drain_cpu(mem: Memory, claim: Claim, victim: Cpu) -> int:
    """Drain all lists of CPU ``victim``; returns pages given back."""
    given = 0
    for zone_id in range(fixed(mem, c.H_ZONES)):
        pcp = pcp_at(mem, victim, zone_id)
        if spin_for_drain(mem, pcp + c.P_LOCK, claim):
            given += drain_everything(mem, claim, zone_id, pcp)
            unspin(mem, pcp + c.P_LOCK)
    if victim != cpu_of(mem, claim):
        event(mem, claim, c.EV_REMOTE_DRAIN)
    return given


@unit
def drain_all(mem: Memory, claim: Claim) -> int:
    """Drain every CPU: afterwards no free page hides on a per-CPU list."""
    given = 0
    for victim in range(fixed(mem, c.H_CPUS)):
        given += drain_cpu(mem, claim, victim)
    return given


@unit
def pcp_decay(mem: Memory, claim: Claim) -> int:
    """Lower the CPU's high marks towards their minimum (Linux: decay_pcp_high).

    A process on the CPU calls this from time to time; it skips a structure that is in use.
    """
    for zone_id in range(fixed(mem, c.H_ZONES)):
        pcp = pcp_at(mem, cpu_of(mem, claim), zone_id)
        if load_relaxed(mem, pcp + c.P_LOCK) == 0 and cas(
            mem, pcp + c.P_LOCK, 0, owner_word(mem, claim)
        ):
            high = mem[pcp + c.P_HIGH] - max(mem[pcp + c.P_HIGH] >> 3, 1)
            mem[pcp + c.P_HIGH] = max(high, mem[pcp + c.P_HIGH_MIN])
            mem[pcp + c.P_FREE_RUN] = 0
            excess = mem[pcp + c.P_COUNT] - mem[pcp + c.P_HIGH]
            if excess > 0:
                drain_some(mem, claim, zone_id, pcp, excess)
            unspin(mem, pcp + c.P_LOCK)
    return 0
