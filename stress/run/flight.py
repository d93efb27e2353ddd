"""The flight recorder, read: the last accesses of all CPUs up to a moment, merged by time, as text.

Read it when no worker runs any more. A dead worker left its ring as it was. The other rings are
frozen by the first violation that a kernel reports; after a mere death they go on for a while, so
that theirs may begin after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from shmalloc import constants as c
from shmalloc.descriptor_text import TYPES
from shmalloc.engine import ops
from shmalloc.layout import Layout
from shmalloc.memory import Ram
from shmalloc.report_text import number_text
from shmalloc.word_names import WordNames
from stress.jitter.recorder import Access, accesses, merged

BEFORE_LINES = 56
AFTER_LINES = 8
MOST_ENTRIES = 20_000  # that are put into words, around the moment


class Entry(NamedTuple):
    """One access in words. ``ticks``: it was not made before that; 0 is the moment it went wrong.

    ``died``: the process was killed before it did this.
    """

    ticks: int
    cpu: int
    op: str
    word: str
    did: str
    died: bool

    def __str__(self) -> str:
        died = "  <- killed before this" if self.died else ""
        return f"{self.ticks:>14,}  cpu {self.cpu}  {self.op:<13} {self.word:<36} {self.did}{died}"


class FlightLog:
    """All rings of a segment."""

    def __init__(self, ram: Ram, layout: Layout) -> None:
        self._ram = ram
        self._layout = layout
        self._names = WordNames(layout)

    def all(self) -> list[Access]:
        """What the rings hold, by time."""
        claims = range(self._layout.geometry.claims if self._layout.geometry.flight else 0)
        rings = [accesses(self._ram, claim, self._layout.flight(claim)) for claim in claims]
        return [access for access in merged(rings) if not self._is_note(access)]

    def _is_note(self, access: Access) -> bool:
        """Whether a kernel wrote about itself: its history."""
        region = self._names.region(access.at)
        of_slot = (access.at - self._layout.at["cpus"]) % c.C_STRIDE
        if access.at == c.H_HISTORY_STOPS:
            return True
        return region == "history" or (region == "cpus" and of_slot == c.C_HISTORY_NEXT)

    def entries(self, dead: Iterable[int] = ()) -> tuple[Entry, ...]:
        """What the rings hold, from the first violation on and back, else from the first death."""
        found = self.all()
        if not found:
            return ()
        moment = self._moment(found, set(dead))
        before = sum(access.clock <= moment for access in found)
        first = max(0, before - MOST_ENTRIES * BEFORE_LINES // (BEFORE_LINES + AFTER_LINES))
        return tuple(self._texts(found[first : first + MOST_ENTRIES], moment))

    def lines(self, dead: Iterable[int] = ()) -> list[str]:
        """The few around the moment, as text."""
        return lines_of(self.entries(dead))

    def _moment(self, found: list[Access], dead: set[int]) -> int:
        if self._ram.load(c.H_REPORT_COUNT) > 0:
            return self._ram[self._layout.at["reports"] + c.R_CLOCK]
        last = {access.cpu: access.clock for access in found}
        return min((last[cpu] for cpu in dead & last.keys()), default=found[-1].clock)

    def _texts(self, window: list[Access], moment: int) -> Iterator[Entry]:
        for access in window:
            name = "" if access.op in _NO_WORD else self._names.name(access.at)
            ticks = access.clock - moment
            did = self._did(access)
            yield Entry(ticks, access.cpu, ops.NAMES[access.op], name, did, access.died)

    def _did(self, access: Access) -> str:
        """What the access did: values as its operation means them."""
        show = self._show_descriptor if self._is_descriptor(access) else number_text
        value, given = access.value, [show(operand) for operand in access.operands]
        if access.op == ops.OP_LOAD2:
            return f"= {show(value)}, {number_text(access.operands[0])}"
        if access.op <= ops.LAST_READ:
            return f"= {show(value)}"
        if access.died or access.op <= ops.LAST_STORE:
            return f":= {show(value)}"
        if access.op == ops.OP_CAS:
            return f"{given[0]} -> {given[1]} {_OUTCOMES[value]}"
        if access.op == ops.OP_CAS2:
            old, new = access.operands[:2], access.operands[2:]
            texts = [f"({show(low)}, {number_text(high)})" for low, high in (old, new)]
            return f"{' -> '.join(texts)} {_OUTCOMES[value]}"
        return f"found {show(value)}, operand {given[0]}" if given else ""

    def _is_descriptor(self, access: Access) -> bool:
        return self._names.region(access.at) == "memmap" and access.at % c.D_WORDS == 0

    def _show_descriptor(self, word: int) -> str:
        kind = TYPES.get(word & c.TYPE_MASK, "corrupt")
        order = word >> c.ORDER_SHIFT & c.ORDER_MASK
        return f"{word:#x} [{kind}, order {order}]"


_NO_WORD = (ops.OP_FENCE, ops.OP_RELAX)
_OUTCOMES = ("lost", "won")


def lines_of(entries: Sequence[Entry]) -> list[str]:
    """The few around the moment, as text."""
    before = sum(entry.ticks <= 0 for entry in entries)
    return [str(entry) for entry in entries[max(0, before - BEFORE_LINES) : before + AFTER_LINES]]
