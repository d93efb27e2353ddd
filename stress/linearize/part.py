"""One part of a history after its search. Verdicts are three: a search cut short proves nothing."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from stress.linearize.history import Operation

LINEARIZABLE = "linearizable"
NOT_LINEARIZABLE = "not-linearizable"
SEQUENTIAL = "sequentially-consistent"
NOT_SEQUENTIAL = "not-sequentially-consistent"
UNKNOWN = "unknown"


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a history, searched by itself.

    ``order``: where it passed, an order that the model allows (pending operations that are not in
    it did not happen); else the order that came furthest, which no other operation can follow.
    ``blocked``: the operation at whose return no order was left; until then there was one. None
    in program order, where time plays no role. ``unplaced``: those that could go next by the order
    of time, and that the model refused, or that led no further. ``states``: what the orders that
    came as far ended in, some of them.
    """

    key: Hashable
    operations: tuple[Operation, ...]
    verdict: str
    order: tuple[Operation, ...]
    blocked: Operation | None
    unplaced: tuple[Operation, ...]
    states: tuple[Any, ...]
    visited: int
    seconds: float
