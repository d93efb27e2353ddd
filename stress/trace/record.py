"""From the text of the kernel's ``kmem`` trace events to a ``Trace``.

A line looks like this; the fields after the name depend on the event::

    bash-8722    [001] .....  3041.274826: mm_page_alloc: page=0xffff... pfn=0x140040 order=1 ...

A pfn identifies pages, an address objects, each from its allocation to the next event that frees
it; dense ids replace both. The recorder counts and leaves out

- frees of memory allocated before the recording began, and of blocks given back in other pieces
- failed allocations, and kmalloc of whole pages, which have page events already

An address that is allocated again without a free in between was freed on a path without an event
(a bulk free, RCU): the time of that free is unknown, so the first allocation has none.

mm_page_free_batched is not recorded: every page of a batch has its mm_page_free as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from shmalloc import constants as c
from stress.trace.format import (
    LARGEST_ORDER,
    OBJECT_ALLOC,
    OBJECT_FREE,
    PAGE_ALLOC,
    PAGE_FREE,
    Trace,
)

EVENTS = (
    "mm_page_alloc",
    "mm_page_free",
    "kmem_cache_alloc",
    "kmem_cache_free",
    "kmalloc",
    "kfree",
)
LARGEST_KMALLOC_BYTES = 8192  # above it kmalloc takes pages: KMALLOC_MAX_CACHE_SIZE
_TASKS = 1 << 16
_LINE = re.compile(
    r"\s*.*?-(?P<pid>\d+)\s+(?:\(\s*\S+\)\s+)?\[(?P<cpu>\d+)\]\s+(?:\S+\s+)?"
    r"(?P<seconds>\d+)\.(?P<micros>\d{6}): (?P<event>\w+): (?P<fields>.*)"
)
_FIELD = re.compile(r"(\w+)=(\S+)")
_LOST = re.compile(r"CPU:(?P<cpu>\d+) \[LOST (?P<count>\d+)? ?EVENTS\]")

Row = tuple[int, int, int, int, int, int, int]  # time_ns, cpu, pid, kind, id, arg, flag


@dataclass
class Recorder:
    """Turns lines into rows. ``skipped`` counts what was left out, ``lost`` what is missing."""

    rows: list[Row] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    lost: Counter[int] = field(default_factory=Counter)
    _caches: dict[str, int] = field(default_factory=dict)
    _pages: dict[int, tuple[int, int]] = field(default_factory=dict)  # pfn -> id, order
    _objects: dict[int, tuple[int, int]] = field(default_factory=dict)  # address -> id, cache
    _ids: int = 0

    def feed(self, lines: Iterable[str]) -> None:
        """Add lines in time order; lines that are no event are ignored."""
        for line in lines:
            match = _LINE.match(line)
            if match is not None:
                self._event(match)
            elif (lost := _LOST.search(line)) is not None:
                self.lost[int(lost["cpu"])] += int(lost["count"] or 1)

    def cut(self, full_cpus: Iterable[int]) -> None:
        """Drop what was recorded after the buffer of one of these CPUs was full.

        From that moment its events are missing, so events of other CPUs have no order to them.
        """
        ends = [max((r[0] for r in self.rows if r[1] == cpu), default=0) for cpu in full_cpus]
        if ends:
            self.rows = [row for row in self.rows if row[0] <= min(ends)]

    def trace(self, source: str) -> Trace:
        """All rows as a trace: times from the first event, tasks and ids dense."""
        columns = np.array(self.rows, dtype=np.int64).reshape(-1, 7).T
        time_ns, cpu, pid, kind, ids, arg, flag = columns
        task = np.unique(pid, return_inverse=True)[1] if len(pid) else pid
        return Trace(
            time_ns=time_ns - time_ns[:1],
            cpu=cpu.astype(np.uint8),
            task=np.minimum(task, _TASKS - 1).astype(np.uint16),
            kind=kind.astype(np.uint8),
            id=ids.astype(np.uint32),
            arg=arg.astype(np.uint32),
            flag=flag.astype(np.uint16),
            caches=np.array(list(self._caches), dtype=np.str_),
            source=source,
        )

    def _event(self, match: re.Match[str]) -> None:
        fields = dict(_FIELD.findall(match["fields"]))
        time_ns = (int(match["seconds"]) * 1_000_000 + int(match["micros"])) * 1000
        row = _HANDLERS.get(match["event"], _unknown)(self, fields)
        if row is not None:
            self.rows.append((time_ns, int(match["cpu"]), int(match["pid"]), *row))

    def _new_id(self) -> int:
        self._ids += 1
        return self._ids - 1

    def _skip(self, why: str) -> Tail:
        """Leave an event out, and count it."""
        self.skipped[why] += 1
        return None


Tail = tuple[int, int, int, int] | None  # kind, id, arg, flag


def _unknown(recorder: Recorder, fields: dict[str, str]) -> Tail:
    return recorder._skip("other events")


def _page_alloc(recorder: Recorder, fields: dict[str, str]) -> Tail:
    pfn, order, mt = int(fields["pfn"], 0), int(fields["order"]), int(fields["migratetype"])
    if _address(fields.get("page", "")) == 0:
        return recorder._skip("failed allocations")
    if order > LARGEST_ORDER:
        return recorder._skip("blocks above the largest order")
    if pfn in recorder._pages:
        recorder._skip("frees without an event")
    number = recorder._new_id()
    recorder._pages[pfn] = number, order
    return PAGE_ALLOC, number, order, mt if mt < c.MT_PCP_TYPES else c.MT_UNMOVABLE


def _page_free(recorder: Recorder, fields: dict[str, str]) -> Tail:
    pfn, order = int(fields["pfn"], 0), int(fields["order"])
    known = recorder._pages.get(pfn)
    if known is None:
        return recorder._skip("frees of earlier allocations")
    if known[1] != order:
        return recorder._skip("frees in other pieces")
    del recorder._pages[pfn]
    return PAGE_FREE, known[0], order, 0


def _object_alloc(recorder: Recorder, fields: dict[str, str]) -> Tail:
    """kmem_cache_alloc names its cache; kmalloc has one for each size."""
    address, size = _address(fields["ptr"]), int(fields["bytes_alloc"])
    if address == 0:
        return recorder._skip("failed allocations")
    if "name" not in fields and size > LARGEST_KMALLOC_BYTES:
        return recorder._skip("kmalloc of whole pages")
    if address in recorder._objects:
        recorder._skip("frees without an event")
    number = recorder._new_id()
    caches = recorder._caches
    cache = caches.setdefault(fields.get("name", f"kmalloc-{size}"), len(caches))
    recorder._objects[address] = number, cache
    return OBJECT_ALLOC, number, size, cache


def _object_free(recorder: Recorder, fields: dict[str, str]) -> Tail:
    address = _address(fields["ptr"])
    if address == 0:
        return recorder._skip("frees of nothing")
    known = recorder._objects.pop(address, None)
    if known is None:
        return recorder._skip("frees of earlier allocations")
    return OBJECT_FREE, known[0], 0, known[1]


def _address(text: str) -> int:
    """A pointer as the kernel prints it; 0 for ``(null)``."""
    try:
        return int(text, 16)
    except ValueError:
        return 0


_HANDLERS = {
    "mm_page_alloc": _page_alloc,
    "mm_page_free": _page_free,
    "kmem_cache_alloc": _object_alloc,
    "kmalloc": _object_alloc,
    "kmem_cache_free": _object_free,
    "kfree": _object_free,
}
