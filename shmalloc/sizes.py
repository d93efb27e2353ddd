"""Sizes and durations as people write them: ``"64MiB"``, ``"1GiB"``, ``"20s"``, ``"1h30m"``.

Units are binary (KiB = 1024 bytes; ``K`` and ``KB`` mean the same, as for the kernel's own
command line). Durations are those of Go, read by durationpy, or plain numbers of seconds. Every
function raises ``MisuseError`` that names the value and the accepted forms.
"""

from __future__ import annotations

import math
import operator
import re
from typing import Any

from shmalloc.errors import MisuseError

_BYTE_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_BYTE_UNITS |= {"P": 1 << 50, "E": 1 << 60}  # no memory has so much; it is refused as too much
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGTPE]?)(?:i?B)?\s*", re.IGNORECASE | re.ASCII)
_PLAIN_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s?", re.ASCII)
_MINUTES = re.compile(r"min(?=\d|$)")
_NOT_OURS = re.compile(r"[wy]|mm")  # weeks, years and months of durationpy: more likely typos


def as_int(value: Any) -> int | None:
    """``value`` as an int if Python accepts it as an index, numpy's ints among them; else None.

    None for a bool, too: that is a mistake more often than a number.
    """
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def parse_bytes(value: int | str, argument: str = "size") -> int:
    """Bytes of ``value``: a positive int, or text such as ``"64MiB"``."""
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is None:
            raise MisuseError(f"{argument}: {value!r}; use bytes or a form like '64MiB' or '1GiB'")
        count = float(match[1]) * _BYTE_UNITS[match[2].upper()]
        if not count.is_integer():
            raise MisuseError(f"{argument}: {value!r} is not a whole number of bytes")
        value = int(count)
    size = as_int(value)
    if size is None:
        raise MisuseError(f"{argument}: {value!r}; use an int of bytes or text like '64MiB'")
    if size <= 0:
        raise MisuseError(f"{argument}: {value}; use at least 1 byte")
    return size


def counted(count: int, one: str, many: str = "") -> str:
    """``1 audit``, ``1,234 audits``. ``many``: the plural, if it is not ``one`` with an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def format_bytes(count: int) -> str:
    """``count`` in the largest unit that it fills, to one decimal: ``"64MiB"``, ``"1.5GiB"``."""
    sign, rest = ("-", -count) if count < 0 else ("", count)
    for name, unit in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if rest >= unit:
            return f"{sign}{rest / unit:.1f}".removesuffix(".0") + name
    return f"{sign}{rest}B"


def parse_duration(value: float | str, argument: str = "duration") -> float:
    """Seconds of ``value``: a positive number, or text such as ``"90"``, ``"5m"``, ``"1h30m"``."""
    seconds = _seconds_of(value, argument) if isinstance(value, str) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise MisuseError(f"{argument}: {value!r}; use seconds or text like '20s'")
    if not (seconds > 0 and math.isfinite(seconds)):
        raise MisuseError(f"{argument}: {value!r}; use a time of more than 0 that ends")
    return float(seconds)


def _seconds_of(text: str, argument: str) -> float:
    """A plain number of seconds keeps all its digits; the library rounds to microseconds."""
    given = _MINUTES.sub("m", "".join(text.lower().split()))
    plain = _PLAIN_SECONDS.fullmatch(given)
    if plain:
        return float(plain[1])
    from durationpy import DurationError, from_str

    try:
        if _NOT_OURS.search(given):
            raise DurationError(given)
        return from_str(given).total_seconds()
    except DurationError:
        raise MisuseError(
            f"{argument}: {text!r}; use a form like '90', '90s', '5m' or '1h30m'"
        ) from None
