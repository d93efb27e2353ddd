"""What an exploration found, and what it can promise when it found nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from stress.explorer.report.failure import Failure
from stress.machine.program import Program

FAILED = "failed"
EXHAUSTED = "passed-exhausted"
BUDGET = "passed-budget"
ABANDONED = "abandoned"
ERROR = "error"
VERDICTS = (FAILED, EXHAUSTED, BUDGET, ABANDONED, ERROR)


@dataclass(frozen=True, eq=False)
class Exploration:
    """The result of ``explore``.

    ``verdict``: "failed"; "passed-exhausted": every schedule (or one of each class) was run;
    "passed-budget": none failed before the budget ended, which proves nothing but ``guarantee``;
    "abandoned": none failed, but some were cut at the step limit and nothing was exhausted;
    "error": a schedule did not repeat, so nothing of this can be trusted.

    ``classes``: distinct classes of equivalent schedules, where they were counted (dpor).
    ``estimate``: of all classes. ``redundant``: schedules that DPOR started in vain. ``failures``:
    schedules that failed; ``failure`` is the first. ``outcomes``: how often each tuple of observed
    values was seen.
    """

    program: Program
    verdict: str
    strategy: str
    memory: str
    engine: str
    seed: int
    schedules: int
    steps: int
    classes: int | None
    estimate: float | None
    abandoned: int
    redundant: int
    outcomes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    failure: Failure | None = None
    failures: int = 0
    seconds: float = 0.0
    longest: int = 0
    guarantee: str = ""
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.verdict in (EXHAUSTED, BUDGET)

    def __str__(self) -> str:
        """One line."""
        parts = [f"{self.program.name} ({self.memory}, {self.strategy}): {self.verdict}"]
        if self.failure is not None:
            parts.append(self.failure.headline.partition(": ")[2])
        if self.classes is not None:
            known = f" of about {self.estimate:,.0f}" if self.estimate is not None else ""
            whole = "" if self.verdict == EXHAUSTED else known
            parts.append(f"{self.classes:,} class{'' if self.classes == 1 else 'es'}{whole}")
        else:
            parts.append(f"{self.schedules:,} schedule{'' if self.schedules == 1 else 's'}")
        parts.append(f"{self.steps:,} steps in {self.seconds:.2f} s")
        return ", ".join(parts)
