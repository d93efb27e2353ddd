"""Pages that are never allocated again because their memory is broken.

``poison_page`` follows Linux's take_page_off_buddy: the page is cut out of the free block that
covers it; the rest stays free. A page in use is marked and leaves service when it is freed
(retire.py).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import order_of, type_of
from shmalloc.kernels.descriptor import head_of, in_range, page_state, transition2
from shmalloc.kernels.lock import lock
from shmalloc.kernels.pcp import drain_all
from shmalloc.kernels.rebuild import poison_free_page
from shmalloc.kernels.repair import unlock_zone
from shmalloc.kernels.reporting import event, record
from shmalloc.kernels.zone import descriptor_at, zone_at, zone_of
from shmalloc.units import Claim, Memory, Pfn
from shmalloc.words import load2


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
    unlock_zone(mem, claim, zone)
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
