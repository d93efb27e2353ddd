"""What a run reports while it runs: ``Moment`` is its state, ``Progress`` the receiver.

The views are in stress/report; a run knows only this interface. Progress goes to standard error,
results to standard output, so that a pipe gets only results.

A ``Moment`` is the one sample of a run: the live view, the database, the metrics and the report all
show Moments, so that they cannot differ.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stress.run.accounts import Account
from stress.run.histogram import Histogram
from stress.run.memory import Snapshot
from stress.run.process_use import ProcessUse
from stress.spec import RunSpec


@dataclass(frozen=True)
class Moment:
    """The state of a run at one moment, ready to be shown.

    ``time_s`` is the time in unix seconds, ``elapsed_s`` the seconds of work so far.
    ``processes`` is measured once a second, ``ram_map`` every five seconds; between, the last ones
    stand. ``ram_map``: a byte for each stretch of the RAM (shmalloc/page_states.py), None before
    the first. ``latencies``: of each operation, since the run began. ``share``: how much of the
    work is done, where time does not say it: of a trace that is replayed once.
    """

    elapsed_s: float
    duration_s: float
    audits: int
    snapshot: Snapshot
    accounts: tuple[Account, ...]  # one for each workload, in the order of the spec
    time_s: float = 0.0
    processes: tuple[ProcessUse, ...] = ()
    ram_map: bytes | None = None
    latencies: Mapping[str, Histogram] = field(default_factory=dict)
    share: float | None = None

    def event(self, which: int) -> int:
        return self.snapshot.events[which]

    @property
    def done(self) -> float:
        """How much of the work is done, from 0 to 1."""
        return min(1.0, self.elapsed_s / self.duration_s) if self.share is None else self.share

    @property
    def left_s(self) -> float | None:
        """Seconds of work that are left, at the pace so far; None before there is one."""
        if self.share is None:
            return max(0.0, self.duration_s - self.elapsed_s)
        return self.elapsed_s * (1 - self.share) / self.share if self.share > 0 else None

    @property
    def operations(self) -> int:
        return sum(account.operations for account in self.accounts)

    @property
    def refused(self) -> int:
        return sum(account.refused for account in self.accounts)

    @property
    def running(self) -> list[str]:
        return [account.name for account in self.accounts if account.running]

    @property
    def used_pages(self) -> int:
        """Pages that are neither free in a zone nor on a list of a CPU."""
        snapshot = self.snapshot
        return max(0, snapshot.managed_pages - snapshot.free_pages - sum(snapshot.pcp_pages))

    @property
    def fragmentation(self) -> float:
        """How much of the free memory is in blocks too small for a huge page: 0 none, 1 all."""
        return unusable_share(self.snapshot.free_by_order)


HUGE_ORDER = 9  # of a huge page on x86-64


def unusable_share(free_by_order: Sequence[int], order: int = HUGE_ORDER) -> float:
    """The share of the free pages that no allocation of ``order`` could use, from 0 to 1.

    ``free_by_order``: free blocks of each order, the largest last; an ``order`` above it counts as
    it. As the kernel's unusable free space index (``unusable_free_index`` in mm/vmstat.c, after
    Gorman and Whitcroft, "The What, The Why and the Where To of Anti-Fragmentation", 2006)::

        (free pages - pages in free blocks of the order or a larger one) / free pages

    and as there, no free page at all is 1.
    """
    pages = [count << at for at, count in enumerate(free_by_order)]
    free = sum(pages)
    usable = sum(pages[min(order, len(pages) - 1) :])
    return (free - usable) / free if free else 1.0


class Progress:
    """Says nothing (``--progress never``). Also the interface of the views."""

    def tell(self, text: str) -> None:
        """A line about the run's kernels: they are compiled now, or were found damaged."""

    def begin(self, spec: RunSpec) -> None:
        """Work has started."""

    def moment(self, take: Callable[[], Moment]) -> None:
        """Called several times a second during work; ``take`` reads the counters."""

    def last(self, take: Callable[[], Moment]) -> None:
        """Work has ended, and memory is as it was then: the last moment of every view and record.

        Not called for a run that never began to work.
        """

    def end(self) -> None:
        """Work has ended, or never began."""


class Several(Progress):
    """Tells several receivers the same. A moment is taken once, and only if one of them asks."""

    def __init__(self, receivers: Iterable[Progress]) -> None:
        self._receivers = tuple(receivers)

    def tell(self, text: str) -> None:
        for receiver in self._receivers:
            receiver.tell(text)

    def begin(self, spec: RunSpec) -> None:
        for receiver in self._receivers:
            receiver.begin(spec)

    def moment(self, take: Callable[[], Moment]) -> None:
        once = functools.cache(take)
        for receiver in self._receivers:
            receiver.moment(once)

    def last(self, take: Callable[[], Moment]) -> None:
        once = functools.cache(take)
        for receiver in self._receivers:
            receiver.last(once)

    def end(self) -> None:
        for receiver in self._receivers:
            receiver.end()
