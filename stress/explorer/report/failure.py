"""What the explorer found: a failure, with its trace and the one line that shows it again."""

from __future__ import annotations

from dataclasses import dataclass

from stress.explorer.address import again, again_title
from stress.explorer.report.account import Account
from stress.explorer.report.trace import KINDS, Blocked, Step, Trace
from stress.quantities import counted

__all__ = ["KINDS", "Blocked", "Failure", "Step", "Trace"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Failure(Account):
    """What went wrong, and the one line that shows it again.

    ``kind``: one of KINDS. ``code``: what the check or invariant returned, else 0. ``schedule``:
    the token for ``replay``. ``shrunk``: every directive of it is needed. ``preemptions``: how
    often a CPU was stopped that could have continued. ``cause``: one or two sentences.
    """

    schedule: str
    shrunk: bool
    preemptions: int
    found_after: int = 0  # schedules
    shrink_seconds: float = 0.0
    replays: int = 0

    def report(self, width: int = 120, paths: bool = False) -> str:
        """The failure as text: one column for each CPU, source lines, values, switches.

        ``paths``: with the calls that led to each step.
        """
        from stress.explorer.report.text import render

        return render(self, width, paths)

    def html(self) -> str:
        """The failure as one self-contained page."""
        from stress.explorer.report.html import render

        return render(self)

    @property
    def facts(self) -> list[str]:
        """How it was found and shrunk, and its preemptions; or that a replay ran it."""
        preemptions = counted(self.preemptions, "preemption")
        if self.found_after == 0:
            return [preemptions]
        replays = f"{counted(self.replays, 'replay')} ({self.shrink_seconds:.2f} s)"
        if self.shrunk:
            shrunk = f"shrunk in {replays}"
        elif self.replays:
            shrunk = f"shrinking not finished after {replays}"
        else:
            shrunk = "not shrunk"
        return [f"found after {counted(self.found_after, 'schedule')}", shrunk, preemptions]

    @property
    def again_title(self) -> str:
        return again_title(self.program)

    @property
    def again(self) -> list[str]:
        return [again(self.program, self.schedule)]

    def __repr__(self) -> str:
        return f"<Failure {self.headline}, {counted(len(self.trace.steps), 'step')}>"

    def _repr_html_(self) -> str:
        """The page, in a frame of its own: what a notebook shows."""
        from stress.explorer.report.html import framed

        return framed(self)
