"""What readers rely on inside the JSON columns: the names that they look for, and their types.

A database may come from a stranger. ``rows.Row.of`` checks each row against these, so that whatever
reads a ``Row`` needs no care of its own, and an error there is one of ours. Names that are not
listed here may be there and hold anything.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

WORD_BITS = 63
MOST_NUMBER = 1e300  # two times may be subtracted from each other and stay finite
MOST_CALLS = 1 << 50  # of a bucket: all buckets together fit into 63 bits

Count = Annotated[int, Meta(ge=0)]
Orders = Annotated[list[int], Meta(max_length=64)]


class Machine(TypedDict, total=False):
    cores: int
    memory_bytes: int


class Summary(TypedDict, total=False):
    """Of a soak; a run of another kind has none."""

    clock_s: Annotated[float, Meta(ge=0, le=MOST_NUMBER)]
    sessions: int


class Workload(TypedDict):
    name: str
    ops: NotRequired[int]
    seconds: NotRequired[float]


class Result(TypedDict, total=False):
    """Of a round of real processes; explorations have none of these names."""

    workloads: list[Workload]
    audits: int
    events: dict[str, int]


class Account(TypedDict):
    name: str
    operations: int
    running: bool


class Latency(TypedDict):
    max_ns: Count
    buckets: list[tuple[Count, Annotated[int, Meta(ge=0, le=MOST_CALLS)]]]


class Step(TypedDict):
    cpu: NotRequired[int]
    text: NotRequired[str]
    shown_at: NotRequired[str | None]


class Schedule(TypedDict, total=False):
    """A failing schedule, as the explorer keeps it with a finding."""

    cause: str
    steps: list[Step]
    conflict: list[int] | None
    origin: list[str]


def parsed(text: str | bytes) -> Any:
    """JSON with integers that a word can hold. Raises ``ValueError``."""
    return json.loads(text, parse_int=_integer)


def _integer(text: str) -> int:
    number = int(text)
    if number.bit_length() > WORD_BITS:
        raise ValueError(f"{text} has more than {WORD_BITS} bits")
    return number


def require_numbers(values: dict[str, Any]) -> None:
    """Raises ``ValueError`` for a column that no clock and no counter fills so."""
    for name, value in values.items():
        if isinstance(value, float) and not abs(value) <= MOST_NUMBER:
            raise ValueError(f"{name} is {value}")
