"""Pages that are never allocated again: broken memory, and blocks modified while free.

``poison_page`` follows Linux's take_page_off_buddy: the page is cut out of the free block that
covers it; the rest stays free. A page in use is marked and leaves service when it is freed.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import mt_of, next_word, order_of, out_of_service, type_of, zone_of_word
from shmalloc.kernels.buddy import carve, take_block
from shmalloc.kernels.descriptor import head_of, in_range, page_state, transition, transition2
from shmalloc.kernels.lock import lock, unlock
from shmalloc.kernels.pcp import drain_all
from shmalloc.kernels.reporting import event, record, report
from shmalloc.kernels.zone import descriptor_at, zone_at, zone_of
from shmalloc.units import Claim, Memory, Order, Pfn, ZoneWords
from shmalloc.words import load2, load_relaxed, store_relaxed


@unit
def retire_block(mem: Memory, claim: Claim, pfn: Pfn, order: Order) -> None:
    """Take a block in state PCP out of service for ever."""
    w0 = page_state(mem, pfn)
    zone_id = zone_of_word(w0)
    zone = zone_at(mem, zone_id)
    lock(mem, zone + c.Z_LOCK, claim)
    if transition(
        mem,
        pfn,
        w0,
        next_word(w0, c.T_POISONED, order, zone_id, mt_of(w0), out_of_service(c.T_POISONED)),
    ):
        unmanage(mem, zone, 1 << order)
    else:
        report(mem, claim, c.I_FREE_HEAD, pfn, c.IS_TYPE | c.T_PCP, page_state(mem, pfn))
    unlock(mem, zone + c.Z_LOCK)
    event(mem, claim, c.EV_POISONED)
    record(mem, claim, c.OP_POISON, order, pfn, 0)


@kernel
def unmanage(mem: Memory, zone: ZoneWords, pages: int) -> None:
    """Take ``pages`` off the zone's managed count; zone lock held."""
    at = zone + c.Z_MANAGED
    store_relaxed(mem, at, load_relaxed(mem, at) - pages)


@unit
def poison_page(mem: Memory, claim: Claim, pfn: Pfn) -> int:
    """Take one page out of service: now if it is free, at its free if it is in use alone.

    Returns 0, E_BUSY if it is part of a larger allocation or a slab, or E_INVAL if there is no such
    page.
    """
    if not in_range(mem, pfn):
        return c.E_INVAL
    zone_id = zone_of(mem, pfn)
    if zone_id < 0:
        return c.E_INVAL
    drain_all(mem, claim)
    zone = zone_at(mem, zone_id)
    lock(mem, zone + c.Z_LOCK, claim)
    head = head_of(mem, pfn)
    result = c.E_BUSY
    if head >= 0 and type_of(page_state(mem, head)) == c.T_FREE:
        result = poison_free_page(mem, zone, claim, head, pfn)
    unlock(mem, zone + c.Z_LOCK)
    if result == c.E_BUSY:
        return mark_for_poison(mem, pfn)
    event(mem, claim, c.EV_POISONED)
    record(mem, claim, c.OP_POISON, 0, pfn, head)
    return result


@kernel
def mark_for_poison(mem: Memory, pfn: Pfn) -> int:
    """Have an allocated single page leave service when it is freed."""
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    if type_of(w0) != c.T_ALLOCATED or order_of(w0) != 0:
        return c.E_BUSY
    if transition2(mem, pfn, w0, w1, w0 | c.POISON_BIT, w1):
        return 0
    return c.E_BUSY


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
