"""Sizes and durations as people write them: ``"64MiB"``, ``"1GiB"``, ``"20s"``, ``"5m"``, ``"2h"``.

Units are binary (KiB = 1024 bytes; ``K`` and ``KB`` mean the same, as for the kernel's own
command line). Every function raises ``MisuseError`` that names the value and the accepted forms.
"""

from __future__ import annotations

import math
import re

from shmalloc.errors import MisuseError

_BYTE_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SECONDS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d|)\s*", re.IGNORECASE)


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
    if isinstance(value, bool) or not isinstance(value, int):
        raise MisuseError(f"{argument}: {value!r}; use an int of bytes or text like '64MiB'")
    if value <= 0:
        raise MisuseError(f"{argument}: {value}; use at least 1 byte")
    return value


def format_bytes(count: int) -> str:
    """``count`` in the largest unit that it fills, to one decimal: ``"64MiB"``, ``"1.5GiB"``."""
    sign, rest = ("-", -count) if count < 0 else ("", count)
    for name, unit in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if rest >= unit:
            return f"{sign}{rest / unit:.1f}".removesuffix(".0") + name
    return f"{sign}{rest}B"


def parse_duration(value: float | str, argument: str = "duration") -> float:
    """Seconds of ``value``: a positive number, or text such as ``"20s"``, ``"5m"`` or ``"2h"``."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match is None:
            raise MisuseError(f"{argument}: {value!r}; use a form like '20s', '5m' or '2h'")
        value = float(match[1]) * _SECONDS[match[2].lower()]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MisuseError(f"{argument}: {value!r}; use seconds or text like '20s'")
    if not (value > 0 and math.isfinite(value)):
        raise MisuseError(f"{argument}: {value}; use a positive, finite time")
    return float(value)


def format_duration(seconds: float) -> str:
    """``seconds`` in the largest unit that divides it, as ``parse_duration`` reads it: ``"5m"``."""
    for name, unit in (("h", 3600), ("m", 60)):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds // unit:.0f}{name}"
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
