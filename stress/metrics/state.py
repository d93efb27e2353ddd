"""``State``: everything that is exported at one moment. It is replaced, never changed.

So a thread that answers a scrape needs no lock: it takes the state that is there. ``Sums`` are what
the rounds that are over have counted; a counter that is exported is the sum plus what the newest
``Moment`` says of the round at work, and never falls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from shmalloc import constants as c
from shmalloc.errors import Violation
from stress.run.histogram import Histogram
from stress.run.progress import Moment
from stress.verdict import Verdict
from stress.workloads import EVENT_NAMES

UNKNOWN = "unknown"  # the invariant of violations that are counted and not kept


@dataclass(frozen=True)
class Sums:
    """Counts of the rounds that are over, by workload, event, operation, invariant, verdict."""

    operations: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    events: tuple[int, ...] = (0,) * c.EV_COUNT
    latencies: Mapping[str, Histogram] = field(default_factory=dict)
    audits: int = 0
    violations: Mapping[str, int] = field(default_factory=dict)
    rounds: Mapping[str, int] = field(default_factory=dict)

    def plus(self, moment: Moment) -> Sums:
        """These counts and those of a moment."""
        latencies = dict(self.latencies)
        for name, histogram in moment.latencies.items():
            latencies[name] = latencies[name] + histogram if name in latencies else histogram
        accounts = moment.accounts
        pairs = zip(self.events, moment.snapshot.events, strict=True)
        return replace(
            self,
            operations=_added(self.operations, {one.name: one.operations for one in accounts}),
            refused=_added(self.refused, {one.name: one.refused for one in accounts}),
            events=tuple(before + now for before, now in pairs),
            latencies=latencies,
            audits=self.audits + moment.audits,
        )

    def plus_round(self, verdict: Verdict, violations: Mapping[str, int]) -> Sums:
        """These counts and the outcome of a round."""
        return replace(
            self,
            violations=_added(self.violations, violations),
            rounds=_added(self.rounds, {verdict.name: 1}),
        )


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in (*one, *other)}


def by_invariant(violations: Iterable[Violation], total: int) -> dict[str, int]:
    """How many violations each invariant has; those above ``total`` that were not kept, unknown."""
    found = Counter(violation.invariant for violation in violations)
    more = total - found.total()
    return {**found, UNKNOWN: more} if more > 0 else dict(found)


@dataclass(frozen=True)
class Ending:
    """How a round ended. ``total``: its violations, with those that were not kept.

    ``latencies``, ``events`` (by name), ``audits``: of its result, which are newer than those of
    its last moment: the end gives everything back, and is audited. Empty if it has none.
    """

    verdict: Verdict
    violations: Sequence[Violation] = ()
    total: int = 0
    latencies: Mapping[str, Histogram] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)
    audits: int = 0

    def after(self, moment: Moment) -> Moment:
        """``moment`` with what has been counted since."""
        before = moment.snapshot.events
        names = ((EVENT_NAMES.get(number, ""), count) for number, count in enumerate(before))
        events = tuple(self.events.get(name, count) for name, count in names)
        return replace(
            moment,
            snapshot=replace(moment.snapshot, events=events),
            latencies=self.latencies or moment.latencies,
            audits=max(self.audits, moment.audits),
        )


@dataclass(frozen=True)
class State:
    """``moment``: of round ``round``, None before its first; ``sums``: of the rounds before it.

    ``kind``, ``about``: of the round at work: the command that it is, and its settings by option.
    ``findings``: what was found that was not known. ``verdict``: of everything, at its end.
    """

    command: str
    started_s: float
    round: int = 0
    kind: str = ""
    about: Mapping[str, object] = field(default_factory=dict)
    findings: int = 0
    moment: Moment | None = None
    sums: Sums = field(default_factory=Sums)
    finished: bool = False
    verdict: Verdict | None = None

    @property
    def counts(self) -> Sums:
        """All counts, the round at work included."""
        return self.sums if self.moment is None else self.sums.plus(self.moment)
