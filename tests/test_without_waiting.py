"""What never waits: at any moment, whatever is held, it ends and loses nothing."""

import os
import signal

import pytest

from shmalloc import Arena, CorruptionError
from shmalloc import constants as c
from shmalloc.kernels.contig import alloc_contig_range, free_contig_range
from shmalloc.kernels.pages import alloc_pages
from shmalloc.kernels.pcp import drain_all
from shmalloc.kernels.try_pages import try_alloc_pages, try_free_pages
from stress.crash.actions import order_0, order_2
from stress.programs.initial_state import InitialState
from stress.programs.try_pages import defer, none_waited, put_and_take
from support.interrupted_ram import interruptions
from support.reach import words_reached

WAITING = {"wait", "relax", "give_way", "notice"}


@pytest.mark.parametrize("kernel", [try_alloc_pages, try_free_pages], ids=lambda k: k.__name__)
def test_no_kernel_that_it_may_call_can_wait(kernel):
    assert not words_reached(kernel) & WAITING


def test_an_ordinary_allocation_may_wait_in_every_way():
    assert words_reached(alloc_pages) >= WAITING


def contig(mem, claim):
    if alloc_contig_range(mem, claim, 4, 6, claim + 1) == 0:
        free_contig_range(mem, claim, 4, 6)


FORMS = {
    "page": {},
    "list": {"pcp_form": "list", "link_store": "descriptor"},
    "poison": {"poison": True},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("call", [order_0, order_2, drain_all, contig], ids=lambda k: k.__name__)
def test_a_handler_may_run_before_any_access_of_an_operation_of_its_own_claim(call, form):
    state = InitialState.booted(8, max_order=2, cpus=2, **FORMS[form]).keep(1)
    defer(state.take(1), 1, 0)
    if call in (drain_all, contig):  # the others use the slots themselves
        state.take(0).take(0, 1)
    handler = put_and_take if call in (drain_all, contig) else try_alloc_and_free
    ends = 0
    for ram in interruptions(
        state.ram.array, lambda mem: call(mem, 0), lambda mem: handler(mem, 0)
    ):
        ends += 1
        assert none_waited(ram) == 0
    assert ends > 20


def try_alloc_and_free(mem, claim):
    pfn = try_alloc_pages(mem, claim, 0, c.MT_MOVABLE, claim + 1)
    if pfn >= 0:
        assert try_free_pages(mem, claim, pfn, 0, claim + 1) == 0


@pytest.fixture
def arena():
    with Arena.create(size="8MiB", cpus=2) as made:
        yield made


@pytest.fixture
def held(arena):
    """The lock of each zone, held by another life that does not run."""
    with Arena.attach(arena.name) as other:
        ram, layout = arena.segment.ram, arena.segment.layout
        locks = [layout.zone(zone) + c.Z_LOCK for zone in range(len(arena.segment.geometry.zones))]
        for at in locks:
            ram[at] = other.life
        yield arena
        for at in locks:
            ram[at] = 0


def test_a_page_is_taken_and_freed(arena):
    pfn = arena.try_alloc_pages(order=2)
    assert pfn is not None
    arena.try_free_pages(pfn, order=2)
    assert arena.validate() == []


def test_a_misuse_is_refused(arena):
    pfn = arena.alloc_pages()
    arena.try_free_pages(pfn)
    with pytest.raises(CorruptionError, match="M_DOUBLE_FREE"):
        arena.try_free_pages(pfn)


def test_the_owner_is_checked(arena):
    pfn = arena.alloc_pages(owner=5)
    with pytest.raises(CorruptionError, match="M_STRANGER"):
        arena.try_free_pages(pfn, owner=6)
    arena.try_free_pages(pfn, owner=5)


def test_an_allocation_gives_none_where_the_zone_is_locked(held):
    assert held.try_alloc_pages(order=6) is None


def test_what_is_deferred_is_described_and_audited_and_freed_by_the_next_holder(arena):
    pfn = arena.alloc_pages(order=6)
    ram, at = arena.segment.ram, arena.segment.layout.zone(0)
    free = ram[at + c.Z_FREE]
    with Arena.attach(arena.name) as other:
        ram[at + c.Z_LOCK] = other.life
        arena.try_free_pages(pfn, order=6)
        ram[at + c.Z_LOCK] = 0
        assert ram[at + c.Z_FREE] == free
        assert "freed, and not in its zone yet" in arena.describe(pfn)
        assert arena.validate() == []
        other.drain()
    assert ram[at + c.Z_FREE] >= free + 64
    assert arena.validate() == []


def test_a_signal_handler_allocates_and_frees_while_the_call_beneath_waits(held):
    """The interrupted call sleeps for the zone lock, until the handler opens it."""
    told = []
    ram, layout = held.segment.ram, held.segment.layout

    def handler(*_):
        told.append(held.try_alloc_pages(order=6))
        for zone in range(len(held.segment.geometry.zones)):
            ram[layout.zone(zone) + c.Z_LOCK] = 0
        pfn = held.try_alloc_pages(order=6)
        told.append(pfn)
        held.try_free_pages(pfn, order=6)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        pfn = held.alloc_pages(order=7)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert told[0] is None
    assert told[1] is not None
    held.free_pages(pfn, order=7)
    assert held.validate() == []


def test_a_holder_that_is_stopped_by_the_system_is_not_waited_for(arena):
    """A child takes every zone lock and is stopped; frees are deferred, and end."""
    pfns = [arena.alloc_pages(order=5) for _ in range(4)]
    ram, layout = arena.segment.ram, arena.segment.layout
    zones = range(len(arena.segment.geometry.zones))
    pid = os.fork()
    if pid == 0:
        try:
            for zone in zones:
                ram[layout.zone(zone) + c.Z_LOCK] = arena.life
            os.kill(os.getpid(), signal.SIGSTOP)
            for zone in zones:
                ram[layout.zone(zone) + c.Z_LOCK] = 0
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    for pfn in pfns:
        arena.try_free_pages(pfn, order=5)
    assert arena.try_alloc_pages(order=5) is None
    os.kill(pid, signal.SIGCONT)
    os.waitpid(pid, 0)
    assert arena.validate() == []
    assert arena.drain() >= 4 << 5
