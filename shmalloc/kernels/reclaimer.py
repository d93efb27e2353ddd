"""What the reclaimer does: bring memory back that lists and caches keep, until zones are balanced.

::

    arm        H_RECLAIM odd: from here on, who finds too little memory makes it even and wakes us
    a pass     what is hidden on lists, then what caches keep; the boost of watermarks ends
    rest       sleep on the armed word, if it is still armed

The order keeps wake-ups from being lost. What an allocation saw before we armed, our pass sees too;
what it sees later makes it look at the word. So a reclaimer arms before each pass, and rests only
on the word that it armed then, whatever the pass found: nothing that is asked for during a pass is
forgotten. A reclaimer that dies holds no promise: its locks are recovered like any, and the next
reclaimer begins with a pass.

A pass is an ordinary user: it takes the locks that drains and shrinking take, and may wait for
them, but leaves out lists whose users do not run. Who has callbacks that free memory calls them
between two passes (reclaimer.py of the Python side). Linux, mm/vmscan.c: kswapd, balance_pgdat.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.cache_set import cache_shrink
from shmalloc.kernels.lock import lock, unlock
from shmalloc.kernels.objects import cache_at
from shmalloc.kernels.pcp import drain_all
from shmalloc.kernels.repair import unlock_zone
from shmalloc.kernels.reporting import event
from shmalloc.kernels.waiters import wake_waiters
from shmalloc.kernels.watermark import end_boost, is_balanced
from shmalloc.kernels.zone import zone_at
from shmalloc.units import Claim, Memory
from shmalloc.words import cas, fixed, load, load_relaxed, relax, wait


@kernel
def arm_reclaim(mem: Memory) -> int:
    """Make H_RECLAIM odd, before a pass; returns what to rest on after it."""
    while True:
        ticket = load(mem, c.H_RECLAIM)
        if ticket & 1 != 0 or cas(mem, c.H_RECLAIM, ticket, ticket + 1):
            return ticket | 1
        relax(mem)


@kernel
def all_balanced(mem: Memory) -> bool:
    """Whether every zone has a page above its high mark, boosts included; a hint."""
    for zone_id in range(fixed(mem, c.H_ZONES)):
        if not is_balanced(mem, zone_at(mem, zone_id), 0):
            return False
    return True


@unit
def reclaim_pass(mem: Memory, claim: Claim) -> int:
    """One pass, if a zone is not balanced; pages and slabs given back: 0 means that this process
    knows of no more."""
    if all_balanced(mem):
        return 0
    event(mem, claim, c.EV_RECLAIM)
    drained = drain_all(mem, claim)
    given = max(drained, 0)
    if not all_balanced(mem):
        gone = shrink_caches(mem, claim)
        if gone > 0:  # their pages went to the list of our CPU
            given += gone + max(drain_all(mem, claim), 0)
    for zone_id in range(fixed(mem, c.H_ZONES)):
        decay_boost(mem, claim, zone_id)
    # Not for nothing: a sleeper that is woken fails, and has us work again.
    if given > 0 or drained < 0:
        wake_waiters(mem, claim)
    return given


@kernel
def shrink_caches(mem: Memory, claim: Claim) -> int:
    """Empty the sheaves of all caches and give empty slabs back; how many slabs.

    Under H_CACHES_LOCK, or a cache could be destroyed and another made in its place meanwhile.
    """
    gone = 0
    lock(mem, c.H_CACHES_LOCK, claim)
    for cache_id in range(fixed(mem, c.H_CACHES)):
        if load(mem, cache_at(mem, cache_id) + cs.K_STATE) == cs.CACHE_LIVE:
            slabs: int = +cache_shrink(mem, claim, cache_id)
            gone += slabs
    unlock(mem, c.H_CACHES_LOCK)
    return gone


@kernel
def decay_boost(mem: Memory, claim: Claim, zone_id: int) -> None:
    """End the boost that the pass has worked for."""
    zone = zone_at(mem, zone_id)
    boost = load_relaxed(mem, zone + c.Z_BOOST)
    if boost > 0:
        lock(mem, zone + c.Z_LOCK, claim)
        end_boost(mem, zone, boost)
        unlock_zone(mem, claim, zone)


@unit
def reclaim_rest(mem: Memory, claim: Claim, ticket: int) -> int:
    """Sleep on the armed word; 1 if it is no longer ``ticket``: there is work, else 0.

    Natively 0 comes after 50 ms: the caller rests again, without a pass.
    """
    if load(mem, c.H_RECLAIM) == ticket:
        wait(mem, c.H_RECLAIM, ticket)
    return int(load(mem, c.H_RECLAIM) != ticket)
