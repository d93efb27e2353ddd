"""A process that lives and does not run while it holds a per-CPU lock: drains go on without it."""

import pytest

from shmalloc import Arena, recovery
from shmalloc import constants as c
from shmalloc.errors import MisuseError, OutOfMemoryError

BLOCK = 512  # pages of a pageblock


@pytest.fixture
def stopped(monkeypatch):
    """An arena, and the lock of another claim's page lists, held as if it had stopped there."""
    monkeypatch.setattr(recovery, "PATIENCE_S", 0.02)
    with Arena.create(size="8MiB", cpus=4) as arena, Arena.attach(arena.name) as other:
        other.free_pages(other.alloc_pages())
        ram, at = arena.segment.ram, arena.segment.layout.pcp(other.cpu, 0) + c.P_LOCK
        ram[at] = other.life
        yield arena, at
        ram[at] = 0


def test_a_drain_leaves_its_lists_out_with_a_warning_and_finds_them_later(stopped):
    arena, at = stopped
    with pytest.warns(RuntimeWarning, match="left out"):
        assert arena.drain() == 0
    arena.segment.ram[at] = 0
    assert arena.drain() > 0


def test_a_range_is_not_isolated_while_its_pages_may_be_given_out(stopped):
    arena, at = stopped
    for refused in (arena.isolate, arena.offline, arena.alloc_contig_range):
        with pytest.raises(MisuseError, match="in use"):
            refused(0, BLOCK)
    arena.segment.ram[at] = 0
    arena.isolate(0, BLOCK)
    arena.unisolate(0, BLOCK)
    assert arena.validate() == []


def test_an_allocation_that_finds_nothing_ends(stopped):
    arena, _ = stopped
    with pytest.raises(OutOfMemoryError):
        while True:
            arena.alloc_pages()


def test_a_cpu_is_not_unplugged_and_goes_on(stopped):
    arena, at = stopped
    cpu = next(slot.cpu for slot in arena.slots() if slot.claim == arena.cpu)
    assert cpu >= 0
    other = (at - c.P_LOCK - arena.segment.layout.at["pcp"]) // arena.segment.ram[c.H_PCP_STRIDE]
    with pytest.raises(MisuseError):
        arena.unplug(other)
    arena.segment.ram[at] = 0
    assert arena.drain() > 0
    assert arena.validate() == []
