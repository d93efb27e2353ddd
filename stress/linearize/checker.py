"""``check``: the search of Wing and Gong (1993) with Lowe's memo (2017), part by part.

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
CLOCK_ROUNDS = 64  # steps between two readings of the clock
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
    each gets an equal share of the rest, so that a hard part does not hide the failure of another.
    ``visited`` alone makes "unknown" repeatable. ``consistency``: "sequential" keeps only the order
    of each client's operations, not that of time. It is not a local property, so the history is not
    partitioned. ``partition`` False: check the whole history in one, as a test of a partition.

    Raises ``MisuseError`` for a history with inconsistent stamps.
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
    """Small parts first, for fast answers; then failed ones together, if that may help them."""
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
    """The budget of one part."""

    deadline: float | None
    visited: int | None


@dataclass
class _Spending:
    """The budget of all parts, and what they have spent."""

    seconds: float | None
    visited: int | None
    start: float
    spent: int = 0

    def share(self, parts: int) -> _Budget:
        """The budget of one of the ``parts`` remaining parts."""
        deadline = visited = None
        if self.seconds is not None:
            now = time.perf_counter()
            deadline = now + (self.start + self.seconds - now) / parts
        if self.visited is not None:
            visited = max(1, (self.visited - self.spent) // parts)
        return _Budget(deadline, visited)


def _verdict(parts: Sequence[Part], sequential: bool) -> str:
    """One part without an order decides; an unknown part only prevents a pass."""
    passed, failed = _outcomes(sequential)
    verdicts = {part.verdict for part in parts}
    return next((verdict for verdict in (failed, UNKNOWN) if verdict in verdicts), passed)


def _outcomes(sequential: bool) -> tuple[str, str]:
    """The verdicts for a history with an order, and for one without."""
    if sequential:
        return SEQUENTIAL, NOT_SEQUENTIAL
    return LINEARIZABLE, NOT_LINEARIZABLE


class _Taken(NamedTuple):
    """An operation taken, the state before it, and whether there are others to try."""

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

    def _clock(self) -> Callable[[], bool]:
        """Whether the budget is spent; reads the clock only every ``CLOCK_ROUNDS`` steps."""
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
