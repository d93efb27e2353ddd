"""Texts of a run's spec: counts of workers, seeds, and sizes and durations that parse back exactly.

``shmalloc.sizes`` reads sizes and durations and rounds them for people. A spec must be repeatable,
so what is printed here gives the very same number when it is read again.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from decimal import Decimal

from shmalloc.errors import MisuseError
from shmalloc.sizes import counted as counted

SEED_BITS = 62
_UNITS = ((60, "EiB"), (50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"))
MOST_SHOWN = 24  # names that an error lists
MIN_ENTRIES = 64
MAX_ENTRIES = 1 << 20


def exact_bytes(size: int) -> str:
    """The shortest text that ``parse_bytes`` reads as exactly ``size``."""
    for shift, unit in _UNITS:
        if size and size % (1 << shift) == 0:
            return f"{size >> shift}{unit}"
    return str(size)


def exact_duration(seconds: float) -> str:
    """A short text that ``parse_duration`` reads as exactly ``seconds``."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{Decimal(repr(seconds)).normalize():f}s"


def rough_duration(seconds: float) -> str:
    """``0.52 s``, ``42 s``, ``12 min 5 s``, ``8 h 1 min``, ``3 d 4 h``: for people to read.

    Less than a minute has three digits, more its two largest units. A negative time is none.
    """
    if seconds < 59.95:
        return f"{max(0.0, seconds):.3g} s"
    parts: list[str] = []
    rest = round(seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, size)
        shown = short(count) if count >= 10_000 else f"{count:,}"
        parts.append(f"{shown} {unit}" if count else "")
    first = next(at for at, part in enumerate(parts) if part)
    return " ".join(filter(None, parts[first : first + 2]))


def rough_count(count: float) -> str:
    """``914,991``, and ``1.58e+18`` beyond a million millions: an estimate, as people read it."""
    return f"{count:,.0f}" if count < 1e12 else f"{count:.3g}"


def short(number: float) -> str:
    """``999``, ``12.3k``, ``-4.5M``, ``9.22E``: three digits and a unit, beyond those ``1e+30``."""
    shown = number
    for unit in ("", "k", "M", "G", "T", "P", "E"):
        if abs(shown) < 999.5:
            return f"{shown:.3g}{unit}"
        shown /= 1000
    return f"{number:.3g}"


def brief_ns(ns: int) -> str:
    """``950ns``, ``1.25us``, ``40ms``, ``3s``: at most three digits."""
    value, unit = float(ns), "ns"
    for larger in ("us", "ms", "s"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g}{unit}" if value < 999.5 else f"{value:.0f}{unit}"


def parse_workers(text: str, cores: int, per_core: int, limit: int, reason: str) -> int:
    """Workers of ``auto`` (``per_core`` on each core), ``50%`` (of the cores) or a number.

    ``reason``: why ``limit`` are the most.
    """
    wanted = text.strip().lower()
    if wanted == "auto":
        return min(limit, cores * per_core)
    share = wanted.endswith("%")
    try:
        number = float(wanted[:-1]) if share else int(wanted)
    except ValueError:
        number = math.nan
    workers = math.ceil(cores * number / 100) if share and 0 < number < math.inf else number
    if not 1 <= workers <= limit:
        raise MisuseError(
            f"workers: {text!r}; use auto, a share such as 50%, or 1 to {limit}: {reason}"
        )
    return int(workers)


def parse_entries(text: str, what: str = "flight") -> int:
    """How many entries a ring has: 0, or a power of two that is worth a ring."""
    count = int(text) if text.isdigit() else -1
    if count != 0 and not (MIN_ENTRIES <= count <= MAX_ENTRIES and count & (count - 1) == 0):
        raise MisuseError(
            f"{what}: {text!r}; use a power of two from {MIN_ENTRIES} to {MAX_ENTRIES}, or 0"
        )
    return count


def parse_seed(text: str) -> int:
    """A seed in decimal or 0x hexadecimal, at most 62 bits: it lives in the words of kernels."""
    try:
        seed = int(text, 0)
    except ValueError:
        seed = -1
    if not 0 <= seed < 1 << SEED_BITS:
        raise MisuseError(f"seed: {text!r}; use a number from 0 to 2**{SEED_BITS} - 1, 0x allowed")
    return seed


def nearest(name: str, known: Iterable[str], what: str) -> MisuseError:
    """The error for an unknown ``name``, with the known name that looks most like it."""
    choices = list(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    if len(choices) > MOST_SHOWN:
        more = len(choices) - MOST_SHOWN
        choices = [*choices[:MOST_SHOWN], f"and {more} more"]
    return MisuseError(f"{what}: {name!r} is unknown; {hint}known are {', '.join(choices)}")
