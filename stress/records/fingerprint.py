"""Fingerprints: one short text for one defect, the same whatever the seed, process or address.

It is made of what is broken (an invariant, or how a schedule ended) and where (the kernel that
reported it, or the lines that a schedule needs). Numbers, line numbers, pids and paths take no
part, so a line that moves and a second machine change nothing. Where no kernel is known, the shape
of the place stands in: its text without numbers.

``Ignored`` are fingerprints that a hunt is to go past, by their first letters as people type them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from shmalloc.errors import MisuseError

LETTERS = 12  # 48 bits: a thousand findings share one with a chance of one in 10**8
FEWEST = 6  # letters that name one
_SEPARATOR = "\x1f"
_MADE_BY = "1"  # raised if the same finding would get another fingerprint
_NUMBER = re.compile(
    r"-?\b(0x[0-9a-f]+|\d[\d,]*)\b|(?<=\bv)\d+|\b(UNMOVABLE|MOVABLE|RECLAIMABLE|ISOLATE)\b"
)


def without_numbers(text: str) -> str:
    """``text`` with ``#`` for every number and migratetype: equal for what is alike."""
    return _NUMBER.sub("#", text)


def fingerprint(invariant: str, site: str, shape: str = "") -> str:
    """The fingerprint of what is broken where; ``shape`` only where that says too little."""
    whole = _SEPARATOR.join((_MADE_BY, invariant, site, shape))
    return hashlib.sha256(whole.encode()).hexdigest()[:LETTERS]


class Ignored:
    """The fingerprints that a hunt goes past. ``names``: whole ones or their first letters."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = tuple(dict.fromkeys(_checked(name) for name in names))

    def __contains__(self, found: str) -> bool:
        return any(found.startswith(name) for name in self.names)

    def __bool__(self) -> bool:
        return bool(self.names)


def _checked(name: str) -> str:
    text = name.strip().lower()
    if not FEWEST <= len(text) <= LETTERS or not re.fullmatch("[0-9a-f]*", text):
        raise MisuseError(
            f"fingerprint: {name!r}; use {FEWEST} to {LETTERS} letters of 0-9 and a-f,"
            " as shmstress history shows them"
        )
    return text
