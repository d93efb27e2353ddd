"""``check``: the search of Wing and Gong (1993) with Lowe's memo (2017), part by part.

Depth first: take an operation that may go next (orders.py) and whose result the model allows, until
no completed one waits; where nothing fits, put the last one back and try the next. A configuration
is (what is taken, state); one that was reached before leads nowhere new. Beyond the textbook:

- what leaves every state as it is (``Model.observes``) goes first wherever it may, with no
  alternative: any order that continues from here stays legal when it is moved to the front
- a pending operation that would leave the state as it is, is not tried: it may as well not happen
- pending operations are tried last, and of those that are alike only the earliest

The operation at whose return the search stuck furthest is the one that broke the history: every
order of what had returned before it ends in a state where it cannot be placed before it returned.
Linearizability is closed under prefixes, so what came later has no part in the blame.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shmalloc.errors import MisuseError
from stress.linearize.history import Operation
from stress.linearize.model import Model, Parts, State, advance
from stress.linearize.orders import NONE, ProgramOrder, RealTime, completed_first, kinds_of_pending
from stress.linearize.part import (
    LINEARIZABLE,
    NOT_LINEARIZABLE,
    NOT_SEQUENTIAL,
    SEQUENTIAL,
    UNKNOWN,
    Part,
)
from stress.linearize.result import Check

DEFAULT_SECONDS = 60.0
DEFAULT_VISITED = 1_000_000  # some hundred bytes each
STATES_KEPT = 8
CLOCK_ROUNDS = 64  # steps between two looks at the clock
CONSISTENCIES = ("linearizable", "sequential")


def check(
    history: Sequence[Operation],
    model: Model,
    seconds: float | None = DEFAULT_SECONDS,
    visited: int | None = DEFAULT_VISITED,
    consistency: str = "linearizable",
    partition: bool = True,
) -> Check:
    """Whether ``history`` has an order that ``model`` allows.

    ``seconds``, ``visited``: the budget in time and in configurations, for all parts together;
    each gets an equal share of what is left, so that one hard part hides no failure of another.
    ``visited`` alone makes "unknown" repeatable. ``consistency``: "sequential" keeps only the order
    of each client's own operations, not that of time. It is no local property, so nothing is
    partitioned. ``partition`` False: check the whole history in one, as a test of a partition.

    Raises ``MisuseError`` for a history whose stamps make no sense.
    """
    if consistency not in CONSISTENCIES:
        raise MisuseError(f"consistency: {consistency!r}; use {' or '.join(CONSISTENCIES)}")
    _require_budget(seconds, visited)
    _require_stamps(history)
    start = time.perf_counter()
    sequential = consistency == "sequential"
    split = partition and not sequential and model.partition is not None
    spending = _Spending(seconds, visited, start)
    if split and model.partition:
        parts = _check_parts(model, history, model.partition(history), spending)
    else:
        parts = [_Search(model, history, spending.share(1), sequential).part("all")]
        spending.spent = parts[0].visited
    placed = {id(operation) for part in parts for operation in part.operations}
    left_out = tuple(operation for operation in history if id(operation) not in placed)
    return Check(
        model,
        _verdict(parts, sequential),
        tuple(parts),
        left_out,
        spending.spent,
        time.perf_counter() - start,
    )


def _check_parts(
    model: Model, history: Sequence[Operation], split: Parts, spending: _Spending
) -> list[Part]:
    """Small parts first, for fast answers; then those that failed as one, if that may save them."""
    parts: list[Part] = []
    waiting = sorted(split.items(), key=lambda item: len(item[1]))
    for number, (key, operations) in enumerate(waiting):
        left = len(waiting) - number + (model.rejoin is not None)
        parts.append(_Search(model, operations, spending.share(left)).part(key))
        spending.spent += parts[-1].visited
    failed = [part.key for part in parts if part.verdict == NOT_LINEARIZABLE]
    joined = model.rejoin(history, failed) if model.rejoin and failed else None
    if joined is not None:
        parts = [part for part in parts if part.key not in failed]
        parts.append(_Search(model, joined, spending.share(1)).part(" and ".join(map(str, failed))))
        spending.spent += parts[-1].visited
    return parts


def _require_budget(seconds: float | None, visited: int | None) -> None:
    if seconds is not None and seconds <= 0:
        raise MisuseError(f"seconds: {seconds}; use more than 0, or None")
    if visited is not None and visited < 1:
        raise MisuseError(f"visited: {visited}; use at least 1, or None")


def _require_stamps(history: Sequence[Operation]) -> None:
    for operation in history:
        if operation.returned is not None and not operation.call <= operation.returned:
            raise MisuseError(
                f"history: {operation} of client {operation.client!r} returned at"
                f" {operation.returned}, before its call at {operation.call};"
                " take both stamps from one clock"
            )


@dataclass(frozen=True)
class _Budget:
    """What one part may spend."""

    deadline: float | None
    visited: int | None


@dataclass
class _Spending:
    """What all parts may spend, and have spent."""

    seconds: float | None
    visited: int | None
    start: float
    spent: int = 0

    def share(self, parts: int) -> _Budget:
        """What one of ``parts`` parts that are left may spend."""
        deadline = visited = None
        if self.seconds is not None:
            now = time.perf_counter()
            deadline = now + (self.start + self.seconds - now) / parts
        if self.visited is not None:
            visited = max(1, (self.visited - self.spent) // parts)
        return _Budget(deadline, visited)


def _verdict(parts: Sequence[Part], sequential: bool) -> str:
    """One part without an order is enough; an unknown one only spoils a pass."""
    passed, failed = _outcomes(sequential)
    verdicts = {part.verdict for part in parts}
    return next((verdict for verdict in (failed, UNKNOWN) if verdict in verdicts), passed)


def _outcomes(sequential: bool) -> tuple[str, str]:
    """The verdicts on what has an order, and on what has none."""
    if sequential:
        return SEQUENTIAL, NOT_SEQUENTIAL
    return LINEARIZABLE, NOT_LINEARIZABLE


class _Taken(NamedTuple):
    """An operation that was taken, the state before, and whether there are others to try."""

    operation: int
    before: State
    only: bool


class _Search:
    """The search of one part."""

    def __init__(
        self, model: Model, history: Sequence[Operation], budget: _Budget, sequential: bool = False
    ) -> None:
        self._model, self._budget, self._sequential = model, budget, sequential
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

    def part(self, key: object) -> Part:
        start = time.perf_counter()
        passed, failed = _outcomes(self._sequential)
        found = self._run()
        verdict = {True: passed, False: failed, None: UNKNOWN}[found]
        if found:
            self._longest = [taken.operation for taken in self._stack]
        operations = self._operations
        return Part(
            key=key,
            operations=tuple(operations),
            verdict=verdict,
            order=tuple(operations[i] for i in self._longest),
            blocked=operations[self._blocked] if found is False and self._blocked >= 0 else None,
            unplaced=() if found else self._unplaced(),
            states=() if found else tuple(self._states),
            visited=len(self._seen),
            seconds=time.perf_counter() - start,
        )

    def _run(self) -> bool | None:
        """Whether there is an order; None if the budget ended."""
        exhausted = self._clock()
        candidate = self._first()
        while self._order.waiting:
            if exhausted():
                self._note()
                return None
            if candidate != NONE:
                candidate = self._try(candidate)
                continue
            self._note()
            retry = self._go_back()
            if retry is None:
                return False
            candidate = self._order.after(retry)
        return True

    def _first(self) -> int:
        return self._order.first() if self._order.waiting else NONE

    def _try(self, candidate: int) -> int:
        """Take ``candidate`` if that leads to a new configuration; who is to be tried next."""
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
        """Put back the last operation that has alternatives, and all above it; which one it was."""
        while self._stack:
            taken = self._stack.pop()
            self._order.put_back(taken.operation)
            self._state = taken.before
            if not taken.only:
                return taken.operation
        return None

    def _note(self) -> None:
        """Remember the order that came furthest, and the states in which such orders end."""
        blocked = self._order.blocking()
        depth = self._completed - self._order.waiting
        returned = depth if blocked == NONE else self._operations[blocked].returned
        assert returned is not None
        if returned > self._furthest[0]:
            self._states.clear()
        if returned >= self._furthest[0] and len(self._states) < STATES_KEPT:
            self._states[self._state] = None
        reached = (returned, depth, -len(self._stack))  # the fewer pending ones, the plainer
        if reached > self._furthest:
            self._furthest, self._blocked = reached, blocked
            self._longest = [taken.operation for taken in self._stack]

    def _unplaced(self) -> tuple[Operation, ...]:
        """Completed operations that could have gone behind the longest order."""
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

    def _clock(self) -> Callable[[], bool]:
        """Says when the budget is spent; looks at the clock now and then only."""
        budget, seen, rounds = self._budget, self._seen, 0

        def exhausted() -> bool:
            nonlocal rounds
            rounds += 1
            if budget.visited is not None and len(seen) >= budget.visited:
                return True
            if budget.deadline is None or rounds % CLOCK_ROUNDS:
                return False
            return time.perf_counter() >= budget.deadline

        return exhausted
