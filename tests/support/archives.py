"""Archives that numpy would not write: headers, members and directories put together by hand."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np

from stress.trace.format import OBJECT_ALLOC, OBJECT_FREE, PAGE_ALLOC, PAGE_FREE
from support.traces import trace_of

ROWS = 64
NAMES = ("time_ns", "cpu", "task", "kind", "id", "arg", "flag", "caches")


def arrays(rows: int = ROWS) -> dict[str, np.ndarray]:
    """The arrays of a sound trace, half of it pages and half objects."""
    pairs = [
        row
        for number in range(rows // 4)
        for row in (
            (PAGE_ALLOC, 0, 2 * number, 1, 2),
            (PAGE_FREE, 1, 2 * number, 1, 0),
            (OBJECT_ALLOC, 0, 2 * number + 1, 24, 0),
            (OBJECT_FREE, 0, 2 * number + 1, 0, 0),
        )
    ]
    trace = trace_of(pairs)
    return {name: getattr(trace, name) for name in NAMES}


def npy(array: np.ndarray) -> bytes:
    """An array as numpy saves it."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def with_header(data: bytes, header: str, version: int = 1, length: int | None = None) -> bytes:
    """``data`` of an .npy with another header; ``length``: what it says of its length."""
    begin = data.index(b"\n", data.index(b"{")) + 1
    text = header.encode("utf-8" if version == 3 else "latin-1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    count = len(text) if length is None else length
    size = count.to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + data[begin:]


def header(descr: str = "'<i8'", shape: str = f"({ROWS},)", order: str = "False") -> str:
    """The header that numpy writes, with parts replaced."""
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def archive(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, data in members.items():
            made.writestr(f"{name}.npy", data)
    return file.getvalue()


def with_member(name: str, data: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A sound trace, save one member."""
    return archive({**{n: npy(a) for n, a in arrays().items()}, name: data}, method)


def sound(method: int = zipfile.ZIP_DEFLATED) -> bytes:
    return archive({name: npy(array) for name, array in arrays().items()}, method)
