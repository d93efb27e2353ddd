"""Programs about the per-CPU lists: refill, drain, remote drain, hotplug, a shared slot.

The zone has single pages only (max_order 0), so that the explorer spends its steps on the lists
and their two locks (P_LOCK, then the zone lock) and not on splits. Every allocation here must
succeed: there is a page for each, on a list, in flight, or in the zone, and an allocation drains
all lists and looks again before it fails.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.bits import type_of
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.hotplug import plug_cpu, unplug_cpu
from shmalloc.kernels.pages import alloc_pages
from shmalloc.kernels.pages_bulk import free_bulk
from shmalloc.kernels.pcp import drain_cpu
from shmalloc.kernels.poison import poison_page
from shmalloc.kernels.reporting import report
from shmalloc.layout import ZoneSpec
from shmalloc.units import Claim, Memory, Migratetype, Order, Pfn
from shmalloc.words import fixed
from stress.machine.program import Program
from stress.programs.checks import pages_are_sound
from stress.programs.held import (
    BLOCKS,
    RESULT,
    block_pfn,
    let_go,
    note_result,
    page_put,
    page_take,
    receive,
    slot_at,
)
from stress.programs.initial_state import InitialState, catalogue

VICTIM = 0  # the CPU with the list that is drained, unplugged or shared
LISTED = 8  # first word of a CPU's list of blocks
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
    return note_result(mem, claim, poison_page(mem, claim, FIRST_TAKEN))


@kernel
def put_in_bulk(mem: Memory, claim: Claim) -> int:
    """Frees the page of the first slot by ``free_bulk``."""
    at = slot_at(mem, claim, LISTED)
    mem[at] = block_pfn(let_go(mem, claim, 0))
    return free_bulk(mem, claim, 0, 1, at)


@kernel
def round_of(mem: Memory, claim: Claim, order: Order) -> int:
    """Takes a block of ``order`` and gives it back: it stays on the list, or drains it."""
    page_take(mem, claim, 0, order)
    return page_put(mem, claim, 0)


@kernel
def orders_round(mem: Memory, claim: Claim) -> int:
    """Blocks of orders 3, 1 and 0, one after the other, through lists that hold eight pages."""
    round_of(mem, claim, 3)
    round_of(mem, claim, 1)
    return round_of(mem, claim, 0)


@kernel
def small_round(mem: Memory, claim: Claim) -> int:
    return round_of(mem, claim, 0)


@kernel
def whole_pageblocks(mem: Memory, claim: Claim) -> int:
    """Takes two whole pageblocks of a type of its own, as far as there are any, and frees them."""
    mt: Migratetype = c.MT_RECLAIMABLE
    if claim != 0:
        mt = c.MT_UNMOVABLE
    order = fixed(mem, c.H_PAGEBLOCK_ORDER)
    for slot in range(BLOCKS):
        receive(mem, claim, slot, alloc_pages(mem, claim, order, mt, claim + 1), order)
    for slot in range(BLOCKS):
        page_put(mem, claim, slot)
    return 0


@kernel
def left_if_asked(mem: Memory) -> int:
    """``pages_are_sound``, and a page that CPU 1 was promised would leave service has left it."""
    asked = mem[slot_at(mem, 1, RESULT)] == 1  # its poison_page returned 0
    if asked and type_of(page_state(mem, FIRST_TAKEN)) != c.T_POISONED:
        found = page_state(mem, FIRST_TAKEN)
        report(mem, 1, c.M_WRONG_STATE, FIRST_TAKEN, c.IS_TYPE | c.T_POISONED, found)
    return pages_are_sound(mem)


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
        check=left_if_asked,
        story="load and transition2 of claim_for_free against the transition2 of"
        " mark_for_poison: the mark must not make the owner's free fail, and the page"
        " must not come back (docs/bugs.md 22)",
    )


def bulk_poison(name: str) -> Program:
    state = InitialState.booted(2).take(0)
    return state.program(
        name,
        (put_in_bulk, poison_other),
        check=left_if_asked,
        story="pcp-free-poison for free_bulk, which looks at the mark itself: a marked page must"
        " leave service there, too, and not go to the zone with the others of its list",
    )


def orders(name: str) -> Program:
    return InitialState.booted(32, max_order=3, pcp_batch=2, pcp_high=8).program(
        name,
        (orders_round, drain_victim),
        story="blocks of three orders share one count and one high mark: a block of order 3 fills"
        " the lists alone, the next free drains it by drain_some, against a drain of all lists",
    )


def linked(name: str) -> Program:
    state = InitialState.booted(3, pcp_batch=2, pcp_high=2, pcp_form="list").keep(VICTIM, 2)
    return state.program(
        name,
        (small_round, drain_victim),
        story="lists in linked form: push_node and pop_node of the owner, whose chain lies in the"
        " pages, against a drain that pops them; each block must leave the count with the list",
    )


def pageblocks(name: str) -> Program:
    return InitialState.booted(64, max_order=4).program(
        name,
        (whole_pageblocks, whole_pageblocks),
        story="whole pageblocks have lists of their own behind those of the small orders, one for"
        " each type, which keep one block: the second goes to the zone, under another lock",
    )


def zones(name: str) -> Program:
    state = InitialState.booted(0, zones=(ZoneSpec(4), ZoneSpec(2, 1)), pcp_batch=2, pcp_high=2)
    return state.program(
        name,
        (small_round, small_round),
        story="two CPUs on two nodes, each with lists for both zones: a refill takes from the zone"
        " of its list, under that zone's lock, also when the home zone of its CPU is another one",
    )


PROGRAMS = catalogue(
    "pcp", refill_drain, take_take, drain_alloc, drain_alloc_3, drain_free, overflow_refill,
    unplug_alloc, unplug_free, unplug_drain, unplug_unplug, unplug_plug, plug_plug,
    hotplug_3, shared_slot, shared_free, free_poison, bulk_poison, orders, linked, pageblocks,
    zones,
)  # fmt: skip
