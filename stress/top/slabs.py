"""The caches of a segment: slabs and objects, counted from the page descriptors and the sheaves.

The descriptor of a slab says how many of its objects are in use; those include the objects that
wait in sheaves, which are free (kernels/objects.py). Sheaves lie in pages, where only their own
words say what they are, so a count that cannot be true is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from shmalloc import constants_slab as cs
from shmalloc.layout import cache_stride
from shmalloc.observed import ObservedSegment
from shmalloc.processes import printable
from shmalloc.report_text import ReportText
from shmalloc.slab_counts import SlabCount, size_class_name
from stress.top.stretch import Stretch

MOST_SHEAF_WORDS = 1 << 20  # of one cache; more is no cache of ours
_STATES = {cs.CACHE_LIVE: "live", cs.CACHE_DYING: "dying"}
_DEBUG = {"F": cs.CF_CONSISTENCY, "Z": cs.CF_RED_ZONE, "P": cs.CF_POISON, "U": cs.CF_TRACK}


@dataclass(frozen=True)
class CacheUse:
    """One cache. ``live``: allocated objects; ``in_sheaves``: free ones that wait in sheaves."""

    number: int
    name: str
    state: str
    object_bytes: int
    stride_bytes: int
    debug: str
    count: SlabCount
    live: int
    in_sheaves: int

    @property
    def partial(self) -> int:
        """Slabs with used and with free objects."""
        return self.count.slabs - self.count.full - self.count.empty - self.count.frozen


class Sheaves:
    """The sheaves of all caches: how many objects wait in each, and whose it is."""

    def __init__(self, seen: ObservedSegment, stretch: Stretch) -> None:
        self._cpus = seen.geometry.cpus
        self.by_cache: dict[int, int] = {}
        self.by_cpu = [[0, 0] for _ in range(self._cpus)]  # objects, room
        for number, at in live_caches(stretch):
            self._add(seen, stretch, number, at)

    def of_cpu(self, cpu: int) -> tuple[int, int]:
        """Objects in the sheaves of a CPU slot, and how many these can hold."""
        objects, room = self.by_cpu[cpu]
        return objects, room

    def _add(self, seen: ObservedSegment, stretch: Stretch, number: int, at: int) -> None:
        first, stride = stretch[at + cs.K_SHEAVES], stretch[at + cs.K_SHEAF_STRIDE]
        count, capacity = stretch[at + cs.K_SHEAF_COUNT], stretch[at + cs.K_CAPACITY]
        frames = seen.layout.at["frames"]
        inside = frames <= first and first + count * stride <= seen.layout.words
        sane = capacity > 0 and count > 0 and cs.SF_OBJECTS <= stride
        if not (inside and sane and count * stride <= MOST_SHEAF_WORDS):
            return
        sheaves = seen.words(first, count * stride).reshape(count, stride)
        sizes = np.clip(sheaves[:, cs.SF_SIZE], 0, capacity)
        self.by_cache[number] = int(sizes.sum())
        places = sheaves[:, cs.SF_WHERE] - (at + cs.K_CPUS)
        for place, size in zip(places.tolist(), sizes.tolist(), strict=True):
            cpu, rest = divmod(place, cs.KC_STRIDE)
            if rest == 0 and 0 <= cpu < self._cpus:
                self.by_cpu[cpu][0] += size
                self.by_cpu[cpu][1] += capacity


def live_caches(stretch: Stretch) -> Iterator[tuple[int, int]]:
    """Number and word of each cache that exists."""
    for number in range(stretch.layout.geometry.caches):
        at = cache_word(stretch, number)
        if stretch[at + cs.K_STATE] in _STATES:
            yield number, at


def cache_word(stretch: Stretch, number: int) -> int:
    """Word of the descriptor of a cache."""
    return stretch.layout.at["caches"] + number * cache_stride(stretch.layout.geometry)


def cache_uses(
    stretch: Stretch, counts: Mapping[int, SlabCount], in_sheaves: Mapping[int, int]
) -> tuple[CacheUse, ...]:
    """All caches, by number. ``counts`` and ``in_sheaves``: by cache, of one moment."""
    return tuple(
        _use(stretch, number, counts.get(number, SlabCount()), in_sheaves.get(number, 0))
        for number, _ in live_caches(stretch)
    )


def _use(stretch: Stretch, number: int, count: SlabCount, waiting: int) -> CacheUse:
    at = cache_word(stretch, number)
    name = ReportText(stretch, stretch.layout).cache_name(number)
    flags = stretch[at + cs.K_FLAGS]
    return CacheUse(
        number=number,
        name=printable(name) or size_class_name(stretch, stretch.layout, number),
        state=_STATES.get(stretch[at + cs.K_STATE], "none"),
        object_bytes=stretch[at + cs.K_OBJECT_BYTES],
        stride_bytes=stretch[at + cs.K_STRIDE] * 8,
        debug="".join(letter for letter, flag in _DEBUG.items() if flags & flag),
        count=count,
        live=max(0, count.in_use - waiting),
        in_sheaves=waiting,
    )
