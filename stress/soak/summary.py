"""What a soak says at its end: text for people, and one JSON document.

Rounds by kind and verdict with their rates, features that were never tried, marks, rounds that were
lost, and each finding with the line that shows it again. ``!!!`` begins the line of a finding, for
grep, as in the report of a run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shmalloc import __version__
from stress.quantities import counted, exact_duration
from stress.records.reader import Reader
from stress.records.rows import FindingRow, RoundRow
from stress.report.environment import environment
from stress.soak.draw import Drawer
from stress.soak.session import Session
from stress.soak.spec import KINDS
from stress.soak.standing import Standing
from stress.tables import grid, text_of
from stress.verdict import Verdict

SCHEMA = 1
COLUMNS = ("rounds", "passed", "failed", "vacuous", "other", "seconds", "operations", "per second")


@dataclass(frozen=True)
class Summary:
    """``findings``: those that this soak saw. ``lost``: rounds whose soak died in them."""

    session: Session
    verdict: Verdict
    findings: Sequence[FindingRow]
    lost: Sequence[RoundRow]
    features: Sequence[str]

    @classmethod
    def of(cls, session: Session, verdict: Verdict, drawer: Drawer, path: Path) -> Summary:
        """Read from the database what the counts do not have."""
        standing = session.standing
        seen = {*standing.found, *standing.again, *standing.fixed}
        with Reader(path) as reader:
            findings = [one for one in reader.findings() if one.fingerprint in seen]
            lost = [one for one in reader.rounds(session.run_id) if one.state == "lost"]
        kinds = [kind for kind in KINDS if any(k == kind for k, _ in standing.rounds)]
        features = dict.fromkeys(name for kind in kinds for name in drawer.features(kind))
        return cls(session, verdict, findings, lost, list(features))

    @property
    def standing(self) -> Standing:
        return self.session.standing

    def coverage(self) -> tuple[list[str], list[str]]:
        """Features that no round of real processes had, and those that all of them had."""
        standing = self.standing
        runs = sum(n for (kind, _), n in standing.rounds.items() if kind in ("run", "trace"))
        never = [name for name in self.features if standing.on[name] == 0]
        return never, [name for name in self.features if standing.on[name] == runs > 0]

    # --- text ---
    def lines(self) -> Iterator[str]:
        yield from self._findings()
        yield from self.standing.troubles
        if self.standing.changed:
            yield self.standing.changed
        for text in self.standing.growth:
            yield f"!!! {text}"
        yield from _table(self.standing)
        yield from self._coverage_lines()
        for one in self.lost:
            yield f"round {one.number} was lost when the soak died; to run it: {one.command}"
        if self.standing.missed_marks:
            missed = ", ".join(self.standing.missed_marks)
            yield f"never reached, so nothing was tested there: {missed}"
        yield self.last_line()

    def last_line(self) -> str:
        standing = self.standing
        count = len({*standing.found, *standing.again})
        return (
            f"{self.verdict.name} seed={self.session.spec.seed:#x} rounds={standing.total}"
            f" findings={count} lost={len(self.lost)} sessions={standing.sessions}"
            f" seconds={standing.clock_s:.0f} spec: {self.session.spec.command_line()}"
        )

    def _findings(self) -> Iterator[str]:
        standing = self.standing
        for one in self.findings:
            times = standing.found[one.fingerprint]
            seen = f"seen in {counted(times, 'round')}" if times else "not seen in a round"
            again = {None: "not repeated yet", 0: "never came again", 1: "came again"}
            known = ", known from before" if one.fingerprint in standing.again else ""
            said = f"{one.status}{known}, {seen}, {again[one.repeatable]}"
            yield f"!!! {one.fingerprint} {one.invariant} at {one.site}: {said}"
            yield f"      to see it again: {one.command}"

    def _coverage_lines(self) -> Iterator[str]:
        never, always = self.coverage()
        total = len(self.features)
        if total:
            varied = total - len(never) - len(always)
            yield f"features: {varied} of {total} were on in some rounds and off in others"
        if never:
            yield f"  never on: {', '.join(never)}"
        if always:
            yield f"  never off: {', '.join(always)}"
        marks = [f"{name} {count:,}" for name, count in sorted(self.standing.marks.items())]
        if marks:
            yield f"marks: {', '.join(marks)}"

    # --- data ---
    def document(self) -> str:
        """One JSON document, ending with a newline."""
        never, always = self.coverage()
        spec = self.session.spec
        document = {
            "schema": SCHEMA,
            "tool": {"name": "shmstress", "version": __version__, "command": "soak"},
            "environment": environment(),
            "spec": spec.texts(),
            "verdict": self.verdict.name,
            "exit_code": self.verdict.exit_code,
            **self.standing.as_dict(),
            "features_never_on": never,
            "features_never_off": always,
            "missed_marks": self.standing.missed_marks,
            "lost": [{"number": one.number, "command": one.command} for one in self.lost],
            "findings": [one.as_dict() for one in self.findings],
            "reproduce": {"command": spec.command_line(), "exact": False},
        }
        return json.dumps(document, indent=2) + "\n"


def _table(standing: Standing) -> Iterator[str]:
    """One row for each kind of rounds."""
    table = grid("kind", *COLUMNS, right=COLUMNS)
    for kind in KINDS:
        verdicts: dict[str, Any] = {v: n for (k, v), n in standing.rounds.items() if k == kind}
        if not verdicts:
            continue
        total = sum(verdicts.values())
        shown = [verdicts.pop(verdict.name, 0) for verdict in
                 (Verdict.PASSED, Verdict.FAILED, Verdict.VACUOUS)]  # fmt: skip
        seconds, operations = standing.seconds.get(kind, 0.0), standing.operations[kind]
        numbers = (total, *shown, sum(verdicts.values()))
        table.add_row(
            kind,
            *(f"{number:,}" for number in numbers),
            f"{seconds:,.0f}",
            f"{operations:,}",
            f"{operations / seconds:,.0f}" if seconds else "-",
        )
    if standing.total:
        yield from text_of(table).splitlines()
        yield "operations of explore are schedules, and those of crash are deaths"


def first_line(session: Session) -> str:
    """What begins, or goes on, with its seed."""
    spec, standing = session.spec, session.standing
    told = f"shmstress {__version__} seed={spec.seed:#x} spec: {spec.command_line()}"
    if not standing.total:
        return told
    left = exact_duration(round(max(0.0, spec.duration_s - standing.clock_s)))
    return f"{told}\ngoing on after {counted(standing.total, 'round')}, {left} are left"
