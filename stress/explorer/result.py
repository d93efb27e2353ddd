"""What an exploration found, and what it can promise when it found nothing.

A pass concerns one world under one memory model, and the verdict line names both.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from html import escape

from stress.explorer.report.failure import Failure
from stress.machine.models import MODELS
from stress.machine.program import Program
from stress.quantities import counted, rough_count
from stress.verdict import Verdict

FAILED = "failed"
EXHAUSTED = "passed-exhausted"
BUDGET = "passed-budget"
ABANDONED = "abandoned"
ERROR = "error"
INTERRUPTED = "interrupted"
PASSED = (EXHAUSTED, BUDGET)
VERDICTS = (FAILED, EXHAUSTED, BUDGET, ABANDONED, ERROR, INTERRUPTED)
VERDICT_OF = {
    FAILED: Verdict.FAILED,
    EXHAUSTED: Verdict.PASSED,
    BUDGET: Verdict.PASSED,
    ABANDONED: Verdict.VACUOUS,
    ERROR: Verdict.ERROR,
    INTERRUPTED: Verdict.INTERRUPTED,
}


@dataclass(frozen=True, eq=False, repr=False)
class Exploration:
    """The result of ``explore``. It is true if it passed, so that ``assert explore(...)`` works.

    ``verdict``: "failed"; "passed-exhausted": every schedule (or one of each class) was run;
    "passed-budget": none failed before the budget ended, which proves nothing but ``guarantee``;
    "abandoned": none failed, but some were cut at the step limit and nothing was exhausted, or the
    budget ended before the first;
    "error": a schedule did not repeat, or a check wrote, so the result cannot be trusted;
    "interrupted": stopped from outside before any of these (``ExplorationInterrupted``).

    ``classes``: distinct classes of equivalent schedules, if they were counted (dpor).
    ``estimate``: of all classes; ``interval``: of 95 % (sampling.py), if there was time for one.
    ``redundant``: schedules that DPOR dropped. ``failures``: schedules that failed; ``failure`` is
    the first. ``known``: failures that were passed, one of each that ends alike, with their
    numbers. ``outcomes``: how often each tuple of observed values was seen.
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
    known: tuple[tuple[Failure, int], ...] = ()
    interval: tuple[float, float] | None = None

    @property
    def passed(self) -> bool:
        return self.verdict in PASSED

    def __bool__(self) -> bool:
        return self.passed

    @property
    def world(self) -> str:
        """``2 CPUs, 2 pages, order <= 1``: the scope of the verdict."""
        program = self.program
        cpus = counted(len(program.threads), "CPU")
        return f"{cpus}, {program.world or counted(program.words, 'word')}"

    def __str__(self) -> str:
        """One line."""
        if self.passed:
            parts = [f"{self.program.name} ({self.strategy}): {self.verdict}"]
            parts[0] += f" under {MODELS[self.memory].told}: {self.world}; {self._amount}"
        else:
            parts = [f"{self.program.name} ({self.memory}, {self.strategy}): {self.verdict}"]
            if self.failure is not None:
                parts.append(self.failure.headline.partition(": ")[2])
            parts.append(self._amount)
        return ", ".join([*parts, f"{counted(self.steps, 'step')} in {self.seconds:.2f} s"])

    @property
    def _amount(self) -> str:
        if self.classes is None or self.verdict == ABANDONED:  # cut schedules are no classes
            return counted(self.schedules, "schedule")
        classes = f"{self.classes:,} class{'' if self.classes == 1 else 'es'}"
        if self.verdict == EXHAUSTED or self.estimate is None or self.estimate <= self.classes:
            return classes
        low, high = self.interval or (0, 0)
        range_of_it = f" ({rough_count(low)} to {rough_count(high)})" if low < high else ""
        more = " or more" if self.interval is None else ""
        return f"{classes} of about {rough_count(self.estimate)}{range_of_it}{more}"

    def __repr__(self) -> str:
        return f"<Exploration {self}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the page of the failure, or the line."""
        if self.failure is not None:
            return self.failure._repr_html_()
        return f"<p>{escape(str(self))}</p>"


class ExplorationInterrupted(KeyboardInterrupt):
    """A Ctrl-C ended ``explore``; ``exploration`` is what it had found."""

    def __init__(self, exploration: Exploration) -> None:
        super().__init__(str(exploration))
        self.exploration = exploration
