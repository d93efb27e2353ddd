"""Growth that does not end: of private memory or of descriptors, in any process of a run.

A run works in circles, so its processes need after an hour what they needed after a minute. The
segment never counts: it is shared memory (process_use.py). What looks like growth and is none:

::

    warm-up    the first tenth of a process's life, and at least WARM_UP_S: left out
    noise      goes up and down: the trend must be certain (Mann-Kendall)
    a step     a cache that is filled, a library that is loaded, once or three times: the level must
               rise from each fifth of the time to the next
    a little   less than the bound: MEMORY_FLOOR_BYTES or DESCRIPTOR_FLOOR, and never less than
               SHARE of the level; Python lets garbage lie for a while

``growth_of`` fits a line by Theil and Sen: its slope is the median of the slopes between all pairs
of samples, so a quarter of the samples may be outliers (P. K. Sen, JASA 63, 1968). Growth is what
the line rises from the first sample to the last. The trend is certain if Mann and Kendall's S, the
pairs that rise less the pairs that fall, is CERTAIN standard deviations from 0 (Kendall, Rank
Correlation Methods, 1975); a leak has nearly all pairs rising.

``GrowthWatch`` keeps the series of each process: at most ``KEPT`` samples. When there are more,
every second one is dropped, so that a watch of hours does not grow itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from shmalloc import constants as c
from shmalloc.errors import Violation
from shmalloc.invariants import name_of
from stress.quantities import counted
from stress.run.process_use import ProcessUse

WARM_UP_S = 5.0
WARM_UP_SHARE = 0.1
FEWEST = 10  # samples behind the warm-up
PARTS = 5
CERTAIN = 4.0  # standard deviations: by chance once in 30,000 series of noise
STEADY = 0.25  # of its fair share that each part of the time rises by at least
MEMORY_FLOOR_BYTES = 4 << 20
DESCRIPTOR_FLOOR = 8
SHARE = 0.05
KEPT = 512  # even, so that an odd number is thinned, and the distances stay equal


@dataclass(frozen=True)
class Growth:
    """A series that grows: by ``amount`` in ``span_s``, from the level ``first`` on."""

    amount: float
    span_s: float
    first: float
    bound: float


def growth_of(times_s: Sequence[float], values: Sequence[float], floor: float) -> Growth | None:
    """The growth of a series past its bound; None if there is none, or no telling.

    ``times_s`` ascend; the warm-up is still in it. ``floor``: the least bound, in the unit of
    ``values``.
    """
    times, levels = np.asarray(times_s, float), np.asarray(values, float)
    if len(times) == 0:
        return None
    warm = times[0] + max(WARM_UP_S, WARM_UP_SHARE * (times[-1] - times[0]))
    times, levels = times[times >= warm], levels[times >= warm]
    if len(times) < FEWEST:
        return None
    medians = [float(np.median(part)) for part in np.array_split(levels, PARTS)]
    bound = max(floor, SHARE * medians[0])
    if medians[-1] - medians[0] < bound * (1 - 1 / PARTS):  # most series end here
        return None
    span_s = float(times[-1] - times[0])
    amount = _slope(times, levels) * span_s
    steady = min(np.diff(medians)) >= STEADY * amount / PARTS
    if amount < bound or not steady or not _is_certain(levels):
        return None
    return Growth(amount, span_s, medians[0], bound)


def _slope(times: np.ndarray, levels: np.ndarray) -> float:
    """The median of the slopes of all pairs of different times."""
    before, after = np.triu_indices(len(times), 1)
    gaps = times[after] - times[before]
    apart = gaps > 0
    return float(np.median((levels[after] - levels[before])[apart] / gaps[apart]))


def _is_certain(levels: np.ndarray) -> bool:
    """Whether the levels rise, by the test of Mann and Kendall."""
    count = len(levels)
    before, after = np.triu_indices(count, 1)
    rising = float(np.sign(levels[after] - levels[before]).sum())
    return rising >= CERTAIN * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)


@dataclass
class _Series:
    """What was seen of one process. ``skip``: samples between two that are kept."""

    role: str
    times_s: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    cpu_s: float = 0.0
    skip: int = 0
    passed: int = 0

    def add(self, time_s: float, use: ProcessUse) -> None:
        self.cpu_s = use.cpu_s
        self.passed += 1
        if self.passed <= self.skip:
            return
        self.passed = 0
        self.times_s.append(time_s)
        self.memory.append(use.private_bytes)
        self.descriptors.append(use.fds)
        if len(self.times_s) > KEPT:
            del self.times_s[1::2], self.memory[1::2], self.descriptors[1::2]
            self.skip = 2 * self.skip + 1


class GrowthWatch:
    """The series of all processes of a run. Feed ``see``, ask ``violations`` now and then."""

    def __init__(self) -> None:
        self._series: dict[int, _Series] = {}
        self._told: set[tuple[int, int]] = set()
        self._last: tuple[ProcessUse, ...] = ()

    def see(self, time_s: float, uses: tuple[ProcessUse, ...]) -> None:
        """What all living processes use at ``time_s`` (of any clock); the same again is nothing.

        A process that is gone is forgotten: what it had is given back.
        """
        if uses is self._last:
            return
        self._last = uses
        kept: dict[int, _Series] = {}
        for use in uses:
            series = self._series.get(use.pid)
            if series is None or use.cpu_s < series.cpu_s:  # another process of that pid
                series = _Series(use.role)
            series.role = use.role
            series.add(time_s, use)
            kept[use.pid] = series
        self._series = kept

    def violations(self) -> list[Violation]:
        """One for each process and kind of growth, once."""
        return list(self._found())

    def _found(self) -> Iterator[Violation]:
        for pid, series in self._series.items():
            kinds: Iterable[tuple[int, list[int], int]] = (
                (c.X_MEMORY_GROWTH, series.memory, MEMORY_FLOOR_BYTES),
                (c.X_DESCRIPTOR_GROWTH, series.descriptors, DESCRIPTOR_FLOOR),
            )
            for code, values, floor in kinds:
                growth = growth_of(series.times_s, values, floor)
                if growth is not None and (pid, code) not in self._told:
                    self._told.add((pid, code))
                    yield _violation(code, f"{series.role} (pid {pid})", growth)


def _violation(code: int, who: str, growth: Growth) -> Violation:
    memory = code == c.X_MEMORY_GROWTH

    def text(amount: float) -> str:
        mib = f"{amount / (1 << 20):.1f} MiB"  # always alike, so that equal findings are one
        return mib if memory else counted(round(amount), "descriptor")

    bound = f"less than {text(growth.bound)} more, whatever the time"
    found = f"{text(growth.amount)} more in {growth.span_s:.0f} s, from {text(growth.first)} on"
    return Violation(name_of(code), who, bound, found)
