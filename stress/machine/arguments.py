"""What a program is made from, examined: its size, its initial memory, the words that it names.

A size of 2.0, a word outside of memory or a value of more than 64 bits is refused here, where the
argument is known, not in the middle of an exploration.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsIndex

import numpy as np

from shmalloc.compiler.integers import INT_MAX, INT_MIN
from shmalloc.dialect import is_kernel
from shmalloc.errors import MisuseError
from stress.machine import block as cb

MAX_WORDS = 1 << 20  # the control block has some 20 words for each of them
_INIT = "use a list of (index, value), an array of all words, or a kernel (mem)"
_INTEGERS = "biu"  # kinds of NumPy's types


def whole(given: object) -> int | None:
    """``given`` as an int if it is a whole number, NumPy's too; True and 1.0 are none."""
    if isinstance(given, bool | np.bool_) or not isinstance(given, SupportsIndex):
        return None
    return operator.index(given)


def whole_of(argument: str, given: object, least: int, most: int | None = None) -> int:
    """``given`` if it is a whole number within the limits; else ``MisuseError``."""
    number = whole(given)
    if number is None:
        raise MisuseError(f"{argument}: {given!r}; use a whole number")
    if number < least or (most is not None and number > most):
        allowed = f"at least {least}" if most is None else f"{least} to {most:,}"
        raise MisuseError(f"{argument}: {number}; use {allowed}")
    return number


def size_of(words: object) -> int:
    """The number of words of a memory."""
    number = whole_of("words", words, 2, MAX_WORDS)
    if number % 2:
        raise MisuseError(f"words: {number}; use a positive even number")
    return number


def tuple_of(argument: str, given: object) -> tuple[Any, ...]:
    """The elements of ``given``."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise MisuseError(f"{argument}: {given!r}; use a list")
    return tuple(given)


def threads_of(threads: object, arguments: object) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Kernels, and of each what it is called with behind the memory and the CPU.

    An element of ``threads`` is a kernel or ``(kernel, 3, 5)``. ``arguments``: of a copy of a
    program, whose threads are kernels alone.
    """
    given = [
        (one[0], one[1:]) if isinstance(one, tuple) and one else (one, ())
        for one in tuple_of("threads", threads)
    ]
    known = tuple_of("arguments", arguments)
    if any(numbers for _, numbers in given) or not known:
        known = tuple(numbers for _, numbers in given)
    if len(known) != len(given):
        counts = f"{len(known)} for {len(given)} threads"
        raise MisuseError(f"arguments: {counts}; use threads=[(kernel, 3, 5), ...]")
    return tuple(kernel for kernel, _ in given), tuple(_numbers(one) for one in known)


def _numbers(given: Sequence[object]) -> tuple[int, ...]:
    if len(given) > cb.MAX_ARGUMENTS:
        text = f"{len(given)} arguments; use at most {cb.MAX_ARGUMENTS}, or words of memory"
        raise MisuseError(f"threads: {text}")
    return tuple(whole_of("threads", value, INT_MIN, INT_MAX) for value in given)


def image_of(init: Any, words: int) -> Any:
    """``init`` examined: pairs as a tuple, everything else as it is."""
    if init is None:
        return None
    if isinstance(init, np.ndarray):
        _require_image(init, words)
        return init
    if callable(init):
        if is_kernel(init) and init.__code__.co_argcount != 1:
            raise MisuseError(f"init: {init.__qualname__}; use a kernel (mem)")
        return init
    if isinstance(init, str | Mapping) or not isinstance(init, Iterable):
        raise MisuseError(f"init: {init!r}; {_INIT}")
    return tuple(_pair(pair, words) for pair in init)


def _require_image(image: np.ndarray, words: int) -> None:
    if image.shape != (words,):
        raise MisuseError(f"init: an image of shape {image.shape}; use ({words},)")
    if image.dtype.kind not in _INTEGERS:
        raise MisuseError(f"init: an image of {image.dtype}; use int64")
    if image.dtype.kind == "u" and int(image.max()) > INT_MAX:
        raise MisuseError(f"init: {image.max()} does not fit into 64 bits with a sign; use int64")


def _pair(pair: object, words: int) -> tuple[int, int]:
    if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
        raise MisuseError(f"init: {pair!r}; {_INIT}")
    index, value = whole(pair[0]), whole(pair[1])
    if index is None or value is None:
        raise MisuseError(f"init: {tuple(pair)!r}; use whole numbers")
    if not 0 <= index < words:
        raise MisuseError(f"init: word {index}; use 0 to {words - 1}, or more words")
    if not INT_MIN <= value <= INT_MAX:
        raise MisuseError(f"init: word {index} = {value}; use a value of 64 bits with a sign")
    return index, value


def observed_of(what: object, words: int, cpus: int) -> int | tuple[str, int]:
    """One element of ``observe``."""
    if isinstance(what, tuple):
        cpu = whole(what[1]) if len(what) == 2 and what[0] == "r" else None
        if cpu is None or not 0 <= cpu < cpus:
            raise MisuseError(f"observe: {what!r}; use ('r', cpu) with cpu 0 to {cpus - 1}")
        return "r", cpu
    return word_of("observe", what, words)


def word_of(argument: str, given: object, words: int) -> int:
    """The index of a word of memory."""
    index = whole(given)
    if index is None:
        raise MisuseError(f"{argument}: {given!r}; use the index of a word, 0 to {words - 1}")
    if not 0 <= index < words:
        raise MisuseError(f"{argument}: word {index}; use 0 to {words - 1}")
    return index


def range_of(argument: str, given: object, words: int) -> tuple[int, int]:
    """A range ``(first, end)`` of words of memory."""
    ends = tuple_of(argument, given)
    if len(ends) != 2:
        raise MisuseError(f"{argument}: {given!r}; use (first, end)")
    first, end = word_of(argument, ends[0], words), word_of(argument, ends[1], words + 1)
    if first >= end:
        raise MisuseError(f"{argument}: ({first}, {end}) has no word; use first < end")
    return first, end
