"""numpy arrays in a segment: one process makes them, any opens them, the last one frees them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmalloc import constants as c
from shmalloc.arena import Arena, open_array
from shmalloc.arrays import HANDLE, SharedArray
from shmalloc.engine import Engine
from shmalloc.errors import MisuseError, OutOfMemoryError, SegmentError

SMALL = {"page_bytes": 256, "cpus": 4, "max_order": 3, "pageblock_order": 2}
PAGES = 256


@pytest.fixture
def arena(engine: Engine) -> Iterator[Arena]:
    with Arena.create(size=PAGES * 256, engine=engine.name, **SMALL) as made:
        yield made


def used_without_table(arena: Arena) -> int:
    """Pages in use, save those of the array table, which stay."""
    words = arena.segment.ram.array
    first = arena.segment.layout.at["memmap"]
    owners = words[first + 1 : first + 2 * PAGES : 2]
    return arena.statistics().used_pages - int((owners == c.OWNER_ARRAYS).sum())


# --- one process ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), 0, 7, (3, 4), (2, 0, 5), (1, 1, 1, 1)])
def test_an_array_has_the_shape_and_dtype_asked_for(
    arena: Arena, shape: int | tuple[int, ...]
) -> None:
    made = arena.zeros(shape, "<i4")
    expected = np.zeros(shape, "<i4")
    assert (made.shape, made.dtype, made.nbytes) == (
        expected.shape,
        expected.dtype,
        expected.nbytes,
    )
    assert np.array_equal(made.array, expected)


@pytest.mark.parametrize(
    "dtype", ["?", "f2", ">f8", "c16", "S5", "U3", "M8[ns]", [("a", "i4"), ("b", "f8", (2, 2))]]
)
def test_every_plain_dtype_survives_the_handle(arena: Arena, dtype: object) -> None:
    made = arena.zeros(5, dtype)  # type: ignore[arg-type]
    opened = arena.open_array(made.handle())
    assert opened.dtype == np.dtype(dtype)  # type: ignore[call-overload]


def test_zeros_are_zero_in_memory_that_was_used_before(arena: Arena) -> None:
    first = arena.empty(50)
    first[:] = 7
    first.close()
    assert not arena.zeros(50).array.any()


def test_a_copy_has_the_values_of_its_source(arena: Arena) -> None:
    source = np.arange(24).reshape(2, 3, 4).transpose()
    assert np.array_equal(arena.array(source).array, source)


def test_data_starts_on_a_64_byte_boundary(arena: Arena) -> None:
    for dtype in ("u1", [("a-long-field-name-of-a-structure", "i8")] * 1):
        made = arena.empty(3, dtype)  # type: ignore[arg-type]
        offset = made.array.ctypes.data - arena.segment.ram.base
        assert offset % 64 == 0


def test_an_array_can_be_used_as_numpys(arena: Arena) -> None:
    made = arena.array([1, 2, 3])
    made[0] = 10
    assert (int(np.sum(made)), len(made), int(made[0])) == (15, 3, 10)
    assert np.asarray(made, dtype=float).dtype == float


def test_an_array_without_copy_is_a_view(arena: Arena) -> None:
    made = arena.array([1, 2, 3])
    np.asarray(made)[1] = 20
    assert made[1] == 20


def test_a_large_array_is_one_range_of_pages(arena: Arena) -> None:
    made = arena.zeros(40 * 256, "u1")
    made[-1] = 5
    assert used_without_table(arena) == 41
    made.close()
    assert used_without_table(arena) == 0


def test_an_array_larger_than_any_free_range_is_refused(arena: Arena) -> None:
    with pytest.raises(OutOfMemoryError, match=r"needs 257 contiguous free pages"):
        arena.empty(256 * 256, "u1")


def test_a_failed_array_loses_no_page(arena: Arena) -> None:
    with pytest.raises(OutOfMemoryError):
        arena.empty(256 * 256, "u1")
    assert used_without_table(arena) == 0


@pytest.mark.parametrize(
    ("shape", "dtype", "says"),
    [
        (3, object, "Python objects"),
        (-1, float, "lengths >= 0"),
        ((2, -2), float, "lengths >= 0"),
        ("three", float, "shape, dtype"),
        (3, "nonsense", "shape, dtype"),
        (3, "V0", "items >= 1 byte"),
    ],
)
def test_an_impossible_array_is_refused(
    arena: Arena, shape: object, dtype: object, says: str
) -> None:
    with pytest.raises(MisuseError, match=says):
        arena.empty(shape, dtype)  # type: ignore[arg-type]


# --- references -----------------------------------------------------------------------------------


def test_the_last_close_frees_the_memory(arena: Arena) -> None:
    made = arena.empty(100)
    opened = arena.open_array(made.handle())
    assert (made.close(), used_without_table(arena) > 0) == (1, True)
    assert (opened.close(), used_without_table(arena)) == (0, 0)


def test_leaving_the_block_closes(arena: Arena) -> None:
    with arena.zeros(10) as values:
        values[:] = 1
    assert used_without_table(arena) == 0


def test_closing_twice_drops_one_reference(arena: Arena) -> None:
    made = arena.empty(3)
    opened = arena.open_array(made.handle())
    made.close()
    made.close()
    assert opened.references == 1


def test_a_closed_handle_refuses_use(arena: Arena) -> None:
    made = arena.empty(3)
    made.close()
    for use in (made.handle, lambda: made[0], lambda: made.references):
        with pytest.raises(MisuseError, match="is closed"):
            use()


def test_a_stale_handle_is_refused_after_the_entry_was_used_again(arena: Arena) -> None:
    made = arena.empty(3)
    stale = made.handle()
    made.close()
    again = arena.empty(3)
    assert HANDLE.unpack(again.handle())[1] == HANDLE.unpack(stale)[1]
    with pytest.raises(MisuseError, match="was freed"):
        arena.open_array(stale)
    assert again.references == 1


@pytest.mark.parametrize("entry", [0, 1, 1 << 40, (1 << 64) - 1])
def test_a_forged_handle_changes_nothing(arena: Arena, entry: int) -> None:
    with pytest.raises(MisuseError, match="was freed"):
        arena.open_array(HANDLE.pack(arena.segment.id, entry, 1))


@pytest.mark.parametrize("bad", [b"", b"x" * 23, "x" * 24, None])
def test_what_is_no_handle_is_refused(arena: Arena, bad: object) -> None:
    with pytest.raises(MisuseError, match="24 bytes"):
        arena.open_array(bad)  # type: ignore[arg-type]


def test_a_handle_of_a_segment_that_is_gone_is_refused(arena: Arena) -> None:
    handle = HANDLE.pack(12345, 0, 0)
    with pytest.raises(SegmentError, match="no such segment"):
        open_array(handle)


def test_the_table_grows_when_its_entries_are_used_up(arena: Arena) -> None:
    entries_a_page = 256 // 8 // c.AR_STRIDE
    made = [arena.empty(1) for _ in range(entries_a_page * 2 + 1)]
    assert len({HANDLE.unpack(one.handle())[1] for one in made}) == len(made)
    for one in made:
        one.close()
    assert used_without_table(arena) == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400)), max_size=25))
def test_arrays_never_overlap_and_all_memory_comes_back(steps: list[tuple[int, int]]) -> None:
    with Arena.create(size=PAGES * 256, engine="interpreted", **SMALL) as arena:
        live: list[tuple[SharedArray, int]] = []
        for number, (kind, length) in enumerate(steps):
            if kind == 0 and live:
                live.pop(length % len(live))[0].close()
            else:
                made = arena.empty(length, "u2")
                made.array.fill(number)
                live.append((made, number))
            assert all((one.array == value).all() for one, value in live)
        for one, _ in live:
            one.close()
        assert used_without_table(arena) == 0
        assert arena.validate() == []


# --- processes ------------------------------------------------------------------------------------


def test_the_pickle_carries_24_bytes(arena: Arena) -> None:
    made = arena.empty((1000,), "u1")
    function, arguments = made.__reduce__()
    assert function is open_array
    assert [len(argument) for argument in arguments] == [24]


def test_a_pickle_opens_in_the_same_process(arena: Arena) -> None:
    made = arena.array([1.5, 2.5])
    opened = pickle.loads(pickle.dumps(made))
    opened[0] = 9
    assert (made[0], made.references) == (9, 2)


WORKER = """
import pickle, sys
array = pickle.loads(sys.stdin.buffer.read())
before = array.array.sum()
array[:] *= 2
print(before, array.references, array.dtype, array.shape)
array.close()
"""


@pytest.mark.parametrize("named", [False, True])
def test_another_process_opens_a_pickled_array_and_writes_to_it(named: bool) -> None:
    name = f"shmalloc-test-arrays-{os.getpid()}" if named else None
    with Arena.create(name=name, size=PAGES * 256, **SMALL) as arena:
        made = arena.array(np.arange(100, dtype="<i2"))
        ended = subprocess.run(
            [sys.executable, "-c", WORKER],
            input=pickle.dumps(made),
            capture_output=True,
            timeout=60,
        )
        assert (ended.stdout.decode().strip(), ended.stderr) == ("4950 2 int16 (100,)", b"")
        assert (int(made.array.sum()), made.references) == (9900, 1)
        assert [slot.users for slot in arena.slots()] == [1, 0, 0, 0]


LAST = """
import pickle, sys
array = pickle.loads(sys.stdin.buffer.read())
print("open", flush=True)
"""


def test_a_process_that_ends_without_close_keeps_its_reference() -> None:
    with Arena.create(size=PAGES * 256, **SMALL) as arena:
        made = arena.zeros(10)
        subprocess.run(
            [sys.executable, "-c", LAST],
            input=pickle.dumps(made),
            check=True,
            timeout=60,
            capture_output=True,
        )
        assert made.references == 2
