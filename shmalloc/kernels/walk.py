"""Readers without a lock: a walk over all page descriptors, and a look at who has one page.

Crash dumpers and compaction walk so in a kernel, and an RCU reader looks up so whose page it has.
Each descriptor is read once, both words in one atomic read, and judged from that snapshot alone:
reading the order a second time could jump out of the zone (Linux: buddy_order_unsafe). What a
reader sees may be old, but it must be legal: no torn pair, no order that does not fit.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import unit
from shmalloc.kernels.bits import order_of, type_of
from shmalloc.kernels.descriptor import legal_pair
from shmalloc.kernels.reporting import event, report
from shmalloc.kernels.zone import descriptor_at
from shmalloc.units import Claim, Memory, Owner, Pfn, Word0, Word1
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


@unit
def look_up(mem: Memory, pfn: Pfn) -> tuple[Pfn, Word0, Word1]:
    """The block that covers ``pfn``: its head and the pair of words there; or (E_AGAIN, 0, 0).

    The pair was read at once, and its order reaches ``pfn``; so at that moment, which lies within
    the call, the page was in this block, and word 1 of an allocated one is its owner. It may have
    been freed since. A reader that wants to keep it takes a reference on what the owner word names,
    in memory of a type that stays (RCU), and looks up again: the same owner, or it lets go.

    The pages below are only candidates (``head_of`` in descriptor.py says which): one may have
    become the head of a smaller block of another owner since the page above it was read, so its
    order counts, and it must be the order of the same reading. E_AGAIN: the blocks were changing.
    """
    at = pfn
    for _ in range(fixed(mem, c.H_MAX_ORDER) + 1):
        w0, w1 = load2(mem, descriptor_at(mem, at))
        if type_of(w0) != c.T_TAIL:
            if at + (1 << order_of(w0)) > pfn:
                return at, w0, w1
            return c.E_AGAIN, 0, 0
        if at == 0:
            return c.E_AGAIN, 0, 0
        at = at & (at - 1)
    return c.E_AGAIN, 0, 0


@unit
def owner_at(mem: Memory, pfn: Pfn) -> Owner:
    """The owner word of the allocated block that covers ``pfn``, as ``look_up`` saw it; 0: none."""
    head, w0, w1 = look_up(mem, pfn)
    if head < 0 or type_of(w0) != c.T_ALLOCATED:
        return 0
    return +w1  # the owner, of an allocated block
