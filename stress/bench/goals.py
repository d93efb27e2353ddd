"""What was to be reached, and what a run of the bench reached.

Data it owns: ``GOALS``. A goal is about one row, and may compare it with another one of the same
run; where a row is missing (a peer that is not installed, a number of workers that was not asked
for) nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stress.bench.figures import Row
from stress.bench.jobs import OURS

Key = tuple[str, str, int]
IN_F, IN_NS, OF_OTHER, RATE, FASTEST = "F", "ns", "times", "rate", "fastest"
DESCRIPTOR_ROW = f"{OURS} (descriptor)"


@dataclass(frozen=True)
class Goal:
    """``kind``: at most ``limit`` F or ns; at most ``limit`` times the F of ``other``; a rate of at
    least ``limit`` times that of ``other``; or the least time of all allocators."""

    row: Key
    kind: str
    limit: float = 0.0
    other: Key | None = None

    def __str__(self) -> str:
        if self.kind == FASTEST:
            return "faster than every peer"
        if self.kind == IN_NS:
            us = self.limit >= 1000
            return f"<= {self.limit / 1000:g} us" if us else f"<= {self.limit:g} ns"
        if self.kind == IN_F:
            return f"<= {self.limit:g} F"
        assert self.other is not None
        pattern, who, workers = self.other
        if self.kind == RATE:
            return f">= {self.limit:g} x the rate of {counted(workers)}"
        named = who if pattern == self.row[0] else pattern
        return f"<= {self.limit:g} x {named}"


@dataclass(frozen=True)
class Judged:
    """A goal and the value that was reached; ``value`` None: nothing to compare was measured."""

    goal: Goal
    value: float | None
    reached: bool | None

    @property
    def shown(self) -> str:
        """The value in the unit of the goal."""
        if self.value is None:
            return "not measured"
        if self.goal.kind == IN_F:
            return f"{self.value:.2f} F"
        if self.goal.kind in (OF_OTHER, RATE, FASTEST):
            return f"{self.value:.2f} x"
        us = self.goal.limit >= 1000
        return f"{self.value / 1000:.2f} us" if us else f"{self.value:.0f} ns"

    @property
    def verdict(self) -> str:
        return {None: "", True: "reached", False: "not reached"}[self.reached]


def counted(workers: int) -> str:
    """``one worker``, ``4 workers``."""
    return "one worker" if workers == 1 else f"{workers} workers"


def _f(pattern: str, limits: dict[int, float], who: str = OURS) -> list[Goal]:
    return [Goal((pattern, who, workers), IN_F, limit) for workers, limit in limits.items()]


GOALS: tuple[Goal, ...] = (
    *_f("repeat", {1: 1.3, 2: 1.5}),
    *(Goal(("repeat", OURS, n), OF_OTHER, 0.5, ("repeat", "llfree", n)) for n in (1, 2)),
    *_f("mixed", {1: 3, 2: 5}),
    Goal(("mixed", OURS, 2), RATE, 1.7, ("mixed", OURS, 1)),
    Goal(("mixed", OURS, 4), RATE, 1.5, ("mixed", OURS, 1)),
    *_f("rand", {1: 2.5, 2: 3}, DESCRIPTOR_ROW),
    *_f("rand", {1: 6, 2: 8}),
    *_f("object", {1: 0.65, 2: 0.7}),
    *_f("object-bulk", {1: 2.5}),
    *_f("remote-pages", {2: 3}),
    *_f("remote-objects", {2: 1.7}),
    Goal(("ublk", OURS, 2), OF_OTHER, 1.3, ("repeat", OURS, 1)),
    Goal(("py-pages", OURS, 1), IN_NS, 400),
    *(
        goal
        for name, limit_ns in (("64B", 3000), ("64KiB", 3000), ("16MiB", 10_000))
        for goal in (
            Goal((f"py-array-{name}", OURS, 1), IN_NS, limit_ns),
            Goal((f"py-array-{name}", OURS, 1), FASTEST),
        )
    ),
)


def judge(goal: Goal, rows: Sequence[Row]) -> Judged:
    """What ``rows`` say about a goal."""
    found = {row.key: row for row in rows}
    row = found.get(goal.row)
    other = None if goal.other is None else found.get(goal.other)
    if row is None or (goal.other is not None and other is None):
        return Judged(goal, None, None)
    if goal.kind == IN_F:
        return Judged(goal, row.f.median, row.f.median <= goal.limit)
    if goal.kind == IN_NS:
        return Judged(goal, row.ns.median, row.ns.median <= goal.limit)
    if goal.kind == FASTEST:
        peers = [r.f.median for r in rows if r.key[::2] == row.key[::2] and r.who != row.who]
        if not peers:
            return Judged(goal, None, None)
        share = row.f.median / min(peers)
        return Judged(goal, share, share < 1)
    assert other is not None
    if goal.kind == RATE:
        share = row.rate_in_f / other.rate_in_f
        return Judged(goal, share, share >= goal.limit)
    share = row.f.median / other.f.median
    return Judged(goal, share, share <= goal.limit)


def judge_all(rows: Sequence[Row], goals: Sequence[Goal] = GOALS) -> list[Judged]:
    """Every goal, in its order."""
    return [judge(goal, rows) for goal in goals]
