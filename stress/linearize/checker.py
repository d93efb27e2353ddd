"""``check``: whether a history has an order that a model allows, part by part.

The parts that the model knows (``Model.partition``) are searched in turns (search.py): small ones
first, and each turn four times as long as the one before. So a part that fails is found early, and
whatever the easy parts leave of the budget is for the hard ones.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from shmalloc.errors import MisuseError
from stress.linearize.history import Operation
from stress.linearize.model import Model, Parts
from stress.linearize.part import NOT_LINEARIZABLE, Part
from stress.linearize.result import Check
from stress.linearize.search import Search, Spending, verdict_of

DEFAULT_SECONDS = 60.0
DEFAULT_VISITED = 1_000_000  # some hundred bytes each
TURN_VISITED = 1_000  # configurations of the first turn of a part
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

    ``seconds``, ``visited``: the budget in time and in configurations, for all parts together.
    Parts are searched in turns that grow, so that a hard part does not hide the failure of another,
    and what easy ones leave is for the hard ones. The first part that fails ends the check.
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
    spending = Spending(seconds, visited, start)
    if split and model.partition:
        parts = _check_parts(model, history, model.partition(history), spending)
    else:
        whole = Search("all", model, history, sequential)
        whole.run(spending)
        parts = [whole.part()]
    placed = {id(operation) for part in parts for operation in part.operations}
    left_out = tuple(operation for operation in history if id(operation) not in placed)
    return Check(
        model,
        verdict_of(parts, sequential),
        tuple(parts),
        left_out,
        spending.spent,
        time.perf_counter() - start,
    )


def _check_parts(
    model: Model, history: Sequence[Operation], split: Parts, spending: Spending
) -> list[Part]:
    """All parts; failed ones are searched again together, if pending operations may help them."""
    searches = [Search(key, model, operations) for key, operations in split.items()]
    _take_turns(searches, spending, every=model.rejoin is not None)
    parts = [search.part() for search in searches]
    failed = [part.key for part in parts if part.verdict == NOT_LINEARIZABLE]
    joined = model.rejoin(history, failed) if model.rejoin and failed else None
    if joined is not None:
        together = Search(" and ".join(map(str, failed)), model, joined)
        together.run(spending)
        parts = [*(part for part in parts if part.key not in failed), together.part()]
    return parts


def _take_turns(searches: Sequence[Search], spending: Spending, every: bool) -> None:
    """Small parts first, each turn longer than the one before; ``every``: also after a failure."""
    waiting = sorted(searches, key=lambda search: search.size)
    turn = TURN_VISITED
    if spending.visited is not None:
        turn = max(1, min(turn, spending.visited // (4 * max(1, len(waiting)))))
    while waiting and not spending.ended:
        for search in waiting:
            search.run(spending, turn if len(waiting) > 1 else None)
            if search.found is False and not every:
                return
        waiting = [search for search in waiting if search.found is None]
        turn *= 4


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
