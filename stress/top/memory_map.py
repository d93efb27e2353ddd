"""The pages of a segment by state, and its slabs: what takes a walk over all page descriptors.

That is 16 bytes a page, so a walk of a large segment takes longer than everything else in a
picture. ``MapTaker`` therefore takes a new one only as often as its share of the time allows;
between, the last one stands, and says when it was taken.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shmalloc import constants as c
from shmalloc.observed import ObservedSegment
from shmalloc.page_states import counts_of, dominating
from shmalloc.slab_counts import SlabCount, counts_by_cache

CELLS = 1024
SHARE = 0.1  # a walk of one second is followed by nine seconds without


@dataclass(frozen=True)
class MemoryMap:
    """Pages by stretch of pfns and by state, and the slabs and waiting objects of each cache.

    ``counts``: int64, at most ``CELLS`` x states; a state is a code ``T_*`` (page_states.py).
    ``time_s``: when it was taken, unix time.
    """

    counts: np.ndarray
    slabs: dict[int, SlabCount]
    in_sheaves: dict[int, int]
    time_s: float

    @property
    def pages(self) -> tuple[int, ...]:
        """Pages by state."""
        return tuple(int(pages) for pages in self.counts.sum(axis=0))

    def cells(self, most: int = CELLS) -> bytes:
        """The state of most pages of each of at most ``most`` stretches; neighbours are joined."""
        return dominating(joined(self.counts, most))


def joined(counts: np.ndarray, most: int) -> np.ndarray:
    """``counts`` with rows added up in twos, until they are at most ``most`` or an odd number."""
    while len(counts) > most and len(counts) % 2 == 0:
        counts = counts[0::2] + counts[1::2]
    return counts


def fewer(cells: bytes, most: int) -> bytes:
    """A map of which only the cells are known, of fewer ones: each has the state of most of its."""
    states = np.frombuffer(cells, dtype=np.uint8)
    counts = (states[:, None] == np.arange(c.T_COUNT)).astype(np.int64)
    return dominating(joined(counts, most)) if cells else b""


class _Kept(NamedTuple):
    map: MemoryMap
    due_s: float


class MapTaker:
    """Takes maps of one segment. ``share``: of the time that it may take for that, at most 1."""

    def __init__(self, seen: ObservedSegment, share: float = SHARE) -> None:
        self._seen = seen
        self._share = share
        self._kept: _Kept | None = None

    def take(self, in_sheaves: dict[int, int]) -> MemoryMap:
        """The map as it is now, or the last one. ``in_sheaves``: objects that wait, by cache."""
        started_s = time.monotonic()
        if self._kept is not None and started_s < self._kept.due_s:
            return self._kept.map
        counts = counts_of(self._seen, self._seen.layout, CELLS)
        taken = MemoryMap(
            counts, counts_by_cache(self._seen.layout, self._seen.words), in_sheaves, time.time()
        )
        ended_s = time.monotonic()
        rest = 1 / self._share - 1
        self._kept = _Kept(taken, ended_s + rest * (ended_s - started_s))
        return taken
