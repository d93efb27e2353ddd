"""``Arena``: the memory that the processes of a litmus run share, as cells.py lays it out.

It is a file without a name (memfd): nothing of it is in /dev/shm, so nothing can be left there; it
goes with the last process that has it, however that one ends.

Only the controller calls methods, and only while nobody plays; processes take ``ram``.
"""

from __future__ import annotations

import mmap
import os
from collections import Counter
from dataclasses import dataclass

from shmalloc.memory import Ram
from stress.litmus import cells as c
from stress.litmus.catalogue import Litmus, Outcome

MAX_STRIDE_LINES = 3
MAX_GAP_LINES = 63
# what no process ever wrote: not a possible outcome of any test
NOT_WRITTEN: Outcome = (-1, -1, -1, -1)
_AREA_WORDS = c.MAX_CELLS * MAX_STRIDE_LINES * c.LINE_WORDS
_WORDS = c.CELLS + 2 * _AREA_WORDS + MAX_GAP_LINES * c.LINE_WORDS
_ARENA_BYTES = -(-_WORDS * 8 // mmap.PAGESIZE) * mmap.PAGESIZE


@dataclass(frozen=True)
class Setting:
    """How the cells of a turn lie and how the processes meet.

    ``gap_lines``: what x and y of a cell are further apart than their areas; it decides whether
    the two share the low bits of their addresses. ``delays``: a process begins a batch fewer
    pauses late. ``spins``: before a waiting process gives its core away.
    """

    cells: int
    stride_lines: int
    gap_lines: int
    delays: int
    spins: int


class Arena:
    """The shared words. Every process makes its own over the same file."""

    def __init__(self, file: int) -> None:
        self.ram = Ram(mmap.mmap(file, _ARENA_BYTES))  # unmapped with the last reference to it

    @staticmethod
    def make_file() -> int:
        """A new file of zeros; its descriptor is the caller's to close."""
        file = os.memfd_create("shmstress-litmus")
        os.ftruncate(file, _ARENA_BYTES)
        return file

    def begin(self, test: Litmus, randoms: list[int]) -> None:
        """Get ready for another test: no arrivals, no counts; one random state a process."""
        assert len(randoms) == test.processes
        self.ram.array[:] = 0
        self.ram[c.P_SHAPE] = test.shape
        self.ram[c.P_PROCESSES] = test.processes
        for cpu, state in enumerate(randoms):
            self.ram[c.SLOTS + cpu * c.SLOT_WORDS + c.S_RANDOM] = state

    def set_up(self, test: Litmus, setting: Setting) -> None:
        """Lay out the cells of the next turn; their words are zero, as every turn leaves them."""
        stride = setting.stride_lines * c.LINE_WORDS
        far = setting.cells * stride + setting.gap_lines * c.LINE_WORDS
        for parameter, value in (
            (c.P_CELLS, setting.cells), (c.P_STRIDE, stride), (c.P_X, c.CELLS),
            (c.P_Y, c.CELLS + (1 if test.pair else far)),
            (c.P_DELAYS, setting.delays), (c.P_SPINS, setting.spins),
        ):  # fmt: skip
            self.ram[parameter] = value

    def counts(self) -> Counter[Outcome]:
        """How often each outcome was counted since ``begin``, by all processes together."""
        found: Counter[Outcome] = Counter()
        for cpu in range(c.MAX_PROCESSES):
            begin = c.COUNTS + cpu * c.COUNTS_WORDS
            counts = self.ram.array[begin : begin + c.STRANGE + 1]
            for key in counts.nonzero()[0].tolist():
                found[decode(key)] += int(counts[key])
        return found


def decode(key: int) -> Outcome:
    """The outcome that ``outcome_of`` packed into ``key``."""
    if key == c.STRANGE:
        return NOT_WRITTEN
    return (
        key & c.RESULT_MASK,
        key >> c.RESULT_BITS & c.RESULT_MASK,
        key >> c.X_SHIFT & c.FINAL_MASK,
        key >> c.Y_SHIFT & c.FINAL_MASK,
    )
