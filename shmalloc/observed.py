"""``ObservedSegment``: a segment that is only looked at, while others work on it.

Its words are read from its file, a stretch at a time, and never mapped: an observer cannot write,
takes no CPU slot, is not killed by SIGBUS when the file is truncated, and does not make the system
back pages that no process has touched, as a read through a mapping would.

Rules for callers: a stretch is a copy of words that change while they are copied. Each word is
whole; two of them may be of different moments, and none is to be trusted: bound every walk, and
expect any number. An observer keeps the file alive after its removal; ``removed`` tells.
"""

from __future__ import annotations

import os
from types import TracebackType

import numpy as np

from shmalloc import constants as c
from shmalloc import liveness, segment_file
from shmalloc.errors import SegmentError


class _Slices:
    """What numpy code takes for an array of all words, and reads a slice of."""

    def __init__(self, seen: ObservedSegment) -> None:
        self._seen = seen

    def __getitem__(self, part: slice) -> np.ndarray:
        first, end, step = part.indices(self._seen.layout.words)
        return self._seen.words(first, max(0, end - first))[::step]


class ObservedSegment:
    """The file of segment ``name``, open for reading. Use in a ``with`` block, or ``close`` it.

    ``same_build``: its kernels are ours; else only the layout of its words is.
    Raises ``SegmentError`` for what is no segment whose layout is ours.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._handle, self.layout = segment_file.opened(name, any_build=True)
        self.geometry = self.layout.geometry
        digest = int(self.words(c.H_DIGEST, 1)[0])
        self.same_build = digest == segment_file.build_digest(self.geometry)

    def words(self, first: int, count: int) -> np.ndarray:
        """A copy of ``count`` words from word ``first`` on.

        Raises ``SegmentError`` if they are not in the file, because it was truncated.
        """
        if not 0 <= first <= first + count <= self.layout.words:
            raise IndexError(f"words {first} to {first + count}: outside of the segment")
        found = np.empty(count, dtype=np.int64)
        view, got = found.data.cast("B"), 0
        while got < found.nbytes:
            read = os.preadv(self._handle, [view[got:]], first * 8 + got)
            if read == 0:
                raise SegmentError(f"name: {self.name!r} was truncated while it was watched")
            got += read
        return found

    def __getitem__(self, index: int) -> int:
        return int(self.words(index, 1)[0])

    @property
    def array(self) -> _Slices:
        """The words for ``array[first:end:step]``, which copies them at that moment."""
        return _Slices(self)

    def claim_is_held(self, number: int) -> bool:
        """Whether a process lives that holds claim ``number`` (liveness.py)."""
        return liveness.is_held(self._handle, number)

    @property
    def inode(self) -> int:
        """The number of the file, by which other processes' mappings of it are recognized."""
        return os.fstat(self._handle).st_ino

    @property
    def removed(self) -> bool:
        """Whether the name is gone: its owner has ended, or removed it."""
        return os.fstat(self._handle).st_nlink == 0

    @property
    def touched_bytes(self) -> int:
        """Memory that the system has given to the segment so far."""
        return os.fstat(self._handle).st_blocks * 512

    def close(self) -> None:
        """Close the file. Closing twice is harmless."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> ObservedSegment:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
