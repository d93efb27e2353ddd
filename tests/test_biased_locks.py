"""Arenas whose per-CPU locks are biased (kernels/cpu_lock.py), through the public interface.

Schedules and deaths of the lock itself are programs (stress/programs/biased_locks.py, and every
other program in the world ``biased``).
"""

import os
import signal

import pytest

from shmalloc import Arena, recovery
from shmalloc import constants as c
from shmalloc.engine import asymmetric
from shmalloc.errors import EnvironmentUnfitError
from stress.top.reading import Observer
from support import dying

pytestmark = pytest.mark.skipif(not asymmetric.is_possible(), reason="needs membarrier(2)")
HOST = 2


@pytest.fixture
def arena():
    with Arena.create(size="1MiB", cpus=4, page_bytes=512, pageblock_order=5, spins=0) as made:
        yield made


def list_lock(arena, cpu):
    return arena.segment.layout.pcp(cpu, 0) + c.P_LOCK


def word(arena, at):
    return int(arena.segment.ram[at])


def use(arena):
    for _ in range(2):
        arena.free_pages(arena.alloc_pages())


def refuse_membarrier(monkeypatch):
    monkeypatch.setattr(asymmetric, "_membarrier", lambda command: False)
    monkeypatch.setattr(asymmetric, "_registered", {})


def test_an_arena_has_biased_locks_where_the_system_has_membarrier(arena):
    assert arena.segment.geometry.biased_locks


def test_the_claim_of_a_cpu_opens_its_lock_and_holds_none_between_its_calls(arena):
    use(arena)
    assert word(arena, list_lock(arena, arena.cpu)) & c.LOCK_OPEN
    assert word(arena, arena.segment.layout.cpu(arena.cpu) + c.C_HOLDS) == 0


def test_a_drain_of_another_cpu_finds_what_its_process_has_freed(arena):
    with Arena.attach(arena.name) as other:
        use(other)
        assert arena.drain() > 0
        use(other)
        assert arena.drain() > 0
    assert arena.validate() == []


def test_a_claim_that_shares_a_cpu_makes_its_lock_common_for_good(arena):
    use(arena)
    with Arena.attach(arena.name, cpu=arena.cpu) as guest:
        use(guest)
        use(arena)
        use(guest)
    assert word(arena, list_lock(arena, arena.cpu)) == c.LOCK_COMMON
    assert arena.validate() == []


def test_the_next_life_of_a_claim_opens_the_lock_anew(arena):
    with Arena.attach(arena.name) as other:
        use(other)
        cpu, before = other.cpu, word(arena, list_lock(arena, other.cpu))
    with Arena.attach(arena.name, cpu=cpu) as other:
        use(other)
        assert word(arena, list_lock(arena, cpu)) not in (0, before)
    assert arena.validate() == []


def test_without_membarrier_an_arena_has_plain_locks(monkeypatch):
    refuse_membarrier(monkeypatch)
    with Arena.create(size="1MiB", cpus=1) as arena:
        use(arena)
        assert not arena.segment.geometry.biased_locks
        assert word(arena, list_lock(arena, arena.cpu)) == 0


def test_a_process_without_membarrier_cannot_attach_and_hears_the_cure(arena, monkeypatch):
    refuse_membarrier(monkeypatch)
    with pytest.raises(EnvironmentUnfitError, match="biased_locks=False"):
        Arena.attach(arena.name)


@pytest.fixture
def stopped(arena):
    """A process that has stopped inside of the lock of its CPU's list, taken by the bias."""
    child = dying.start(arena.segment, HOST, "free_page", 2, signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert word(arena, arena.segment.layout.cpu(HOST) + c.C_HOLDS) == list_lock(arena, HOST)
    yield child
    child.kill()
    child.wait()


def test_a_drain_waits_for_a_process_inside_and_goes_on_without_it_if_that_is_stopped(
    arena, stopped, monkeypatch
):
    monkeypatch.setattr(recovery, "PATIENCE_S", 0.02)
    with pytest.warns(RuntimeWarning, match="left out"):
        arena.drain()
    stopped.send_signal(signal.SIGCONT)
    assert stopped.wait(60) == 0
    assert arena.drain() > 0
    assert arena.validate() == []


def test_who_died_inside_is_recovered_and_its_list_is_sound(arena, stopped):
    stopped.kill()
    stopped.wait()
    assert [one.claim for one in arena.recover()] == [HOST]
    assert word(arena, arena.segment.layout.cpu(HOST) + c.C_HOLDS) == 0
    assert arena.drain() > 0
    assert arena.validate() == []


def test_a_drain_recovers_who_died_inside_beneath_its_wait(arena, stopped):
    stopped.kill()
    stopped.wait()
    assert arena.drain() > 0
    assert arena.validate() == []


def test_a_lock_that_is_held_by_the_bias_is_shown_with_its_holder(arena, stopped):
    with Observer(arena.name, walks=1) as observer:
        (lock,) = observer.look().locks
    assert (lock.word, lock.cpu, lock.current) == (list_lock(arena, HOST), HOST, True)
