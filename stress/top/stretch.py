"""``Stretch``: the words of a segment up to its page descriptors, copied at one moment.

Everything that a picture of a segment shows without a walk lies there: header, CPU slots, zones,
page lists, caches, reports. It is one read, so that numbers which belong together are nearly of
one moment; they still may contradict each other, and each may be any number.
"""

from __future__ import annotations

import numpy as np

from shmalloc.layout import Layout
from shmalloc.observed import ObservedSegment

END = "history"  # the region behind the last word that is copied


class Stretch:
    """Words by index, as Python's integers, and ``array``: the same for numpy."""

    def __init__(self, seen: ObservedSegment) -> None:
        self.layout: Layout = seen.layout
        self.claim_is_held = seen.claim_is_held
        self.array: np.ndarray = seen.words(0, seen.layout.at[END])
        self._view = self.array.data.cast("B").cast("q")

    def __getitem__(self, index: int) -> int:
        return self._view[index]

    def bit(self, index: int, number: int) -> bool:
        """Whether bit ``number`` of a word is set."""
        return bool(self._view[index] >> number & 1)
