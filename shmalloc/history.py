"""The operation history in words: which operations touched a page, an object or a cache.

Each CPU has a ring of its last operations (``kernels/reporting.py``); merged by time, the
rings say what happened to the subject of a violation report. Rings of live CPUs continue: their
entries may be newer than the report, and older entries are gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from shmalloc import constants as c
from shmalloc.invariants import name_of
from shmalloc.layout import Layout
from shmalloc.report_text import ReportText, Stake, Words, number_text

LINES = 8
_BLOCKS = (c.OP_ALLOC, c.OP_FREE, c.OP_POISON, c.OP_SLAB_NEW, c.OP_SLAB_GONE, c.OP_ADOPT)
_RANGES = (c.OP_ISOLATE, c.OP_OFFLINE)
_OBJECTS = (c.OP_OBJ_ALLOC, c.OP_OBJ_FREE)


class Entry(NamedTuple):
    """One operation, as its kernel wrote it; ``where`` and ``detail`` depend on the operation."""

    clock: int
    cpu: int
    operation: int
    order: int
    where: int
    detail: int


class History:
    """The rings of one segment, as they are when the first line is asked for."""

    def __init__(self, words: Words, layout: Layout) -> None:
        self._words = words
        self._layout = layout
        self._text = ReportText(words, layout)

    @property
    def entries(self) -> int:
        """Operations that the ring of each CPU keeps; 0: the segment has no history."""
        return self._layout.geometry.history

    def of_cpu(self, cpu: int, lines: int = LINES) -> tuple[str, ...]:
        """The last operations on a CPU, oldest first; none for a number that is none."""
        if not 0 <= cpu < self._layout.geometry.cpus:
            return ()
        return tuple(self.line(entry) for entry in self._rings[cpu][-lines:])

    def last(self, cpu: int) -> str:
        """What was done last on a CPU, without its number; "" if nothing is known."""
        following = int(self._words[self._layout.cpu(cpu) + c.C_HISTORY_NEXT])
        entry = self._entry(cpu, following - 1) if self.entries and following > 0 else None
        return "" if entry is None else self._did(entry)

    def of(self, stake: Stake, lines: int = LINES) -> tuple[str, ...]:
        """The last operations of all CPUs on what is at stake, oldest first."""
        if stake == Stake():
            return ()
        found = [entry for ring in self._rings for entry in ring if self._touches(entry, stake)]
        found.sort(key=lambda entry: entry.clock)  # equal clocks stay in the order of their ring
        return tuple(self.line(entry) for entry in found[-lines:])

    @cached_property
    def _rings(self) -> list[list[Entry]]:
        return [list(self._ring(cpu)) for cpu in range(self._layout.geometry.cpus)]

    def _ring(self, cpu: int) -> Iterator[Entry]:
        """The entries of the ring of ``cpu``, oldest first."""
        if not self.entries:
            return
        following = int(self._words[self._layout.cpu(cpu) + c.C_HISTORY_NEXT])
        for number in range(max(0, following - self.entries), following):
            entry = self._entry(cpu, number)
            if entry is not None:
                yield entry

    def _entry(self, cpu: int, number: int) -> Entry | None:
        """Entry ``number`` since the segment was made; None if it was not written."""
        index = cpu * self.entries + number % self.entries
        at = self._layout.at["history"] + index * c.HI_STRIDE
        fields = (c.HI_CLOCK, c.HI_OP, c.HI_WHERE, c.HI_DETAIL)
        clock, operation, where, detail = (int(self._words[at + field]) for field in fields)
        if not operation:
            return None
        return Entry(clock, cpu, operation >> 8, operation & 0xFF, where, detail)

    def _touches(self, entry: Entry, stake: Stake) -> bool:
        if stake.cache is not None:
            named = (*_OBJECTS, c.OP_SLAB_NEW)
            return entry.operation in named and entry.detail == stake.cache
        if entry.operation in _OBJECTS:
            if stake.address is not None:
                return entry.where == stake.address
            return self._text.pfn_of(entry.where) == stake.pfn
        if stake.pfn is None:
            return False
        if entry.operation in _BLOCKS:
            return entry.where <= stake.pfn < entry.where + (1 << entry.order)
        return entry.operation in _RANGES and entry.where <= stake.pfn < entry.detail

    def line(self, entry: Entry) -> str:
        """``cpu 0: allocated pfn 3128, order 2, for owner 7``."""
        return f"cpu {entry.cpu}: {self._did(entry)}"

    def _did(self, entry: Entry) -> str:
        where, detail, order = entry.where, entry.detail, entry.order
        match entry.operation:
            case c.OP_ALLOC if where < 0:
                return f"found no block of order {order}"
            case c.OP_ALLOC:
                return f"allocated pfn {where}, order {order}, for owner {number_text(detail)}"
            case c.OP_FREE:
                owner = f", of owner {number_text(detail)}" if detail else ""
                return f"freed pfn {where}, order {order}{owner}"
            case c.OP_REFILL:
                return f"refilled its page list of zone {where}, order {order}: {detail} blocks"
            case c.OP_DRAIN:
                return f"drained page lists of zone {where}: {detail} pages"
            case c.OP_OBJ_ALLOC | c.OP_OBJ_FREE:
                verb = "allocated" if entry.operation == c.OP_OBJ_ALLOC else "freed"
                return f"{verb} {self._text.object(where)} of {self._text.cache(detail)}"
            case c.OP_SLAB_NEW:
                return f"made a slab of {self._text.cache(detail)} of pfn {where}, order {order}"
            case c.OP_SLAB_GONE:
                return f"unmade the slab of pfn {where}, order {order}"
            case c.OP_ISOLATE | c.OP_OFFLINE:
                verb = "isolated" if entry.operation == c.OP_ISOLATE else "took offline"
                return f"{verb} pfns {where} to {detail - 1}"
            case c.OP_POISON:
                return f"poisoned pfn {where}, order {order}"
            case c.OP_MISUSE:
                return f"reported {name_of(detail)} at {self._text.place(detail, where)}"
            case c.OP_ADOPT:
                return f"adopted pfn {where}, order {order}, for owner {number_text(detail)}"
            case c.OP_FAULT:
                kind = "a page" if detail == c.FAULT_PAGE else "an object"
                return f"was made to fail an allocation of {kind}"
        return f"operation {entry.operation} at {number_text(where)}: {number_text(detail)}"
