"""The plain view of a run: one line each ten seconds, for logs and pipes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from stress.quantities import counted
from stress.run.progress import Moment, Progress
from stress.spec import RunSpec

__all__ = ["Moment", "PlainProgress", "Progress"]

PLAIN_EVERY_S = 10.0


class PlainProgress(Progress):
    """Prints one line each ten seconds; the rates are of the last ten seconds."""

    def __init__(
        self,
        write: Callable[[str], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write or sys.stderr.write
        self._clock = clock
        self._next_s = clock() + PLAIN_EVERY_S
        self._before: Moment | None = None

    def tell(self, text: str) -> None:
        self._write(f"{text}\n")

    def begin(self, spec: RunSpec) -> None:
        self._next_s = self._clock() + PLAIN_EVERY_S

    def moment(self, take: Callable[[], Moment]) -> None:
        if self._clock() < self._next_s:
            return
        self._next_s += PLAIN_EVERY_S
        moment = take()
        self._write(f"{plain_line(moment, self._before)}\n")
        self._before = moment


def plain_line(moment: Moment, before: Moment | None) -> str:
    """One moment in one line; ``before`` is the last one that was shown."""
    done, since_s = (before.operations, before.elapsed_s) if before else (0, 0.0)
    rate = (moment.operations - done) / max(moment.elapsed_s - since_s, 1e-9)
    return (
        f"{moment.elapsed_s:.0f}s{_of_what(moment)}: {moment.operations:,} operations,"
        f" {rate:,.0f} per second, {moment.refused:,} refused (out of memory, expected),"
        f" {moment.used_pages:,} of {moment.snapshot.managed_pages:,} pages in use,"
        f" {counted(moment.audits, 'audit')}, {counted(moment.snapshot.reports, 'violation')};"
        f" running {', '.join(moment.running) or 'nothing'}"
    )


def _of_what(moment: Moment) -> str:
    if moment.share is not None:
        return f", {moment.share:.0%} of the trace"
    return f" of {moment.duration_s:g}s"
