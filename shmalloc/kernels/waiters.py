"""Sleepers for memory: how they announce themselves, and who wakes them.

::

    H_WAITERS   one bit for each seat that is taken        H_WAKE   odd while a sleeper has looked
    seats       who sits there: an owner word, or 0                 and found nothing

Each free reads H_WAITERS; only the one that makes H_WAKE even wakes. A sleeper takes a seat first,
and only who sits in it changes its bit: so recovery can tell what a dead sleeper left, wherever it
died. With all seats taken, others sleep behind them, and are woken with them (pages_wait.py).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.lock import owner_word
from shmalloc.kernels.reporting import event
from shmalloc.units import Claim, Memory, WordIndex
from shmalloc.words import (
    cas,
    fetch_and,
    fetch_or,
    fixed,
    load,
    load_relaxed,
    relax,
    store,
    wait,
    wake,
)


@hot
def wake_waiters(mem: Memory, claim: Claim) -> None:
    """Wake the sleepers for memory; called after a zone gained pages, or its deferred list did.

    No wake-up is lost: a waiter first sets its bit in H_WAITERS and arms H_WAKE (makes it odd),
    then looks at the zones under their locks. Either it found our pages, or it looked before our
    critical section, and then we see both here. Only the CPU that disarms H_WAKE wakes (one system
    call each time it was armed).

    The zone's counters are not asked. Pages below the minimum watermark count, too, for a sleeper
    that may have them; and outside of the lock Z_FREE says nothing: it is 0 for a moment while
    another holder of the lock moves the only block, or makes the lists anew. A block on a deferred
    list is in no counter: the first sleeper that takes the lock frees it.
    """
    if load(mem, c.H_WAITERS) > 0:
        ticket = load(mem, c.H_WAKE)
        if ticket & 1 != 0 and cas(mem, c.H_WAKE, ticket, ticket + 1):
            wake(mem, c.H_WAKE, c.MAX_CLAIMS)
            event(mem, claim, c.EV_WAKE)


@kernel
def arm_wake(mem: Memory) -> int:
    """Make H_WAKE odd, so that the next free wakes us; returns what to sleep on."""
    while True:
        ticket = load(mem, c.H_WAKE)
        if ticket & 1 != 0 or cas(mem, c.H_WAKE, ticket, ticket + 1):
            return ticket | 1
        relax(mem)


@kernel
def ticket_of(mem: Memory, seat: int) -> int:
    """What to sleep on in ``seat``; without one (negative), until those who sit are woken."""
    if seat < 0:
        return load(mem, c.H_WAKE)
    return arm_wake(mem)


@unit
def pause_for_memory(mem: Memory, claim: Claim) -> int:
    """Sleep for memory once, at most 50 ms natively: for a caller that looks before and after.

    A free that comes between that look and this call does not end the sleep.
    """
    seat = take_seat(mem, claim)
    event(mem, claim, c.EV_WAIT)
    wait(mem, c.H_WAKE, ticket_of(mem, seat))
    if seat >= 0:
        leave_seat(mem, seat)
    return 0


@kernel
def seat_at(mem: Memory, seat: int) -> WordIndex:
    return fixed(mem, c.H_AT_SEATS) + seat


@kernel
def take_seat(mem: Memory, claim: Claim) -> int:
    """Sit down and announce it in H_WAITERS; the number of the seat, or E_AGAIN if none is free."""
    for i in range(c.SEATS):
        seat = (claim + i) % c.SEATS
        at = seat_at(mem, seat)
        if load_relaxed(mem, at) == 0 and cas(mem, at, 0, owner_word(mem, claim)):
            fetch_or(mem, c.H_WAITERS, 1 << seat)
            return seat
    return c.E_AGAIN


@kernel
def leave_seat(mem: Memory, seat: int) -> None:
    """Get up: the bit first, for it is the sitter's."""
    fetch_and(mem, c.H_WAITERS, ~(1 << seat))
    store(mem, seat_at(mem, seat), 0)


@kernel
def empty_seats(mem: Memory, victim: Claim) -> None:
    """Get up for a claim that is dead."""
    for seat in range(c.SEATS):
        if load(mem, seat_at(mem, seat)) & c.LOCK_HOLDER_MASK == victim + 1:
            leave_seat(mem, seat)
