"""A failing round, repeated: how often does it fail, and with the same finding?

Native rounds repeat inputs and not interleavings, so a round that failed may pass. How often it
fails decides how many tries a smaller round gets (reduce.py), and the reader of a finding learns
what to expect. Exploration is exact: one repetition decides.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from stress.line import Line
from stress.quantities import counted
from stress.soak.messages import Outcome
from stress.verdict import Verdict

MISS = 0.1  # the chance that a failing round is taken for a passing one
MOST_TRIES = 6
Perform = Callable[[str], Outcome]


@dataclass
class Repetition:
    """``failed`` of ``tries`` ended with the finding; ``other``: with another one alone.

    ``longest_s``: work until the finding, at most.
    """

    tries: int = 0
    failed: int = 0
    other: int = 0
    longest_s: float = 0.0
    verdicts: list[Verdict] = field(default_factory=list)

    def add(self, outcome: Outcome, fingerprint: str) -> bool:
        """Whether the finding came again."""
        came = fingerprint in outcome.fingerprints
        self.tries += 1
        self.failed += came
        self.other += not came and outcome.verdict is Verdict.FAILED
        self.verdicts.append(outcome.verdict)
        if came:
            self.longest_s = max(self.longest_s, outcome.seconds)
        return came

    @property
    def repeatable(self) -> bool:
        return self.failed > 0

    @property
    def conclusive(self) -> bool:
        """Whether a try could run at all: one without memory, say, tells nothing of the finding."""
        return self.repeatable or any(
            verdict not in (Verdict.ERROR, Verdict.UNFIT) for verdict in self.verdicts
        )

    @property
    def tries_needed(self) -> int:
        """So many tries show a round that fails like this one, but for a chance of ``MISS``."""
        share = self.failed / self.tries if self.tries else 0.0
        if share in (0.0, 1.0):
            return 1 if share else MOST_TRIES
        return min(MOST_TRIES, math.ceil(math.log(MISS) / math.log(1 - share)))

    def __str__(self) -> str:
        if not self.tries:
            return "not repeated"
        flaky = "" if self.failed in (0, self.tries) else ", so it is flaky"
        other = f"; {self.other} failed in another way" if self.other else ""
        return f"came again in {self.failed} of {counted(self.tries, 'repetition')}{flaky}{other}"


def repeat(
    command: str,
    fingerprint: str,
    tries: int,
    perform: Perform,
    goes_on: Callable[[], bool],
    enough: int | None = None,
) -> Repetition:
    """Perform ``command`` up to ``tries`` times; an exact one once. It ends early if it came again
    ``enough`` times, or if it was interrupted."""
    found = Repetition()
    most = tries if is_native(command) else 1
    while found.tries < most and goes_on() and (enough is None or found.failed < enough):
        outcome = perform(command)
        if outcome.verdict is Verdict.INTERRUPTED:
            break
        found.add(outcome, fingerprint)
    return found


def is_native(command: str) -> bool:
    """Whether the line starts real processes, whose interleavings no seed repeats."""
    return Line.parse(command).command == "run"


class Until:
    """Whether to go on: until a time is over, or something else says stop."""

    def __init__(
        self,
        seconds: float,
        stopped: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._end_s = clock() + seconds
        self._stopped = stopped

    def __call__(self) -> bool:
        return self._clock() < self._end_s and not self._stopped()
