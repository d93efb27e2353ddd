"""``Latencies``: what the workers counted of how long calls take, as histograms, and its clock.

The workers count in the segment (stress/workloads/latency.py), so that what a dead one counted is
there, and the controller adds up the slots whenever it wants. They measure in ticks of the
processor's counter; the controller says what a tick is. It reads the counter and the system's
clock of the hardware (CLOCK_MONOTONIC_RAW) side by side when the segment is made and when the
workers are ready: two readings, each right to a microsecond, at least ``CALIBRATION_S`` apart, give
the scale with an error below 1 in 10,000, where a bucket is 3 % wide. A third reading at the end of
the run says whether the counter kept its rate (``doubts``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from shmalloc import constants as c
from shmalloc.engine import get_engine
from shmalloc.layout import Layout
from shmalloc.memory import Ram
from stress.run.histogram import BUCKETS, Histogram
from stress.workloads.latency import (
    LATENCY_WORDS,
    LT_BUCKETS,
    LT_LONGEST,
    LT_MAX,
    LT_SCALE,
    OPERATIONS,
    ROWS,
    SCALE_SHIFT,
    clock,
)

CALIBRATION_S = 0.02
READINGS = 16  # of which the one in the least time counts
MERGE_EVERY_S = 1.0
TOLERANCE = 0.01  # of the rate; a bucket is three times as wide


@dataclass(frozen=True)
class Reading:
    """Both clocks at one moment."""

    ticks: int
    ns: int


def read_clocks(ticks: Callable[[], int]) -> Reading:
    """Both clocks: ``ticks`` between two looks at the other one, as close as they came."""
    spans: list[tuple[int, Reading]] = []
    for _ in range(READINGS):
        before_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        now = ticks()
        after_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        spans.append((after_ns - before_ns, Reading(now, (before_ns + after_ns) // 2)))
    return min(spans, key=lambda span: span[0])[1]


def ns_per_tick(first: Reading, last: Reading) -> float:
    """Nanoseconds of a tick between two readings; 0 for a counter that stood still."""
    ticks = last.ticks - first.ticks
    return (last.ns - first.ns) / ticks if ticks > 0 else 0.0


class Latencies:
    """The histograms of one run, and the clock that they are measured by."""

    def __init__(self, ram: Ram, layout: Layout, engine: str, workers: int) -> None:
        self._ram, self._layout, self._workers = ram, layout, workers
        call = get_engine(engine).call
        self._ticks: Callable[[], int] = lambda: call(clock, ram)
        self._first = read_clocks(self._ticks)
        self._scale = 0.0
        self._due_s = float("-inf")
        self._last: dict[str, Histogram] = {}

    def start(self) -> None:
        """Calibrate, for the oracles, too (stress/oracles/clock.py), and let the workers count from
        now on; all of them are parked."""
        last = read_clocks(self._ticks)
        while last.ns - self._first.ns < CALIBRATION_S * 1e9:
            time.sleep(CALIBRATION_S / 4)
            last = read_clocks(self._ticks)
        self._scale = ns_per_tick(self._first, last)
        scale = round(self._scale * (1 << SCALE_SHIFT))
        self._ram[c.H_CLOCK_KHZ] = round(1e6 / self._scale) if self._scale > 0 else 0
        for cpu in range(self._workers):
            at = self._layout.latency(cpu)
            self._ram[at + LT_LONGEST] = (1 << 62) // max(scale, 1)
            self._ram[at + LT_SCALE] = scale

    def doubts(self) -> list[str]:
        """What is wrong with the durations: the counter did not keep the rate that was assumed."""
        if not self._scale:
            return []
        rate = ns_per_tick(self._first, read_clocks(self._ticks))
        off = rate / self._scale - 1.0
        if abs(off) <= TOLERANCE:
            return []
        return [f"the clock of the latencies changed its rate by {off:+.1%}: they are off by that"]

    def now(self) -> dict[str, Histogram]:
        """The histograms as they were a second ago at most."""
        now_s = time.monotonic()
        if now_s >= self._due_s:
            self._due_s = now_s + MERGE_EVERY_S
            self._last = self.total()
        return self._last

    def total(self) -> dict[str, Histogram]:
        """The histograms now."""
        return histograms_in(self._ram, self._layout)


def histograms_in(ram: Ram, layout: Layout) -> dict[str, Histogram]:
    """Operation -> histogram over all claims, for those with a call; failed calls by themselves.

    Any process that is attached may call it; exact while the workers are parked or gone. Empty for
    a segment in which nothing is timed.
    """
    claims = layout.geometry.claims
    if layout.geometry.latency_words != LATENCY_WORDS:
        return {}
    parts = ram.array[layout.latency(0) : layout.latency(claims)].reshape(claims, LATENCY_WORDS)
    longest = parts[:, LT_MAX : LT_MAX + ROWS].max(axis=0)
    counts = parts[:, LT_BUCKETS:].reshape(claims, ROWS, BUCKETS).sum(axis=0)
    return {
        row_name(row): Histogram(counts[row], int(longest[row]))
        for row in range(ROWS)
        if counts[row].any()
    }


def row_name(row: int) -> str:
    """``alloc_pages``; ``alloc_pages failed`` for the calls that returned a negative code."""
    return OPERATIONS[row // 2] + (" failed" if row % 2 else "")
