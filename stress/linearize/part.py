"""One part of a history after its search. A search that was cut short proves nothing."""

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

    ``order``: if it passed, an order that the model allows (pending operations that are not in it
    did not happen); else the order that came furthest, which no other operation can follow.
    ``blocked``: no order was left at the return of this operation; before it there was one. None
    in program order, which ignores time. ``unplaced``: the operations that could come next by time,
    but that the model refused or that led no further. ``states``: some of the states in which
    orders of that length end.
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
