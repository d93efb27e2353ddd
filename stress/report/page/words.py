"""Numbers in words, as the page shows them: rates, times, bytes, shares, dates.

A text here is for people; the exact value stands beside it in the page (``<data value>``).
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from shmalloc.sizes import format_bytes
from stress.quantities import short

_NS = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1, "ns"))


def plain(value: float) -> str:
    """``12``, ``3,400``, ``1.25``: whole numbers with separators, others to three digits."""
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def amount(value: float) -> str:
    """``950``, ``12,345``, ``3.96 million``, ``812 billion``: for sentences."""
    for size, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if value >= size:
            return f"{value / size:,.3g} {name}"
    return plain(value)


def rate(value: float) -> str:
    return f"{short(value)}/s"


def size(value: float) -> str:
    return format_bytes(round(value))


def share(value: float) -> str:
    return f"{100 * value:.3g} %"


def nanoseconds(value: float) -> str:
    """``31 ns``, ``1.5 µs``, ``12 ms``, ``1.02 s``."""
    for length, unit in _NS:
        if value >= length:
            shown = value / length
            return f"{shown:,.0f} {unit}" if shown >= 100 else f"{shown:.3g} {unit}"
    return "0 ns"


def date(unix_s: float) -> str:
    """``2026-11-29 01:02:03 UTC``; empty for a time that no calendar has."""
    try:
        return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return ""


def ratio(value: float) -> str:
    """``x 1.08``; empty if it is no number."""
    return f"× {value:.3g}" if math.isfinite(value) else ""
