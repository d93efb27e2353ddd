"""What a run tells while it runs. ``Progress`` says nothing; the others draw or print it.

Progress goes to standard error, results to standard output, so that a pipe gets only results.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from shmalloc import constants as c
from stress.run.memory import Snapshot
from stress.spec import RunSpec

PLAIN_EVERY_S = 10.0


@dataclass(frozen=True)
class Moment:
    """The state of a run at one moment, ready to be shown."""

    elapsed_s: float
    duration_s: float
    audits: int
    snapshot: Snapshot
    workloads: tuple[str, ...]

    def event(self, which: int) -> int:
        return self.snapshot.events[which]

    @property
    def operations(self) -> int:
        counted = (c.EV_ALLOC, c.EV_FREE, c.EV_OBJ_ALLOC, c.EV_OBJ_FREE)
        return sum(self.snapshot.events[which] for which in counted)


class Progress:
    """Says nothing (``--progress never``). Also the interface of the others."""

    def tell(self, text: str) -> None:
        """A line about the run's kernels: they are compiled now, or were found damaged."""

    def begin(self, spec: RunSpec) -> None:
        """Work has started."""

    def moment(self, take: Callable[[], Moment]) -> None:
        """Called several times a second while work goes on; ``take`` reads the counters."""

    def end(self) -> None:
        """Work has ended, or never began."""


class PlainProgress(Progress):
    """One line each ten seconds, for logs and pipes."""

    def __init__(
        self,
        write: Callable[[str], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write or sys.stderr.write
        self._clock = clock
        self._next_s = clock() + PLAIN_EVERY_S

    def tell(self, text: str) -> None:
        self._write(f"{text}\n")

    def begin(self, spec: RunSpec) -> None:
        self._next_s = self._clock() + PLAIN_EVERY_S

    def moment(self, take: Callable[[], Moment]) -> None:
        if self._clock() < self._next_s:
            return
        self._next_s += PLAIN_EVERY_S
        moment = take()
        rate = moment.operations / max(moment.elapsed_s, 1e-9)
        self._write(
            f"{moment.elapsed_s:.0f}s of {moment.duration_s:g}s: {rate:,.0f} operations/s,"
            f" {moment.event(c.EV_ALLOC):,} allocs, {moment.event(c.EV_FREE):,} frees,"
            f" {moment.event(c.EV_FAIL):,} failed, {moment.event(c.EV_MERGE):,} merges,"
            f" {moment.audits} audits, {moment.snapshot.reports} violations;"
            f" {', '.join(moment.workloads)}\n"
        )
