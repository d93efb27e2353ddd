"""``MeasuredView``: a view of a soak that also exports it as metrics.

Everything is passed on to the view that draws; the exporter gets the same rounds and their moments.
Those of repetitions are not exported: no round counts them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stress.metrics.state import Ending
from stress.soak.draw import Round
from stress.soak.messages import Outcome
from stress.soak.standing import Standing
from stress.soak.view import View

if TYPE_CHECKING:
    from stress.metrics.exporter import Exporter
    from stress.progress import Step
    from stress.run.progress import Moment


class MeasuredView(View):
    """Shows by ``view``, exports by ``exporter``."""

    def __init__(self, view: View, exporter: Exporter) -> None:
        self._view = view
        self._exporter = exporter
        self._in_round = False

    def begin(self, duration_s: float, standing: Standing, clock: Callable[[], float]) -> None:
        self._exporter.serve()
        self._view.begin(duration_s, standing, clock)

    def round(self, begun: Round) -> None:
        self._exporter.begin_round(begun.number, begun.kind, begun.spec)
        self._in_round = True
        self._view.round(begun)

    def doing(self, what: str) -> None:
        self._view.doing(what)

    def moment(self, moment: Moment) -> None:
        if self._in_round:
            self._exporter.last(lambda: moment)  # they come one a second
        self._view.moment(moment)

    def step(self, step: Step) -> None:
        self._view.step(step)

    def tick(self) -> None:
        self._view.tick()

    def ended(self, done: Round, outcome: Outcome) -> None:
        self._in_round = False
        self._exporter.end_round(ending_of(outcome))
        self._view.ended(done, outcome)

    def tell(self, text: str) -> None:
        self._view.tell(text)

    def finding(self, fingerprint: str, text: str) -> None:
        self._exporter.finding()
        self._view.finding(fingerprint, text)

    def end(self) -> None:
        self._view.end()


def ending_of(outcome: Outcome) -> Ending:
    """The end of a round for the exporter."""
    return Ending(
        outcome.verdict,
        outcome.violations,
        outcome.violations_total,
        outcome.latencies,
        _counts(outcome.result.get("events")),
        _count(outcome.result.get("audits")),
    )


def _counts(value: object) -> dict[str, int]:
    """Counts by name; a round that has none gives none."""
    return {str(name): _count(n) for name, n in value.items()} if isinstance(value, dict) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
