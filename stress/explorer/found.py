"""What searches found, added up: those of ``auto``, of a bounded DFS, of several threads.

A search fills one in (searches.py); ``weigh`` withdraws what does not hold of all of them together,
and explore.py makes the verdict of it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from stress.explorer.guarantee import PctRun
from stress.explorer.known import Failing


@dataclass
class Found:
    """What a search has found so far; results of several searches add up."""

    schedules: int = 0
    steps: int = 0
    abandoned: int = 0
    failures: int = 0
    longest: int = 0
    redundant: int = 0
    repeats: int = 0
    outcomes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    classes: int | None = None
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    exhausted: bool = False
    diverged: bool = False
    failing: Failing | None = None
    pct: list[PctRun] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    guarantees: list[str] = field(default_factory=list)
    out: list[str] = field(default_factory=list)  # strategies whose schedule did not repeat

    def add(self, other: Found) -> None:
        """Add the results of another search."""
        for name in ("steps", "abandoned", "failures", "redundant", "repeats"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if self.failing is None and other.failing is not None:
            settings, trace, before = other.failing
            self.failing = settings, trace, before + self.schedules
        self.schedules += other.schedules
        self.longest = max(self.longest, other.longest)
        self.outcomes.update(other.outcomes)
        self.diverged |= other.diverged
        if other.classes is not None:
            self.classes, self.estimate = other.classes, other.estimate
            self.interval = other.interval
            self.exhausted |= other.exhausted
        self.pct += other.pct
        self.notes += other.notes
        self.guarantees += other.guarantees
        self.out += other.out

    def weigh(self) -> None:
        """Withdraw what cannot be promised of all results together."""
        if self.out:
            self.exhausted, self.guarantees, self.pct = False, [], []
            if not self.diverged:
                names = ", ".join(dict.fromkeys(self.out))
                self.notes.append(
                    f"{names}: a schedule did not repeat; the other strategies went on, and a pass"
                    " is no proof"
                )
        elif self.exhausted:
            self.pct = []  # nothing was missed, with whatever probability
