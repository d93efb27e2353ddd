"""``Histogram``: how long calls took, in log-linear buckets of nanoseconds.

As HdrHistogram does (http://hdrhistogram.org): each octave has ``STEPS`` buckets of equal width,
so that a bucket is never wider than 1/32 of its durations, from a nanosecond to 18 minutes::

    0 1 2 ... 31 | 32 33 ... 63 | 64-65 66-67 ... 126-127 | 128-131 ... | ... and more: the last

The bucket of a duration is computed by the kernel that records it (stress/workloads/latency.py),
in the worker that measured it, and by ``bucket_of`` here; a test compares the two. Counts add:
histograms of workers, slices and runs merge without a loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

STEP_BITS = 5
STEPS = 1 << STEP_BITS  # buckets of an octave
OCTAVES = 35
BUCKETS = (OCTAVES + 1) * STEPS
PERCENTILES = (50.0, 90.0, 99.0, 99.9)


def bucket_of(ns: int) -> int:
    """The bucket of a duration; durations of 2**40 ns and more share the last one."""
    if ns < STEPS:
        return max(ns, 0)
    octave = ns.bit_length() - 1 - STEP_BITS
    return min((octave << STEP_BITS) + (ns >> octave), BUCKETS - 1)


def bounds_of(bucket: int) -> tuple[int, int]:
    """The shortest and the longest duration of a bucket in ns, both inside."""
    if bucket < STEPS:
        return bucket, bucket
    octave = (bucket >> STEP_BITS) - 1
    low = (bucket - (octave << STEP_BITS)) << octave
    return low, low + (1 << octave) - 1


class Histogram:
    """Counts by bucket (``counts``: int64, ``BUCKETS`` long), and the longest duration."""

    def __init__(self, counts: Iterable[int] | None = None, max_ns: int = 0) -> None:
        self.counts = np.zeros(BUCKETS, np.int64) if counts is None else np.array(counts, np.int64)
        self.max_ns = max_ns

    @property
    def count(self) -> int:
        """How many calls were timed."""
        return int(self.counts.sum())

    @property
    def mean_ns(self) -> float:
        """The mean of all durations, each taken as the middle of its bucket; 0 without any."""
        count = self.count
        if count == 0:
            return 0.0
        filled = np.flatnonzero(self.counts)
        middles = [sum(bounds_of(int(bucket))) / 2 for bucket in filled]
        return float(np.dot(self.counts[filled], middles)) / count

    def add(self, ns: int, count: int = 1) -> None:
        """Count ``count`` calls of that duration."""
        self.counts[bucket_of(ns)] += count
        self.max_ns = max(self.max_ns, ns)

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(self.counts + other.counts, max(self.max_ns, other.max_ns))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return self.max_ns == other.max_ns and bool(np.array_equal(self.counts, other.counts))

    __hash__ = None  # type: ignore[assignment]

    def percentile(self, q: float) -> int:
        """A duration in ns that ``q`` percent of the calls did not exceed; 0 without any call.

        It is the longest one of its bucket, so that it is never too short, but never more than the
        longest call.
        """
        count = self.count
        if count == 0:
            return 0
        rank = max(1, -(-round(q * 1000) * count // 100_000))  # of the call, the first is 1
        bucket = int(np.searchsorted(np.cumsum(self.counts), rank))
        return min(bounds_of(bucket)[1], self.max_ns)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON: percentiles to read, and the filled buckets as ``[lowest ns, calls]``."""
        filled = ((bounds_of(int(b))[0], int(self.counts[b])) for b in np.flatnonzero(self.counts))
        return {
            "calls": self.count,
            **{f"p{q:g}_ns": self.percentile(q) for q in PERCENTILES},
            "max_ns": self.max_ns,
            "buckets": [[low, count] for low, count in filled],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Histogram:
        """The histogram of which ``data`` is the ``as_dict``."""
        histogram = cls(max_ns=int(data["max_ns"]))
        for low, count in data["buckets"]:
            histogram.counts[bucket_of(low)] += count
        return histogram
