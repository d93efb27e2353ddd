"""``Delays``: which sites of a ``JitterRam`` wait, how, and how often. Plain data, no compiler."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from shmalloc.errors import MisuseError
from stress.jitter.state import GAP_SHIFT, MAX_GAP, SITES

KINDS = ("short", "long", "yield", "sleep")  # as jitter_state numbers them


@dataclass(frozen=True)
class Delays:
    """``sites``: the share of all sites that ever wait. Each of them is of one kind, drawn among
    those that ``mean_gaps`` names, and waits once in that many of its accesses on average.
    """

    sites: float
    mean_gaps: Mapping[str, int]

    def __post_init__(self) -> None:
        if not 0 <= self.sites <= 1:
            raise MisuseError(f"sites: {self.sites}; use a share from 0 to 1")
        for kind, gap in self.mean_gaps.items():
            if kind not in KINDS:
                raise MisuseError(f"delays: {kind!r}; use {', '.join(KINDS)}")
            if not 1 <= gap <= MAX_GAP:
                raise MisuseError(f"{kind}: 1/{gap}; use a mean gap of 1 to {MAX_GAP} accesses")

    def plans(self, seed: int, phase: int) -> list[int]:
        """Two words a site, as ``step`` follows them: ``seed`` draws its habit, both its start."""
        kinds = [kind for kind in KINDS if kind in self.mean_gaps]
        habits, starts = random.Random(seed), random.Random(f"{seed} {phase}")
        words: list[int] = []
        for _ in range(SITES):
            waits = habits.random() < self.sites
            kind = habits.choice(kinds) if kinds else ""
            gap = self.mean_gaps.get(kind, 0)
            if waits and gap:
                words += [starts.randint(1, 2 * gap - 1), KINDS.index(kind) | gap << GAP_SHIFT]
            else:
                words += [0, 0]
        return words
