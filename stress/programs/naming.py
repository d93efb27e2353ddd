"""What the words of a program's world are called, and what its failures say.

The names of a segment (word_names.py, word_values.py), and besides: what the CPUs of a program hold
(held.py), the codes of invariants, and the reports that a failed check left in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from shmalloc import constants as c
from shmalloc.descriptor_text import state_text
from shmalloc.invariants import TABLE, phrase_of
from shmalloc.layout import Layout
from shmalloc.word_names import WordNames
from shmalloc.word_values import WordValues
from stress.machine.names import Finding
from stress.programs import held

SHOWN = 5  # findings
_TAGS = {
    c.AT_WORD: "word",
    c.AT_CACHE: "cache",
    c.AT_ZONE: "zone",
    c.AT_CPU: "cpu",
    c.AT_LIST: "list",
    c.AT_PCP: "page lists",
    c.IS_TYPE: "type",
    c.IS_MT: "migratetype",
}


def code_name(code: int) -> str:
    """``I_TAIL: every page is covered by exactly one head``; "" for a number that is none."""
    return phrase_of(code) if code in TABLE else ""


class SegmentNaming:
    """The naming functions of a ``Program`` whose memory is a segment."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._names = WordNames(layout)
        self._values = WordValues(self._names)

    @property
    def world(self) -> str:
        """``2 pages, order <= 1``."""
        g = self._layout.geometry
        parts = [f"{g.pages} page{'' if g.pages == 1 else 's'}", f"order <= {g.max_order}"]
        if len(g.zones) > 1:
            parts.append(f"{len(g.zones)} zones")
        if g.caches:
            parts.append(f"{g.caches} cache{'' if g.caches == 1 else 's'}")
        return ", ".join(parts)

    def word_name(self, index: int) -> str:
        if not 0 <= index < self._layout.words:  # a crash case adds words of its own
            return ""
        region, offset = self._names.place(index)
        if region != "work":
            return self._names.name(index)
        cpu, slot = divmod(offset, self._layout.geometry.work_words)
        if slot < held.BLOCKS:
            return f"block {slot} held by cpu {cpu}"
        if slot < held.FIRST_OBJECT + held.OBJECTS:
            return f"object {slot - held.FIRST_OBJECT} held by cpu {cpu}"
        own = {held.RESULT: "result", held.SHARED: "shared object"}
        return f"{own.get(slot, f'word {slot}')} of cpu {cpu}"

    def value_name(self, index: int, value: int) -> str:
        if not 0 <= index < self._layout.words:
            return ""
        region, offset = self._names.place(index)
        if region != "work":
            return self._values.value(index, value)
        slot = offset % self._layout.geometry.work_words
        if value == 0 and slot != held.RESULT:
            return "none"
        if slot < held.BLOCKS:
            return f"pfn {held.block_pfn(value)} order {held.block_order(value)}"
        return ""

    def pair_name(self, index: int, low: int, high: int) -> str:
        if not 0 <= index < self._layout.words:
            return ""
        return self._values.pair(index, low, high)

    def findings(self, memory: Sequence[int]) -> list[Finding]:
        """The reports in the table of a segment, the first ones first."""
        count = min(int(memory[c.H_REPORT_COUNT]), c.REPORTS)
        return [self._finding(memory, n) for n in range(min(count, SHOWN))]

    def _finding(self, memory: Sequence[int], n: int) -> Finding:
        at = self._layout.at["reports"] + n * c.R_STRIDE
        code, where, expected, found = (
            int(memory[at + field]) for field in (c.R_CODE, c.R_WHERE, c.R_EXPECTED, c.R_FOUND)
        )
        place, words = self._place(where)
        seen = f"expected {self._number(expected)}, found {self._number(found)}"
        return Finding(code, phrase_of(code), f"at {place}, {seen}", words)

    def _place(self, where: int) -> tuple[str, tuple[int, ...]]:
        """Where a report was found, and the words that it is about."""
        tag, number = _untagged(where)
        if not tag and 0 <= where < self._layout.geometry.pages:
            descriptor = self._layout.descriptor(where)
            return f"pfn {where}", (descriptor, descriptor + 1)
        if tag in (0, c.AT_WORD) and 0 <= number < self._layout.words:
            return f"{self.word_name(number)} (word {number})", (number,)
        return self._number(where), ()

    def _number(self, value: int) -> str:
        tag, number = _untagged(value)
        if tag:
            return f"{_TAGS[tag]} {number:#x}"
        return state_text(value) if value >> c.VERSION_SHIFT else str(value)


def _untagged(value: int) -> tuple[int, int]:
    number = value & ((1 << c.TAG_SHIFT) - 1)
    return (value - number, number) if value - number in _TAGS else (0, value)
