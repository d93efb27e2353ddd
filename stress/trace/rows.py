"""``Rows``: events as a recorder tells them, before the frees have found their allocations.

One row an event, 29 bytes each::

    time int64   in ns since the first event, may go back    arg  uint32  order; bytes of an object
    key  uint64  pfn, address or id of the memory            flag uint16  migratetype; cache
    pid  int32   of the task                                 cpu  uint16
    kind uint8   as in a trace, or FREE_ANY: whatever is allocated under this key

Keys are used again and again; pairing.py makes ids of them. A number that does not fit is
``OutOfRange``, and the row is not added.
"""

from __future__ import annotations

import struct

import numpy as np

from stress.trace.format import MAX_CACHES, MAX_NAME_CHARS

_FAR_NS = 1 << 61  # 73 years
FREE_ANY = 5  # odd, as all frees
_ROW = struct.Struct("<qQiIHHB")
DTYPE = np.dtype(
    [
        ("time", "<i8"),
        ("key", "<u8"),
        ("pid", "<i4"),
        ("arg", "<u4"),
        ("flag", "<u2"),
        ("cpu", "<u2"),
        ("kind", "u1"),
    ]
)
OutOfRange = struct.error


class Rows:
    """Add events with ``add``; ``table`` has all of them."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._pack = _ROW.pack
        self._start: int | None = None

    def __len__(self) -> int:
        return len(self._bytes) // _ROW.size

    def add(
        self, where: tuple[int, int, int], kind: int, key: int, arg: int = 0, flag: int = 0
    ) -> None:
        """Add an event; ``where``: its time in ns, its CPU, its task."""
        time_ns, cpu, pid = where
        start = self._start
        if start is None:
            start = time_ns
        since = time_ns - start
        if not -_FAR_NS < since < _FAR_NS:
            raise OutOfRange(f"{since} ns from the first event")
        self._bytes += self._pack(since, key, pid, arg, flag, cpu, kind)
        self._start = start

    def table(self, limit: int) -> np.ndarray:
        """The first ``limit`` rows; none may be added as long as the table is in use."""
        return np.frombuffer(self._bytes, DTYPE)[:limit]


class Caches:
    """Names of caches, numbered in the order in which they are met."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """The number of a cache; -1 if there are too many."""
        number = self._numbers.get(name)
        if number is not None:
            return number
        plain = "".join(char if char.isprintable() else "?" for char in name[:MAX_NAME_CHARS])
        if plain != name:
            return self.number(plain) if plain else -1
        if len(self._numbers) == MAX_CACHES:
            return -1
        self._numbers[name] = len(self._numbers)
        return self._numbers[name]

    def names(self) -> np.ndarray:
        return np.array(list(self._numbers), dtype=np.str_)
