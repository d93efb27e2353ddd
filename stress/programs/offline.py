"""Programs about memory that goes offline and online again, and about isolations that fail.

They belong to the part ``contig``. Pageblocks have one page where the border between two types is
to lie between two buddies.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.bits import type_of
from shmalloc.kernels.contig import offline_range, online_range, unisolate_range
from shmalloc.kernels.cpu_lock import unspin
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.lock import owner_word
from shmalloc.kernels.reporting import cpu_of, report
from shmalloc.kernels.zone import pcp_at
from shmalloc.units import Claim, Memory
from stress.machine.program import Program
from stress.programs.contig import isolate_for_a_while, mark_isolated, restore_lower, take_page
from stress.programs.held import ONLY_ZONE, call_off
from stress.programs.initial_state import InitialState, catalogue
from stress.programs.ranges import keep_offline, let_range_go


@kernel
def offline_for_a_while(mem: Memory, claim: Claim) -> int:
    """Page 1: after a successful call it is offline, whatever its neighbour does."""
    result = offline_range(mem, claim, 1, 2)
    if result == 0:
        if type_of(page_state(mem, 1)) != c.T_OFFLINE:
            report(mem, claim, c.I_FREE_HEAD, 1, c.IS_TYPE | c.T_OFFLINE, page_state(mem, 1))
        online_range(mem, claim, 1, 2)
    return result


@kernel
def offline_and_online(mem: Memory, claim: Claim) -> int:
    result = offline_range(mem, claim, 1, 2)
    if result == 0:
        online_range(mem, claim, 1, 2)
    return result


@kernel
def unisolate_offline(mem: Memory, claim: Claim) -> int:
    """Tries to end the isolation of page 1, which CPU 0 has taken offline: it must be refused."""
    return unisolate_range(mem, claim, 1, 2)


@kernel
def bring_online(mem: Memory, claim: Claim) -> int:
    """Brings page 1 online again, which the CPU has taken offline."""
    let_range_go(mem, claim)
    return online_range(mem, claim, 1, 2)


@kernel
def isolate_offline(mem: Memory, claim: Claim) -> int:
    """Tries to isolate pages 0 and 1, of which one is offline: it must be refused."""
    return isolate_for_a_while(mem, claim)


@kernel
def release_own_list(mem: Memory, claim: Claim) -> int:
    """CPU 0 looks at this CPU's process, which has stopped with the lock of its page list and now
    goes on."""
    lock = pcp_at(mem, cpu_of(mem, claim), ONLY_ZONE) + c.P_LOCK
    call_off(mem, 0, lock)
    unspin(mem, lock, claim)
    return 0


def isolate_stopped(name: str) -> Program:
    state = InitialState.booted(2)
    lock = state.layout.pcp(1, ONLY_ZONE) + c.P_LOCK
    state.ram[lock] = owner_word(state.ram, 1)
    state.ram[state.layout.cpu(0) + c.C_GIVE_UP] = lock  # of an earlier wait
    return state.program(
        name,
        (isolate_for_a_while, release_own_list),
        story="a process has stopped with the lock of its CPU's list: the drain of isolate_range"
        " goes on without it, and an isolation that could not see every list must be ended again",
    )


def offline_alloc(name: str) -> Program:
    return InitialState.booted(2).program(
        name,
        (offline_and_online, take_page),
        story="all_free and take_free_at under the lock against a page of the range on a per-CPU"
        " list or in flight (PCP): E_BUSY or offline, with a correct Z_MANAGED in both cases",
    )


def offline_merged(name: str) -> Program:
    state = InitialState.booted(2, max_order=1, pageblock_order=0)
    mark_isolated(state.ram, 0, 0, 1)
    return state.program(
        name,
        (restore_lower, offline_for_a_while),
        story="the page that goes offline merges with its neighbour, which is isolated, too:"
        " take_offline finds a tail and must carve (docs/bugs.md 1), unless restore_types of the"
        " neighbour has carved first",
    )


def offlined() -> InitialState:
    """Two pages; CPU 0 has taken page 1 offline."""
    state = InitialState.booted(2, max_order=1, pageblock_order=0)
    assert offline_range(state.ram, 0, 1, 2) == 0
    keep_offline(state.ram, 0, 1, 2)
    return state


def offline_unisolate(name: str) -> Program:
    return offlined().program(
        name,
        (take_page, unisolate_offline),
        story="an offline page is isolated by no process: unisolate_range of another CPU must be"
        " refused by may_end while an allocation looks for pages; offline stays offline",
    )


def offline_isolate(name: str) -> Program:
    return offlined().program(
        name,
        (bring_online, isolate_offline),
        story="an offline page goes online while another CPU isolates it with its neighbour: before"
        " restore_types set_isolated refuses (E_BUSY), and after it the isolation is the other's,"
        " which online_range no longer ends",
    )


PROGRAMS = catalogue(
    "contig", isolate_stopped, offline_alloc, offline_merged, offline_unisolate, offline_isolate
)
