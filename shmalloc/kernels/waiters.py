"""Sleepers for memory: how they announce themselves, and who wakes them.

H_WAITERS names them, one bit for each slot, and H_WAKE is what they sleep on: odd while one of them
has found no memory. Each free reads H_WAITERS; only the one that makes H_WAKE even wakes.
The loop that sleeps is in pages_wait.py.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel
from shmalloc.kernels.reporting import event
from shmalloc.units import Cpu, Memory, ZoneWords
from shmalloc.words import cas, fixed, load, load_relaxed, relax, wake


@hot
def wake_waiters(mem: Memory, cpu: Cpu, zone: ZoneWords) -> None:
    """Wake the sleepers for memory; called after the zone gained pages.

    No wake-up is lost: a waiter first sets its bit in H_WAITERS and arms H_WAKE (makes it odd),
    then looks at the zones under their locks. Either it found our pages, or it looked before our
    critical section, and then we see both here. Only the CPU that disarms H_WAKE wakes (one system
    call each time it was armed).
    """
    if load(mem, c.H_WAITERS) > 0 and load_relaxed(mem, zone + c.Z_FREE) > fixed(
        mem, zone + c.Z_MIN
    ):
        ticket = load(mem, c.H_WAKE)
        if ticket & 1 != 0 and cas(mem, c.H_WAKE, ticket, ticket + 1):
            wake(mem, c.H_WAKE, c.MAX_CPUS)
            event(mem, cpu, c.EV_WAKE)


@kernel
def arm_wake(mem: Memory) -> int:
    """Make H_WAKE odd, so that the next free wakes us; returns what to sleep on."""
    while True:
        ticket = load(mem, c.H_WAKE)
        if ticket & 1 != 0 or cas(mem, c.H_WAKE, ticket, ticket + 1):
            return ticket | 1
        relax(mem)
