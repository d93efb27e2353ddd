"""The figures of a round that two sides are compared by: rates, latencies, memory, fragmentation.

Every figure is one number a round. A rate is operations by second of a worker, so that rounds of
different lengths and numbers of workers can be compared; percentiles are of the round's own calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from stress.records.reader import Reader
from stress.records.rows import RoundRow
from stress.report.page.model import Unit
from stress.report.page.samples import samples_of, uses_of
from stress.run.histogram import Histogram

FEWEST_CALLS = 1000  # of an operation in a round; fewer have no p99.9
SHORTEST_S = 0.5  # worker seconds of a workload in a round
QUANTILES = (50.0, 99.0, 99.9)

_NUMBER = re.compile(r" \d+$")  # of a worker

Figures = dict[tuple[str, Unit], list[float]]


def figures_of(reader: Reader, rounds: Iterable[RoundRow]) -> Figures:
    """Of each figure, the values of the rounds that have it."""
    found: Figures = {}
    for one in rounds:
        if one.state != "ended":
            continue
        for name, unit, value in (*_rates(one), *_latencies(reader, one), *_uses(reader, one)):
            found.setdefault((name, unit), []).append(value)
    return dict(sorted(found.items(), key=lambda item: (_ORDER[item[0][1]], item[0][0])))


_ORDER = {
    unit: at for at, unit in enumerate((Unit.RATE, Unit.NS, Unit.BYTES, Unit.SHARE, Unit.COUNT))
}
Value = tuple[str, Unit, float]


def _rates(one: RoundRow) -> list[Value]:
    return [
        (f"{entry['name']}, rate of a worker", Unit.RATE, entry.get("ops", 0) / entry["seconds"])
        for entry in one.result.get("workloads", ())
        if entry.get("seconds", 0.0) >= SHORTEST_S
    ]


def _latencies(reader: Reader, one: RoundRow) -> list[Value]:
    values = []
    for operation, data in reader.latencies(one.id).items():
        histogram = Histogram.from_dict(data)
        if histogram.count >= FEWEST_CALLS:
            values += [
                (f"{operation}, p{q:g}", Unit.NS, float(histogram.percentile(q))) for q in QUANTILES
            ]
    return values


def _uses(reader: Reader, one: RoundRow) -> list[Value]:
    """The largest private memory of a process of each kind, and the median fragmentation."""
    peaks: dict[str, float] = {}
    for use in uses_of(reader, one.id):
        kind = _NUMBER.sub("", use.role)
        peaks[kind] = max(peaks.get(kind, 0.0), float(use.private_bytes or 0))
    shares = [row.fragmentation for row in samples_of(reader, one.id)]
    measured = [share for share in shares if share is not None]
    values = [(f"{kind}, most private memory", Unit.BYTES, peak) for kind, peak in peaks.items()]
    if measured:
        values.append(("unusable free memory, median", Unit.SHARE, float(np.median(measured))))
    return values
