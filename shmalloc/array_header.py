"""What the first bytes of an array's pages say: its dtype, its shape and its order.

::

    [ words to the data | dimensions | length of the dtype's text | 1: Fortran order
      | shape ... | text of the dtype ... ][ data ]

The data begin on a 64-byte boundary. Who opens an array reads these words, and a stray write may
have changed any of them: nothing is believed that this file would not write itself, and no dtype
with Python objects, whose pointers numpy would follow.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import DTypeLike, NDArray

from shmalloc.errors import MisuseError

ALIGN_BYTES = 64
FIXED_WORDS = 4
MOST_HEADER_WORDS = 8192
_KNOWN_KINDS = 256  # dtypes and shapes whose headers are kept
# What parsing a text that is no dtype raises; the last two are of one that is nested too deeply.
_UNREADABLE = (ValueError, SyntaxError, TypeError, LookupError, MemoryError, RecursionError)
_MOST_BYTES = 1 << 60

Shape = SupportsIndex | Sequence[SupportsIndex]
Order = Literal["C", "F"]
AskedOrder = Literal["C", "F", "A", "K"]


class Plan(NamedTuple):
    """An array before it has memory: ``size`` are its bytes with the header."""

    kind: np.dtype[Any]
    shape: tuple[int, ...]
    order: Order
    header: bytes
    size: int


def overwritten(reason: str) -> MisuseError:
    return MisuseError(
        f"handle: the header of its array was overwritten ({reason}); find who writes outside of"
        " an array, and make it again"
    )


def plan_of(shape: Shape, dtype: DTypeLike, order: Order = "C") -> Plan:
    """The plan of an array. Raises ``MisuseError`` for an impossible one, with the reason."""
    try:
        kind = dtype if type(dtype) is np.dtype else np.dtype(dtype)
    except (TypeError, ValueError) as error:
        raise MisuseError(f"dtype: {dtype!r}: {error}") from error
    if order not in ("C", "F"):
        raise MisuseError(f"order: {order!r}; use 'C' or 'F'")
    return planned(kind, _lengths(shape), order)


def _lengths(shape: Shape) -> tuple[int, ...]:
    if type(shape) is int:
        return (shape,)
    if isinstance(shape, str | bytes | bool):
        raise MisuseError(f"shape: {shape!r}; use an int or a sequence of ints")
    try:
        return (operator.index(shape),)  # type: ignore[arg-type]
    except TypeError:
        pass
    try:
        return tuple(operator.index(n) for n in shape)  # type: ignore[union-attr]
    except TypeError as error:
        raise MisuseError(f"shape: {shape!r}: {error}; use ints") from error


def planned(kind: np.dtype[Any], shape: tuple[int, ...], order: Order) -> Plan:
    """The plan of an array of that dtype. Raises ``MisuseError`` for an impossible one."""
    return _planned(kind, shape, order, kind.type is np.record, kind.isalignedstruct)


@lru_cache(maxsize=_KNOWN_KINDS)
def _planned(
    kind: np.dtype[Any], shape: tuple[int, ...], order: Order, record: bool, aligned: bool
) -> Plan:
    """``planned``. ``record``, ``aligned``: for numpy, dtypes that differ in these are equal."""
    if kind.hasobject:
        raise MisuseError(
            f"dtype: {kind}: Python objects live in one process; use numbers, bytes or structures"
        )
    if kind.itemsize == 0 or min(shape, default=0) < 0:
        raise MisuseError(f"shape, dtype: {shape}, {kind}; use lengths >= 0, items >= 1 byte")
    if kind.subdtype is not None:  # numpy makes them dimensions
        return planned(kind.subdtype[0], shape + kind.subdtype[1], order)
    if len(shape) > 64 or math.prod(n for n in shape if n) * kind.itemsize > _MOST_BYTES:
        raise MisuseError(f"shape: {shape}: numpy has no array of that size")
    header = _header_words(kind, shape, order).tobytes()
    if len(header) > MOST_HEADER_WORDS * 8:
        raise MisuseError(f"dtype: its text takes {len(header)} bytes; use fewer fields")
    return Plan(kind, shape, order, header, len(header) + math.prod(shape) * kind.itemsize)


@lru_cache(maxsize=_KNOWN_KINDS)
def described(header: bytes) -> Plan:
    """The plan whose header that is. Raises ``MisuseError`` for anything that none has."""
    words = np.frombuffer(header, np.int64)
    if len(words) < FIXED_WORDS:
        raise overwritten(f"it has {len(words)} words")
    dimensions, length = int(words[1]), int(words[2])
    if not 0 <= dimensions <= len(words) - FIXED_WORDS:
        raise overwritten(f"{dimensions} dimensions")
    shape = tuple(int(word) for word in words[FIXED_WORDS : FIXED_WORDS + dimensions])
    text = words[FIXED_WORDS + dimensions :].tobytes()[: max(length, 0)]
    try:
        kind = _dtype_of(ast.literal_eval(text.decode()))
        plan = planned(kind, shape, "F" if words[3] == 1 else "C")
    except _UNREADABLE as error:
        raise overwritten(f"{text[:40]!r} is no dtype of an array") from error
    if plan.header != header:
        raise overwritten(f"{text[:40]!r} is not how a dtype is written")
    return plan


def _header_words(kind: np.dtype[Any], shape: tuple[int, ...], order: Order) -> NDArray[np.int64]:
    text = repr(_description(kind)).encode()
    used = FIXED_WORDS + len(shape) + -(-len(text) // 8)
    words = np.zeros(-(-used * 8 // ALIGN_BYTES) * ALIGN_BYTES // 8, dtype=np.int64)
    words[:FIXED_WORDS] = len(words), len(shape), len(text), int(order == "F")
    words[FIXED_WORDS : FIXED_WORDS + len(shape)] = shape
    packed = text + b"\0" * (-len(text) % 8)
    words[FIXED_WORDS + len(shape) : used] = np.frombuffer(packed, np.int64)
    return words


def _description(kind: np.dtype[Any]) -> Any:
    """The dtype as a literal of Python: a string, or a dictionary for fields in any order.

    Raises ``MisuseError`` for what that would lose.
    """
    if kind.subdtype is not None:
        return _description(kind.subdtype[0]), kind.subdtype[1]
    if kind.names is None or kind.fields is None:
        if type(kind) is not type(np.dtype(kind.str)):
            raise MisuseError(f"dtype: {kind} is of a class of its own, which cannot be kept")
        return kind.str
    fields = [kind.fields[name] for name in kind.names]
    if any(len(field) > 2 for field in fields):
        raise MisuseError(f"dtype: {kind} has titles, which cannot be kept")
    return {
        "names": list(kind.names),
        "formats": [_description(field[0]) for field in fields],
        "offsets": [int(field[1]) for field in fields],
        "itemsize": kind.itemsize,
        "aligned": kind.isalignedstruct,
        "record": kind.type is np.record,
    }


def _dtype_of(said: Any) -> np.dtype[Any]:
    """What ``_description`` described; anything may be raised for what it never says."""
    if isinstance(said, tuple):
        base, shape = said
        return np.dtype((_dtype_of(base), shape))
    if isinstance(said, dict):
        record, aligned = said.pop("record"), said.pop("aligned")
        formats = [_dtype_of(field) for field in said.pop("formats")]
        fields: Any = {**said, "formats": formats}
        kind: np.dtype[Any] = np.dtype(fields, align=bool(aligned))
        return np.dtype((np.record, kind)) if record else kind
    if not isinstance(said, str):
        raise TypeError(f"{said!r} is no dtype")
    return np.dtype(said)


def check_class(source: Any) -> None:
    """Refuse what would lose its meaning in a plain array."""
    if isinstance(source, np.ma.MaskedArray):
        raise MisuseError("source: its mask would be lost; send data and mask, or filled()")
    if isinstance(source, np.matrix):
        raise MisuseError("source: a matrix would become an array; use np.asarray(it)")


def order_kept(values: NDArray[Any], order: AskedOrder) -> Order:
    """C or F: what ``order``, as numpy means it, is for these values."""
    if order == "K" or order == "A":
        return "F" if values.flags.fnc else "C"
    return order
