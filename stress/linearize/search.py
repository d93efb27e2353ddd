"""``Search``: the search of one part of a history, in turns (Wing and Gong 1993, Lowe 2017).

Depth first: take an operation that may come next (orders.py) and has a result that the model
allows, until no completed one waits; if none fits, put the last one back and try the next. A
configuration is (operations taken, state); one that was reached before leads nowhere new. Beyond
the textbook:

- an operation that leaves every state unchanged (``Model.observes``) goes first wherever it may,
  without alternatives: any order that continues from here stays legal with it at the front
- a pending operation that would leave the state unchanged is not tried: it need not happen
- pending operations are tried last, and of equal ones only the earliest

The history is broken by the operation at the return of which the search got stuck furthest: every
order of the operations that returned before it ends in a state in which it cannot be placed before
its return. Linearizability is closed under prefixes, so later operations have no part in it.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stress.linearize.history import Operation
from stress.linearize.model import Model, State, advance
from stress.linearize.orders import NONE, ProgramOrder, RealTime, completed_first, kinds_of_pending
from stress.linearize.part import (
    LINEARIZABLE,
    NOT_LINEARIZABLE,
    NOT_SEQUENTIAL,
    SEQUENTIAL,
    UNKNOWN,
    Part,
)

STATES_KEPT = 8
CLOCK_ROUNDS = 64  # steps between two readings of the clock


@dataclass
class Spending:
    """The budget of all parts, and the configurations that they have visited."""

    seconds: float | None
    visited: int | None
    start: float
    spent: int = 0

    @property
    def deadline(self) -> float:
        return float("inf") if self.seconds is None else self.start + self.seconds

    @property
    def left(self) -> int | None:
        return None if self.visited is None else self.visited - self.spent

    @property
    def ended(self) -> bool:
        spent = self.left is not None and self.left <= 0
        return spent or time.perf_counter() >= self.deadline


def outcomes(sequential: bool) -> tuple[str, str]:
    """The verdicts for a history with an order, and for one without."""
    if sequential:
        return SEQUENTIAL, NOT_SEQUENTIAL
    return LINEARIZABLE, NOT_LINEARIZABLE


def verdict_of(parts: Sequence[Part], sequential: bool) -> str:
    """One part without an order decides; an unknown part only prevents a pass."""
    passed, failed = outcomes(sequential)
    verdicts = {part.verdict for part in parts}
    return next((verdict for verdict in (failed, UNKNOWN) if verdict in verdicts), passed)


class _Taken(NamedTuple):
    """An operation taken, the state before it, and whether there are others to try."""

    operation: int
    before: State
    only: bool


class Search:
    """The search of one part, which goes on where its last turn ended.

    ``found``: whether there is an order; None while that is not known.
    """

    def __init__(
        self, key: Hashable, model: Model, history: Sequence[Operation], sequential: bool = False
    ) -> None:
        self.key, self.size = key, len(history)
        self._seconds = 0.0
        self._model, self._sequential = model, sequential
        self._operations = completed_first(history)
        kinds = kinds_of_pending(self._operations, model.by_client)
        self._order = (ProgramOrder if sequential else RealTime)(self._operations, kinds)
        self._completed = self._order.waiting
        self._state: State = model.init
        self._stack: list[_Taken] = []
        self._seen: set[object] = set()
        self._furthest: tuple[float, int, int] = (float("-inf"), 0, 0)
        self._blocked = NONE
        self._longest: list[int] = []
        self._states: dict[State, None] = {}
        self._candidate = self._first()
        self.found: bool | None = None if self._order.waiting else True

    def run(self, spending: Spending, most: int | None = None) -> None:
        """Search on: ``most`` further configurations, and no more than the budget has."""
        if self.found is not None:
            return
        start, before = time.perf_counter(), len(self._seen)
        limits = [count for count in (most, spending.left) if count is not None]
        self.found = self._search(before + min(limits) if limits else None, spending.deadline)
        spending.spent += len(self._seen) - before
        self._seconds += time.perf_counter() - start

    def part(self) -> Part:
        """What is known of the part now."""
        passed, failed = outcomes(self._sequential)
        found, operations = self.found, self._operations
        if found is None:
            self._note()
        elif found:
            self._longest = [taken.operation for taken in self._stack]
        return Part(
            key=self.key,
            operations=tuple(operations),
            verdict={True: passed, False: failed, None: UNKNOWN}[found],
            order=tuple(operations[i] for i in self._longest),
            blocked=operations[self._blocked] if found is False and self._blocked >= 0 else None,
            unplaced=() if found else self._unplaced(),
            states=() if found else tuple(self._states),
            visited=len(self._seen),
            seconds=self._seconds,
        )

    def _search(self, most: int | None, deadline: float) -> bool | None:
        """Whether there is an order; None if ``most`` configurations or the time came first."""
        rounds = 0
        while self._order.waiting:
            rounds += 1
            if most is not None and len(self._seen) >= most:
                return None
            if rounds % CLOCK_ROUNDS == 0 and time.perf_counter() >= deadline:
                return None
            if self._candidate != NONE:
                self._candidate = self._try(self._candidate)
                continue
            self._note()
            retry = self._go_back()
            if retry is None:
                return False
            self._candidate = self._order.after(retry)
        return True

    def _first(self) -> int:
        return self._order.first() if self._order.waiting else NONE

    def _try(self, candidate: int) -> int:
        """Take ``candidate`` if that leads to a new configuration; returns the next candidate."""
        order, before, operation = self._order, self._state, self._operations[candidate]
        observes = self._model.observes
        after = advance(self._model.step, before, operation)
        same = after == before
        if after is None or (same and operation.pending):
            return order.after(candidate)
        # Among several states: only if all of them allow it.
        only = same and observes is not None and observes(operation)
        order.take(candidate)
        configuration = (order.key(), after)
        if configuration in self._seen:
            order.put_back(candidate)
            return NONE if only else order.after(candidate)
        self._seen.add(configuration)
        self._stack.append(_Taken(candidate, before, only))
        self._state = after
        return self._first()

    def _go_back(self) -> int | None:
        """Put back the last operation that has alternatives, and all above it; returns it."""
        while self._stack:
            taken = self._stack.pop()
            self._order.put_back(taken.operation)
            self._state = taken.before
            if not taken.only:
                return taken.operation
        return None

    def _note(self) -> None:
        """Keep the order that came furthest, and the states in which such orders end."""
        blocked = self._order.blocking()
        depth = self._completed - self._order.waiting
        returned = depth if blocked == NONE else self._operations[blocked].returned
        assert returned is not None
        if returned > self._furthest[0]:
            self._states.clear()
        if returned >= self._furthest[0] and len(self._states) < STATES_KEPT:
            self._states[self._state] = None
        reached = (returned, depth, -len(self._stack))  # the fewer pending ones, the simpler
        if reached > self._furthest:
            self._furthest, self._blocked = reached, blocked
            self._longest = [taken.operation for taken in self._stack]

    def _unplaced(self) -> tuple[Operation, ...]:
        """Completed operations that could have followed the longest order."""
        while self._stack:
            self._order.put_back(self._stack.pop().operation)
        for i in self._longest:
            self._order.take(i)
        found = []
        i = self._order.first() if self._order.waiting else NONE
        while i != NONE and not self._operations[i].pending:
            found.append(self._operations[i])
            i = self._order.after(i)
        return tuple(found)
