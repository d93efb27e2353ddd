"""Names of structures: four words of an entry, by which processes find what others have made.

They are written before the structure is published, and never changed. No two live structures of a
segment have one name: those that make a named one keep each other out by a lock of the system,
which no death leaves behind.

Kernels know nothing of names.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from shmalloc import constants as c
from shmalloc.errors import MisuseError
from shmalloc.segment import Segment
from shmalloc.structures.kernels.entries import LIVE, PHASE_MASK

ST_NAME = 12  # behind what the kinds use of the body
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_WORDS = struct.Struct("<4q")


def words_of(name: str) -> tuple[int, ...]:
    """The words of a name. Raises ``MisuseError`` for what cannot be one."""
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise MisuseError(f"name: {name!r}; use 1 to 32 letters, digits, '_', '-' or '.', or None")
    return _WORDS.unpack(name.encode().ljust(_WORDS.size, b"\0"))


def name_at(segment: Segment, at: int) -> str | None:
    """The name in the entry at ``at``, None: it has none."""
    words = [segment.ram[at + ST_NAME + i] for i in range(4)]
    text = _WORDS.pack(*words).rstrip(b"\0").decode(errors="replace")
    return text if _NAME.fullmatch(text) else None


def live_entries(segment: Segment) -> Iterator[tuple[int, int]]:
    """(word, state) of each entry that has a structure now."""
    first = segment.layout.at["structures"]
    for number in range(segment.geometry.structures):
        at = first + number * c.ST_STRIDE
        state = segment.ram[at]
        if state & PHASE_MASK == LIVE:
            yield at, state
