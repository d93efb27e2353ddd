"""DPOR in parts: who explores what, and the sum.

``Subtrees`` is the owner of all shared states (dpor/parts.py) of one program. ``take`` gives the
next part to explore, ``merge`` receives what came of it, in any order; the parts in between may be
explored anywhere, by ``explore_part``. When nothing is left, ``found`` has each class once: as many
as the sequential search counts, however the parts were cut and whatever their order.

A part that comes to the end of its schedules is cut: the states down to some depth become shared,
their branches parts of their own, and what lies below goes on as one more part. Exploring a part
twice gives the same result, so a part that was lost is explored again; its result is merged once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from stress.explorer.dpor import parts, records
from stress.explorer.dpor.parts import Part, Words
from stress.explorer.found import Found
from stress.explorer.searches import Budget, Plan, Search
from stress.machine.machine import Block
from stress.machine.program import Program

BRANCHES = 8  # parts that a cut makes, if there are as many


@dataclass(eq=False)
class Shared:
    """The state before a step: the path to it, and the steps that were handed out or wait.

    ``depth``: of the state; ``path`` has a row for it. ``tried``: actor and outcomes, in order.
    """

    path: Words
    races: Words
    first_alone: int
    depth: int
    above: list[Shared]  # the states at the depths before, and this one
    tried: list[tuple[int, int]]
    waiting: list[Words] = field(default_factory=list)

    def knows(self, actor: int, values: int) -> bool:
        """Whether the step is being explored, was, or waits."""
        done = self._asleep(actor)
        for step, outcomes in (*self.tried, *(head_of(top) for top in self.waiting)):
            done |= outcomes if step == actor else 0
        return values & ~done == 0

    def _asleep(self, actor: int) -> int:
        row = self.path[self.depth]
        if not int(row[records.SLEEPING]) >> actor & 1:
            return 0
        actors = (len(row) - records.CLOCK) // (2 + records.RECORD)
        first = records.CLOCK + 2 * actors + actor * records.RECORD
        return int(row[first + records.VALUES])

    def ask_for(self, forest: Words) -> None:
        """Steps that races ask for; those that are known need nothing."""
        for top in parts.tops(forest):
            if not self.knows(*head_of(top)):
                self.waiting.append(top)

    def part(self, top: Words) -> Part:
        """The part that begins with the first step of ``top``."""
        path = self.path[: self.depth + 1].copy()
        actor, values = head_of(top)
        path[-1, records.ACTOR] = actor
        path[-1, records.VALUES] = values
        siblings = tuple(self.tried)
        self.tried.append((actor, values))
        races = self.races[self.races[:, 1] < self.depth]
        return Part(path, self.depth + 1, siblings, (parts.below(top),), races, self.first_alone)


def head_of(top: Words) -> tuple[int, int]:
    return int(top[0][records.ACTOR]), int(top[0][records.VALUES])


@dataclass(frozen=True, eq=False)
class Cut:
    """Where a part was cut: the states from its old floor to the new one, with their branches."""

    branches: tuple[Words, ...]
    rest: Part


@dataclass(frozen=True, eq=False)
class Explored:
    """What one part gave: counts, what it asks for at each shared depth, what is left of it."""

    found: Found
    asked_for: tuple[Words, ...]
    cut: Cut | None
    left_out: bool


@dataclass(eq=False)
class Handed:
    """A part that was handed out. ``part`` is None for the whole program."""

    number: int
    part: Part | None
    above: list[Shared]


def explore_part(
    program: Program,
    plan: Plan,
    part: Part | None,
    schedules: int,
    branches: int = BRANCHES,
    seconds: float | None = None,
) -> Explored:
    """Run so many schedules of a part, and cut what is left of it.

    ``seconds``: end earlier; then another run may be cut elsewhere.
    """
    search = Search(program, plan, Budget(None, None))
    if part is not None:
        parts.write_part(search.machine, part)
    search.run(Budget(seconds, schedules))
    block = search.block
    floor = part.floor if part is not None else 0
    asked = tuple(parts.read_tree(block, depth) for depth in range(floor))
    found = search.found()
    found.exhausted, found.estimate, found.interval, found.guarantees = False, None, None, []
    left = not search.done and not search.failed and not search.diverged
    cut = _cut(block, floor, branches) if left else None
    return Explored(found, asked, cut, search.done and not search.exhausted)


def _cut(block: Block, floor: int, wanted: int) -> Cut:
    """Share the states from ``floor`` down, until so many branches wait there."""
    rest = parts.read_rest(block, floor)
    waiting = [len(parts.tops(rows)) for rows in rest.branches[:-1]]
    depth, sum_of = 0, 0
    for k, count in enumerate(waiting):
        sum_of += count
        if count:
            depth = k + 1
        if sum_of >= wanted:
            break
    branches = rest.branches[:depth]
    below = Part(rest.path, floor + depth, (), rest.branches[depth:], rest.races, rest.first_alone)
    return Cut(branches, below)


class Subtrees:
    """The shared states of one program under one plan, and the sum of what its parts found."""

    def __init__(self) -> None:
        self.found = Found()
        self.parts = 0
        self.left_out = False
        self._ready: deque[Handed] = deque([Handed(0, None, [])])
        self._shared: list[Shared] = []
        self._out: dict[int, Handed] = {}

    @property
    def waiting(self) -> int:
        """How many parts could be taken now."""
        return len(self._ready) + sum(len(shared.waiting) for shared in self._shared)

    @property
    def done(self) -> bool:
        return not self._out and not self.waiting

    @property
    def exhausted(self) -> bool:
        """Whether one schedule of every class was run."""
        found = self.found
        bad = found.diverged or found.abandoned or self.left_out
        return self.done and not bad

    def take(self) -> Handed | None:
        """A part to explore; None: there is none now, or none at all."""
        if self._ready:
            handed = self._ready.popleft()
        else:
            shared = next((one for one in self._shared if one.waiting), None)
            if shared is None:
                return None
            top = shared.waiting.pop(0)
            handed = Handed(0, shared.part(top), shared.above)
        self.parts += 1
        handed.number = self.parts
        self._out[handed.number] = handed
        return handed

    def give_back(self, number: int) -> None:
        """The part was not explored, and waits again."""
        self._ready.appendleft(self._out.pop(number))

    def merge(self, number: int, explored: Explored) -> None:
        """Add what a part gave; a number that is not out any more is ignored."""
        handed = self._out.pop(number, None)
        if handed is None:
            return
        self.found.add(explored.found)
        self.left_out |= explored.left_out
        for shared, forest in zip(handed.above, explored.asked_for, strict=True):
            shared.ask_for(forest)
        if explored.cut is not None:
            self._share(handed, explored.cut)

    def _share(self, handed: Handed, cut: Cut) -> None:
        rest = cut.rest
        above = list(handed.above)
        for forest in cut.branches:
            depth = len(above)
            row = rest.path[depth]
            current = int(row[records.ACTOR]), int(row[records.VALUES])
            shared = Shared(rest.path, rest.races, rest.first_alone, depth, [], [current])
            above.append(shared)
            shared.above = list(above)
            shared.ask_for(forest)
            self._shared.append(shared)
        self._ready.append(Handed(0, rest, above))
