"""Arguments of one kind, checked where they come in: an int of a range, a bool, one of some names.

Each gives the value as a plain one of Python, or raises ``MisuseError`` that names the argument,
the value and what is allowed. Ints and bools of numpy are taken; a bool is no int, and neither an
int nor a text is a bool: ``"off"`` would be true.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from shmalloc.errors import MisuseError
from shmalloc.sizes import as_int

MOST_PLACE = 1 << 62
_short = reprlib.Repr()
_short.maxstring, _short.maxother, _short.maxlong = 80, 120, 80


def shown(value: Any) -> str:
    """``repr(value)``, cut if it is long: it goes into a sentence."""
    return _short.repr(value)


def checked_int(argument: str, value: Any, first: int, last: int, note: str = "") -> int:
    """``value`` as an int in ``first..last``; ``note`` follows the range, ``"0: chosen"``."""
    number = value if type(value) is int else as_int(value)
    if number is None or not first <= number <= last:
        more = f" ({note})" if note else ""
        raise MisuseError(f"{argument}: {shown(value)}; use an int from {first} to {last}{more}")
    return number


def checked_place(argument: str, value: Any) -> int:
    """A pfn or an address that a program says it was given; whether it was, the kernels say.

    ``argument``: ``pfn``, ``address``, or the plural of one that is among others.
    """
    number = as_int(value)
    if number is None or abs(number) > MOST_PLACE:
        what = "pfn" if argument.startswith("pfn") else "address"
        cure = f"use the {what} that an allocation gave"
        if value is None:
            cure += "; it gave None if it found no memory, or did not wait for a lock"
        raise MisuseError(f"{argument}: {shown(value)}; {cure}")
    return number


def check_seconds(argument: str, value: Any, none: str = "for none") -> None:
    """Raise ``MisuseError`` unless ``value`` is a number of seconds >= 0, or None: ``none``."""
    if value is None:
        return
    try:
        good = not isinstance(value, bool) and value >= 0
    except (TypeError, ValueError):
        good = False
    if not good:
        raise MisuseError(f"{argument}: {shown(value)}; use seconds >= 0, or None {none}")


def checked_bool(argument: str, value: Any) -> bool:
    """``value`` as a bool."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise MisuseError(f"{argument}: {shown(value)}; use True or False")


def checked_choice(argument: str, value: Any, choices: Iterable[str]) -> str:
    """``value``, if it is one of ``choices``."""
    known = list(choices)
    if isinstance(value, str) and value in known:
        return str(value)
    raise MisuseError(f"{argument}: {shown(value)}; use one of {', '.join(known)}")


def unknown_option(name: str, known: Iterable[str], meant: Mapping[str, str]) -> MisuseError:
    """The error for an option that there is not. ``meant``: what stands here for other names."""
    choices = list(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    likely = meant.get(name) or (close[0] if close else "")
    hint = f"did you mean {likely}? " if likely else ""
    return MisuseError(f"{name}: there is no such option; {hint}known are {', '.join(choices)}")
