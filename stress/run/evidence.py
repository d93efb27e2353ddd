"""Reads what kernels left behind: violation reports and operation histories, as text.

Everything here only reads, and tolerates a segment that is being written or is broken: it must be
able to speak about the dead.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.errors import Violation
from shmalloc.layout import Layout
from shmalloc.memory import Ram

HISTORY_LINES = 8
NO_PLACE = -1


def _names(prefix: str) -> dict[int, str]:
    return {
        value: name for name, value in vars(c).items()
        if name.startswith(prefix) and isinstance(value, int)
    }  # fmt: skip


INVARIANT_NAMES = {**_names("I_"), **_names("M_"), **_names("X_")}
_OPERATION_NAMES = {
    value: name.removeprefix("OP_").lower().replace("_", " ")
    for value, name in _names("OP_").items()
}


def invariant_name(code: int) -> str:
    """``I_TAIL`` and the like; the bare number for a code that this build does not know."""
    return INVARIANT_NAMES.get(code, f"code {code}")


def numbered_name(code: int) -> str:
    """``I_TAIL (6)``: what a violation is called."""
    return f"{invariant_name(code)} ({code})"


class Evidence:
    """A reader of one segment's reports and histories."""

    def __init__(self, ram: Ram, layout: Layout) -> None:
        self._ram = ram
        self._layout = layout

    def report_count(self) -> int:
        """How many violations kernels have reported, kept or not."""
        return self._ram.load(c.H_REPORT_COUNT)

    def violations(self) -> list[Violation]:
        """The first ones that were reported, each with the last operations around it."""
        kept = min(self.report_count(), c.REPORTS)
        return [self._violation(slot) for slot in range(kept)]

    def _violation(self, slot: int) -> Violation:
        at = self._layout.at["reports"] + slot * c.R_STRIDE
        code, where, expected, found, cpu = (
            self._ram[at + word] for word in (c.R_CODE, c.R_WHERE, c.R_EXPECTED, c.R_FOUND, c.R_CPU)
        )
        if self._ram.load(at + c.R_READY) != slot + 1:
            return Violation("I_PROGRESS", f"report {slot}", "a complete report", "its author died")
        return Violation(
            invariant=numbered_name(code),
            where=f"{self._place(where)}, seen by cpu {cpu}",
            expected=word_text(expected),
            found=word_text(found),
            history=tuple(self.history(cpu)),
        )

    def _place(self, where: int) -> str:
        """A pfn, or a word of the segment with the page it lies in."""
        if 0 <= where < self._layout.geometry.pages:
            return f"pfn {where}"
        page = (where - self._layout.at["frames"]) // self._layout.geometry.page_words
        if 0 <= page < self._layout.geometry.pages:
            return f"word {where:#x} (pfn {page})"
        return f"word {where:#x}"

    def history(self, cpu: int, lines: int = HISTORY_LINES) -> list[str]:
        """The last operations of a CPU slot, oldest first."""
        entries = self._layout.geometry.history
        if not entries or not 0 <= cpu < self._layout.geometry.cpus:
            return []
        following = self._ram.load(self._layout.cpu(cpu) + c.C_HISTORY_NEXT)
        first = max(0, following - min(lines, entries))
        return [self._operation(cpu, index % entries) for index in range(first, following)]

    def _operation(self, cpu: int, index: int) -> str:
        entry = cpu * self._layout.geometry.history + index
        at = self._layout.at["history"] + entry * c.HI_STRIDE
        operation = self._ram[at + c.HI_OP]
        where, detail = self._ram[at + c.HI_WHERE], self._ram[at + c.HI_DETAIL]
        name = _OPERATION_NAMES.get(operation >> 8, f"operation {operation >> 8}")
        if operation >> 8 == c.OP_MISUSE:
            return f"cpu {cpu}: {name} {invariant_name(detail)} at {self._place(where)}"
        place = "nothing" if where == NO_PLACE else self._place(where)
        return f"cpu {cpu}: {name} order {operation & 0xFF} {place} {word_text(detail)}"


def word_text(value: int) -> str:
    """A word as people compare it: small ones in decimal, patterns and owner ids in hexadecimal."""
    return str(value) if -4096 < value < 4096 else f"{value:#x}"
