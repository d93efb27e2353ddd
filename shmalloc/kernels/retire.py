"""Blocks that leave service on their way between an owner and a free list.

Either the page was marked while it was in use (``poison_page``), or pages of the block were written
to while they were free (fill.py). The caller has the block in his hands, in state PCP.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import mt_of, next_word, out_of_service, zone_of_word
from shmalloc.kernels.buddy import link_free
from shmalloc.kernels.descriptor import make_free, page_state, transition
from shmalloc.kernels.fill import changed_word
from shmalloc.kernels.lock import lock
from shmalloc.kernels.rebuild import merge_range, retire_held
from shmalloc.kernels.repair import unlock_zone
from shmalloc.kernels.reporting import event, record
from shmalloc.kernels.waiters import wake_waiters
from shmalloc.kernels.zone import account, block_mt, unmanage, zone_at
from shmalloc.units import Claim, Memory, Order, Pfn, ZoneWords
from shmalloc.words import fixed


@unit
def retire_block(mem: Memory, claim: Claim, pfn: Pfn, order: Order) -> None:
    """Take a block in state PCP out of service for ever."""
    zone = zone_at(mem, zone_of_word(page_state(mem, pfn)))
    lock(mem, zone + c.Z_LOCK, claim)
    retire_held(mem, claim, zone, pfn)
    unlock_zone(mem, claim, zone)


@unit
def retire_changed(mem: Memory, claim: Claim, pfn: Pfn, order: Order) -> None:
    """Take the pages of a block in state PCP that were written to while free out of service.

    The others go back to the zone. No page is on a list before it was looked at, for the links of
    a list may lie where it was written to.
    """
    zone = zone_at(mem, zone_of_word(page_state(mem, pfn)))
    lock(mem, zone + c.Z_LOCK, claim)
    retire_pages(mem, claim, zone, pfn, order)
    unlock_zone(mem, claim, zone)
    wake_waiters(mem, claim)


@kernel
def retire_pages(mem: Memory, claim: Claim, zone: ZoneWords, pfn: Pfn, order: Order) -> None:
    """The same under the zone lock."""
    end = pfn + (1 << order)
    cut_to_pages(mem, zone, pfn, order)
    for page in range(pfn, end):
        if changed_word(mem, page, 0) >= 0:
            retire_unlinked(mem, zone, page)
            event(mem, claim, c.EV_POISONED)
            record(mem, claim, c.OP_POISON, 0, page, 0)
        else:
            link_free(mem, zone, claim, page, 0, block_mt(mem, page))
            account(mem, zone, block_mt(mem, page), 1)
    merge_range(mem, claim, zone, pfn, end)


@kernel
def cut_to_pages(mem: Memory, zone: ZoneWords, pfn: Pfn, order: Order) -> None:
    """Turn a block in state PCP into single FREE pages on no list, right to left; lock held."""
    zone_id = fixed(mem, zone + c.Z_INDEX)
    make_free(mem, pfn, zone_id, order, block_mt(mem, pfn))
    for page in range(pfn + (1 << order) - 1, pfn - 1, -1):  # the head last: it covers the others
        make_free(mem, page, zone_id, 0, block_mt(mem, page))


@kernel
def retire_unlinked(mem: Memory, zone: ZoneWords, pfn: Pfn) -> None:
    """Poison a single FREE page that is on no list; lock held."""
    w0 = page_state(mem, pfn)
    detail = out_of_service(c.T_POISONED)
    poisoned = next_word(w0, c.T_POISONED, 0, zone_of_word(w0), mt_of(w0), detail)
    if transition(mem, pfn, w0, poisoned):
        unmanage(mem, zone, 1)
