"""numpy arrays in a segment: one process makes them, any opens them, the last one frees them."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler

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
    """Pages in use, save those of the tables of references, which stay."""
    arena.collect()
    words = arena.segment.ram.array
    first = arena.segment.layout.at["memmap"]
    owners = words[first + 1 : first + 2 * PAGES : 2] >> c.OWNER_CLAIM_BITS
    tables = int((owners == c.OWNER_ARRAYS >> c.OWNER_CLAIM_BITS).sum())
    return arena.statistics().used_pages - tables


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
    del first
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
    del made
    assert used_without_table(arena) == 0


def test_an_array_larger_than_any_free_range_is_refused(arena: Arena) -> None:
    with pytest.raises(
        OutOfMemoryError, match=r"64.1KiB asked, 64KiB free, the largest block has 2KiB"
    ):
        arena.empty(256 * 256, "u1")


def test_a_large_array_fits_when_many_small_ones_are_gone() -> None:
    """Their table stays, but in one place: it would cut all memory into blocks of 512 KiB."""
    with Arena.create(size="16MiB", cpus=2) as arena:
        small = []
        with pytest.raises(OutOfMemoryError):
            while True:
                small.append(arena.empty(1))
        assert len(small) > 3900
        small.clear()
        assert arena.empty(11 << 20, "u1").size == 11 << 20


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
        ("12", float, "shape: '12'"),
        ((2.9,), float, "shape: "),
        (2.0, float, "shape: "),
        (3, "nonsense", "dtype: "),
        (3, "V0", "items >= 1 byte"),
    ],
)
def test_an_impossible_array_is_refused(
    arena: Arena, shape: object, dtype: object, says: str
) -> None:
    with pytest.raises(MisuseError, match=says):
        arena.empty(shape, dtype)  # type: ignore[arg-type]


# --- references -----------------------------------------------------------------------------------


def test_the_memory_goes_with_the_last_array(arena: Arena) -> None:
    made = arena.empty(100)
    opened = arena.open_array(made.handle())
    del made
    assert used_without_table(arena) > 0
    del opened
    assert used_without_table(arena) == 0


def test_a_view_keeps_the_memory(arena: Arena) -> None:
    view = arena.array(np.arange(100.0))[::2].T
    kept = [memoryview(view), np.asarray(view), np.from_dlpack(view)]
    del view
    others = [arena.full(100, 7.0) for _ in range(5)]
    assert kept[1].tolist() == list(range(0, 100, 2))
    del kept[:2]
    assert kept[0].tolist() == list(range(0, 100, 2))  # type: ignore[attr-defined]
    del kept, others
    assert used_without_table(arena) == 0


def test_closing_says_how_many_others_have_the_array(arena: Arena) -> None:
    made = arena.empty(3)
    opened = arena.open_array(made.handle())
    assert (made.references, made.close(), opened.close()) == (2, 1, 1)


def test_a_with_block_may_be_entered_again(arena: Arena) -> None:
    made = arena.zeros(10)
    for _ in range(2):
        with made as values:
            values += 1
    assert made.array.tolist() == [2.0] * 10


def test_a_stale_handle_is_refused_after_the_page_was_used_again(arena: Arena) -> None:
    made = arena.empty(3)
    stale = made.handle()
    del made
    arena.collect()
    again = arena.empty(3)
    assert HANDLE.unpack(again.handle())[1] == HANDLE.unpack(stale)[1]
    with pytest.raises(MisuseError, match="was freed"):
        arena.open_array(stale)
    assert again.references == 1


def test_what_is_private_has_no_handle(arena: Arena) -> None:
    private = arena.zeros(3).copy()
    with pytest.raises(MisuseError, match="private copy"):
        private.handle()


def test_dropped_arrays_in_cycles_do_not_fill_the_arena(arena: Arena) -> None:
    for _ in range(2 * PAGES):
        made: list[object] = [arena.empty(3)]
        made.append(made)
    del made
    assert arena.validate() == []


def test_only_arrays_that_live_are_an_error_of_memory(arena: Arena) -> None:
    kept = []
    with pytest.raises(MemoryError, match="drop arrays, or create a larger arena"):
        for _ in range(PAGES + 1):
            kept.append(arena.empty(3))
    del kept[0]
    assert arena.empty(3).references == 1


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


def test_a_table_grows_beyond_its_first_root(arena: Arena) -> None:
    made = [arena.empty(1) for _ in range(PAGES // 2)]
    assert len({HANDLE.unpack(one.handle())[1] for one in made}) == len(made)
    del made
    assert used_without_table(arena) == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400)), max_size=25))
def test_arrays_never_overlap_and_all_memory_comes_back(steps: list[tuple[int, int]]) -> None:
    with Arena.create(size=PAGES * 256, engine="interpreted", **SMALL) as arena:
        live: list[tuple[SharedArray, int]] = []
        for number, (kind, length) in enumerate(steps):
            if kind == 0 and live:
                del live[length % len(live)]
            else:
                made = arena.empty(length, "u2")
                made.fill(number)
                live.append((made, number))
                del made
            assert all((one == value).all() for one, value in live)
        live.clear()
        assert used_without_table(arena) == 0
        assert arena.validate() == []


# --- it is numpy's --------------------------------------------------------------------------------

RECORDS = np.zeros(3, [("a", "i4"), ("b", "f8", (2,)), ("c", [("d", "M8[s]"), ("e", "S3")])])


@pytest.mark.parametrize(
    "source",
    [
        RECORDS,
        RECORDS[["c", "a"]],
        RECORDS.view(np.recarray),
        np.zeros(2, np.dtype({"names": ["y", "x"], "formats": ["i2", "f4"], "offsets": [4, 0]})),
        np.zeros(2, np.dtype([("a", "i1"), ("b", "i8")], align=True)),
        np.array("2020-01-01", "M8[D]"),
        np.array(5),
        np.zeros((0, 3)),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.array(["ab", "c"]),
        np.ones(3, ">i2"),
        np.ones(3, bool),
    ],
)
def test_a_source_keeps_dtype_order_and_values_through_handle_and_ticket(
    arena: Arena, source: np.ndarray
) -> None:
    made = arena.array(source)
    for other in (made, arena.open_array(made.handle()), arena.open(arena.send(made))):
        assert (other.dtype, other.shape) == (source.dtype, source.shape)
        assert other.dtype.type is source.dtype.type
        assert other.flags.f_contiguous == source.flags.f_contiguous
        assert other.tobytes() == source.tobytes()


def test_what_operators_give_is_plain(arena: Arena) -> None:
    x = arena.array(np.arange(12.0).reshape(3, 4))
    for plain in (x + 1, x == x, x @ x.T, x.mean(0), np.sqrt(x), np.concatenate([x, x])):
        assert type(plain) is np.ndarray
    for scalar in (x.sum(), x[0, 0], x.max()):
        assert isinstance(scalar, np.float64)
    before = x.array.copy()
    x += 1
    assert np.sqrt(x, out=x) is x
    assert np.array_equal(x, np.sqrt(before + 1))


def test_copies_are_private(arena: Arena) -> None:
    x = arena.array(np.arange(5.0))
    pickled = pickle.loads(pickle.dumps(x))
    sent_on = pickle.loads(ForkingPickler.dumps(pickled))
    for private in (x.copy(), copy.copy(x), copy.deepcopy([x])[0], pickled, sent_on):
        assert type(private) is SharedArray
        assert not np.may_share_memory(private, x)
        private[0] = 99
    assert (x[0], x.references, arena.leaks()) == (0, 1, [])


def test_what_a_pickle_opens_to_has_the_methods_of_a_shared_array(arena: Arena) -> None:
    with pickle.loads(pickle.dumps(arena.array(np.arange(5.0)))) as private:
        assert (private.array.tolist(), private.close()) == ([0, 1, 2, 3, 4], 0)
        with pytest.raises(MisuseError, match="it is a private copy"):
            private.handle()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (np.ma.masked_array([1, 2], [0, 1]), "mask"),
        (np.matrix([[1]]), "matrix"),
        (np.array([{}]), "Python objects"),
        ([[1, 2], [3]], "source"),
    ],
)
def test_what_cannot_be_kept_is_refused(arena: Arena, source: object, says: str) -> None:
    with pytest.raises(MisuseError, match=says):
        arena.array(source)  # type: ignore[arg-type]


def test_makers_agree_with_numpys(arena: Arena) -> None:
    assert arena.full((2, 2), 7).tolist() == np.full((2, 2), 7).tolist()
    assert arena.full(2, 7).dtype == np.full(2, 7).dtype
    assert arena.ones(3, "i2").tolist() == [1, 1, 1]
    assert arena.zeros(np.int64(3), order="F").shape == (3,)
    x = arena.zeros((2, 3), order="F")
    assert x.flags.f_contiguous
    assert arena.asarray(x) is x
    assert arena.asarray([1, 2]).tolist() == [1, 2]
    assert arena.asarray(x, "i4").dtype == np.int32


# --- processes ------------------------------------------------------------------------------------


def test_a_ticket_opens_in_the_same_process(arena: Arena) -> None:
    made = arena.array([1.5, 2.5])
    opened = pickle.loads(ForkingPickler.dumps(made))
    opened[0] = 9
    assert (made[0], made.references, arena.leaks()) == (9, 2, [])


WORKER = """
import pickle, sys
array = pickle.loads(sys.stdin.buffer.read())
before = array.sum()
array[:] *= 2
print(before, array.references, array.dtype, array.shape)
"""


@pytest.mark.parametrize("named", [False, True])
def test_another_process_opens_an_array_and_writes_to_it(named: bool) -> None:
    name = f"shmalloc-test-arrays-{os.getpid()}" if named else None
    with Arena.create(name=name, size=PAGES * 256, **SMALL) as arena:
        made = arena.array(np.arange(100, dtype="<i2"))
        ended = subprocess.run(
            [sys.executable, "-c", WORKER],
            input=bytes(ForkingPickler.dumps(made)),
            capture_output=True,
            timeout=60,
        )
        assert (ended.stdout.decode().strip(), ended.stderr) == ("4950 2 int16 (100,)", b"")
        arena.recover()
        assert (int(made.sum()), made.references) == (9900, 1)
        assert [slot.users for slot in arena.slots()] == [1, 0, 0, 0]
