"""The pool: frames have one holder, pass from process to process, and come back from the dead."""

import multiprocessing
import os
import pickle
from itertools import pairwise

import numpy as np
import pytest

from shmalloc import Arena, MisuseError, OutOfMemoryError, open_structure
from shmalloc.structures.pools import KIND_BYTES, described, description
from stress.linearize import Model, check
from support.structure_histories import history

PATIENCE_S = 60.0


@pytest.fixture
def arena():
    with Arena.create(size="2MiB", engine="interpreted") as made:
        yield made
        assert made.validate() == []


@pytest.fixture(scope="module")
def shared():
    with Arena.create(size="4MiB") as made:
        yield made
        assert made.validate() == []


def test_frames_are_arrays_of_their_shape_and_are_taken_and_given_back(arena):
    pool = arena.pool(2, (3, 4), "f4")
    first, second = pool.take(), pool.take()
    assert (first.array.shape, first.array.dtype, pool.free()) == ((3, 4), np.float32, 0)
    first.array[:] = 1
    second.array[:] = 2
    assert first.array.sum() == 12
    with pytest.raises(TimeoutError, match="no frame of 2"):
        pool.take(timeout=0.001)
    first.give()
    with pool.take() as third:
        assert (third.held, first.held) == (True, False)
        with pytest.raises(MisuseError, match="it is not ours"):
            first.give()
    second.give()
    assert pool.free() == 2


@pytest.mark.parametrize("kind", ["u1", "c16", "S7", [("a", "i4"), ("b", "f8", (2,))]])
def test_any_dtype_of_plain_data_and_any_shape_is_a_frame(arena, kind):
    pool = arena.pool(3, [2, 5], kind)
    again = arena.open_structure(pool.handle)
    assert (again.dtype, again.shape) == (np.dtype(kind), (2, 5))
    frames = [pool.take() for _ in range(3)]
    starts = sorted(frame.array.ctypes.data for frame in frames)
    assert all(b - a >= frames[0].array.nbytes for a, b in pairwise(starts))
    assert all(start % 64 == 0 for start in starts)


def test_what_cannot_be_a_frame_is_refused(arena):
    for shape, kind in (((2,), object), ((2,), "V0"), ((0,), "u1"), ((-1,), "u1"), ((2.0,), "u1")):
        with pytest.raises(MisuseError, match=r"(dtype|shape): "):
            arena.pool(1, shape, kind)
    with pytest.raises((OutOfMemoryError, MisuseError)):
        arena.pool(100, (1 << 20,), "u1")


@pytest.mark.parametrize(
    "text", [b"", b"('|O', (2,))", b"('<f8', (0,))", b"('<f8',", b"\xff", b"('<f8', (3,)) "]
)
def test_an_overwritten_description_makes_no_array(text):
    with pytest.raises(MisuseError, match=r"was overwritten|dtype: |shape: "):
        described(text.ljust(KIND_BYTES - 1) + b"x")
    assert described(description((2,), "f8")[0]) == (np.dtype("f8"), (2,))


def test_a_pickle_of_a_frame_makes_its_first_loader_the_holder(arena):
    pool = arena.pool(1, 4, "i8")
    frame = pool.take()
    frame.array[:] = 7
    sent = pickle.dumps(frame)
    with Arena.attach(arena.name, engine="interpreted") as other:
        theirs = other.open_structure(pool.handle)
        token, giver = frame._token, arena.life
        received = theirs._adopted(token, giver)
        assert received.array.tolist() == [7] * 4
        for late in (lambda: pickle.loads(sent), lambda: theirs._adopted(token, giver)):
            with pytest.raises(MisuseError, match="another holder by now"):
                late()
        with pytest.raises(MisuseError, match="it is not ours"):
            frame.give()
    assert pool.take(timeout=0).array.shape == (4,)  # the other process closed, and gave it back


def take_and_die(handle):
    open_structure(handle).take(PATIENCE_S)
    os.kill(os.getpid(), 9)


def test_the_frame_of_a_dead_process_comes_back(shared):
    pool = shared.pool(1, 4)
    child = multiprocessing.get_context("fork").Process(target=take_and_die, args=(pool.handle,))
    child.start()
    child.join(PATIENCE_S)
    assert (child.exitcode, pool.free()) == (-9, 0)
    pool.take(PATIENCE_S).give()
    assert pool.free() == 1
    pool.destroy()


def exchange(number, structures, do):
    (pool,) = structures
    for _ in range(25):
        frame = do("take", None, lambda: pool.take(PATIENCE_S)._token & 0xFF)
        do("give", frame, lambda frame=frame: give(pool, frame))


def give(pool, number):
    ram, p = pool._segment.ram, pool._p
    version = ram[p + 32 + number * 4]
    pool._do_give(pool._arena.cpu, p, version << 20 | number)


def one_holder(held, operation):
    """A frame is taken only while no client holds it."""
    if operation.name == "take":
        taken = operation.result
        return None if taken in held else held | {taken}
    return held - {operation.argument} if operation.argument in held else None


def test_the_history_of_three_processes_is_linearizable(shared):
    pool = shared.pool(2, 1)
    found = history(shared, [pool.handle], exchange, clients=3)
    assert len(found) == 150
    model = Model(frozenset(), one_holder, by_client=False, name="pool")
    assert check(found, model).verdict == "linearizable"
    pool.destroy()
