"""Waking the process that reclaims memory in the background, when a zone has too little.

::

    H_RECLAIM   odd while a reclaimer sleeps; made even to wake it (as H_WAKE, waiters.py)

A reclaimer (reclaimer.py) makes the word odd, then looks whether each zone is balanced
(watermark.py) and does what it can, and sleeps only on that word. An allocation that finds a zone
below its low mark looks at the word afterwards: so either the reclaimer has seen what it saw, or it
finds the word odd and wakes it.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.reporting import event
from shmalloc.kernels.watermark import is_balanced, is_below_low
from shmalloc.units import Claim, Memory, Order, ZoneWords
from shmalloc.words import cas, load, load_relaxed, wake


@unit
def wake_reclaimer(mem: Memory, claim: Claim, zone: ZoneWords, order: Order) -> None:
    """Wake the sleeping reclaimers, if the zone has no block of ``order`` above its high mark.

    All of them: each process has callbacks of its own, and one that is woken may be about to die.
    """
    ticket = load(mem, c.H_RECLAIM)
    if ticket & 1 == 0 or is_balanced(mem, zone, order):
        return
    disarm_reclaim(mem, claim)


@kernel
def wake_if_boosted(mem: Memory, claim: Claim, zone: ZoneWords) -> None:
    """Wake the sleeping reclaimers for a boost of the watermarks; called without the zone lock.

    The zone as it is may give no allocation another reason to. It is not called under the lock,
    where the marks are raised: that store may still wait in the CPU's buffer when H_RECLAIM is
    loaded, and a reclaimer that arms the word then sees the old mark. The release of the lock makes
    it visible. A process that dies before it has woken one leaves the boost to the next allocation.
    """
    if load_relaxed(mem, zone + c.Z_BOOST) != 0:
        wake_reclaimer(mem, claim, zone, 0)


@kernel
def wake_if_low(mem: Memory, claim: Claim, zone: ZoneWords) -> None:
    """Wake the sleeping reclaimers if the zone is below its low mark; called without the zone lock.

    For what takes pages by place, and so never looks at the low marks before.
    """
    if is_below_low(mem, zone):
        wake_reclaimer(mem, claim, zone, 0)


@unit
def disarm_reclaim(mem: Memory, claim: Claim) -> int:
    """End the rest of all reclaimers; 1, or 0 if none has armed the word."""
    ticket = load(mem, c.H_RECLAIM)
    if ticket & 1 == 0 or not cas(mem, c.H_RECLAIM, ticket, ticket + 1):
        return 0
    wake(mem, c.H_RECLAIM, c.MAX_CLAIMS)
    event(mem, claim, c.EV_RECLAIM_WAKE)
    return 1
