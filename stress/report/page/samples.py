"""Series of a run, read from its samples: rates, memory, descriptors, fragmentation, free memory.

The samples are those that the live view showed. A rate is what a counter rose between two samples
of one round, divided by the seconds of work between them; half a second at least, so that the last
moments of a round, in which its workers stop one by one, give no rate. Between rounds there is a
gap, and where a workload did not run, too. Times count from the start of the run.

Reads page after page, so that a run of a week does not have to fit into memory as rows.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from stress.records.reader import Reader
from stress.records.rows import ProcessRow, RoundRow, RunRow, SampleRow
from stress.report.page.thin import Line

PAGE_ROWS = 2000
SHORTEST_S = 0.5  # between two samples; a rate over less says nothing
GAP_S = 1e-3  # behind the last sample of a round, where its lines end
MOST_ROLES = 10
_WORKER = re.compile(r"worker \d+")


class Growing:
    """A series while it is read."""

    def __init__(self) -> None:
        self.times, self.values = array("d"), array("d")

    def add(self, time_s: float, value: float) -> None:
        self.times.append(time_s)
        self.values.append(value)

    def gap(self) -> None:
        """What follows is not joined to what came before."""
        if self.values and not np.isnan(self.values[-1]):
            self.times.append(self.times[-1] + GAP_S)
            self.values.append(math.nan)

    def line(self, name: str) -> Line:
        times, values = np.array(self.times), np.array(self.values)
        end = len(values) - int(len(values) > 0 and bool(np.isnan(values[-1])))
        return Line(name, times[:end], values[:end])


@dataclass
class Sampled:
    """Everything that the samples of a run say.

    ``maps`` and ``free``: time and cells; no cells where a round has ended.
    """

    rates: dict[str, Growing] = field(default_factory=dict)
    private: dict[str, Growing] = field(default_factory=dict)
    fds: dict[str, Growing] = field(default_factory=dict)
    fragmentation: Growing = field(default_factory=Growing)
    free: list[tuple[float, Sequence[int]]] = field(default_factory=list)
    maps: list[tuple[float, bytes]] = field(default_factory=list)
    samples: int = 0
    last_s: float = 0.0


def sampled(reader: Reader, run: RunRow, rounds: Iterable[RoundRow]) -> Sampled:
    """The series of the ``rounds`` of ``run``."""
    found = Sampled()
    for one in rounds:
        before: SampleRow | None = None
        for row in samples_of(reader, one.id):
            _add_sample(found, row, row.time_s - run.started_s)
            if before is None or row.at_s - before.at_s >= SHORTEST_S:
                _add_rates(found, row, before, row.time_s - run.started_s)
                before = row
        for use in uses_of(reader, one.id):
            _add_use(found, use, use.time_s - run.started_s)
        _end_round(found)
    return found


def _end_round(found: Sampled) -> None:
    """What follows belongs to another round."""
    for series in _all(found):
        series.gap()
    if found.free:
        found.free.append((found.last_s + GAP_S, ()))
    if found.maps:
        found.maps.append((found.last_s + GAP_S, b""))


def samples_of(reader: Reader, round_id: int) -> Iterator[SampleRow]:
    """The samples of a round, oldest first, some at a time."""
    after: int | None = 0
    while after is not None:
        rows = reader.samples(round_id=round_id, after=after, limit=PAGE_ROWS)
        yield from rows
        after = rows[-1].id if rows else None


def uses_of(reader: Reader, round_id: int) -> Iterator[ProcessRow]:
    """What the processes of a round used, oldest first, some at a time."""
    after: int | None = 0
    while after is not None:
        rows = reader.processes(round_id=round_id, after=after, limit=PAGE_ROWS)
        yield from rows
        after = rows[-1].id if rows else None


def _add_sample(found: Sampled, row: SampleRow, at_s: float) -> None:
    found.samples += 1
    found.last_s = max(found.last_s, at_s)
    if row.fragmentation is not None:
        found.fragmentation.add(at_s, row.fragmentation)
    found.free.append((at_s, row.free_by_order))
    if row.ram_map:
        found.maps.append((at_s, row.ram_map))


def _add_rates(found: Sampled, row: SampleRow, before: SampleRow | None, at_s: float) -> None:
    if before is None:
        return
    earlier = {account["name"]: account for account in before.accounts}
    for account in row.accounts:
        name = str(account["name"])
        done = account["operations"] - earlier.get(name, {"operations": 0})["operations"]
        series = found.rates.setdefault(name, Growing())
        if done or account["running"]:
            series.add(at_s, done / (row.at_s - before.at_s))
        else:
            series.gap()


def _add_use(found: Sampled, use: ProcessRow, at_s: float) -> None:
    found.last_s = max(found.last_s, at_s)
    if not use.rss_bytes:
        return  # it was dying, and has no memory any more
    if use.private_bytes is not None:
        found.private.setdefault(use.role, Growing()).add(at_s, use.private_bytes)
    if use.fds is not None:
        found.fds.setdefault(use.role, Growing()).add(at_s, use.fds)


def _all(found: Sampled) -> list[Growing]:
    groups = (found.rates, found.private, found.fds)
    return [one for group in groups for one in group.values()] + [found.fragmentation]


# --- many workers --------------------------------------------------------------------------------
def by_role(series: dict[str, Growing]) -> tuple[Line, ...]:
    """A line for each process; with more than ``MOST_ROLES``, two for all workers together."""
    workers = [name for name in series if _WORKER.fullmatch(name)]
    others = sorted(name for name in series if name not in workers)
    lines = tuple(series[name].line(name) for name in others)
    if len(series) <= MOST_ROLES:
        ordered = sorted(workers, key=lambda name: int(name.split()[1]))
        return lines + tuple(series[name].line(name) for name in ordered)
    return lines + _extremes([series[name].line(name) for name in workers])


def _extremes(lines: Sequence[Line]) -> tuple[Line, Line]:
    """The least and the greatest of all ``lines`` at each time."""
    times = np.concatenate([line.times_s for line in lines])
    values = np.concatenate([line.values for line in lines])
    order = np.argsort(times, kind="stable")
    times, values = times[order], values[order]
    firsts = np.flatnonzero(np.diff(times, prepend=-np.inf))
    with np.errstate(invalid="ignore"):
        least = np.fmin.reduceat(values, firsts)
        greatest = np.fmax.reduceat(values, firsts)
    return (
        Line("the smallest worker", times[firsts], least),
        Line("the largest worker", times[firsts], greatest),
    )
