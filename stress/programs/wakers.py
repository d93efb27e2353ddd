"""A sleeper for memory beside every path that must wake it: programs of one shape, by a table.

CPU 0 does something after which the zone has a block that it had not before; CPU 1 sleeps for one.
A path that wakes too early, or not at all, leaves the sleeper asleep beside free memory, which is a
deadlock; so is a page that comes to lie on a per-CPU list behind the sleeper's back.

The sleeper is the loop of ``alloc_pages_wait`` over the zone and the lists of CPU 0, the only ones
that can have a page. What gives pages back, and its row::

    free_pages, free_bulk, free_contig_range    free-pages, free-pair, free-bulk, free-range
    isolations that end or fail                 unisolate, offline-busy, range-busy, online
    per-CPU lists that are emptied              drain, decay, reclaimer, unplug
    deferred lists                              deferred
    slabs and sheaves that go                   kfree-large, kfree-slab, shrink, destroy
    the dead                                    reap, recover, recover-list
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from shmalloc import constants as c
from shmalloc.dialect import Kernel, kernel
from shmalloc.kernels.contig import (
    alloc_contig_range,
    free_contig_range,
    offline_range,
    online_range,
    unisolate_range,
)
from shmalloc.kernels.hotplug import unplug_cpu
from shmalloc.kernels.kmalloc import kfree, kmalloc
from shmalloc.kernels.lock import owner_word
from shmalloc.kernels.pages import free_pages, take_from_zone
from shmalloc.kernels.pcp import drain_all, drain_cpu, pcp_decay
from shmalloc.kernels.reclaimer import reclaim_pass
from shmalloc.kernels.recover import recover
from shmalloc.kernels.reporting import report
from shmalloc.kernels.try_pages import try_free_pages
from shmalloc.kernels.waiters import arm_wake, leave_seat, take_seat
from shmalloc.kernels.zone import pcp_at
from shmalloc.units import Claim, Memory, Order, Pfn
from shmalloc.words import wait
from stress.machine.program import Program
from stress.programs.bulk import put_two
from stress.programs.checks import enter_owners, first_violation, give_pages_up, objects_are_sound
from stress.programs.contig import mark_isolated
from stress.programs.held import (
    ONLY_ZONE,
    block_order,
    block_pfn,
    hold_object,
    let_go,
    let_go_object,
    let_go_signed,
    object_put,
    zone_take,
)
from stress.programs.initial_state import InitialState
from stress.programs.passing import GIVER, reap_giver, with_block
from stress.programs.ranges import let_range_go
from stress.programs.slab import ONE_IN_A_SLAB, TWO_IN_A_SLAB, destroy, shrink
from stress.programs.waiters import PATIENCE, no_waiters

DEAD_EPOCH = 5  # odd: a life that was not given back
LARGE_BYTES = 40  # no class: whole pages


# --- the sleeper ---------------------------------------------------------------------------------
@kernel
def sleep_for(mem: Memory, claim: Claim, order: Order) -> Pfn:
    """Allocate a block from the zone, or sleep and look again, with a drain of CPU 0's lists."""
    seat = take_seat(mem, claim)
    pfn: Pfn = c.E_NOMEM
    for _ in range(PATIENCE):
        ticket = arm_wake(mem)
        drain_cpu(mem, claim, 0)
        pfn = zone_take(mem, claim, 0, order)
        if pfn != c.E_NOMEM:
            break
        wait(mem, c.H_WAKE, ticket)
    leave_seat(mem, seat)
    return pfn


@kernel
def sleep_for_page(mem: Memory, claim: Claim) -> Pfn:
    return sleep_for(mem, claim, 0)


@kernel
def sleep_for_pair(mem: Memory, claim: Claim) -> Pfn:
    return sleep_for(mem, claim, 1)


@kernel
def objects_and_no_waiters(mem: Memory) -> int:
    """No CPU is registered as a waiter, and ``objects_are_sound`` when the sleeper has freed its
    page."""
    if mem[c.H_WAITERS] != 0 or mem[c.H_REPORT_COUNT] != 0:
        report(mem, 0, c.I_PROGRESS, c.AT_WORD | c.H_WAITERS, 0, mem[c.H_WAITERS])
        return first_violation(mem)
    enter_owners(mem)
    give_pages_up(mem)
    return objects_are_sound(mem)


# --- what wakes it -------------------------------------------------------------------------------
@kernel
def free_block_of_zero(mem: Memory, claim: Claim) -> int:
    block = let_go_signed(mem, claim, 0)
    return free_pages(mem, claim, block_pfn(block), block_order(block))


@kernel
def free_range(mem: Memory, claim: Claim) -> int:
    """Frees the two single pages that it has."""
    let_go_signed(mem, claim, 0)
    let_go_signed(mem, claim, 1)
    return free_contig_range(mem, claim, 0, 2)


@kernel
def end_isolation(mem: Memory, claim: Claim) -> int:
    let_range_go(mem, claim)
    return unisolate_range(mem, claim, 0, 1)


@kernel
def offline_both(mem: Memory, claim: Claim) -> int:
    """Page 1 is in use: the isolation ends at once."""
    return offline_range(mem, claim, 0, 2)


@kernel
def range_of_both(mem: Memory, claim: Claim) -> int:
    """The same for a contiguous range."""
    return alloc_contig_range(mem, claim, 0, 2, claim + 1)


@kernel
def bring_online(mem: Memory, claim: Claim) -> int:
    return online_range(mem, claim, 0, 1)


@kernel
def drain_lists(mem: Memory, claim: Claim) -> int:
    return drain_all(mem, claim)


@kernel
def reclaim(mem: Memory, claim: Claim) -> int:
    """A zone without a free page is never above its high mark."""
    return reclaim_pass(mem, claim)


@kernel
def decay(mem: Memory, claim: Claim) -> int:
    return pcp_decay(mem, claim)


@kernel
def unplug_itself(mem: Memory, claim: Claim) -> int:
    return unplug_cpu(mem, claim, 0)


@kernel
def kfree_of_zero(mem: Memory, claim: Claim) -> int:
    return kfree(mem, claim, let_go_object(mem, claim, 0))


@kernel
def put_last_object(mem: Memory, claim: Claim) -> int:
    return object_put(mem, claim, 0)


@kernel
def recover_giver(mem: Memory, claim: Claim) -> int:
    return recover(mem, claim)


# --- states --------------------------------------------------------------------------------------
def page_of_zero() -> InitialState:
    """CPU 0 has the only page."""
    return InitialState.booted(1).take(0)


def two_of_zero() -> InitialState:
    """CPU 0 has both pages of a pair, one by one."""
    return InitialState.booted(2, max_order=1).take(0).take(0, slot=1)


def isolated() -> InitialState:
    """The only page is isolated by CPU 0."""
    state = InitialState.booted(1)
    mark_isolated(state.ram, 0, 0, 1)
    return state


def one_in_use() -> InitialState:
    """Of one pageblock of two pages CPU 0 has page 1, and page 0 is free."""
    return InitialState.booted(2, max_order=1).take(0)


def offline() -> InitialState:
    state = InitialState.booted(1)
    assert offline_range(state.ram, 0, 0, 1) == 0, "the page did not go offline"
    return state


def on_list(**changes: int) -> InitialState:
    """The only page is on the list of CPU 0."""
    return InitialState.booted(1, **changes).keep(0)


def on_deferred_list() -> InitialState:
    """The only page was freed by CPU 0, which found the zone locked."""
    state = page_of_zero()
    block = let_go(state.ram, 0, 0)
    zone = state.layout.zone(ONLY_ZONE)
    state.ram[zone + c.Z_LOCK] = state.ram[pcp_at(state.ram, 0, ONLY_ZONE) + c.P_LOCK] = 1
    assert try_free_pages(state.ram, 0, block_pfn(block), 0, 1) == 0, "the page was refused"
    state.ram[zone + c.Z_LOCK] = state.ram[pcp_at(state.ram, 0, ONLY_ZONE) + c.P_LOCK] = 0
    return state


def at_its_mark() -> InitialState:
    """The same, and the high mark of that list is about to sink below."""
    state = on_list()
    pcp = pcp_at(state.ram, 0, ONLY_ZONE)
    state.ram[pcp + c.P_HIGH], state.ram[pcp + c.P_HIGH_MIN] = 1, 0
    return state


def large() -> InitialState:
    """CPU 0 has the only page from kmalloc."""
    state = InitialState.booted(1, caches=1)
    assert hold_object(state.ram, 0, 0, kmalloc(state.ram, 0, LARGE_BYTES)) > 0, "no page"
    return state


def last_objects() -> InitialState:
    """CPU 0 has the only object of one of two slabs, so that its free releases it."""
    state = InitialState.booted(2, caches=1).with_cache(TWO_IN_A_SLAB)
    state.take_object(0).take_object(0, 1).take_object(0, 2).take_object(1)
    return state.put_object(0, 1).put_object(0, 2)


def empty_slab() -> InitialState:
    """The only page is a slab without a live object, which the cache keeps."""
    state = InitialState.booted(1, caches=1).with_cache(ONE_IN_A_SLAB)
    return state.take_object(0).put_object(0)


def dead_giver() -> InitialState:
    """GIVER is marked dead, and no process has recovered it."""
    state = InitialState.booted(1, cpus=GIVER + 1)
    at = state.layout.cpu(GIVER)
    state.ram[at + c.C_EPOCH], state.ram[at + c.C_DEAD] = DEAD_EPOCH, DEAD_EPOCH + 1
    state.ram[c.H_CLAIMS_USED] = max(state.ram[c.H_CLAIMS_USED], GIVER + 1)
    return state


def in_dead_hands() -> InitialState:
    """GIVER died with the only page in its hands, between the zone and its owner."""
    state = dead_giver()
    assert take_from_zone(state.ram, GIVER, ONLY_ZONE, 0, c.MT_MOVABLE) >= 0, "no page"
    return state


def behind_a_dead_lock() -> InitialState:
    """The only page is on the list of CPU 0, whose lock GIVER held when it died."""
    state = dead_giver().keep(0)
    state.ram[pcp_at(state.ram, 0, ONLY_ZONE) + c.P_LOCK] = owner_word(state.ram, GIVER)
    return state


# --- the table -----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Path:
    """A path that gives memory back. ``story``: what could be lost on it."""

    name: str
    state: Callable[[], InitialState]
    waker: Kernel
    story: str
    sleeper: Kernel = sleep_for_page
    check: Kernel = no_waiters


ORDINARY = "the sleeper announces itself, drains and looks: each look before the page is there must"
PATHS = (
    Path(
        "free-pages",
        page_of_zero,
        free_block_of_zero,
        f"free_pages of the only page. {ORDINARY} be seen by keeps_off_list or wake_waiters",
    ),
    Path(
        "free-pair",
        lambda: InitialState.booted(2, max_order=1).take(0, order=1),
        free_block_of_zero,
        f"free_pages of the only pair, which has a list of its own. {ORDINARY} be seen",
        sleep_for_pair,
    ),
    Path(
        "free-bulk",
        two_of_zero,
        put_two,
        "free_bulk of two pages that are the wanted pair when"
        f" both are back: hold_zone wakes behind the last one. {ORDINARY} be seen there",
        sleep_for_pair,
    ),
    Path(
        "free-range",
        two_of_zero,
        free_range,
        "free_contig_range of two pages, one by one: the"
        " first may go on a list before the sleeper is there, and only its drain lets them merge",
        sleep_for_pair,
    ),
    Path(
        "unisolate",
        isolated,
        end_isolation,
        f"unisolate_range makes a free page one that may be allocated. {ORDINARY} be woken then",
    ),
    Path(
        "offline-busy",
        one_in_use,
        offline_both,
        "offline_range isolates a pageblock, finds a"
        " page of it in use and gives up: a sleeper that looked meanwhile saw no free page",
    ),
    Path(
        "range-busy",
        one_in_use,
        range_of_both,
        "alloc_contig_range isolates a pageblock, finds a"
        " page of it in use and gives up: a sleeper that looked meanwhile saw no free page",
    ),
    Path(
        "online",
        offline,
        bring_online,
        f"online_range puts the only page back in service. {ORDINARY} be woken by it",
    ),
    Path(
        "drain",
        on_list,
        drain_lists,
        "drain_all of another CPU against the drain of the sleeper:"
        " the page is in the hands of one of them, and must be in the zone when the other looks",
    ),
    Path(
        "decay",
        at_its_mark,
        decay,
        "pcp_decay gives back what its list has above its new high"
        " mark, under P_LOCK, while the sleeper waits for that lock to drain the list",
    ),
    Path(
        "deferred",
        on_deferred_list,
        drain_lists,
        "drain_all collects a deferred list, from which no wake-up comes: the sleeper looks under"
        " the lock that the block is taken off under",
    ),
    Path(
        "reclaimer",
        on_list,
        reclaim,
        "a pass of the reclaimer drains the list of CPU 0: it must wake the sleeper behind it",
    ),
    Path(
        "unplug",
        on_list,
        unplug_itself,
        "unplug_cpu drains a list and locks it for good: a"
        " sleeper that finds LOCK_OFFLINE passes it by, so the page must be in the zone by then",
    ),
    Path(
        "kfree-large",
        large,
        kfree_of_zero,
        f"kfree of whole pages. {ORDINARY} be seen, as with free_pages",
    ),
    Path(
        "kfree-slab",
        last_objects,
        put_last_object,
        "the last object of a slab comes back, and"
        f" its page is given to the zone. {ORDINARY} be seen there",
        check=objects_and_no_waiters,
    ),
    Path(
        "shrink",
        empty_slab,
        shrink,
        f"cache_shrink releases a slab that was kept empty. {ORDINARY} be seen there",
        check=objects_and_no_waiters,
    ),
    Path(
        "destroy",
        empty_slab,
        destroy,
        f"cache_destroy releases the slabs of its cache. {ORDINARY} be seen there",
        check=objects_and_no_waiters,
    ),
    Path(
        "reap",
        with_block,
        reap_giver,
        "reap frees the page of a dead process, whose label nothing"
        f" else frees. {ORDINARY} be seen there",
    ),
    Path(
        "recover",
        in_dead_hands,
        recover_giver,
        "recovery sweeps a page that a dead process had"
        f" between the zone and its owner. {ORDINARY} be woken by sweep_zone",
    ),
    Path(
        "recover-list",
        behind_a_dead_lock,
        recover_giver,
        "recovery rebuilds and opens the list of"
        " a dead process, for whose lock the sleeper waits to drain it",
    ),
)


def beside(path: Path, name: str) -> Program:
    """CPU 0 takes ``path``, and CPU 1 sleeps for what it gives back."""
    return path.state().program(name, (path.waker, path.sleeper), path.story, path.check)


PROGRAMS = {
    f"wait-{path.name}": functools.cache(functools.partial(beside, path, f"wait-{path.name}"))
    for path in PATHS
}
