"""``Arena``: the memory that the processes of a litmus run share, as cells.py lays it out.

It is a file without a name (memfd): nothing of it is in /dev/shm, so nothing can be left there; it
disappears with the last process that has it open, however that process ends.

Only the controller calls methods, and only while no process plays; processes use ``ram``.
"""

from __future__ import annotations

import mmap
import os
from collections import Counter
from dataclasses import dataclass

from shmalloc.memory import Ram
from stress.litmus import cells as litmus_cells
from stress.litmus.catalogue import Litmus, Outcome

MAX_STRIDE_LINES = 3
MAX_GAP_LINES = 63
# a value that no process ever wrote: not a possible outcome of any test
NOT_WRITTEN: Outcome = (-1, -1, -1, -1)
_AREA_WORDS = litmus_cells.MAX_CELLS * MAX_STRIDE_LINES * litmus_cells.LINE_WORDS
_WORDS = litmus_cells.CELLS + 2 * _AREA_WORDS + MAX_GAP_LINES * litmus_cells.LINE_WORDS
_ARENA_BYTES = -(-_WORDS * 8 // mmap.PAGESIZE) * mmap.PAGESIZE


@dataclass(frozen=True)
class Setting:
    """How the cells of a turn are laid out and how the processes meet.

    ``gap_lines``: extra distance between x and y of a cell; it decides whether the two share the
    low bits of their addresses. ``delays``: a process begins a batch fewer pauses late than this.
    ``spins``: polls before a waiting process yields its core.
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
        """Prepare for another test: no arrivals, no counts, one random state for each process."""
        assert len(randoms) == test.processes
        self.ram.array[:] = 0
        self.ram[litmus_cells.P_SHAPE] = test.shape
        self.ram[litmus_cells.P_PROCESSES] = test.processes
        for cpu, state in enumerate(randoms):
            self.ram[litmus_cells.SLOTS + cpu * litmus_cells.SLOT_WORDS + litmus_cells.S_RANDOM] = (
                state
            )

    def set_up(self, test: Litmus, setting: Setting) -> None:
        """Lay out the cells of the next turn; every turn leaves their words zero."""
        stride = setting.stride_lines * litmus_cells.LINE_WORDS
        far = setting.cells * stride + setting.gap_lines * litmus_cells.LINE_WORDS
        for parameter, value in (
            (litmus_cells.P_CELLS, setting.cells),
            (litmus_cells.P_STRIDE, stride),
            (litmus_cells.P_X, litmus_cells.CELLS),
            (litmus_cells.P_Y, litmus_cells.CELLS + (1 if test.pair else far)),
            (litmus_cells.P_DELAYS, setting.delays),
            (litmus_cells.P_SPINS, setting.spins),
        ):
            self.ram[parameter] = value

    def counts(self) -> Counter[Outcome]:
        """How often each outcome was counted since ``begin``, by all processes together."""
        found: Counter[Outcome] = Counter()
        for cpu in range(litmus_cells.MAX_PROCESSES):
            begin = litmus_cells.COUNTS + cpu * litmus_cells.COUNTS_WORDS
            counts = self.ram.array[begin : begin + litmus_cells.STRANGE + 1]
            for key in counts.nonzero()[0].tolist():
                found[decode(key)] += int(counts[key])
        return found


def decode(key: int) -> Outcome:
    """The outcome that ``outcome_of`` packed into ``key``."""
    if key == litmus_cells.STRANGE:
        return NOT_WRITTEN
    return (
        key & litmus_cells.RESULT_MASK,
        key >> litmus_cells.RESULT_BITS & litmus_cells.RESULT_MASK,
        key >> litmus_cells.X_SHIFT & litmus_cells.FINAL_MASK,
        key >> litmus_cells.Y_SHIFT & litmus_cells.FINAL_MASK,
    )
