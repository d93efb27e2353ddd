"""A process that lives and does not run while it holds a lock: who can goes on without it."""

import os
import signal

import pytest

from shmalloc import Arena, recovery
from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.compiler.runnable import runnable
from shmalloc.errors import MisuseError, OutOfMemoryError
from shmalloc.kernels.lock import owner_word
from shmalloc.kernels.pages import take_from_zone
from shmalloc.kernels.recover import recover
from shmalloc.kernels.reporting import claim_at
from shmalloc.kernels.slots import is_dead
from shmalloc.layout import first_node_part
from shmalloc.memory import Ram
from stress.programs.initial_state import InitialState
from support import dying
from support.runs import wait_until

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


# --- a real SIGSTOP, in the middle of an operation ------------------------------------------------
STOPPED, DEAD = 2, 1  # claims


def start_stopped(arena, operation, writes, lock):
    """A child that has stopped there, with the lock at that word."""
    child = dying.start(arena.segment, STOPPED, operation, writes, signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert arena.segment.ram[lock] & c.LOCK_HOLDER_MASK == STOPPED + 1
    return child


def ends(child):
    child.send_signal(signal.SIGCONT)
    return child.wait(60) == 0


@pytest.fixture
def arena(monkeypatch):
    monkeypatch.setattr(recovery, "PATIENCE_S", 0.02)
    with Arena.create(size="1MiB", cpus=4, page_bytes=512, pageblock_order=5, spins=0) as arena:
        yield arena


def sheaf_lock(arena, cache):
    start = arena.segment.layout.at["caches"] + cache.number * arena.segment.ram[c.H_CACHE_STRIDE]
    return start + cs.K_CPUS + STOPPED * cs.KC_STRIDE + cs.KC_LOCK


def test_a_cache_is_not_destroyed_while_a_stopped_process_has_a_sheaf_of_it(arena):
    cache = arena.cache("first", 64)
    child = start_stopped(arena, "take_object", 3, sheaf_lock(arena, cache))
    with pytest.raises(MisuseError, match=f"process {child.pid} holds one of its locks"):
        cache.destroy()
    assert ends(child)  # it was given no object: the cache is dying
    cache.destroy()
    assert arena.validate() == []


@pytest.mark.parametrize("operation", ["destroy", "recover"])
def test_who_needs_the_set_of_caches_goes_on_without_when_its_holder_has_stopped(arena, operation):
    cache = arena.cache("first", 64)
    child = start_stopped(arena, "make_cache", 1, c.H_CACHES_LOCK)
    if operation == "destroy":
        with pytest.raises(MisuseError, match=f"process {child.pid} holds one of its locks"):
            cache.destroy()
        assert arena.open_cache("first").alloc() > 0  # nothing was done
    else:
        dead = dying.start(arena.segment, DEAD, "take_block", 3, signal.SIGKILL)
        assert dead.wait(60) == -signal.SIGKILL
        with pytest.warns(RuntimeWarning, match=f"as process {child.pid} holds a lock"):
            assert arena.recover() == []
        assert arena.alloc_pages(order=dying.TOP_ORDER) >= 0  # the locks of the dead are released
    assert ends(child)
    if operation == "destroy":
        with pytest.raises(MisuseError, match="objects are live"):
            cache.destroy()
    else:
        assert [found.claim for found in arena.recover()] == [DEAD]
    assert arena.validate() == []


def test_a_recovery_does_not_wait_for_ever_for_one_that_has_stopped(arena):
    dead = dying.start(arena.segment, DEAD, "take_block", 3, signal.SIGKILL)
    assert dead.wait(60) == -signal.SIGKILL
    child = start_stopped(arena, "recover_first", 2, c.H_RECOVERY)
    with pytest.warns(RuntimeWarning, match=f"as process {child.pid} holds a lock"):
        assert arena.recover() == []
    assert ends(child)
    wait_until(lambda: arena.segment.ram[c.H_RECOVERY] == 0, "the recovery to end")
    assert [found.claim for found in arena.recover()] == [DEAD]
    assert arena.validate() == []


def test_locks_that_every_caller_must_have_are_not_left_out(stopped):
    arena, at = stopped
    layout = arena.segment.layout
    cache = layout.at["caches"]
    node = cache + first_node_part(layout.geometry)
    optional = [at, cache + cs.K_CPUS + cs.KC_LOCK, c.H_CACHES_LOCK, c.H_RECOVERY]
    needed = [at + 1, node + cs.KN_LOCK, node + cs.KN_BARN_LOCK, layout.zone(0) + c.Z_LOCK]
    assert [recovery.may_skip(layout, index) for index in optional] == [True] * 4
    assert [recovery.may_skip(layout, index) for index in needed] == [False] * 4


class CalledOffOnce(Ram):
    """Who waits for the lock of the set of caches first is told to give up; then it is free."""

    waits = 0

    def wait(self, i, old):
        self.waits += 1
        if self.waits == 1:
            self[claim_at(self, 0) + c.C_GIVE_UP] = i
        else:
            self[i] = 0


def test_a_recovery_that_leaves_one_out_says_how_many_pages_the_others_gave_back():
    state = InitialState.booted(2, cpus=4)
    state.ram[c.H_CLAIMS_USED] = 4
    for claim in (2, 3):
        at = claim_at(state.ram, claim) + c.C_EPOCH
        state.ram[at] = 5
        assert take_from_zone(state.ram, claim, 0, 0, c.MT_MOVABLE) >= 0
        state.ram[at + 1] = 6
    state.ram[c.H_CACHES_LOCK] = owner_word(state.ram, 1)
    ram = CalledOffOnce(state.ram.array)
    assert runnable(recover)(ram, 0) == 1
    assert [bool(is_dead(ram, claim)) for claim in (2, 3)] == [True, False]
