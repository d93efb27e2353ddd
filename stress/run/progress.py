"""What a run reports while it runs: ``Moment`` is its state, ``Progress`` the receiver.

The views are in stress/report; a run knows only this interface. Progress goes to standard error,
results to standard output, so that a pipe gets only results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stress.run.accounts import Account
from stress.run.memory import Snapshot
from stress.spec import RunSpec


@dataclass(frozen=True)
class Moment:
    """The state of a run at one moment, ready to be shown."""

    elapsed_s: float
    duration_s: float
    audits: int
    snapshot: Snapshot
    accounts: tuple[Account, ...]  # one for each workload, in the order of the spec

    def event(self, which: int) -> int:
        return self.snapshot.events[which]

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


class Progress:
    """Says nothing (``--progress never``). Also the interface of the views."""

    def tell(self, text: str) -> None:
        """A line about the run's kernels: they are compiled now, or were found damaged."""

    def begin(self, spec: RunSpec) -> None:
        """Work has started."""

    def moment(self, take: Callable[[], Moment]) -> None:
        """Called several times a second during work; ``take`` reads the counters."""

    def end(self) -> None:
        """Work has ended, or never began."""
