"""Measuring on a shared machine whose speed drifts by a factor of two: only ratios count.

Every figure is taken in short slices (a few milliseconds), all of them in turn, many rounds; so
each round sees the same machine. A figure is the median over rounds of (its ns / the yardstick's
ns of the same round); beside it stand the plain minimum and median in ns.

The yardstick F is the cost of two uncontended two-word swaps (``two_swaps`` in
stress/bench/page_loops.py).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Figure:
    """One thing that is measured: ``run()`` does ``operations`` of it."""

    name: str
    run: Callable[[], object]
    operations: int
    goal: float | None = None  # in F
    samples_ns: list[float] = field(default_factory=list)
    clock: Callable[[], int] = time.perf_counter_ns

    def sample(self) -> float:
        start = self.clock()
        self.run()
        ns = (self.clock() - start) / self.operations
        self.samples_ns.append(ns)
        return ns


@dataclass(frozen=True)
class Row:
    """A measured figure: ns and its ratio to F."""

    name: str
    min_ns: float
    median_ns: float
    ratio: float
    goal: float | None

    @property
    def reached(self) -> bool | None:
        return None if self.goal is None else self.ratio <= self.goal


def measure(yardstick: Figure, figures: list[Figure], rounds: int) -> list[Row]:
    """Run everything once to warm up, then ``rounds`` rounds of all of them in turn."""
    ratios = in_turn(yardstick, figures, rounds)
    rows = [_row(yardstick, 1.0)]
    return rows + [_row(figure, statistics.median(ratios[figure.name])) for figure in figures]


def in_turn(yardstick: Figure, figures: list[Figure], rounds: int) -> dict[str, list[float]]:
    """The same; of each figure its ratio to the yardstick in every round."""
    for figure in (yardstick, *figures):
        figure.run()
    ratios: dict[str, list[float]] = {figure.name: [] for figure in figures}
    for _ in range(rounds):
        unit = yardstick.sample()
        for figure in figures:
            ratios[figure.name].append(figure.sample() / unit)
    return ratios


def _row(figure: Figure, ratio: float) -> Row:
    samples = figure.samples_ns
    return Row(figure.name, min(samples), statistics.median(samples), ratio, figure.goal)
