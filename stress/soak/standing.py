"""``Standing``: how far a soak is, as counts. The live view and the summary are made of it.

It is kept in the database with every round (``runs.summary``), in the transaction that ends the
round, so that a soak that was killed goes on from there with nothing counted twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stress.soak.draw import Round
from stress.soak.messages import Outcome
from stress.verdict import Verdict, worst

MOST_TROUBLES = 20
BAD = (Verdict.ERROR, Verdict.UNFIT)


@dataclass
class Standing:
    """Counts over all rounds that ended.

    ``clock_s``: how long the soak has run, over all of its sessions. ``last_number``: of a round
    that ended; its row may be gone (``--keep``). ``rounds``: by kind and verdict. ``operations``,
    ``seconds``: of work, by kind. ``on``: rounds with a feature. ``marks``: how often each required
    mark was reached. ``found``: how many rounds saw each finding, by fingerprint. ``again``: open
    findings of earlier soaks that came again when they were repeated at the start. ``fixed``: those
    that did not, with other kernels. ``troubles``: of rounds that ended in ERROR or UNFIT.
    ``growth``: of the soak's own process. ``changed``: why it ended when the kernels had changed.
    """

    clock_s: float = 0.0
    sessions: int = 0
    last_number: int = 0
    rounds: Counter[tuple[str, str]] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    on: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    again: list[str] = field(default_factory=list)
    fixed: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    growth: list[str] = field(default_factory=list)
    bad_in_a_row: int = 0
    changed: str = ""

    def add(self, done: Round, outcome: Outcome, fingerprints: Iterable[str]) -> None:
        """Count a round that has ended."""
        kind, verdict = done.kind, outcome.verdict
        self.last_number = max(self.last_number, done.number)
        self.rounds[kind, verdict.name] += 1
        self.operations[kind] += outcome.operations
        self.seconds[kind] = self.seconds.get(kind, 0.0) + outcome.seconds
        self.on.update(done.on)
        marks: Any = outcome.result.get("marks", {})
        if verdict in (Verdict.PASSED, Verdict.VACUOUS):  # one that was cut short need not reach it
            for name, count in marks.items():
                self.marks[name] += count
        self.found.update(set(fingerprints))
        self.bad_in_a_row = self.bad_in_a_row + 1 if verdict in BAD else 0
        if verdict in BAD and len(self.troubles) < MOST_TROUBLES:
            said = "; ".join(outcome.troubles) or verdict.meaning
            self.troubles.append(
                f"round {done.number} ended in {verdict.name}: {said}\n  {done.command}"
            )

    @property
    def total(self) -> int:
        return sum(self.rounds.values())

    def of_verdict(self, verdict: Verdict) -> int:
        return sum(count for (_, name), count in self.rounds.items() if name == verdict.name)

    @property
    def missed_marks(self) -> list[str]:
        """Marks that rounds required and no round reached."""
        return sorted(name for name, count in self.marks.items() if count == 0)

    def verdict(self, ignored: Iterable[str], interrupted: bool) -> Verdict:
        """What the whole soak comes to. A finding that is ignored does not count."""
        verdicts = [verdict for verdict in BAD if self.of_verdict(verdict)]
        if self.changed:
            verdicts.append(Verdict.ERROR)
        if {*self.found, *self.again} - set(ignored) or self.growth:
            verdicts.append(Verdict.FAILED)
        if interrupted:
            verdicts.append(Verdict.INTERRUPTED)
        elif self.missed_marks or not self.of_verdict(Verdict.PASSED):
            verdicts.append(Verdict.VACUOUS)
        return worst([*verdicts, Verdict.PASSED])

    def as_dict(self) -> dict[str, Any]:
        """In JSON's types; ``from_dict`` reads it."""
        rounds: dict[str, dict[str, int]] = {}
        for (kind, verdict), count in sorted(self.rounds.items()):
            rounds.setdefault(kind, {})[verdict] = count
        seconds = {kind: round(value, 3) for kind, value in self.seconds.items()}
        whole = {**vars(self), "clock_s": round(self.clock_s, 3), "rounds": rounds}
        return {**whole, "seconds": seconds}

    @classmethod
    def from_dict(cls, whole: Mapping[str, Any]) -> Standing:
        """Raises ``TypeError`` for names that this version does not know."""
        found = cls()
        for name, value in whole.items():
            if not hasattr(found, name):
                raise TypeError(f"it has {name!r}")
            counts = isinstance(getattr(found, name), Counter)
            setattr(found, name, Counter(value) if counts else value)
        found.rounds = Counter({
            (kind, verdict): count
            for kind, verdicts in whole.get("rounds", {}).items()
            for verdict, count in verdicts.items()
        })  # fmt: skip
        return found
