"""``Grammar``: what the readers of all formats share, and what they owe to importing.py.

A grammar reads one line at a time (``take``): it adds rows, or says in the tally what the line was.
``knows(line)`` is the guess whether a line is of this format; the format that knows most of the
first lines of a text reads all of it. A grammar may remember what the lines before said.

It decides about one line alone; what a free belongs to is for pairing.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import ClassVar

from stress.trace.rows import Caches, Rows
from stress.trace.tally import LEFT_OUT, OTHER, Tally

COMMENT = "comments and headers"
EMPTY = "empty lines"
LINE_NS = 1000  # between two events of a text without times


class Grammar(ABC):
    """Reads one text. ``full_cpus``: whose buffer was full in the end; ``lost``: events by CPU."""

    name: str
    sentence: str  # what the format is
    one_space: ClassVar[bool] = False  # see pairing.py

    def __init__(self) -> None:
        self.rows = Rows()
        self.caches = Caches()
        self.tally = Tally()
        self.lost: Counter[int] = Counter()
        self.full_cpus: Counter[int] = Counter()

    @classmethod
    @abstractmethod
    def knows(cls, line: str) -> bool:
        """Whether a line looks like one of this format, by its form alone."""

    @abstractmethod
    def take(self, number: int, line: str) -> None:
        """Read line ``number``, counted from 1."""

    def notes(self) -> list[str]:
        """What this format cannot say and the trace only approximates, in sentences."""
        return []

    def other(self, kind: str, number: int, line: str) -> None:
        """Count a line that tells nothing of allocations."""
        self.tally.add(OTHER, kind, number, line)

    def leave_out(self, why: str, number: int, line: str) -> None:
        """Count an event that the trace does not have."""
        self.tally.add(LEFT_OUT, why, number, line)


def nanoseconds(seconds: str, fraction: str | None) -> int:
    """A time of ``913.204101``, of any number of digits, or of ticks: one is taken as 1 ns."""
    if fraction is None:
        return int(seconds)
    if len(fraction) == 6:
        return int(seconds + fraction) * 1000
    return int(seconds + fraction.ljust(9, "0")[:9])
