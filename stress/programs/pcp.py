"""Programs about the per-CPU lists: refill, drain, remote drain, hotplug, a shared slot.

The zone has single pages only (max_order 0), so that the explorer spends its steps on the lists
and their two locks (P_LOCK, then the zone lock) and not on splits. Every allocation here must
succeed: there is a page for each, on a list, in flight, or in the zone, and an allocation drains
all lists and looks again before it fails.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.hotplug import plug_cpu, unplug_cpu
from shmalloc.kernels.pcp import drain_cpu
from shmalloc.kernels.poison import poison_page
from shmalloc.kernels.reporting import report
from shmalloc.units import Claim, Memory, Pfn
from stress.machine.program import Program
from stress.programs.held import page_put, page_take
from stress.programs.initial_state import InitialState, catalogue

VICTIM = 0  # the CPU with the list that is drained, unplugged or shared
FIRST_TAKEN = 1  # the page that the first allocation of a state of two pages gets


@kernel
def must_take(mem: Memory, claim: Claim) -> Pfn:
    """Allocate; there is a page for this CPU, so a failure is a violation."""
    pfn = page_take(mem, claim, 0, 0)
    if pfn == c.E_NOMEM:
        report(mem, claim, c.I_PROGRESS, c.AT_CPU | claim, 0, pfn)
    return pfn


@kernel
def may_take(mem: Memory, claim: Claim) -> Pfn:
    """Allocate, or fail: a refill after this CPU's drain may have hidden the last pages again."""
    return page_take(mem, claim, 0, 0)


@kernel
def put_page(mem: Memory, claim: Claim) -> int:
    return page_put(mem, claim, 0)


@kernel
def drain_victim(mem: Memory, claim: Claim) -> int:
    return drain_cpu(mem, claim, VICTIM)


@kernel
def unplug_victim(mem: Memory, claim: Claim) -> int:
    return unplug_cpu(mem, claim, VICTIM)


@kernel
def unplug_and_plug(mem: Memory, claim: Claim) -> int:
    if unplug_cpu(mem, claim, VICTIM) < 0:
        return c.E_BUSY
    return plug_cpu(mem, claim, VICTIM)


@kernel
def plug_victim(mem: Memory, claim: Claim) -> int:
    return plug_cpu(mem, claim, VICTIM)


@kernel
def plug_and_drain(mem: Memory, claim: Claim) -> int:
    plug_cpu(mem, claim, VICTIM)
    return drain_cpu(mem, claim, VICTIM)


@kernel
def poison_other(mem: Memory, claim: Claim) -> int:
    """Takes the page that CPU 0 began with out of service, now or when it is freed."""
    return poison_page(mem, claim, FIRST_TAKEN)


def refill_drain(name: str) -> Program:
    return InitialState.booted(2, pcp_batch=2, pcp_high=2).program(
        name,
        (must_take, drain_victim),
        story="refill pushes under P_LOCK and counts, drain_everything pops what it finds: a drain"
        " between push and count would miss a page (spin_or_skip says why it waits)",
    )


def take_take(name: str) -> Program:
    return InitialState.booted(2, pcp_batch=2, pcp_high=2).program(
        name,
        (must_take, must_take),
        story="a refill fetches both pages while the other looks: E_NOMEM in its refill, then"
        " take_after_drain against pcp_pop of the one that hides the second page",
    )


def drain_alloc(name: str) -> Program:
    state = InitialState.booted(1).keep(VICTIM)
    return state.program(
        name,
        (must_take, drain_victim),
        story="the page is on the list: try_spin and pcp_pop of its CPU against spin_or_skip"
        " and pcp_pop of a remote drainer; with the lock lost the page may be in flight, and"
        " the last look (take_after_drain) must still find it",
    )


def drain_alloc_3(name: str) -> Program:
    state = InitialState.booted(2, cpus=3, pcp_batch=2, pcp_high=2).keep(VICTIM, pages=2)
    return state.program(
        name,
        (may_take, drain_victim, may_take),
        story="two pages on a list, its CPU and another want one each while a third drains it:"
        " no page is lost or allocated twice. Either allocation may fail: after it has drained the"
        " lists, a refill can fetch both pages before it looks at the zone (docs/bugs.md 4)",
    )


def drain_free(name: str) -> Program:
    state = InitialState.booted(1).take(VICTIM)
    return state.program(
        name,
        (put_page, drain_victim),
        story="keep_on_pcp against drain_everything: the page ends on the list or in the zone,"
        " never on both and never counted twice",
    )


def overflow_refill(name: str) -> Program:
    state = InitialState.booted(3).keep(0).take(0)
    return state.program(
        name,
        (put_page, must_take),
        story="a free above the high mark drains (P_LOCK, then the zone's lock) while the"
        " other's refill holds the zone's lock under its own P_LOCK: no cycle, no page lost",
    )


def unplug_alloc(name: str) -> Program:
    state = InitialState.booted(1).keep(VICTIM)
    return state.program(
        name,
        (must_take, unplug_victim),
        story="drain_everything and store LOCK_OFFLINE of unplug_cpu against try_spin of a"
        " process that still runs there: it must go to the zone, and find the page",
    )


def unplug_free(name: str) -> Program:
    state = InitialState.booted(1).take(VICTIM)
    return state.program(
        name,
        (put_page, unplug_victim),
        story="keep_on_pcp against unplug_cpu: a page pushed after the drain, before"
        " LOCK_OFFLINE, would be lost behind a lock that no CPU may take",
    )


def unplug_drain(name: str) -> Program:
    state = InitialState.booted(1).keep(VICTIM)
    return state.program(
        name,
        (drain_victim, unplug_victim),
        story="spin_or_skip waits for P_LOCK while unplug_cpu turns it to LOCK_OFFLINE: the"
        " waiter must see that and leave, or it waits for ever",
    )


def unplug_unplug(name: str) -> Program:
    state = InitialState.booted(1, cpus=3).keep(VICTIM)
    return state.program(
        name,
        (drain_victim, unplug_and_plug, unplug_and_plug),
        story="two CPUs unplug one slot and plug it in again while it drains itself: the swap on"
        " C_STATE lets one of them proceed; plug_cpu's store of 0 must not open a lock that is"
        " held",
    )


def unplug_plug(name: str) -> Program:
    state = InitialState.booted(1).keep(VICTIM)
    return state.program(
        name,
        (plug_victim, unplug_victim),
        story="a slot is plugged in while it is being unplugged: the swap of plug_cpu on"
        " C_STATE returns E_BUSY until the slot is offline; otherwise it would open the lists that"
        " unplug_cpu is locking",
    )


def plug_plug(name: str) -> Program:
    state = InitialState.booted(1, cpus=3).take(VICTIM)
    unplug_cpu(state.ram, 1, VICTIM)
    return state.program(
        name,
        (put_page, plug_victim, plug_and_drain),
        story="two CPUs plug one slot in at once: the swap on C_STATE lets one of them proceed, or"
        " the second store of 0 would open the P_LOCK that the owner has just taken, in front of a"
        " drainer",
    )


def hotplug_3(name: str) -> Program:
    state = InitialState.booted(1, cpus=3).take(VICTIM)
    return state.program(
        name,
        (put_page, unplug_and_plug, drain_victim),
        story="free, unplug with plug, and drain of one slot at once: three holders of P_LOCK"
        " and its two values of 'free'",
    )


def shared_slot(name: str) -> Program:
    state = InitialState.booted(2).keep(VICTIM).settle(1, VICTIM)
    return state.program(
        name,
        (may_take, may_take),
        story="two claims on one CPU: try_spin of one against pcp_pop and hand_out of the other,"
        " under the P_LOCK that names it alone",
    )


def shared_free(name: str) -> Program:
    state = InitialState.booted(2).take(0).take(1).settle(1, VICTIM)
    return state.program(
        name,
        (put_page, put_page),
        story="two claims free on one CPU: free_to_pcp of one against the failed try_spin"
        " of the other, which gives its page to the zone while the first drains the list into"
        " it",
    )


def free_poison(name: str) -> Program:
    state = InitialState.booted(2).take(0)
    return state.program(
        name,
        (put_page, poison_other),
        story="load and transition2 of claim_for_free against the transition2 of"
        " mark_for_poison: the mark must not make the owner's free fail, and the page"
        " must not come back (docs/bugs.md 22)",
    )


PROGRAMS = catalogue(
    "pcp", refill_drain, take_take, drain_alloc, drain_alloc_3, drain_free, overflow_refill,
    unplug_alloc, unplug_free, unplug_drain, unplug_unplug, unplug_plug, plug_plug,
    hotplug_3, shared_slot, shared_free, free_poison,
)  # fmt: skip
