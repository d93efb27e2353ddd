"""``View``: what a soak shows while it runs; this one shows nothing, ``LineView`` prints lines.

Lines go to standard error: one for each round that ended, one for each step of a repetition that
matters. live.py draws instead, from the same calls.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from stress.quantities import counted
from stress.soak.draw import Round
from stress.soak.messages import Outcome
from stress.soak.standing import Standing

if TYPE_CHECKING:
    from stress.progress import Step
    from stress.run.progress import Moment


class View:
    """Says nothing (``--progress never``)."""

    def begin(self, duration_s: float, standing: Standing, clock: Callable[[], float]) -> None:
        """``clock``: seconds that the soak has run so far, of ``duration_s``."""

    def round(self, begun: Round) -> None:
        """A round has begun."""

    def doing(self, what: str) -> None:
        """What is done instead of a round: a repetition, or a smaller round."""

    def moment(self, moment: Moment) -> None:
        """The sample that is recorded at this moment."""

    def step(self, step: Step) -> None:
        """How far an exploration is."""

    def tick(self) -> None:
        """Called several times a second."""

    def ended(self, done: Round, outcome: Outcome) -> None:
        """The round has ended, and is recorded."""

    def tell(self, text: str) -> None:
        """A line that stays."""

    def finding(self, fingerprint: str, text: str) -> None:
        """Something was found that is new, or new in this soak."""

    def end(self) -> None:
        """The soak is over."""


class LineView(View):
    """Plain lines, for logs and pipes."""

    def __init__(self, write: Callable[[str], object] | None = None) -> None:
        self._write = write or sys.stderr.write
        self._begun_s = time.monotonic()

    def round(self, begun: Round) -> None:
        self._begun_s = time.monotonic()

    def doing(self, what: str) -> None:
        self.tell(f"  {what}")

    def ended(self, done: Round, outcome: Outcome) -> None:
        took_s = time.monotonic() - self._begun_s
        self.tell(
            f"round {done.number} ({done.kind}): {outcome.verdict.name} after {took_s:.1f} s,"
            f" {counted(outcome.operations, UNITS[done.kind])}; {done.words}"
        )

    def tell(self, text: str) -> None:
        self._write(f"{text}\n")

    def finding(self, fingerprint: str, text: str) -> None:
        self.tell(f"!!! {fingerprint}: {text}")


UNITS = {"run": "operation", "trace": "operation", "explore": "schedule", "crash": "death"}
