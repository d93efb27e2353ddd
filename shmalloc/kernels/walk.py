"""A lock-free walk over all page descriptors, as crash dumpers and compaction do in a kernel.

Each descriptor is read once, both words in one atomic read, and judged from that snapshot alone:
reading the order a second time could jump out of the zone (Linux: buddy_order_unsafe). What the
walker sees may be old, but it must be legal: no torn pair, no order that does not fit.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import unit
from shmalloc.kernels.bits import order_of, type_of
from shmalloc.kernels.descriptor import legal_pair
from shmalloc.kernels.reporting import event, report
from shmalloc.kernels.zone import descriptor_at
from shmalloc.units import Claim, Memory, Pfn
from shmalloc.words import fixed, load2


@unit
def walk(mem: Memory, claim: Claim, start: Pfn, limit: int) -> Pfn:
    """Walk ``limit`` descriptors from ``start``; returns the pfn at which the next walk continues.

    EV_WALK_RETRY counts tails: pages whose block was split or merged during the walk, or that the
    walk met because it started inside a block.
    """
    pfn = start
    pages = fixed(mem, c.H_PAGES)
    for _ in range(limit):
        if pfn >= pages:
            return 0
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        if not legal_pair(mem, w0, w1, pfn):
            report(mem, claim, c.X_WALKER, pfn, w1, w0)
            pfn += 1
        elif type_of(w0) == c.T_TAIL:
            event(mem, claim, c.EV_WALK_RETRY)
            pfn += 1
        else:
            pfn += 1 << order_of(w0)
    return pfn
