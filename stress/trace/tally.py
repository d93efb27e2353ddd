"""``Tally``: what became of the lines of a text that are no events of a trace.

No line is lost silently: each is counted under what it is, and the first of each kind is kept with
its number. Three groups::

    LEFT_OUT    an event of an allocator that is not part of the trace, and why
    OTHER       what is known and tells nothing: comments, stacks, events of other kinds
    UNKNOWN     lines that were not understood, by their shape

Kinds beyond MOST_KINDS of a group are counted together, so that memory stays bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from stress.quantities import counted

LEFT_OUT, OTHER, UNKNOWN = "left out", "other lines", "not understood"
GROUPS = (LEFT_OUT, OTHER, UNKNOWN)
MOST_KINDS = 24
_MORE = "lines of further kinds"
_SHOWN_CHARS = 72
_SHAPE_CHARS = 32
_SHAPES = (
    (re.compile(r"0x[0-9a-fA-F]+|\b(?=\w*\d)[0-9a-fA-F]{6,}\b"), "HEX"),
    (re.compile(r"\d+"), "N"),
)


@dataclass
class Seen:
    """Lines of one kind: how many, and the first of them."""

    count: int
    line: int
    text: str


class Tally:
    """Counts of lines by group and kind. ``add`` is called once for each line that is no event."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Seen]] = {group: {} for group in GROUPS}

    def add(self, group: str, kind: str, number: int, line: str) -> None:
        """Count line ``number`` (from 1) under ``kind``."""
        kinds = self.seen[group]
        known = kinds.get(kind)
        if known is None and len(kinds) >= MOST_KINDS:
            kind = _MORE
            known = kinds.get(kind)
        if known is None:
            kinds[kind] = Seen(1, number, _shown(line))
        else:
            known.count += 1

    def unknown(self, number: int, line: str) -> None:
        """Count a line that was not understood, with others that differ in numbers only."""
        self.add(UNKNOWN, _shape(line), number, line)

    def count(self, group: str) -> int:
        return sum(seen.count for seen in self.seen[group].values())

    def lines(self) -> Iterator[str]:
        """The report: one line a kind, the most frequent first, with the first line of each."""
        for group in GROUPS:
            kinds = sorted(self.seen[group].items(), key=lambda item: -item[1].count)
            for kind, seen in kinds:
                told = f"{kind}: " if group != UNKNOWN else ""
                count = f"{seen.count:,}" if group != UNKNOWN else counted(seen.count, "line")
                yield f"{group}: {told}{count}, first in line {seen.line:,}: {seen.text}"


def _shape(line: str) -> str:
    """What lines that differ in numbers have in common."""
    text = line[: 4 * _SHAPE_CHARS].strip()
    for pattern, name in _SHAPES:
        text = pattern.sub(name, text)
    return text[:_SHAPE_CHARS]


def _shown(line: str) -> str:
    """The line without what could act on a terminal, and cut."""
    text = " ".join(line.split())
    text = "".join(char if char.isprintable() else "?" for char in text[: _SHOWN_CHARS + 1])
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 3]}..."
