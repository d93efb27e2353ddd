"""Figures of slices: medians and quartiles, and what a slice says.

One definition for every row: the time of an operation is the processor time of all its workers
together, divided by what was allocated and freed. Where workers are more than cores, their slices
share the cores, so the time is the wall time of the slice times the cores that it could use.

``f`` is that time over F of the same slice on the same cores. Nothing here measures.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from stress.bench.jobs import Job
from stress.bench.team import Answer


class Spread(NamedTuple):
    """A median and the quartiles around it."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Raises ``ValueError`` without values."""
        if len(values) < 2:
            (only,) = values
            return cls(only, only, only)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(low, median, high)


class Slice(NamedTuple):
    """``ns`` of an operation and its ratio ``f`` to F; operations a second; F of each worker."""

    ns: float
    f: float
    rate: float
    f_ns: tuple[float, ...]


def slice_of(answers: Sequence[Answer], cores: int) -> Slice:
    """What the answers of all workers of a slice say, on a machine with so many ``cores``.

    Raises ``ValueError`` if nothing was done.
    """
    operations = sum(answer.operations for answer in answers)
    if operations == 0:
        raise ValueError("a slice without an operation has no figure")
    f_ns = tuple(answer.f_ns for answer in answers)
    if len(answers) > cores:
        wall_ns = max(a.end_ns for a in answers) - min(a.start_ns for a in answers)
        ns = wall_ns * cores / operations
        rate = operations / wall_ns * 1e9
        f_ns = _least_of_each_core(f_ns, cores)
    else:
        ns = sum(answer.own_ns for answer in answers) / operations
        rate = sum(answer.operations / answer.own_ns for answer in answers) * 1e9
    return Slice(ns, ns / statistics.mean(f_ns), rate, f_ns)


def _least_of_each_core(f_ns: tuple[float, ...], cores: int) -> tuple[float, ...]:
    """Workers are dealt to the cores in turn; one that shared its core measured too much."""
    return tuple(min(f_ns[core::cores]) for core in range(cores))


@dataclass
class Series:
    """The slices of one job. ``dropped``: those in which a core was taken away. ``switches`` counts
    how often it was. Slices are kept nevertheless where workers are more than cores (``crowded``),
    and where a helper process of a peer takes part in each call: that is what the calls cost."""

    job: Job
    crowded: bool
    repeats: int = 1
    slices: list[Slice] = field(default_factory=list)
    dropped: int = 0
    switches: int = 0

    @property
    def keeps(self) -> bool:
        """Whether a slice counts although the core was taken away in it."""
        return self.crowded or (self.job.peer is not None and self.job.peer.helped)

    def add(self, answers: Sequence[Answer], cores: int) -> None:
        """Keep a slice, or drop it if a core was taken away from a worker."""
        lost = sum(answer.switches for answer in answers)
        self.switches += lost
        if lost and not self.keeps:
            self.dropped += 1
        else:
            self.slices.append(slice_of(answers, cores))


@dataclass(frozen=True)
class Row:
    """A row of a report: ``ns`` and ``f`` of an operation, ``rate`` of all workers together in
    millions of operations a second, the median F of each core, how many slices it rests on."""

    pattern: str
    who: str
    workers: int
    timed: str
    memory: str
    ns: Spread
    f: Spread
    rate: Spread
    core_f_ns: tuple[float, ...]
    kept: int
    dropped: int
    switches: int
    crowded: bool

    @property
    def key(self) -> tuple[str, str, int]:
        return self.pattern, self.who, self.workers

    @property
    def rate_in_f(self) -> float:
        """Operations in the time of one F: a rate that the drift of the machine leaves alone."""
        return self.rate.median * 1e6 * statistics.mean(self.core_f_ns) * 1e-9

    def as_dict(self) -> dict[str, object]:
        """The row as JSON."""
        spreads = {name: getattr(self, name)._asdict() for name in ("ns", "f", "rate")}
        return {**asdict(self), **spreads, "core_f_ns": list(self.core_f_ns)}


def row_of(series: Series) -> Row | None:
    """The row of a job; None if no slice was kept."""
    job, slices = series.job, series.slices
    if not slices:
        return None
    columns = zip(*(one.f_ns for one in slices), strict=True)
    return Row(
        job.pattern.name,
        job.who,
        job.workers,
        job.pattern.timed,
        job.memory,
        Spread.of([one.ns for one in slices]),
        Spread.of([one.f for one in slices]),
        Spread.of([one.rate / 1e6 for one in slices]),
        tuple(statistics.median(column) for column in columns),
        len(slices),
        series.dropped,
        series.switches,
        series.crowded,
    )
