"""What a bench found: rows, goals, curves of growth, and what could not be measured."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field

from stress.bench.figures import Row
from stress.bench.goals import Judged, judge_all
from stress.bench.machine import Machine
from stress.bench.sheets import Sheet


@dataclass(frozen=True)
class Curve:
    """How a cost grows: ``points`` of (what grows, the cost) for each line by name. ``x``, ``y``:
    what the axes are, with their units; ``log``: both are logarithmic."""

    name: str
    title: str
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]]
    log: bool = False

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass
class Result:
    """The whole of a run; ``missing`` and ``lost`` are sentences and names for people."""

    machine: Machine
    rounds: int
    rows: list[Row] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    sheets: list[Sheet] = field(default_factory=list)

    @property
    def judged(self) -> list[Judged]:
        """The goals of which something was measured or not, in their order."""
        return judge_all(self.rows)

    @property
    def core_f_ns(self) -> tuple[float, ...]:
        """The median F of each core over all rows."""
        most = max((len(row.core_f_ns) for row in self.rows), default=0)
        return tuple(
            statistics.median(row.core_f_ns[k] for row in self.rows if len(row.core_f_ns) > k)
            for k in range(min(most, self.machine.cores))
        )
