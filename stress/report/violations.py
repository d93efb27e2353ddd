"""Violations in groups: what is equal but for its numbers is shown once, with a count.

A defect that breaks a hundred pages is one finding. Two violations are of one group if they are of
one invariant and their place, what was expected and what was found differ only in numbers and
migratetypes. The text report, JUnit and the JSON document of a run take their violations from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from shmalloc.errors import Violation
from stress.records.fingerprint import without_numbers

SHOWN_GROUPS = 10
SHOWN_PLACES = 8


@dataclass
class Group:
    """Violations that are alike: the first of them, and the places of all."""

    first: Violation
    places: list[str] = field(default_factory=list)
    told: Violation | None = None  # the first one that has a history

    @property
    def count(self) -> int:
        return len(self.places)

    def more(self) -> str:
        """``and 3 more like it, at pfn 5, pfn 7, pfn 9``; empty for a violation that is alone."""
        if self.count == 1:
            return ""
        others = list(dict.fromkeys(self.places[1:]))
        shown = ", ".join(others[:SHOWN_PLACES])
        left = ", ..." if len(others) > SHOWN_PLACES else ""
        return f"and {self.count - 1:,} more like it, at {shown}{left}"

    def as_dict(self) -> dict[str, object]:
        """For the JSON document, beside the violations one by one."""
        first = self.first
        return {
            "invariant": first.invariant,
            "number": first.number,
            "sentence": first.sentence,
            "count": self.count,
            "text": str(first),
            "places": list(dict.fromkeys(self.places)),
            "history": [] if self.told is None else list(self.told.history),
        }


def grouped(violations: Iterable[Violation]) -> list[Group]:
    """The groups, in the order of their first violations."""
    groups: dict[tuple[str, ...], Group] = {}
    for violation in violations:
        group = groups.setdefault(_shape(violation), Group(violation))
        group.places.append(violation.where)
        if group.told is None and violation.history:
            group.told = violation
    return list(groups.values())


def _shape(violation: Violation) -> tuple[str, ...]:
    """What is the same in all violations of a group."""
    texts = violation.where, violation.expected, violation.found
    return violation.invariant, *map(without_numbers, texts)


def violation_lines(violations: Sequence[Violation], total: int) -> Iterator[str]:
    """A line for each group, what it stands for, and the history of what is at stake.

    ``total``: how many there were; the segment keeps no more than the first of them. A history that
    was shown is not shown again.
    """
    groups = grouped(violations)
    shown: set[tuple[str, ...]] = set()
    for group in groups[:SHOWN_GROUPS]:
        yield f"!!! {group.first}"
        if group.count > 1:
            yield f"      {group.more()}"
        if group.told is not None:
            yield from _history_lines(group.told, shown)
    hidden = sum(group.count for group in groups[SHOWN_GROUPS:])
    if hidden:
        yield f"!!! and {hidden:,} more of other kinds"
    if total > len(violations):
        yield f"!!! and {total - len(violations):,} more that were counted, not kept"


def _history_lines(violation: Violation, shown: set[tuple[str, ...]]) -> Iterator[str]:
    if violation.history in shown:
        yield f"      history of {violation.where}: as above"
        return
    shown.add(violation.history)
    yield f"      history of {violation.where}:"
    for line in violation.history:
        yield f"        {line}"
