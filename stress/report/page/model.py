"""What the page shows, as plain data: ``Report`` and its parts.

``gather`` fills it from a database, ``render`` lays it out. Every number that the page prints is a
``Number``: the exact value with the words for it and the key by which a test finds it again in the
database. Times are seconds; those of a picture count from the start of the run, others are unix
seconds. Texts are as they were recorded: nothing here is escaped, the template does that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stress.quantities import short
from stress.report.page import words
from stress.report.page.thin import Line
from stress.verdict import Verdict


class Number(NamedTuple):
    """A value of the database, the text that people read, and ``key``, its place there."""

    key: str
    value: float | int
    text: str


class Unit(Enum):
    """What the values of a picture are; each says one in words."""

    RATE = "per second"
    BYTES = "bytes"
    COUNT = "count"
    SHARE = "share"
    NS = "ns"

    def text(self, value: float) -> str:
        return _TEXT_OF[self](value)


_TEXT_OF = {
    Unit.RATE: words.rate,
    Unit.BYTES: words.size,
    Unit.COUNT: short,
    Unit.SHARE: words.share,
    Unit.NS: words.nanoseconds,
}


class Fact(NamedTuple):
    """One line of "what ran" or of the environment; the value is a text or a number."""

    label: str
    value: str | Number


class LineRow(NamedTuple):
    """One series in the table below its picture."""

    name: str
    least: Number
    greatest: Number
    last: Number


@dataclass(frozen=True)
class Chart:
    """Some series over the time of the run. ``note``: what a reader has to know of them."""

    key: str
    title: str
    unit: Unit
    lines: tuple[Line, ...]
    start_s: float
    end_s: float
    note: str = ""
    rows: tuple[LineRow, ...] = ()


@dataclass(frozen=True)
class Grid:
    """A picture of cells: ``cells[row, column]``, time from left to right, the first row lowest.

    ``edges_s``: borders of the columns, one more than columns. ``rows``: what the row axis says,
    as places (0 to the number of rows) with a text. ``names``: meaning of the values of a map of
    states; empty for amounts, of which NaN is none.
    """

    key: str
    title: str
    cells: NDArray[np.float64] | NDArray[np.uint8]
    edges_s: NDArray[np.float64]
    rows: tuple[tuple[float, str], ...]
    row_title: str
    names: tuple[tuple[int, str], ...] = ()
    note: str = ""
    table: tuple[LineRow, ...] = ()
    table_of: str = ""


@dataclass(frozen=True)
class Latency:
    """One operation. ``curve``: (share of calls, ns), ascending; ``table``: a number a column."""

    operation: str
    table: tuple[Number, ...]
    curve: tuple[tuple[float, int], ...]


class InlinePage(NamedTuple):
    """A page of the explorer that belongs to a finding: its name and its text, whole."""

    name: str
    text: str


@dataclass(frozen=True)
class Finding:
    fingerprint: str
    invariant: str
    sentence: str
    site: str
    status: str
    first: str
    last: str
    count: Number
    repeats: str
    command: str
    report: str
    pages: tuple[InlinePage, ...] = ()
    more_pages: str = ""


@dataclass(frozen=True)
class Mark:
    """Something that must happen in a run, how often it did, and in which rounds it never did."""

    name: str
    count: Number
    missed: str


@dataclass(frozen=True)
class RoundRow:
    number: int
    kind: str
    what: str
    seed: str
    verdict: str
    seconds: Number
    operations: Number
    command: str


@dataclass(frozen=True)
class Feature:
    """A switch of a swarm: in how many rounds it was on, and how many of those failed."""

    name: str
    on: Number
    off: Number
    failed: Number


class Side(NamedTuple):
    """One side of a comparison: rounds, the median over them, the least and the greatest."""

    rounds: int
    median: float
    least: float
    greatest: float


@dataclass(frozen=True)
class Pair:
    """One figure of both sides. ``low`` and ``high`` bound the ratio; NaN if rounds are few."""

    name: str
    unit: Unit
    left: Side
    right: Side
    ratio: float
    low: float
    high: float

    @property
    def differs(self) -> bool:
        """Whether the bounds of the ratio exclude 1."""
        return self.low > 1 or self.high < 1


@dataclass(frozen=True)
class Comparison:
    left: str
    right: str
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]
    bounds: str  # how the bounds of the ratios were made


@dataclass(frozen=True)
class Report:
    """The whole page, in the order of its sections."""

    title: str
    verdict: Verdict | None  # None: it has not ended
    sentence: str
    facts: tuple[Fact, ...]
    spec: str
    command: str
    findings: tuple[Finding, ...]
    rate: Chart | None
    memory: Chart | None
    descriptors: Chart | None
    latencies: tuple[Latency, ...]
    fragmentation: Chart | None
    free_blocks: Grid | None
    ram_map: Grid | None
    marks: tuple[Mark, ...]
    rounds: tuple[RoundRow, ...]
    features: tuple[Feature, ...]
    environment: tuple[Fact, ...]
    source: str = ""
    rounds_note: str = ""
    notes: tuple[str, ...] = ()
    comparison: Comparison | None = None
