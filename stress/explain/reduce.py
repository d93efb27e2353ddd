"""Cut an explanation down: fewer CPUs, fewer operations, less before them, a smaller world.

One thing is left out at a time, and what still fails in the same way stays; the explorer makes the
schedule of the rest 1-minimal, as always (explorer/witness.py).
"""

from __future__ import annotations

import time

from stress.explain.evidence import Evidence
from stress.explain.search import Effort, Explained, attempt


def reduced(found: Explained, evidence: Evidence, effort: Effort, seconds: float) -> Explained:
    """The smallest that was found in the time; the catalogue's programs are small."""
    end = time.monotonic() + seconds
    smaller: Explained | None = found
    while smaller is not None:
        found, smaller = smaller, _smaller(smaller, evidence, effort, end)
    return found


def _smaller(found: Explained, evidence: Evidence, effort: Effort, end: float) -> Explained | None:
    """The first variant that fails alike."""
    for sketch in found.sketch.variants() if found.sketch is not None else ():
        if time.monotonic() > end:
            return None
        again = attempt(sketch, evidence, effort)
        if again is not None and _is_alike(again, found):
            return again
    return None


def _is_alike(one: Explained, other: Explained) -> bool:
    return (one.failure.kind, one.failure.code) == (other.failure.kind, other.failure.code)
