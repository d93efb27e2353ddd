"""One bench from beginning to end: what is measured, in which order.

``Wanted`` is what the command was asked for. The patterns come first, then what grows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shmalloc.errors import MisuseError
from stress.bench import peers, rounds
from stress.bench.catalogue import Pattern
from stress.bench.growth import measure_growth
from stress.bench.jobs import make_jobs
from stress.bench.machine import Machine
from stress.bench.result import Result
from stress.bench.team import Team
from stress.progress import Report, silent


@dataclass(frozen=True)
class Wanted:
    """``counts``: numbers of workers. ``peers``: names, or name=file; () is all that are here.
    ``growth``: whether to measure what grows, too; then there may be no ``patterns``."""

    patterns: Sequence[Pattern]
    counts: Sequence[int]
    peers: Sequence[str]
    rounds: int
    full: bool = False
    growth: bool = False


def perform(wanted: Wanted, report: Report = silent) -> Result:
    """Measure. Raises ``BenchError``, and ``MisuseError`` if nothing fits what was asked for."""
    result = Result(Machine.here(), wanted.rounds)
    if wanted.patterns:
        with tempfile.TemporaryDirectory(prefix="shmstress-bench-") as folder:
            _patterns(result, wanted, Path(folder), report)
    if wanted.growth:
        measure_growth(result, report=report)
    return result


def _patterns(result: Result, wanted: Wanted, folder: Path, report: Report) -> None:
    if not any(one.fits(workers) for one in wanted.patterns for workers in wanted.counts):
        names = ", ".join(pattern.name for pattern in wanted.patterns)
        raise MisuseError(f"workers: no pattern of {names} can be run by so many")
    found, missing = peers.found(wanted.peers, folder)
    kinds = {kind for pattern in wanted.patterns for kind in pattern.peers}
    result.missing += [str(one) for one in missing if one.kind in kinds]
    jobs = make_jobs(wanted.patterns, wanted.counts, found, wanted.full)
    with Team(jobs) as team:
        rows, lost = rounds.measure(team, result.rounds, report)
        team.finish()
        result.missing += [f"{name} is not measured: {why}" for name, why in team.refused.items()]
    result.rows += rows
    result.lost += [str(job) for job in lost]
