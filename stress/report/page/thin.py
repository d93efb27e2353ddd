"""Long series reduced to what a picture of some hundred columns can show, without losing a peak.

A picture of 600 columns cannot show 28,800 samples. Each column keeps its first, least, greatest
and last sample (M4: Jugel et al., VLDB 2014), so that a line through what is left covers the same
pixels as a line through everything. A gap (NaN) stays a gap.

Callers give times in ascending order. Nothing is averaged: each value that is left was measured.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Line(NamedTuple):
    """One series. ``times_s``: seconds since the start of the run, ascending; NaN: a gap."""

    name: str
    times_s: Floats
    values: Floats

    @property
    def measured(self) -> Floats:
        """The values without the gaps."""
        return self.values[~np.isnan(self.values)]


class Columns(NamedTuple):
    """The least and the greatest value in each column of a picture; NaN where there is none."""

    least: Floats
    greatest: Floats


def thinned(line: Line, start_s: float, end_s: float, columns: int) -> Line:
    """``line`` with at most four samples in each of ``columns``, and one gap behind them."""
    if len(line.times_s) <= 4 * columns:
        return line
    keep: list[int] = []
    for first, end in _slices(line, start_s, end_s, columns):
        keep += _of_column(line.values[first:end], first)
    chosen = np.array(keep)
    return Line(line.name, line.times_s[chosen], line.values[chosen])


def columns_of(line: Line, start_s: float, end_s: float, columns: int) -> Columns:
    """What a reader of the picture is told at each column."""
    least, greatest = np.full(columns, np.nan), np.full(columns, np.nan)
    kept = ~np.isnan(line.values)
    numbers = column_numbers(line.times_s[kept], start_s, end_s, columns)
    values = line.values[kept]
    if len(values):
        firsts = np.flatnonzero(np.diff(numbers, prepend=-1))
        least[numbers[firsts]] = np.minimum.reduceat(values, firsts)
        greatest[numbers[firsts]] = np.maximum.reduceat(values, firsts)
    return Columns(least, greatest)


def column_numbers(times_s: Floats, start_s: float, end_s: float, columns: int) -> NDArray[np.intp]:
    """The column of each time, 0 to ``columns`` - 1."""
    share = (times_s - start_s) / max(end_s - start_s, 1e-9)
    return np.clip(share * columns, 0, columns - 1).astype(np.intp)


def _slices(line: Line, start_s: float, end_s: float, columns: int) -> list[tuple[int, int]]:
    """The samples of each column, as first index and end."""
    numbers = column_numbers(line.times_s, start_s, end_s, columns)
    firsts = np.flatnonzero(np.diff(numbers, prepend=-1))
    return list(zip(firsts.tolist(), [*firsts[1:].tolist(), len(numbers)], strict=True))


def _of_column(values: Floats, offset: int) -> list[int]:
    """Indices of what the column keeps; gaps between measured samples are narrower than a pixel."""
    measured = np.flatnonzero(~np.isnan(values))
    if not len(measured):
        return [offset]
    first, last = int(measured[0]), int(measured[-1])
    lowest = int(measured[np.argmin(values[measured])])
    highest = int(measured[np.argmax(values[measured])])
    keep = {first, lowest, highest, last}
    if first > 0:
        keep.add(0)  # the gap before
    if last < len(values) - 1:
        keep.add(len(values) - 1)  # the gap behind
    return [offset + index for index in sorted(keep)]
