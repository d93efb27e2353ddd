"""Cut an explanation down: fewer CPUs, fewer operations, less before them, a smaller world.

One thing is left out at a time, and what still fails in the same way stays; the explorer makes the
schedule of the rest 1-minimal, as always (explorer/witness.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from stress.explain.evidence import Evidence
from stress.explain.search import Effort, Explained, attempt
from stress.explain.worlds import Operation, Sketch

T = TypeVar("T")
Rows = tuple[tuple[Operation, ...], ...]


def reduced(found: Explained, evidence: Evidence, effort: Effort, seconds: float) -> Explained:
    """The smallest that was found in the time."""
    if found.sketch is None:
        return found  # the catalogue's are small
    end = time.monotonic() + seconds
    goes_on = True
    while goes_on:
        goes_on = False
        assert found.sketch is not None
        for smaller in variants(found.sketch):
            if time.monotonic() > end:
                return found
            again = attempt(smaller, evidence, effort)
            if again is not None and _is_alike(again, found):
                found, goes_on = again, True
                break
    return found


def _is_alike(one: Explained, other: Explained) -> bool:
    return (one.failure.kind, one.failure.code) == (other.failure.kind, other.failure.code)


def variants(sketch: Sketch) -> Iterator[Sketch]:
    """Everything that has one thing less, the largest first."""
    cpus = len(sketch.threads)
    for cpu in range(cpus) if cpus > 1 else ():
        yield replace(
            sketch, before=_without(sketch.before, cpu), threads=_without(sketch.threads, cpu)
        )
    for less in _fewer(sketch.threads):
        if any(less):
            yield replace(sketch, threads=less)
    for less in _fewer(sketch.before):
        yield replace(sketch, before=less)
    for name in sketch.world:
        if name not in ("pages", "object_bytes", "page_bytes", "max_order", "cache_flags"):
            world = {key: value for key, value in sketch.world.items() if key != name}
            yield replace(sketch, world=world)


def _fewer(rows: Rows) -> Iterator[Rows]:
    """Without one operation."""
    for cpu, operations in enumerate(rows):
        for k in range(len(operations)):
            yield (*rows[:cpu], _without(operations, k), *rows[cpu + 1 :])


def _without(items: tuple[T, ...], k: int) -> tuple[T, ...]:
    return (*items[:k], *items[k + 1 :])
