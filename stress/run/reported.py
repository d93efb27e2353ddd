"""Which violations end a run, and which it goes past because they are known.

Without known ones the first report of a kernel, or the first violation that the controller sees,
ends the run. A known one is set aside: the run goes on, and its verdict does not depend on it. The
segment keeps ``c.REPORTS`` reports; at each stutter point those that were looked at make room. More
than that between two stutter points cannot be told apart any more, and end the run: a flood of
reports means that the memory is corrupt beyond going on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from shmalloc import constants as c
from shmalloc.errors import Violation
from stress.run.memory import RunMemory
from stress.run.result import RunResult

IsKnown = Callable[[Violation], bool]


class Reported:
    """The violations of one run. ``is_known`` None: there are no known ones."""

    def __init__(self, memory: RunMemory, result: RunResult, is_known: IsKnown | None) -> None:
        self._memory = memory
        self._result = result
        self._is_known = is_known
        self._looked = 0  # reports of the table that are known

    @property
    def passed(self) -> bool:
        """Whether the run went past one already."""
        return bool(self._looked or self._result.ignored)

    def is_known(self, violation: Violation | None) -> bool:
        return violation is not None and self._is_known is not None and self._is_known(violation)

    def ends_run(self) -> bool:
        """Whether there is a violation that is not known; also while workers work."""
        count = self._memory.reports.count()
        if self._is_known is None or count > c.REPORTS:
            return bool(count or self._result.violations)
        for violation in self._memory.reports.complete(self._looked):
            if not self._is_known(violation):
                return True
            self._looked += 1
        return not all(map(self._is_known, self._result.violations))

    def make_room(self) -> None:
        """Set aside what is known and empty the table; every worker is parked."""
        if self._is_known is None or self.ends_run() or not self._memory.reports.count():
            return
        self._set_aside(self._memory.reports.violations())
        self._memory.clear_reports()
        self._looked = 0

    def collect(self) -> None:
        """Sort all violations into the result, after the last worker has left."""
        result, reports = self._result, self._memory.reports
        every = [self._with_sites(one) for one in (*result.violations, *reports.violations())]
        result.violations = [one for one in every if not self.is_known(one)]
        lost = max(0, reports.count() - c.REPORTS)
        result.violations_total = len(result.violations) + lost
        if lost and not result.violations:
            text = f"{lost} more, of which none can be told to be known"
            result.violations = [_overflow(text)]
        self._set_aside(one for one in every if self.is_known(one))

    def _with_sites(self, violation: Violation) -> Violation:
        """What was not given back names the calls that allocated it, where these are sampled."""
        if violation.number != c.I_TEARDOWN:
            return violation
        return replace(violation, history=violation.history + self._memory.call_sites())

    def _set_aside(self, violations: Iterable[Violation]) -> None:
        result = self._result
        for violation in violations:
            result.ignored_total += 1
            if len(result.ignored) < c.REPORTS:
                result.ignored.append(violation)


def _overflow(found: str) -> Violation:
    return Violation("report table", "segment", f"at most {c.REPORTS} reports at a time", found)
