"""Programs about waiting for memory: no CPU sleeps while there is a page for it.

The waker comes first in ``threads``, so that a run of one CPU after the other ends, too. A lost
wake-up is a deadlock; no run reaches PATIENCE, so that no timeout hides one.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.lock import lock
from shmalloc.kernels.pages_wait import alloc_pages_wait
from shmalloc.kernels.pcp import drain_cpu
from shmalloc.kernels.rebuild import relist_zone
from shmalloc.kernels.repair import unlock_zone
from shmalloc.kernels.reporting import report
from shmalloc.kernels.waiters import arm_wake, leave_seat, take_seat
from shmalloc.kernels.zone import zone_at
from shmalloc.units import Claim, Memory, Pfn
from shmalloc.words import wait
from stress.machine.program import Program
from stress.programs.checks import pages_are_sound
from stress.programs.held import ONLY_ZONE, page_put, receive, zone_put, zone_take
from stress.programs.initial_state import InitialState, catalogue

PATIENCE = 1_000


@kernel
def put_to_zone(mem: Memory, claim: Claim) -> int:
    return zone_put(mem, claim, 0)


@kernel
def put_page(mem: Memory, claim: Claim) -> int:
    return page_put(mem, claim, 0)


@kernel
def wait_at_zone(mem: Memory, claim: Claim) -> Pfn:
    """The loop of ``alloc_pages_wait`` for a single page, with nothing in it but the zone."""
    seat = take_seat(mem, claim)
    pfn: Pfn = c.E_NOMEM
    for _ in range(PATIENCE):
        ticket = arm_wake(mem)
        pfn = zone_take(mem, claim, 0, 0)
        if pfn != c.E_NOMEM:
            break
        wait(mem, c.H_WAKE, ticket)
    leave_seat(mem, seat)
    return pfn


@kernel
def wait_at_list(mem: Memory, claim: Claim) -> Pfn:
    """The same with a drain of the per-CPU list of CPU 0, where a freed page may hide."""
    seat = take_seat(mem, claim)
    pfn: Pfn = c.E_NOMEM
    for _ in range(PATIENCE):
        ticket = arm_wake(mem)
        drain_cpu(mem, claim, 0)
        pfn = zone_take(mem, claim, 0, 0)
        if pfn != c.E_NOMEM:
            break
        wait(mem, c.H_WAKE, ticket)
    leave_seat(mem, seat)
    return pfn


@kernel
def wait_for_page(mem: Memory, claim: Claim) -> Pfn:
    return receive(
        mem, claim, 0, alloc_pages_wait(mem, claim, 0, c.MT_MOVABLE, claim + 1, PATIENCE), 0
    )


@kernel
def wait_for_pair(mem: Memory, claim: Claim) -> Pfn:
    return receive(
        mem, claim, 0, alloc_pages_wait(mem, claim, 1, c.MT_MOVABLE, claim + 1, PATIENCE), 1
    )


@kernel
def remake_lists(mem: Memory, claim: Claim) -> int:
    """Make the lists of the zone anew, as where links were overwritten."""
    zone = zone_at(mem, ONLY_ZONE)
    lock(mem, zone + c.Z_LOCK, claim)
    relist_zone(mem, claim, zone)
    unlock_zone(mem, claim, zone)
    return 0


@kernel
def wait_and_put(mem: Memory, claim: Claim) -> int:
    """Waits for a page, then frees it for the next waiter."""
    pfn = wait_at_zone(mem, claim)
    if pfn < 0:
        report(mem, claim, c.I_PROGRESS, c.AT_CPU | claim, 0, pfn)
        return +pfn
    return zone_put(mem, claim, 0)


@kernel
def no_waiters(mem: Memory) -> int:
    """``pages_are_sound``, and no CPU is registered as a waiter."""
    if mem[c.H_WAITERS] != 0:
        report(mem, 0, c.I_PROGRESS, c.AT_WORD | c.H_WAITERS, 0, mem[c.H_WAITERS])
    return pages_are_sound(mem)


def zone_wake(name: str) -> Program:
    state = InitialState.booted(1).take(0)
    return state.program(
        name,
        (put_to_zone, wait_at_zone),
        check=no_waiters,
        story="load H_WAITERS, load H_WAKE of wake_waiters, after unlock, against fetch_or,"
        " arm_wake, then the look under the lock: a store buffer between them would lose the wake",
    )


def zone_wake_3(name: str) -> Program:
    state = InitialState.booted(2, cpus=3).take(0).take(1)
    return state.program(
        name,
        (put_to_zone, put_to_zone, wait_at_zone),
        check=no_waiters,
        story="two wakers, one ticket: the cas that disarms H_WAKE lets one of them wake, while"
        " the waiter arms it again for a second sleep",
    )


def zone_relay_3(name: str) -> Program:
    state = InitialState.booted(1, cpus=3).take(0)
    return state.program(
        name,
        (put_to_zone, wait_and_put, wait_and_put),
        check=no_waiters,
        story="one page, two waiters: the wake of the first free wakes both; one of them finds"
        " nothing and must arm H_WAKE again before the other frees",
    )


def two_pages_3(name: str) -> Program:
    state = InitialState.booted(2, max_order=1, cpus=3).take(0, order=1)
    return state.program(
        name,
        (put_to_zone, wait_at_zone, wait_at_zone),
        check=no_waiters,
        story="one free has a page for each of two sleepers: it disarms H_WAKE once, so one wake"
        " must reach both of them",
    )


def remake_wake_3(name: str) -> Program:
    state = InitialState.booted(1, cpus=3).take(0)
    return state.program(
        name,
        (put_to_zone, remake_lists, wait_at_zone),
        check=no_waiters,
        story="the lists of the zone are made anew, as a repair does, between the unlock of a free"
        " and its look for sleepers: Z_FREE is 0 for a moment, which says nothing",
    )


def list_wake(name: str) -> Program:
    state = InitialState.booted(1).take(0)
    return state.program(
        name,
        (put_page, wait_at_list),
        check=no_waiters,
        story="give_back looks at H_WAITERS under P_LOCK; a waiter registers first and drains that"
        " list afterwards: otherwise the page hides on a list while its waiter sleeps",
    )


def page_wake(name: str) -> Program:
    state = InitialState.booted(1).take(0)
    return state.program(
        name,
        (put_page, wait_for_page),
        check=no_waiters,
        story="wait-list-wake with the whole of alloc_pages_wait: two looks at everything"
        " before the first sleep, each by refill, zone, drain_all and zone",
    )


def pair_wake_3(name: str) -> Program:
    state = InitialState.booted(2, max_order=1, cpus=3).take(0).take(1)
    return state.program(
        name,
        (put_page, put_page, wait_for_pair),
        check=no_waiters,
        story="a pair is wanted, two singles are freed on two CPUs: each may go on its list"
        " before the waiter is seen, and only the drains of both let them merge",
    )


PROGRAMS = catalogue(
    "wait",
    zone_wake,
    zone_wake_3,
    zone_relay_3,
    two_pages_3,
    remake_wake_3,
    list_wake,
    page_wake,
    pair_wake_3,
)
