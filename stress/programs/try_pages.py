"""Programs about pages without waiting: they end although others are stopped, and lose no page.

A *stopped* lock is held by a CPU that runs no thread, from before the first step: who waits for it
never ends, and that is a deadlock. The check opens such locks first, as a recovery would.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.contig import isolate_range, unisolate_range
from shmalloc.kernels.lock import lock, owner_word
from shmalloc.kernels.repair import unlock_zone
from shmalloc.kernels.try_pages import try_alloc_pages, try_free_pages
from shmalloc.kernels.zone import pcp_at, zone_at
from shmalloc.units import Claim, Memory, Order, Pfn, WordIndex
from shmalloc.words import fixed, load, relax, store
from stress.machine.program import Program
from stress.programs.held import (
    ONLY_ZONE,
    RESULT,
    block_order,
    block_pfn,
    hold,
    let_go,
    page_take,
    slot_at,
    zone_put,
)
from stress.programs.initial_state import InitialState, catalogue
from stress.programs.waiters import no_waiters, wait_at_zone

ENDED = 1


@kernel
def try_take(mem: Memory, claim: Claim, slot: int, order: Order) -> Pfn:
    """Allocate without waiting."""
    pfn = try_alloc_pages(mem, claim, order, c.MT_MOVABLE, claim + 1)
    return hold(mem, claim, slot, pfn, order)


@kernel
def try_put(mem: Memory, claim: Claim, slot: int) -> int:
    """Free the block of a slot without waiting."""
    block = let_go(mem, claim, slot)
    if block == 0:
        return c.E_STATE
    return try_free_pages(mem, claim, block_pfn(block), block_order(block), claim + 1)


@kernel
def try_one(mem: Memory, claim: Claim) -> Pfn:
    return try_take(mem, claim, 0, 0)


@kernel
def put_one(mem: Memory, claim: Claim) -> int:
    return try_put(mem, claim, 0)


@kernel
def put_two(mem: Memory, claim: Claim) -> int:
    """The list has room for one page."""
    return try_put(mem, claim, 0) + try_put(mem, claim, 1)


@kernel
def put_and_take(mem: Memory, claim: Claim) -> Pfn:
    """Frees two pages and asks for one."""
    put_two(mem, claim)
    return try_take(mem, claim, 0, 0)


@kernel
def put_ordinary(mem: Memory, claim: Claim) -> int:
    return zone_put(mem, claim, 0)


@kernel
def take_ordinary(mem: Memory, claim: Claim) -> Pfn:
    return page_take(mem, claim, 0, 0)


@kernel
def isolate_and_end(mem: Memory, claim: Claim) -> int:
    result = isolate_range(mem, claim, 0, 2)
    return result if result < 0 else unisolate_range(mem, claim, 0, 2)


@kernel
def put_and_say(mem: Memory, claim: Claim) -> Pfn:
    """``put_and_take``; says when it has ended."""
    pfn = put_and_take(mem, claim)
    store(mem, slot_at(mem, claim, RESULT), ENDED)
    return pfn


@kernel
def hold_zone(mem: Memory, claim: Claim) -> int:
    """Takes the zone lock, and stops until CPU 0 has ended."""
    zone = zone_at(mem, ONLY_ZONE)
    lock(mem, zone + c.Z_LOCK, claim)
    while load(mem, slot_at(mem, 0, RESULT)) != ENDED:
        relax(mem)
    unlock_zone(mem, claim, zone)
    return 0


@kernel
def in_a_callback(mem: Memory, claim: Claim) -> Pfn:
    """Allocates and frees while it holds the zone lock itself."""
    zone = zone_at(mem, ONLY_ZONE)
    lock(mem, zone + c.Z_LOCK, claim)
    pfn = put_and_take(mem, claim)
    unlock_zone(mem, claim, zone)
    return pfn


@kernel
def open_stopped(mem: Memory, at: WordIndex) -> None:
    """Open a lock that the last CPU holds, which runs no thread."""
    if mem[at] & c.LOCK_HOLDER_MASK == fixed(mem, c.H_CPUS):
        mem[at] = 0


@kernel
def none_waited(mem: Memory) -> int:
    """``pages_are_sound``, and no CPU is registered as a waiter, when stopped locks are open."""
    open_stopped(mem, zone_at(mem, ONLY_ZONE) + c.Z_LOCK)
    for cpu in range(fixed(mem, c.H_CPUS)):
        open_stopped(mem, pcp_at(mem, cpu, ONLY_ZONE) + c.P_LOCK)
    return no_waiters(mem)


def stop(state: InitialState, at: int) -> InitialState:
    """Let the last CPU, which runs no thread, hold a lock."""
    state.ram[at] = owner_word(state.ram, state.layout.geometry.cpus - 1)
    return state


def stop_zone(state: InitialState) -> InitialState:
    return stop(state, state.layout.zone(ONLY_ZONE) + c.Z_LOCK)


def stop_list(state: InitialState, cpu: int) -> InitialState:
    return stop(state, int(pcp_at(state.ram, cpu, ONLY_ZONE)) + c.P_LOCK)


def stop_lists(state: InitialState) -> InitialState:
    """... the lists of all CPUs: what is freed goes to the zone."""
    for cpu in range(state.layout.geometry.cpus):
        stop_list(state, cpu)
    return state


def defer(state: InitialState, cpu: int, slot: int) -> InitialState:
    """Let a block that ``cpu`` holds begin on the deferred list."""
    locks = [state.layout.zone(ONLY_ZONE) + c.Z_LOCK]
    locks += [int(pcp_at(state.ram, cpu, ONLY_ZONE)) + c.P_LOCK]
    for at in locks:
        stop(state, at)
    try_put(state.ram, cpu, slot)
    for at in locks:
        state.ram[at] = 0
    return state


def two_each(**changes: object) -> InitialState:
    """Two CPUs hold two pages each; a third one runs no thread."""
    state = InitialState.booted(4, max_order=1, cpus=3, **changes)
    return state.take(0).take(0, 1).take(1).take(1, 1)


def one_each(cpus: int = 2, **changes: object) -> InitialState:
    """``cpus`` CPUs hold a page each; one more runs no thread, and all lists are stopped."""
    state = InitialState.booted(cpus, max_order=1, cpus=cpus + 1, **changes)
    for cpu in range(cpus):
        state.take(cpu)
    return stop_lists(state)


def zone_stopped(name: str) -> Program:
    return stop_zone(two_each()).program(
        name,
        (put_and_take, put_and_take),
        check=none_waited,
        story="the holder of the zone lock never runs again: two CPUs free a page to their lists"
        " and one that must be deferred (the cas of defer_block meet), and take one",
    )


def lists_stopped(name: str) -> Program:
    return stop_lists(two_each()).program(
        name,
        (put_and_take, put_and_take),
        check=none_waited,
        story="the holder of every per-CPU lock never runs again: frees go to the zone, or on its"
        " deferred list where the other CPU has its lock, and an allocation gets E_AGAIN there",
    )


def all_stopped(name: str) -> Program:
    return stop_zone(stop_lists(two_each())).program(
        name,
        (put_and_take, put_and_take),
        check=none_waited,
        story="every lock is held for ever: all frees are deferred, all allocations get E_AGAIN,"
        " and both CPUs end",
    )


def descriptor_stopped(name: str) -> Program:
    return stop_zone(stop_lists(two_each(link_store="descriptor"))).program(
        name,
        (put_and_take, put_and_take),
        check=none_waited,
        story="try-all-stopped with links in word 1 of the descriptors, whose word 0 stays a label",
    )


def index_stopped(name: str) -> Program:
    return stop_zone(stop_lists(two_each(link_store="index"))).program(
        name,
        (put_and_take, put_and_take),
        check=none_waited,
        story="try-all-stopped with free blocks in index arrays: only deferred blocks are linked,"
        " by word 1 of the descriptors",
    )


def holder_stops(name: str) -> Program:
    state = two_each()
    return state.program(
        name,
        (put_and_say, hold_zone),
        check=none_waited,
        story="CPU 1 stops with the zone lock, taken at any moment, until CPU 0 has ended: what"
        " waits for it never ends; what is deferred is freed by unlock_zone of CPU 1",
    )


def own_lock(name: str) -> Program:
    state = two_each()
    return state.program(
        name,
        (in_a_callback, put_ordinary),
        check=none_waited,
        story="a callback frees and allocates while its own claim holds the zone lock; the other"
        " CPU sleeps for that lock, and finds the deferred page freed",
    )


def free_drain(name: str) -> Program:
    return one_each().program(
        name,
        (put_ordinary, put_one),
        check=none_waited,
        story="a free pushes on the deferred list while the holder of the zone lock looks at it on"
        " its way out: drained there, or left for the next holder",
    )


def free_free_drain_3(name: str) -> Program:
    return one_each(3).program(
        name,
        (put_ordinary, put_one, put_one),
        check=none_waited,
        story="two push while the holder takes off: the first node is read, another is pushed in"
        " front of it, and the compare-exchange that takes it off must fail",
    )


def free_alloc(name: str) -> Program:
    state = stop_list(InitialState.booted(2, max_order=1, cpus=3).take(1), 1)
    return state.program(
        name,
        (take_ordinary, put_one),
        check=none_waited,
        story="an ordinary allocation refills while a page is freed without waiting: to the zone,"
        " or on the deferred list, whose page merges when the refill lets go",
    )


def alloc_alloc(name: str) -> Program:
    state = InitialState.booted(2, max_order=1, cpus=2)
    return state.program(
        name,
        (take_ordinary, try_one),
        check=none_waited,
        story="an allocation without waiting splits a block under the zone lock that it tried; the"
        " ordinary one sleeps for that lock and must be woken",
    )


def wake(name: str) -> Program:
    return stop_lists(InitialState.booted(1, cpus=3).take(0)).program(
        name,
        (put_one, wait_at_zone),
        check=none_waited,
        story="a waiter holds the zone lock for its last look while the page that it waits for is"
        " deferred: push, then load H_WAITERS, against fetch_or, arm_wake, then the look",
    )


def isolate(name: str) -> Program:
    state = InitialState.booted(2, max_order=1, cpus=2).take(1)
    return state.program(
        name,
        (isolate_and_end, put_one),
        check=none_waited,
        story="the pageblock of a deferred page is isolated before the page is freed: its type is"
        " looked up when it is taken off the list",
    )


PROGRAMS = catalogue(
    "try",
    zone_stopped,
    lists_stopped,
    all_stopped,
    descriptor_stopped,
    index_stopped,
    holder_stops,
    own_lock,
    free_drain,
    free_free_drain_3,
    free_alloc,
    alloc_alloc,
    wake,
    isolate,
)
