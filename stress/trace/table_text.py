"""A table of allocations as CSV: a line of column names, then one line an event.

::

    time_ns,cpu,op,id,bytes          commas, semicolons or tabs; names in any order and case
    0,0,alloc,17,640
    900,1,free,17,

    op           alloc or free; more in ALLOCS and FREES                          needed
    id           what is allocated: a number, an address, any text                needed by frees
    bytes        of an object; above 8 KiB it becomes pages                       one of these two,
    order        of a block of 2**order pages                                     for an allocation
    time_ns, time_us, time_ms, time_s, or time: whole numbers are ns, others s
    cpu, task    numbers
    migratetype  0, 1, 2, or unmovable, movable, reclaimable
    cache        name of the cache of an object

Other names that mean the same are in COLUMNS. Other columns are ignored, and named in the notes.
"""

from __future__ import annotations

import csv
import re
from decimal import Decimal
from hashlib import blake2b

from shmalloc import constants as c
from stress.trace.format import LARGEST_OBJECT_BYTES, LARGEST_ORDER, OBJECT_ALLOC, PAGE_ALLOC
from stress.trace.grammar import COMMENT, EMPTY, LINE_NS, Grammar
from stress.trace.heap_text import CLASSES, PAGE_BYTES
from stress.trace.rows import FREE_ANY, OutOfRange

COLUMNS = {
    "op": ("op", "operation", "event", "kind", "type", "action"),
    "id": ("id", "ptr", "pointer", "address", "addr", "pfn", "object"),
    "bytes": ("bytes", "size", "bytes_alloc", "size_bytes"),
    "order": ("order",),
    "time": ("time_ns", "time_us", "time_ms", "time_s", "time", "ts", "timestamp"),
    "cpu": ("cpu", "cpu_id"),
    "task": ("task", "pid", "tid", "thread"),
    "migratetype": ("migratetype", "mt"),
    "cache": ("cache", "name"),
}
ALLOCS = ("alloc", "malloc", "kmalloc", "kmem_cache_alloc", "mm_page_alloc", "page_alloc",
          "object_alloc", "a", "allocate", "new")  # fmt: skip
FREES = ("free", "kfree", "kmem_cache_free", "mm_page_free", "page_free", "object_free", "f",
         "release", "delete")  # fmt: skip
MIGRATETYPES = {
    "unmovable": c.MT_UNMOVABLE,
    "movable": c.MT_MOVABLE,
    "reclaimable": c.MT_RECLAIMABLE,
}
_UNITS_NS = {"time_ns": 1, "time_us": 1000, "time_ms": 10**6, "time_s": 10**9}
_SEPARATORS = ",;\t|"
_TEXT_KEYS = 1 << 63  # a bit of ids that are no numbers
_FAR_EXPONENT = 24
_WHOLE = re.compile("[-+]?[0-9]{1,40}")


class TableText(Grammar):
    """CSV with a heading."""

    name = "csv"
    sentence = "table with a heading (CSV)"
    one_space = True

    def __init__(self) -> None:
        super().__init__()
        self._separator = ","
        self._heading: list[str] = []
        self._columns: dict[str, int] = {}
        self._unit_ns: int | None = None
        self._timed = True
        self._anonymous = 0

    @classmethod
    def knows(cls, line: str) -> bool:
        heading = _heading(line)[1]
        return sum(name in heading for names in COLUMNS.values() for name in names) >= 2

    def take(self, number: int, line: str) -> None:
        if not line.strip():
            self.other(EMPTY, number, line)
        elif line.startswith("#"):
            self.other(COMMENT, number, line)
        elif not self._columns:
            self._begin(number, line)
        else:
            try:
                why = self._event(next(csv.reader([line], delimiter=self._separator)))
            except (ValueError, ArithmeticError, OutOfRange, csv.Error):
                self.tally.unknown(number, line)
                return
            if why:
                self.leave_out(why, number, line)

    def _begin(self, number: int, line: str) -> None:
        separator, heading = _heading(line)
        found = {
            column: heading.index(name)
            for column, names in COLUMNS.items()
            for name in reversed(names)
            if name in heading
        }
        if "op" not in found:
            self.tally.unknown(number, line)
            return
        self._separator, self._heading, self._columns = separator, heading, found
        self._timed = "time" in found
        self._unit_ns = _UNITS_NS.get(heading[found["time"]]) if self._timed else None
        self.other(COMMENT, number, line)

    def _event(self, cells: list[str]) -> str:
        """Add the event of a line; why not, if it means none."""

        def cell(column: str) -> str:
            at = self._columns.get(column, len(cells))
            return cells[at].strip() if at < len(cells) else ""

        op = cell("op").lower().rpartition(":")[2]
        where = self._time(cell("time")), _whole(cell("cpu") or "0"), _whole(cell("task") or "0")
        if op in FREES:
            if not cell("id"):
                return "frees without an id"
            self.rows.add(where, FREE_ANY, self._key(cell("id")))
            return ""
        if op not in ALLOCS:
            return f"operations called {op[:24]!r}"
        size, order = cell("bytes"), cell("order")
        if order and not size:
            return self._pages(where, cell("id"), _whole(order), cell("migratetype"))
        if not size:
            return "allocations without bytes or an order"
        return self._object(where, cell("id"), _whole(size), cell("cache"))

    def _time(self, text: str) -> int:
        """A time in ns; without times, lines are 1 us apart."""
        if not self._timed:
            return (len(self.rows) + 1) * LINE_NS
        if "_" in text:  # which Python's numbers may have
            raise ValueError(text)
        time = Decimal(text)
        if not abs(time.adjusted()) <= _FAR_EXPONENT:
            raise OutOfRange(text)
        whole = text.lstrip("-").isdecimal()
        unit_ns = self._unit_ns or (1 if whole else _UNITS_NS["time_s"])
        return int(time * unit_ns)

    def _key(self, text: str) -> int:
        """A number for an id; an empty one is a new one."""
        if not text:
            self._anonymous += 1
            return _TEXT_KEYS + self._anonymous
        try:
            hexadecimal = text.startswith(("0x", "0X")) and "_" not in text
            number = int(text, 16) if hexadecimal else _whole(text)
        except ValueError:
            number = -1
        if 0 <= number < _TEXT_KEYS:
            return number
        return _TEXT_KEYS | int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")

    def _pages(self, where: tuple[int, int, int], name: str, order: int, migratetype: str) -> str:
        if not 0 <= order <= LARGEST_ORDER:
            return f"blocks of other orders than 0 to {LARGEST_ORDER}"
        named = MIGRATETYPES.get(migratetype.lower())
        mt = _whole(migratetype or "0") if named is None else named
        if not 0 <= mt < c.MT_PCP_TYPES:
            mt = c.MT_UNMOVABLE
        self.rows.add(where, PAGE_ALLOC, self._key(name), order, mt)
        return ""

    def _object(self, where: tuple[int, int, int], name: str, size: int, cache: str) -> str:
        if size < 1:
            return "objects of less than one byte"
        if size > LARGEST_OBJECT_BYTES:
            return f"objects of more than {LARGEST_OBJECT_BYTES} bytes"
        if size > CLASSES[-1] and not cache:
            order = (-(-size // PAGE_BYTES) - 1).bit_length()
            self.rows.add(where, PAGE_ALLOC, self._key(name), order)
            return ""
        room = size if cache else next(room for room in CLASSES if room >= size)
        number = self.caches.number(cache or f"kmalloc-{room}")
        if number < 0:
            return "objects of too many caches"
        self.rows.add(where, OBJECT_ALLOC, self._key(name), room, number)
        return ""

    def notes(self) -> list[str]:
        found = []
        used = set(self._columns.values())
        ignored = [name for at, name in enumerate(self._heading) if at not in used and name]
        if ignored:
            found.append(f"columns that mean nothing here: {', '.join(ignored)[:200]}")
        if not self._timed:
            found.append("the table has no times: lines are 1 us apart")
        elif self._unit_ns is None:
            found.append("times have no unit: whole numbers are taken as ns, others as s")
        if self._anonymous:
            found.append(f"allocations without an id, never freed: {self._anonymous:,}")
        return found


def _whole(text: str) -> int:
    """A whole number in ASCII digits. Raises ``ValueError``; ``int`` would take 1_000, too."""
    if _WHOLE.fullmatch(text) is None:
        raise ValueError(text)
    return int(text)


def _heading(line: str) -> tuple[str, list[str]]:
    """The separator of a line, and its cells as names of columns."""
    separator = max(_SEPARATORS, key=line.count)
    try:
        cells = next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        cells = []
    return separator, [cell.strip().lower() for cell in cells]
