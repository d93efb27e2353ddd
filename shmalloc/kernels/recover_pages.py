"""Pages after a kill: zones and per-CPU lists come from the page descriptors.

The descriptors are the authority. The partition into blocks is legal after every single write
(descriptor.py), so a walk over heads meets each page once, whatever its last writer was doing;
everything else (lists, counters) is discarded and rebuilt. Labels tell what the dead held::

    zone        heads inside of a FREE or ISOLATED block: a split, a merge or a range was under
                way, they become tails; ISOLATED: back to FREE; types: what the pageblock says
                (rebuild.py)
    lists       of a CPU whose lock the dead held: every block with their label (pcp_repair.py)
    sweep       the zone's deferred list, then blocks in state PCP, and pages on the way from or to
                a slab, with the label of the dead; pageblocks that it had isolated

Everything here runs under the lock of what it rebuilds, taken over from the dead. It may itself be
killed anywhere; the next recoverer then starts again, since each step reads only descriptors.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import (
    detail_of,
    mt_of,
    next_word,
    order_of,
    type_of,
    wants_poison,
    zone_of_word,
)
from shmalloc.kernels.buddy import block_span, free_block
from shmalloc.kernels.contig import bring_online, restore_types
from shmalloc.kernels.deferred import drain_deferred
from shmalloc.kernels.descriptor import page_state, transition2, transition_owned
from shmalloc.kernels.fill import fill_on_free
from shmalloc.kernels.lists import node_of
from shmalloc.kernels.lock import lock
from shmalloc.kernels.pcp_lists import leave_list
from shmalloc.kernels.rebuild import retire_held, start_of
from shmalloc.kernels.repair import unlock_zone
from shmalloc.kernels.slots import label
from shmalloc.kernels.waiters import wake_waiters
from shmalloc.kernels.zone import block_mt, descriptor_at, isolator_of, zone_at
from shmalloc.units import Claim, Memory, Pfn, ZoneId, ZoneWords
from shmalloc.words import fixed, load2


@unit
def sweep_zone(mem: Memory, claim: Claim, zone_id: ZoneId, victim: Claim) -> int:
    """Give a zone back the blocks that a dead claim had in its hands, and those that wait on its
    deferred list; returns pages."""
    zone = zone_at(mem, zone_id)
    lock(mem, zone + c.Z_LOCK, claim)
    # First: what is on that list may bear the label of the dead.
    given = drain_deferred(mem, claim, zone)
    end_isolations(mem, claim, zone, victim)
    given += sweep_blocks(mem, claim, zone, victim)
    unlock_zone(mem, claim, zone)
    wake_waiters(mem, claim)
    return given


@kernel
def end_isolations(mem: Memory, claim: Claim, zone: ZoneWords, victim: Claim) -> None:
    """End the isolation of pageblocks that the dead had isolated or was putting offline."""
    step = 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)
    at = (fixed(mem, zone + c.Z_START) + step - 1) & -step
    while at + step <= fixed(mem, zone + c.Z_END):
        if block_mt(mem, at) == c.MT_ISOLATE and isolator_of(mem, at) == label(mem, victim):
            restore_types(mem, zone, claim, at, at + step)
            bring_online(mem, zone, claim, at, at + step)
        at += step


@kernel
def sweep_blocks(mem: Memory, claim: Claim, zone: ZoneWords, victim: Claim) -> int:
    """Free every block that only the dead knew of; zone lock held. Returns pages."""
    given = 0
    pfn = fixed(mem, zone + c.Z_START)
    while pfn < fixed(mem, zone + c.Z_END):
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        # Pages on their way from or to a slab are ALLOCATED by OWNER_SLAB, held by one claim only.
        loose = type_of(w0) == c.T_PCP or (type_of(w0) == c.T_ALLOCATED and w1 == cs.OWNER_SLAB)
        if loose and detail_of(w0) == label(mem, victim):
            given += block_span(w0)
            sweep_block(mem, claim, zone, pfn)
            pfn = start_of(mem, pfn)
            w0 = page_state(mem, pfn)
        pfn += block_span(w0)
    return given


@kernel
def sweep_block(mem: Memory, claim: Claim, zone: ZoneWords, pfn: Pfn) -> None:
    """Free one orphaned block; or retire it, if its page is marked for poison."""
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    order = order_of(w0)
    zone_id = zone_of_word(w0)
    if type_of(w0) == c.T_ALLOCATED:
        taken = next_word(w0, c.T_PCP, order, zone_id, mt_of(w0), detail_of(w0))
        transition_owned(mem, pfn, w0, w1, taken, 0)
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
    if wants_poison(w0):
        retire_held(mem, claim, zone, pfn)
        return
    taken = next_word(w0, c.T_PCP, order, zone_id, mt_of(w0), label(mem, claim))
    if transition2(mem, pfn, w0, w1, taken, 0):
        leave_list(mem, node_of(mem, pfn))
        fill_on_free(mem, pfn, order)
        free_block(mem, zone, claim, pfn, order)
