"""The file format: a saved trace loads again, and no unsound one is ever accepted."""

from __future__ import annotations

import io
import random
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from shmalloc.errors import MisuseError
from stress.trace import format as trace_format
from stress.trace.format import (
    OBJECT_ALLOC,
    OBJECT_FREE,
    PAGE_ALLOC,
    PAGE_FREE,
    Trace,
    load,
    save,
    validate,
)
from support.traces import Row, random_trace, trace_of

GOOD: list[Row] = [
    (PAGE_ALLOC, 0, 0, 1, 2),
    (OBJECT_ALLOC, 1, 1, 24, 0),
    (PAGE_FREE, 1, 0, 1, 0),
    (OBJECT_FREE, 1, 1, 0, 0),
]
ARRAYS = [field.name for field in fields(Trace) if field.name not in ("source", "notes")]


def refused(trace: Trace) -> str:
    with pytest.raises(MisuseError) as caught:
        validate(trace)
    return str(caught.value)


def changed(row: int, column: str, value: int) -> Trace:
    """GOOD with one number changed."""
    trace = trace_of(GOOD)
    array = getattr(trace, column).copy()
    array[row] = value
    return replace(trace, **{column: array})


def test_a_saved_trace_is_loaded_again(tmp_path: Path, rng: random.Random) -> None:
    trace = random_trace(rng, events=200, cpus=3)
    save(trace, tmp_path / "t.npz")
    loaded = load(tmp_path / "t.npz")
    assert all(np.array_equal(getattr(trace, name), getattr(loaded, name)) for name in ARRAYS)


def test_counts_are_those_of_the_rows() -> None:
    assert trace_of(GOOD).counts() == {
        "page allocs": 1,
        "page frees": 1,
        "object allocs": 1,
        "object frees": 1,
        "remote frees": 1,
    }


def test_peak_counts_pages_of_every_order() -> None:
    rows = [(PAGE_ALLOC, 0, 0, 3, 0), (PAGE_ALLOC, 0, 1, 0, 0), (PAGE_FREE, 0, 0, 3, 0)]
    assert trace_of(rows).peak_pages() == 9


def test_the_sample_of_the_package_is_sound_and_small() -> None:
    trace = load("sample")
    assert min(trace.counts().values()) > 0
    assert trace_format.sample_file().stat().st_size < 300_000


@pytest.mark.parametrize("name", ARRAYS)
def test_a_missing_array_is_named(tmp_path: Path, name: str) -> None:
    trace = trace_of(GOOD)
    arrays = {other: getattr(trace, other) for other in ARRAYS if other != name}
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(MisuseError, match=f"t.npz: array '{name}' is missing"):
        load(tmp_path / "t.npz")


@pytest.mark.parametrize("name", [name for name in ARRAYS if name != "caches"])
def test_an_array_of_another_type_is_refused(name: str) -> None:
    wrong = getattr(trace_of(GOOD), name).astype(np.float32)
    assert f"array '{name}' has type float32" in refused(replace(trace_of(GOOD), **{name: wrong}))


def test_an_array_of_another_length_is_refused() -> None:
    trace = trace_of(GOOD)
    assert "array 'cpu' has shape (3,)" in refused(replace(trace, cpu=trace.cpu[1:]))


def test_an_empty_trace_is_refused() -> None:
    assert "nothing was recorded" in refused(trace_of([]))


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (2, "time_ns", 5, "goes back in time at row 2"),
        (0, "kind", 4, "is unknown at row 0"),
        (0, "arg", 11, "is too large an order at row 0 (11)"),
        (1, "arg", 0, "is no size of an object at row 1"),
        (0, "flag", 3, "is no migratetype at row 0 (3)"),
        (1, "flag", 2, "is no cache at row 1 (2)"),
        (2, "id", 5, "is freed but never allocated: row 2, id 5"),
        (2, "id", 1, "1 is freed twice, again at row 3"),
        (1, "id", 0, "0 is allocated twice, again at row 1"),
        (2, "arg", 2, "is not the order of its alloc: row 2"),
        (3, "flag", 1, "is not the cache of its alloc: row 3"),
        (2, "kind", OBJECT_FREE, "is not the free of its alloc: row 2"),
        (3, "id", 4_000_000, "is not dense"),
    ],
)
def test_an_unsound_row_is_named(row: int, column: str, value: int, message: str) -> None:
    assert f"test: array {column!r} {message}" in refused(changed(row, column, value))


def test_a_free_in_front_of_its_allocation_is_refused() -> None:
    rows = [(PAGE_FREE, 0, 0, 0, 0), (PAGE_ALLOC, 0, 0, 0, 0)]
    assert "is freed before it is allocated: row 0, id 0" in refused(trace_of(rows))


def test_every_refusal_names_a_cure() -> None:
    assert "record it again with shmstress record" in refused(trace_of([]))


def test_an_unsound_trace_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(MisuseError):
        save(trace_of([]), tmp_path / "t.npz")
    assert not (tmp_path / "t.npz").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match=r"none\.npz: No such file"):
        load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "the file is empty"),
        (b"\x7fELF\0\0\0", "not an .npz file"),
        (b"PK\x03\x04 and then nothing", "an .npz file that is cut off"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "t.npz").write_bytes(content)
    with pytest.raises(MisuseError, match=f"t.npz: {what}; record it again"):
        load(tmp_path / "t.npz")


@pytest.mark.parametrize("content", [b"make-1 [000] 1.000000: kfree: ptr=1\n", b"\x1f\x8b\x08\0"])
def test_the_text_of_a_recorder_is_to_be_imported_first(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(MisuseError, match=r"shmstress trace import .*/t.txt --out t.npz$"):
        load(tmp_path / "t.txt")


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    (tmp_path / "t.npz").write_bytes(buffer.getvalue())
    with pytest.raises(MisuseError, match="one array"):
        load(tmp_path / "t.npz")


def test_pickled_objects_are_refused_unread(tmp_path: Path) -> None:
    trace = trace_of(GOOD)
    arrays = {name: getattr(trace, name) for name in ARRAYS}
    arrays["caches"] = np.array([object()], dtype=object)
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(MisuseError, match="'caches' holds Python objects, never read"):
        load(tmp_path / "t.npz")
