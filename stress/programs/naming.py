"""What the words of a program's world are called, and what its failures say.

The names of a segment (word_names.py, word_values.py), the blocks and objects that the CPUs of a
program hold (held.py), the codes of invariants, and the reports that a failed check left in memory.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.compiler.caller import name_of
from shmalloc.invariants import TABLE, phrase_of
from shmalloc.layout import Layout
from shmalloc.report_text import ReportText, untagged
from shmalloc.word_names import WordNames
from shmalloc.word_values import WordValues
from stress.machine.names import Finding, Memory
from stress.programs import held
from stress.quantities import counted

SHOWN = 5  # findings


def code_name(code: int) -> str:
    """``I_TAIL: every page is covered by exactly one head``; "" for an unknown number."""
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
        parts = [counted(g.pages, "page"), f"order <= {g.max_order}"]
        if len(g.zones) > 1:
            parts.append(f"{len(g.zones)} zones")
        if g.caches:
            parts.append(counted(g.caches, "cache"))
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

    def findings(self, memory: Memory) -> list[Finding]:
        """The reports in the table of a segment, oldest first."""
        count = min(int(memory[c.H_REPORT_COUNT]), c.REPORTS)
        return [self._finding(memory, n) for n in range(min(count, SHOWN))]

    def _finding(self, memory: Memory, n: int) -> Finding:
        at = self._layout.at["reports"] + n * c.R_STRIDE
        code, where, expected, found = (
            int(memory[at + field]) for field in (c.R_CODE, c.R_WHERE, c.R_EXPECTED, c.R_FOUND)
        )
        text = ReportText(memory, self._layout)
        seen = f"expected {text.expected(code, expected)}, found {text.found(code, found)}"
        place = text.place(code, where)
        words = [*self._stake(text, code, where), *self._list(expected), *self._list(found)]
        kernel = name_of(int(memory[at + c.R_CALLER]))
        return Finding(code, phrase_of(code), f"at {place}, {seen}", tuple(words), kernel)

    def _stake(self, text: ReportText, code: int, where: int) -> list[int]:
        """The words that a report is about: a word, a descriptor, an object with its descriptor."""
        stake = text.stake(code, where)
        tag, number = untagged(where)
        words = [number] if tag == c.AT_WORD else self._list(where)
        words += [] if stake.address is None else [stake.address]
        if stake.pfn is not None and 0 <= stake.pfn < self._layout.geometry.pages:
            descriptor = self._layout.descriptor(stake.pfn)
            words += [descriptor, descriptor + 1]
            words += self._links(stake.pfn) if code == c.I_LIST_LINKS else []
        return words

    def _links(self, pfn: int) -> list[int]:
        """The two words of the list node of a page (kernels/lists.py)."""
        base, stride = self._layout.link_base()
        node = base + (pfn << stride)
        return [node, node + 1]

    def _list(self, value: int) -> list[int]:
        """The counter and the head of the free list that a tagged number of a report names."""
        tag, number = untagged(value)
        if tag != c.AT_LIST:
            return []
        zone = self._layout.zone(number >> 16)
        area = (number >> 8 & 0xFF) * c.MT_COUNT + (number & 0xFF)
        head = zone + c.Z_LISTS + 2 * area
        return [zone + c.Z_COUNTS + area, head, head + 1]
