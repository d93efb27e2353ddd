"""A check in words: what broke, after which order, and a timeline of the overlapping operations.

Its length is bounded: a few parts, the end of an order, the operations around the failure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from stress.linearize.history import Operation
from stress.linearize.model import Model, OneOf, State
from stress.linearize.part import NOT_LINEARIZABLE, NOT_SEQUENTIAL, UNKNOWN, Part

PARTS_SHOWN = 3
ORDER_SHOWN = 8
STATES_SHOWN = 4
ROWS_SHOWN = 16
COLUMNS = 48
STATE_WIDTH = 200
LEGEND = "(number: place in the order above; ! and ?: as above; [--> did not return)"


def body(model: Model, parts: Sequence[Part], left_out: Sequence[Operation]) -> Iterator[str]:
    """The lines below the verdict: which operations contradict each other."""
    if left_out:
        counts = Counter(
            operation.name + (" pending" if operation.pending else "") for operation in left_out
        )
        text = ", ".join(f"{name} x {count:,}" for name, count in counts.most_common())
        yield f"left out, because the model allows them anywhere: {text}"
    failed = [part for part in parts if part.verdict in (NOT_LINEARIZABLE, NOT_SEQUENTIAL)]
    for part in failed[:PARTS_SHOWN]:
        yield from _failed(model, part)
    hidden = len(failed) - PARTS_SHOWN
    if hidden > 0:
        yield f"and {hidden} more parts without an order"
    unknown = [part for part in parts if part.verdict == UNKNOWN]
    if failed and unknown:
        yield f"{len(unknown)} other parts were not searched to their end: one failure decides"
    else:
        yield from map(_unknown, unknown)


def _unknown(part: Part) -> str:
    return (
        f"part {part.key}: the budget ended after {part.visited:,} configurations and"
        f" {part.seconds:.1f} s, {len(part.order)} of {len(part.operations)} operations"
        " placed at the furthest point"
    )


def _failed(model: Model, part: Part) -> Iterator[str]:
    yield ""
    yield f"part {part.key}, {len(part.operations)} operations: no order is legal"
    if part.blocked is not None:
        yield f"  until client {part.blocked.client} returned from: {model.describe(part.blocked)}"
    first = max(0, len(part.order) - ORDER_SHOWN)
    yield f"  the longest order has {len(part.order)} operations" + (
        f", the last {ORDER_SHOWN} of them:" if first else ":" if part.order else ""
    )
    for place, operation in enumerate(part.order[first:], first + 1):
        yield f"    {place:>4}  client {operation.client}: {model.describe(operation)}"
    for state in part.states[:STATES_SHOWN]:
        yield f"  can end with  {_state(model, state)}"
    hidden = len(part.states) - STATES_SHOWN
    if hidden > 0:
        yield f"  or in {hidden} more states, or others"
    yield "  after which none of these can come next, or leads further:"
    for operation in part.unplaced:
        mark = "!" if operation is part.blocked else "?"
        yield f"       {mark}  client {operation.client}: {model.describe(operation)}"
    yield from (f"  {line}" for line in timeline(model, part))


def _state(model: Model, state: State) -> str:
    if type(state) is OneOf:
        text = "one of " + "; ".join(sorted(model.describe_state(one) for one in state))
    else:
        text = model.describe_state(state)
    return text if len(text) <= STATE_WIDTH else text[: STATE_WIDTH - 3] + "..."


def timeline(model: Model, part: Part) -> list[str]:
    """One row for each operation around the failure, by call; time runs to the right."""
    rows = _around(part)
    if not rows:
        return []
    marks = {id(operation): "?" for operation in part.unplaced}
    if part.blocked is not None:
        marks[id(part.blocked)] = "!"
    places = {id(operation): str(place) for place, operation in enumerate(part.order, 1)}
    scale = _Scale(rows)
    width = max(len(str(operation.client)) for operation in rows)
    lines = ["time runs to the right, one column for each event:"]
    for operation in rows:
        mark = places.get(id(operation), marks.get(id(operation), ""))
        lines.append(
            f"{operation.client!s:>{width}} {mark:>4} {scale.bar(operation):<{scale.width}}"
            f" {model.describe(operation)}"
        )
    return [*lines, LEGEND]


def _around(part: Part) -> list[Operation]:
    """The unplaced operations, those that overlap them, and the end of the order if it fits."""
    rows = {id(operation): operation for operation in part.unplaced}
    begin = min((operation.call for operation in part.unplaced), default=0)
    end = max((_end_of(operation) for operation in part.unplaced), default=0)
    overlapping = [
        operation
        for operation in reversed(part.order)
        if operation.call <= end and _end_of(operation) >= begin
    ]
    for operation in [*overlapping, *reversed(part.order)]:
        if len(rows) < ROWS_SHOWN:
            rows[id(operation)] = operation
    return sorted(rows.values(), key=lambda operation: operation.call)


def _end_of(operation: Operation) -> float:
    return float("inf") if operation.returned is None else operation.returned


class _Scale:
    """Columns of a timeline: events in their order, spread over the width."""

    def __init__(self, rows: Sequence[Operation]) -> None:
        stamps = {operation.call for operation in rows}
        stamps |= {operation.returned for operation in rows if operation.returned is not None}
        self._column = {stamp: number for number, stamp in enumerate(sorted(stamps))}
        self._step = max(1, min(4, COLUMNS // len(stamps)))
        self.width = len(stamps) * self._step + 1

    def bar(self, operation: Operation) -> str:
        left = self._column[operation.call] * self._step
        if operation.returned is None:
            return " " * left + "[" + "-" * (self.width - left - 2) + ">"
        right = self._column[operation.returned] * self._step
        return " " * left + "[" + "-" * (right - left - 1) + "]"
