"""Traces of a program's malloc: the line lists of allocator benchmarks, and glibc's mtrace.

::

    20000              .rep: up to four lines of numbers (heap size, ids, operations, weight),
    3                  then one line an operation
    a 0 512            allocate id 0 with 512 bytes
    r 0 640            reallocate it
    f 0                free it

    @ ./a.out:(main+0x1d)[0x4011ad] + 0x55d2a4e6a6b0 0x18        mtrace: allocated, size
    @ ./a.out:[0x4011c4] - 0x55d2a4e6a6b0                        freed
    @ ./a.out:[0x4011c4] < 0x55d2a4e6a6b0                        reallocated: from
    @ ./a.out:[0x4011c4] > 0x55d2a4e6a6d0 0x40                   to, size

Sizes become those of kmalloc: a cache for each class up to 8 KiB, blocks of pages above. A program
has one CPU here, since neither format knows threads, and an operation takes 1 us, since neither has
times.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter

from stress.trace.format import LARGEST_ORDER, OBJECT_ALLOC, PAGE_ALLOC
from stress.trace.grammar import COMMENT, EMPTY, LINE_NS, Grammar
from stress.trace.rows import FREE_ANY, OutOfRange

CLASSES = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)  # those of kmalloc
PAGE_BYTES = 4096
FAILED = "reallocations that failed"
RANGE = "operations with a number that is too large"
REALLOCATED = "reallocations, a free and an allocation each"
HUGE = "allocations above 4 MiB, one block of 4 MiB each"

_REP = re.compile(r"\s*+([arf])\s++(-?\d{1,20})(?:\s++(\d{1,20}))?\s*+$")
_HEADER_LINES = 4
_MTRACE = re.compile(
    r"(?:@ .{0,4096}? )?([-+<>!]) (0x[\da-f]{1,16}|\(nil\))(?: (0x[\da-f]{1,16}|0))?\s*+$"
)


class HeapText(Grammar):
    """What the two formats share: sizes, and one key for objects and blocks alike."""

    one_space = True

    def __init__(self) -> None:
        super().__init__()
        self._operations = 0
        self._counts: Counter[str] = Counter()

    def take(self, number: int, line: str) -> None:
        try:
            self.operation(number, line)
        except OutOfRange:
            self.leave_out(RANGE, number, line)

    @abstractmethod
    def operation(self, number: int, line: str) -> None:
        """``take``; a number that no row has room for is ``OutOfRange``."""

    def allocate(self, key: int, size: int) -> None:
        """Add the allocation of ``size`` bytes under ``key``."""
        if size > CLASSES[-1]:
            order = min(LARGEST_ORDER, (-(-size // PAGE_BYTES) - 1).bit_length())
            self.rows.add(self._next(), PAGE_ALLOC, key, order)
            self._counts[HUGE] += size > PAGE_BYTES << LARGEST_ORDER
            return
        room = next(room for room in CLASSES if room >= size)
        self.rows.add(self._next(), OBJECT_ALLOC, key, room, self.caches.number(f"malloc-{room}"))

    def free(self, key: int) -> None:
        self.rows.add(self._next(), FREE_ANY, key)

    def reallocated(self) -> None:
        self._counts[REALLOCATED] += 1

    def _next(self) -> tuple[int, int, int]:
        self._operations += 1
        return self._operations * LINE_NS, 0, 0

    def notes(self) -> list[str]:
        fixed = "one CPU and 1 us for each operation: the text has neither threads nor times"
        return [fixed, *(f"{what}: {n:,}" for what, n in self._counts.items() if n)]


class RepText(HeapText):
    """A ``.rep`` file of the malloc lab and its relatives, with or without a header."""

    name = "rep"
    sentence = "malloc trace, one operation a line (.rep)"

    @classmethod
    def knows(cls, line: str) -> bool:
        match = _REP.match(line)
        return match is not None and (match[1] == "f") == (match[3] is None)

    def operation(self, number: int, line: str) -> None:
        match = _REP.match(line)
        if match is None or (match[1] != "f" and match[3] is None):
            self._no_operation(number, line)
            return
        key = int(match[2])
        if key < 0:  # free(NULL), as some of these lists write it
            self.leave_out("operations on id -1, which is a null pointer", number, line)
        elif match[1] == "f":
            self.free(key)
        elif match[1] == "a":
            self.allocate(key, int(match[3]))
        else:
            self.reallocated()
            self.free(key)
            if int(match[3]):
                self.allocate(key, int(match[3]))

    def _no_operation(self, number: int, line: str) -> None:
        text = line.strip()
        if not text:
            self.other(EMPTY, number, line)
        elif text.startswith("#") or (number <= _HEADER_LINES and text.isdecimal()):
            self.other(COMMENT, number, line)
        else:
            self.tally.unknown(number, line)


class MtraceText(HeapText):
    """What glibc's ``mtrace()`` writes to ``$MALLOC_TRACE``."""

    name = "mtrace"
    sentence = "malloc trace of glibc's mtrace"

    @classmethod
    def knows(cls, line: str) -> bool:
        return _MTRACE.match(line) is not None

    def operation(self, number: int, line: str) -> None:
        match = _MTRACE.match(line)
        if match is None:
            self._no_operation(number, line)
            return
        sign, pointer, size = match.groups()
        key = 0 if pointer == "(nil)" else int(pointer, 16)
        if sign == "!":
            self.leave_out(FAILED, number, line)
        elif sign in "+>":
            if size is None or not key:
                self.leave_out("allocations without a size or an address", number, line)
                return
            self.reallocated() if sign == ">" else None
            self.allocate(key, int(size, 16))
        elif key:
            self.free(key)
        else:
            self.leave_out("frees of nothing (a null pointer)", number, line)

    def _no_operation(self, number: int, line: str) -> None:
        if not line.strip():
            self.other(EMPTY, number, line)
        elif line.strip() in ("= Start", "= End"):
            self.other(COMMENT, number, line)
        else:
            self.tally.unknown(number, line)
