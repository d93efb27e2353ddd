"""Atomic values, locks and their entries: in one process, in several, and after deaths."""

import multiprocessing
import os
import pickle
import threading
from functools import partial

import pytest

from shmalloc import (
    Acquired,
    Arena,
    Atomic,
    LockUnusableError,
    MisuseError,
    OutOfMemoryError,
    OwnerDiedError,
    open_structure,
)
from stress.linearize import check, models
from support.structure_histories import history

PATIENCE_S = 60.0
MOST = (1 << 63) - 1


@pytest.fixture
def arena():
    with Arena.create(size="1MiB", engine="interpreted") as made:
        yield made
        assert made.validate() == []


@pytest.fixture(scope="module")
def shared():
    with Arena.create(size="4MiB") as made:
        yield made
        assert made.validate() == []


# --- atomic values -------------------------------------------------------------------------------
def test_an_atomic_value_is_loaded_stored_added_exchanged_and_compared(arena):
    value = arena.atomic(5)
    assert (value.load(), value.add(3), value.add(-10), value.load()) == (5, 5, 8, -2)
    assert (value.compare_exchange(0, 1), value.compare_exchange(-2, 7)) == (False, True)
    assert (value.exchange(MOST), value.add(1), value.load()) == (7, MOST, -MOST - 1)
    value.store(9)
    assert value.load() == arena.segment.ram[value.word] == 9


def test_a_pair_changes_as_one(arena):
    pair = arena.atomic_pair(1, -2)
    assert (pair.load(), pair.exchange(3, 4)) == ((1, -2), (1, -2))
    assert pair.compare_exchange((3, 5), (0, 0)) is False
    assert pair.compare_exchange((3, 4), (6, 7)) is True
    pair.store(8, MOST)
    assert pair.load() == (8, MOST)


def test_what_is_no_int64_is_refused(shared):
    value = shared.atomic()
    for wrong in (1 << 63, -(1 << 63) - 1):
        with pytest.raises(OverflowError):
            value.store(wrong)
        with pytest.raises(MisuseError, match="value: "):
            shared.atomic(wrong)
    with pytest.raises(TypeError):
        value.add("1")
    value.destroy()


# --- handles -------------------------------------------------------------------------------------
def test_a_structure_pickles_to_a_handle_and_is_one_object_in_a_process(shared):
    value = shared.atomic(3)
    text = pickle.dumps(value)
    assert len(text) < 100
    assert pickle.loads(text) is value
    assert open_structure(value.handle) is value
    value.destroy()


def test_a_handle_of_a_destroyed_structure_is_refused_also_when_its_entry_is_used_again(arena):
    value = arena.atomic(1)
    handle = value.handle
    value.destroy()
    other = arena.atomic(2)
    assert other._at == value._at
    for use in (value.load, value.destroy, lambda: value.add(1), lambda: value.store(5)):
        with pytest.raises(MisuseError, match="it was destroyed"):
            use()
    with pytest.raises(MisuseError, match="that atomic was destroyed"):
        arena.open_structure(handle)
    assert other.load() == 2


def test_a_forged_handle_is_refused(arena):
    value = arena.atomic()
    segment_id, at, state = (int.from_bytes(value.handle[i : i + 8], "little") for i in (0, 8, 16))
    forged = [
        (segment_id, at + 1, state), (segment_id, at + 16 * 10_000, state),
        (segment_id, at, state + 1), (segment_id, at, state | 0xF0), (segment_id + 1, at, state),
        (segment_id, at, state + 256), (segment_id, 1 << 63, state), (segment_id, 0, state),
    ]  # fmt: skip
    for words in forged:
        with pytest.raises(MisuseError, match="handle: "):
            arena.open_structure(b"".join(word.to_bytes(8, "little") for word in words))
    for nonsense in (b"", b"x" * 23, "x" * 24, None):
        with pytest.raises(MisuseError, match="is no handle"):
            arena.open_structure(nonsense)


def test_the_number_of_structures_is_that_of_the_geometry():
    with Arena.create(size="1MiB", engine="interpreted", structures=2) as arena:
        first, _ = arena.atomic(), arena.atomic()
        with pytest.raises(OutOfMemoryError, match="all 2 structures"):
            arena.atomic()
        first.destroy()
        arena.atomic()


def test_a_structure_of_a_closed_arena_is_refused():
    arena = Arena.create(size="1MiB", engine="interpreted")
    value, lock = arena.atomic(), arena.lock()
    arena.close()
    for use in (value.load, lambda: value.compare_exchange(0, 1), lock.acquire):
        with pytest.raises(MisuseError, match="is closed"):
            use()


# --- the lock ------------------------------------------------------------------------------------
def test_a_lock_is_taken_and_released_and_not_taken_twice(arena):
    lock = arena.lock()
    assert lock.acquire() is Acquired.CLEAN
    with pytest.raises(MisuseError, match="not reentrant"):
        lock.acquire()
    assert lock.locked()
    lock.release()
    with pytest.raises(MisuseError, match="does not hold it"):
        lock.release()
    with lock, pytest.raises(MisuseError, match="release it first"):
        lock.destroy()
    assert not lock.locked()


def test_threads_of_a_process_exclude_each_other(shared):
    lock, came = shared.lock(), []
    with lock:
        thread = threading.Thread(target=lambda: came.append(lock.acquire(timeout=0)))
        thread.start()
        thread.join(PATIENCE_S)
        assert came == [Acquired.TIMED_OUT]
    lock.destroy()


def test_a_wrong_timeout_is_refused(arena):
    lock = arena.lock()
    for wrong in (-1, float("nan"), True):
        with pytest.raises(MisuseError, match="timeout: "):
            lock.acquire(timeout=wrong)
    assert not lock.locked()


def child(body, *handles):
    """Run ``body(*structures)`` in another process, which then dies with what it holds."""
    context = multiprocessing.get_context("fork")

    def run():
        body(*map(open_structure, handles))
        os.kill(os.getpid(), 9)

    process = context.Process(target=run, daemon=True)
    process.start()
    process.join(PATIENCE_S)
    assert process.exitcode == -9


def test_the_next_owner_is_told_of_a_death_until_somebody_repairs(shared):
    lock = shared.lock()
    child(lambda theirs: theirs.acquire(), lock.handle)
    for _ in range(2):  # ``with`` leaves the lock as it found it
        with pytest.raises(OwnerDiedError, match="a process died under it"), lock:
            pytest.fail("entered")
    repaired = []
    lock.repair = lambda: repaired.append(1)
    for _ in range(2):
        with lock:
            pass
    assert repaired == [1]
    lock.destroy()


def test_an_owner_who_was_told_and_does_not_repair_makes_the_lock_unusable(shared):
    lock = shared.lock()
    child(lambda theirs: theirs.acquire(), lock.handle)
    assert lock.acquire(timeout=PATIENCE_S) is Acquired.OWNER_DIED
    lock.release()
    for _ in range(2):
        with pytest.raises(LockUnusableError, match="make both anew"):
            lock.acquire()
    lock.destroy()


def test_a_process_that_closes_its_arena_under_the_lock_is_as_one_that_died():
    with Arena.create(size="1MiB", engine="interpreted") as arena:
        lock = arena.lock()
        with Arena.attach(arena.name, engine="interpreted") as other:
            theirs = other.open_structure(lock.handle)
            theirs.acquire()
            assert lock.acquire(timeout=0) is Acquired.TIMED_OUT
        assert lock.acquire() is Acquired.OWNER_DIED
        lock.make_consistent()
        with pytest.raises(MisuseError, match="was told OWNER_DIED"):
            lock.make_consistent()
        lock.release()


# --- histories of processes ----------------------------------------------------------------------
def contend(number, structures, do):
    """Each takes the lock, or tries to, and adds to the value."""
    lock, value = structures
    for turn in range(12):
        if turn % 3 == number:
            if do("try_acquire", None, lambda: bool(lock.acquire(timeout=0))):
                do("release", None, lock.release)
        else:
            do("acquire", None, lambda: None if lock.acquire(timeout=PATIENCE_S) else "late")
            do("release", None, lock.release)
        do("add", 1, lambda: value.add(1))
        do("cas", (turn, 0), partial(value.compare_exchange, turn, 0))


def test_the_histories_of_three_processes_are_linearizable(shared):
    lock, value = shared.lock(), shared.atomic()
    found = history(shared, [lock.handle, value.handle], contend, clients=3)
    of_value = [one for one in found if one.name in ("add", "cas")]
    of_lock = [one for one in found if one.name not in ("add", "cas")]
    assert len(of_value) == 3 * 24
    assert check(of_value, models.register(0)).verdict == "linearizable"
    assert check(of_lock, models.lock()).verdict == "linearizable"
    assert isinstance(value, Atomic)
