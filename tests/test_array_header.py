"""The header of an array, overwritten: refused with a reason, and nothing outside is read.

The words are written as a stray write would write them, through the arena's own mapping.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pytest

from shmalloc.arena import Arena
from shmalloc.arrays import SharedArray
from shmalloc.errors import MisuseError

SMALL = {"page_bytes": 4096, "cpus": 2, "max_order": 3, "pageblock_order": 2}


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    with Arena.create(size=64 * 4096, engine="interpreted", **SMALL) as made:
        yield made


@pytest.fixture
def array(arena: Arena) -> SharedArray:
    return arena.array(np.arange(1000))


def block_of(array: SharedArray) -> int:
    return array._ref.data


def overwrite(array: SharedArray, words: list[int], at: int = 0) -> None:
    ram, data = array._ref.arena.segment.ram, block_of(array)
    for i, word in enumerate(words):
        ram[data + at + i] = word


def header(text: str, shape: tuple[int, ...]) -> list[int]:
    """The words of a header with that text of a dtype, whether or not it is one."""
    packed = text.encode() + b"\0" * (-len(text.encode()) % 8)
    words = [word for (word,) in struct.iter_unpack("<q", packed)]
    used = 4 + len(shape) + len(words)
    length = -(-used // 8) * 8
    return [length, len(shape), len(text.encode()), 0, *shape, *words] + [0] * (length - used)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("'|O'", (10,)),
        ("[('a', '|O')]", (2,)),
        ("[('a', [('b', '|O')])]", (2,)),
        ("('|O', (2, 2))", (2,)),
        ("'|V0'", (10,)),
        ("'|S0'", (10,)),
        ("{}", (10,)),
        ("[]", (10,)),
        ("'<U99999999'", (10,)),
        ("'<i8'", (1 << 40,)),
        ("'<i8'", (-1,)),
        ("'<i8'", (1 << 62, 4)),
        ("'<i8'", (1 << 62, 0)),
        ("'<i8'", (1,) * 70),
        ("'<i8'", (512,)),
        ("'i8'", (10,)),
        ("(" * 300, (10,)),
        ("'((((('", (1,)),
        ("-" * 3000 + "1", (1,)),
        ("9" * 5000, (1,)),
        ("b'<i8'", (1,)),
        ("[('a','<i8')]*9", (1,)),
        ("__import__('os')", (1,)),
        ("", (1,)),
    ],
)
def test_a_header_that_is_none_is_refused(
    arena: Arena, array: SharedArray, text: str, shape: tuple[int, ...]
) -> None:
    small = arena.array(np.arange(500)) if shape == (512,) else array
    overwrite(small, header(text, shape))
    with pytest.raises(MisuseError, match="was overwritten"):
        arena.open_array(small.handle())
    assert small.references == 1


@pytest.mark.parametrize("word", [0, 1, 2])
@pytest.mark.parametrize("value", [-(1 << 62), -1, 0, 7, 1 << 40, (1 << 63) - 1])
def test_any_length_in_a_header_is_bounded(
    arena: Arena, array: SharedArray, word: int, value: int
) -> None:
    overwrite(array, [value], word)
    with pytest.raises(MisuseError, match="was overwritten"):
        arena.open_array(array.handle())


@pytest.mark.parametrize(
    "kind",
    [
        "?",
        ">f8",
        "S5",
        "M8[ns]",
        [("a", "i4"), ("b", "f8", (2, 2))],
        np.dtype([("a", "i1"), ("b", "i8")], align=True),
        np.dtype({"names": ["x"], "formats": ["i2"], "offsets": [6], "itemsize": 16}),
        [("a", [("b", "u1"), ("c", "c16")]), ("d", "U3")],
    ],
)
@pytest.mark.parametrize("shape", [(), (0,), (3, 2)])
def test_what_is_written_is_read(arena: Arena, kind: object, shape: tuple[int, ...]) -> None:
    made = arena.zeros(shape, kind)
    opened = arena.open_array(made.handle())
    assert opened.shape == made.shape and opened.dtype.itemsize == made.dtype.itemsize
    assert opened.array.tobytes() == made.array.tobytes()


def test_a_dtype_of_too_many_fields_is_refused(arena: Arena) -> None:
    with pytest.raises(MisuseError, match="use fewer fields"):
        arena.empty(1, [(f"field{i}", "u1") for i in range(5000)])
