"""Which operation may come next: the order that a search must respect, as lists that shrink and
grow again.

Operations are numbers: the completed ones 0 to n - 1 by call, then the pending ones by call. Both
orders have the same interface::

    waiting       completed operations that are not taken yet
    first()       the first candidate: an operation that need not come after any other
    after(i)      the candidate after candidate i; NONE: there are no more
    take(i), put_back(i)      strictly nested
    key()         equal exactly if the same operations are taken

Pending operations come last among candidates: they are rarely needed, so they are tried when
nothing else works.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise

from shmalloc.errors import MisuseError
from stress.linearize.history import Operation

NONE = -1


def completed_first(history: Sequence[Operation]) -> list[Operation]:
    """Operations in the order of their numbers."""
    return sorted(history, key=lambda operation: (operation.pending, operation.call))


class RealTime:
    """Linearizability: an operation comes before those called after its return.

    A doubly linked list of events by stamp, calls before returns if stamps are equal (intervals
    are closed); node 2i is the call of i, 2i + 1 its return. An operation is a candidate exactly
    if its call is before every return in the list. Taking it unlinks both its nodes; undoing this
    in reverse order works because the nodes still know their neighbours (Knuth's dancing links).

    ``kinds``: of each pending operation; of one kind only the earliest that is not taken is a
    candidate, because it can do whatever the others can.
    """

    def __init__(self, operations: Sequence[Operation], kinds: Sequence[int]) -> None:
        self.operations = operations
        self._completed = sum(1 for operation in operations if not operation.pending)
        self.waiting = self._completed
        self._end = 2 * self._completed
        self._link(self._events())
        self._taken = 0
        self._pending_taken = 0
        self._kinds = kinds

    def _events(self) -> list[int]:
        stamped: list[tuple[float, int, int]] = []
        for i in range(self._completed):
            operation = self.operations[i]
            assert operation.returned is not None
            stamped += [(operation.call, 0, 2 * i), (operation.returned, 1, 2 * i + 1)]
        return [node for _, _, node in sorted(stamped)]

    def _link(self, events: list[int]) -> None:
        """A ring through ``_end``, which is before the first event and after the last."""
        ring = [self._end, *events]
        self._next, self._previous = [0] * len(ring), [0] * len(ring)
        for node, following in zip(ring, ring[1:] + ring[:1], strict=True):
            self._next[node], self._previous[following] = following, node

    def first(self) -> int:
        """Never NONE while operations wait: the first event of the list is a call."""
        return self._next[self._end] >> 1

    def after(self, i: int) -> int:
        if i >= self._completed:
            return self._pending_from(i + 1)
        node = self._next[2 * i]
        return self._pending_from(self._completed) if node & 1 else node >> 1

    def _pending_from(self, i: int) -> int:
        if i >= len(self.operations):
            return NONE
        limit = self.operations[self.blocking()].returned
        assert limit is not None
        free = ~self._pending_taken
        passed = {self._kinds[k] for k in range(i - self._completed) if free >> k & 1}
        for j in range(i, len(self.operations)):
            if self.operations[j].call > limit:
                return NONE
            if free >> (j - self._completed) & 1 and self._kinds[j - self._completed] not in passed:
                return j
        return NONE

    def blocking(self) -> int:
        """The waiting operation that returned first: no operation called later may precede it."""
        node = self._next[self._end]
        while not node & 1:
            node = self._next[node]
        return node >> 1

    def take(self, i: int) -> None:
        if i >= self._completed:
            self._pending_taken |= 1 << (i - self._completed)
            return
        following, previous = self._next, self._previous
        for node in (2 * i, 2 * i + 1):
            before, behind = previous[node], following[node]
            following[before], previous[behind] = behind, before
        self._taken |= 1 << i
        self.waiting -= 1

    def put_back(self, i: int) -> None:
        if i >= self._completed:
            self._pending_taken ^= 1 << (i - self._completed)
            return
        following, previous = self._next, self._previous
        for node in (2 * i + 1, 2 * i):
            following[previous[node]] = previous[following[node]] = node
        self._taken ^= 1 << i
        self.waiting += 1

    def key(self) -> Hashable:
        """All below the first waiting one are taken, so the rest is a small number."""
        low = self._next[self._end] >> 1
        return low, self._taken >> low, self._pending_taken


class ProgramOrder:
    """Sequential consistency: each client's operations in its order, clients in any.

    Raises ``MisuseError`` if a client has no such order: two of its operations overlap.
    """

    def __init__(self, operations: Sequence[Operation], kinds: Sequence[int]) -> None:
        self.operations = operations
        self.waiting = sum(1 for operation in operations if not operation.pending)
        lanes: dict[Hashable, list[int]] = {}
        for i in sorted(range(len(operations)), key=lambda i: operations[i].call):
            lanes.setdefault(operations[i].client, []).append(i)
        self._lanes = list(lanes.values())
        self._lane_of = {i: number for number, lane in enumerate(self._lanes) for i in lane}
        self._at = [0] * len(self._lanes)
        for lane in self._lanes:
            self._require_sequential(lane)

    def _require_sequential(self, lane: list[int]) -> None:
        for i, following in pairwise(lane):
            one, other = self.operations[i], self.operations[following]
            if one.returned is None or one.returned > other.call:
                raise MisuseError(
                    f"history: client {one.client!r} called {other} before {one} returned;"
                    " in program order give each a client of its own"
                )

    def first(self) -> int:
        return self._from(0, False)

    def after(self, i: int) -> int:
        return self._from(self._lane_of[i] + 1, self.operations[i].pending)

    def _from(self, lane: int, pending: bool) -> int:
        """The operation of the next client; clients with a waiting completed one come first."""
        for number in range(lane, len(self._lanes)):
            at = self._at[number]
            if at < len(self._lanes[number]):
                i = self._lanes[number][at]
                if self.operations[i].pending == pending:
                    return i
        return NONE if pending else self._from(0, True)

    def blocking(self) -> int:
        """Program order has no time: no operation blocks another."""
        return NONE

    def take(self, i: int) -> None:
        self._at[self._lane_of[i]] += 1
        self.waiting -= not self.operations[i].pending

    def put_back(self, i: int) -> None:
        self._at[self._lane_of[i]] -= 1
        self.waiting += not self.operations[i].pending

    def key(self) -> Hashable:
        return tuple(self._at)


def kinds_of_pending(operations: Sequence[Operation], by_client: bool) -> list[int]:
    """The kind of each pending operation: no model distinguishes operations of one kind."""
    kinds: list[tuple[object, ...]] = []
    found = []
    for operation in operations:
        if operation.pending:
            client = operation.client if by_client else None
            kind = (client, operation.name, operation.argument, operation.key)
            if kind not in kinds:
                kinds.append(kind)
            found.append(kinds.index(kind))
    return found
