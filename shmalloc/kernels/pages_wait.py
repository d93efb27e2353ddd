"""``alloc_pages_wait``: an allocation that sleeps for memory (waiters.py has the protocol)."""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.pages import alloc_pages
from shmalloc.kernels.reporting import event
from shmalloc.kernels.waiters import arm_wake
from shmalloc.units import Cpu, Memory, Migratetype, Order, Owner, Pfn
from shmalloc.words import fetch_and, fetch_or, give_way, load, wait


@unit
def alloc_pages_wait(
    mem: Memory, cpu: Cpu, order: Order, mt: Migratetype, owner: Owner, rounds: int
) -> Pfn:
    """``alloc_pages`` that sleeps for memory, at most ``rounds`` times (50 ms each natively)."""
    pfn = alloc_pages(mem, cpu, order, mt, owner)
    if pfn != c.E_NOMEM:
        return pfn
    seat = 1 << cpu
    left = rounds
    # A slot has one seat: of the processes that share it, one sits and the others wait for it.
    while left > 0 and fetch_or(mem, c.H_WAITERS, seat) & seat != 0:
        give_way(mem)
        left -= 1
    if left == 0:
        return pfn
    pfn = wait_seated(mem, cpu, order, mt, owner, left)
    fetch_and(mem, c.H_WAITERS, ~seat)
    return pfn


@kernel
def wait_seated(
    mem: Memory, cpu: Cpu, order: Order, mt: Migratetype, owner: Owner, rounds: int
) -> Pfn:
    """Sleep and retry, announced in H_WAITERS."""
    pfn: Pfn = c.E_NOMEM
    left = rounds
    while left > 0 and load(mem, c.H_STOP) == 0:
        ticket = arm_wake(mem)
        # Tries again after the announcement, and drains every CPU's list on the way.
        pfn = alloc_pages(mem, cpu, order, mt, owner)
        if pfn != c.E_NOMEM:
            break
        event(mem, cpu, c.EV_WAIT)
        wait(mem, c.H_WAKE, ticket)
        left -= 1
    return pfn
