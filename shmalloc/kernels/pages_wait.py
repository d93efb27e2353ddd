"""``alloc_pages_wait``: an allocation that sleeps for memory (waiters.py has the protocol)."""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.pages import alloc_pages
from shmalloc.kernels.reporting import event
from shmalloc.kernels.waiters import arm_wake, leave_seat, take_seat
from shmalloc.units import Claim, Gfp, Memory, Order, Owner, Pfn
from shmalloc.words import load, wait


@unit
def alloc_pages_wait(
    mem: Memory, claim: Claim, order: Order, gfp: Gfp, owner: Owner, rounds: int
) -> Pfn:
    """``alloc_pages`` that sleeps for memory, at most ``rounds`` times (50 ms each natively)."""
    pfn = alloc_pages(mem, claim, order, gfp, owner)
    if pfn != c.E_NOMEM:
        return pfn
    left = rounds
    seat = take_seat(mem, claim)
    while seat < 0 and left > 0:
        wait(mem, c.H_WAKE, load(mem, c.H_WAKE))  # those who sit are woken, and we with them
        left -= 1
        seat = take_seat(mem, claim)
    if seat < 0:
        return pfn
    pfn = wait_seated(mem, claim, order, gfp, owner, left)
    leave_seat(mem, seat)
    return pfn


@kernel
def wait_seated(
    mem: Memory, claim: Claim, order: Order, gfp: Gfp, owner: Owner, rounds: int
) -> Pfn:
    """Sleep and retry, announced in H_WAITERS."""
    pfn: Pfn = c.E_NOMEM
    left = rounds
    while left > 0 and load(mem, c.H_STOP) == 0:
        ticket = arm_wake(mem)
        # Tries again after the announcement, and drains every CPU's list on the way.
        pfn = alloc_pages(mem, claim, order, gfp, owner)
        if pfn != c.E_NOMEM:
            break
        event(mem, claim, c.EV_WAIT)
        wait(mem, c.H_WAKE, ticket)
        left -= 1
    return pfn
