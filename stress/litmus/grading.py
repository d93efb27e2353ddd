"""Counted outcomes, graded by what the memory models allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from stress.litmus.answers import Answer
from stress.litmus.catalogue import Litmus, Outcome


class Grade(Enum):
    """What the models say about an outcome."""

    ALLOWED = "allowed"
    WEAK = "weak, allowed by tso"
    FORBIDDEN = "FORBIDDEN"


class Expected(Enum):
    """What a run of the machine should do about it."""

    MAY = "may be seen"
    SHOULD = "should be seen"
    NEVER = "must never be seen"


@dataclass(frozen=True)
class Row:
    """One outcome of a test."""

    outcome: Outcome
    samples: int
    frequency: float
    grade: Grade
    expected: Expected

    @property
    def violation(self) -> bool:
        return self.grade is Grade.FORBIDDEN and self.samples > 0


def grade_of(outcome: Outcome, answer: Answer) -> Grade:
    if outcome in answer.sc:
        return Grade.ALLOWED
    return Grade.WEAK if outcome in answer.tso else Grade.FORBIDDEN


def rows_of(test: Litmus, counts: Mapping[Outcome, int], answer: Answer) -> list[Row]:
    """Every outcome that was seen, is allowed, or is in ``asks``; ordered by its values.

    An outcome that should be seen is weak, or is allowed and in ``asks``.
    """
    total = sum(counts.values())
    outcomes = {*counts, *answer.tso, *test.asks}
    ordered = sorted(outcomes, key=lambda outcome: (*test.values(outcome).values(), outcome))
    return [_row(test, outcome, counts.get(outcome, 0), total, answer) for outcome in ordered]


def _row(test: Litmus, outcome: Outcome, samples: int, total: int, answer: Answer) -> Row:
    grade = grade_of(outcome, answer)
    if grade is Grade.FORBIDDEN:
        expected = Expected.NEVER
    elif grade is Grade.WEAK or outcome in test.asks:
        expected = Expected.SHOULD
    else:
        expected = Expected.MAY
    return Row(outcome, samples, samples / total if total else 0.0, grade, expected)


def missed(rows: list[Row]) -> bool:
    """Whether some outcomes should be seen, but none of them was."""
    wanted = [row for row in rows if row.expected is Expected.SHOULD]
    return bool(wanted) and not any(row.samples for row in wanted)
