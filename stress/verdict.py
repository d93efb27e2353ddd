"""What a run can end with, and the exit code of each.

The codes are pytest's where pytest has one, so that a CI script needs one table. A run that tested
nothing is not a run that passed: ``VACUOUS`` has its own code.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class Verdict(Enum):
    """Outcome of a run or of one of its parts, least to most severe."""

    PASSED = "PASSED"
    VACUOUS = "VACUOUS"
    INTERRUPTED = "INTERRUPTED"
    UNFIT = "UNFIT"
    ERROR = "ERROR"
    FAILED = "FAILED"

    @property
    def exit_code(self) -> int:
        return _EXIT_CODES[self]

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


EXIT_USAGE = 4

_EXIT_CODES = {
    Verdict.PASSED: 0,
    Verdict.FAILED: 1,
    Verdict.INTERRUPTED: 2,
    Verdict.ERROR: 3,
    Verdict.VACUOUS: 5,
    Verdict.UNFIT: 7,
}
_MEANINGS = {
    Verdict.PASSED: "no violation, and everything that had to happen did happen",
    Verdict.FAILED: "a violation was found, or a worker died or fell silent",
    Verdict.INTERRUPTED: "stopped from outside before its end",
    Verdict.ERROR: "the harness itself failed",
    Verdict.VACUOUS: "nothing ran, or a required mark was never reached",
    Verdict.UNFIT: "this machine cannot run it",
}
_SEVERITY = list(Verdict)


def code_after_loss(code: int, loss: int) -> int:
    """The exit code of a command that ended with ``code`` and could not write all of its results.

    ``loss`` is the code of that. A violation and a defect are worse, and stay what is said.
    """
    return code if code in (Verdict.FAILED.exit_code, Verdict.ERROR.exit_code) else loss


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The most severe of ``verdicts``; of none at all: VACUOUS, because nothing ran."""
    return max(verdicts, key=_SEVERITY.index, default=Verdict.VACUOUS)
