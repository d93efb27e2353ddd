"""A run of a database as a ``Suite``: a soak, a run, a hunt that was recorded with ``--db``.

A case for each round, for each workload over all of its rounds, and for each invariant. Findings
are those that are open and were seen in this run; what is ignored or fixed is only counted. A round
whose process died is an error. Everything is read through ``Reader``; rows of another version may
lack what is looked for, and then it is not shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shmalloc.errors import Violation
from shmalloc.invariants import BY_NAME, TABLE
from stress.machine.site import Site
from stress.quantities import counted
from stress.records.finding import VIOLATION
from stress.records.reader import Reader
from stress.records.rows import FindingRow, RoundRow, RunRow, SightingRow
from stress.report.checked import Acted, is_checked
from stress.report.reporters import place_of
from stress.report.rules import of_ending, of_invariant
from stress.report.run_time import worked_s
from stress.report.suite import Case, Finding, Rule, Start, Stop, Suite, Table
from stress.report.suites.run import unbroken
from stress.verdict import Verdict

ROUNDS = ("round", "kind", "verdict", "seconds", "operations")
FINDINGS = ("finding", "what is broken", "where", "seen", "status")
JSON_TYPE = "application/json"
_LINE = re.compile("[0-9]{1,9}")


def suite_of(reader: Reader, run: RunRow) -> Suite:
    """The run, as far as it got."""
    rounds = reader.rounds(run.id)
    sightings = reader.sightings(run.id)
    seen = reader.findings(run_id=run.id)
    opened = [one for one in seen if one.status == "open"]
    verdict = _verdict(run)
    tokens = {f"token of {one.fingerprint}": one.token for one in opened if one.token}
    return Suite(
        command=run.kind,
        verdict=verdict,
        start=Start(run.started_s, 0.0, run.hostname),
        seconds=worked_s(run, rounds),
        headline=f"{verdict.name} {counted(len(rounds), 'round')},"
        f" {counted(len(opened), 'open finding')}",
        cases=[
            *_rounds(rounds, sightings, opened),
            *_workloads(rounds),
            *_invariants(rounds, opened),
        ],
        findings=[_finding(reader, one) for one in opened],
        tables=[
            Table("Rounds", ROUNDS, [*map(_round_row, rounds)], ROUNDS[3:]),
            Table("Findings", FINDINGS, [*map(_finding_row, seen)], FINDINGS[3:4]),
        ],
        properties={
            "verdict": verdict.name, "exit code": str(verdict.exit_code), "spec": run.command,
            "seed": run.seed or "", "version": run.version, "kernels": run.kernels,
            "python": run.python, **tokens,
        },
        again=[run.command, *(one.command for one in opened if one.command)],
        notes=[*_notes(run, seen)],
    )  # fmt: skip


def _verdict(run: RunRow) -> Verdict:
    """Its verdict; a run that is going on, or whose process died, has none."""
    if run.verdict in Verdict.__members__:
        return Verdict[str(run.verdict)]
    return Verdict.INTERRUPTED if run.state == "running" else Verdict.ERROR


def _notes(run: RunRow, seen: Sequence[FindingRow]) -> Iterator[str]:
    if run.state != "ended":
        yield f"the run is {run.state}; this is what it recorded"
    for status in ("ignored", "fixed"):
        some = [one for one in seen if one.status == status]
        if some:
            names = ", ".join(one.fingerprint for one in some)
            yield f"{counted(len(some), 'finding')} that are {status}: {names}"


# --- cases ---------------------------------------------------------------------------------------
def _rounds(
    rounds: Sequence[RoundRow], sightings: Sequence[SightingRow], opened: Sequence[FindingRow]
) -> Iterator[Case]:
    """A round that failed tells the first of the open findings that it saw."""
    saw: dict[int, set[str]] = {}
    for sighting in sightings:
        saw.setdefault(sighting.round_id, set()).add(sighting.fingerprint)
    for one in rounds:
        known = one.verdict in Verdict.__members__
        verdict = Verdict[str(one.verdict)] if known else Verdict.ERROR
        names = saw.get(one.id, set())
        found = next((other for other in opened if other.fingerprint in names), None)
        message = "" if found is None else f"{found.fingerprint}: {_headline(found)}"
        if not known:
            message = f"the round is {one.state}"
        passed = verdict is Verdict.PASSED
        yield Case(
            "round",
            f"{one.number} {one.kind}",
            verdict,
            one.seconds or 0.0,
            "" if passed else message,
            "" if passed or found is None else found.report,
            one.command,
        )


def _workloads(rounds: Sequence[RoundRow]) -> Iterator[Case]:
    """Each workload over all rounds; none of them tested it if it never worked."""
    operations: dict[str, int] = {}
    for one in rounds:
        for workload in one.result.get("workloads", ()):
            name = workload["name"]
            operations[name] = operations.get(name, 0) + workload.get("ops", 0)
    for name, count in operations.items():
        if count:
            yield Case("workload", name, Verdict.PASSED)
        else:
            yield Case("workload", name, Verdict.VACUOUS, message="it did nothing")


def _invariants(rounds: Sequence[RoundRow], opened: Sequence[FindingRow]) -> Iterator[Case]:
    """Those of the table, for rounds of native runs, and all that are violated."""
    acted = [Acted.of_document(one.result, one.spec) for one in rounds if one.kind == "run"]
    broken = {one.invariant: one for one in reversed(opened)}
    for row in TABLE.values() if acted else ():
        if row.name not in broken:
            yield unbroken(row, any(is_checked(row, one) for one in acted))
    for name, found in broken.items():
        yield Case(
            "invariant", name, Verdict.FAILED, 0.0, _headline(found), found.report, found.command
        )


# --- findings ------------------------------------------------------------------------------------
def _headline(found: FindingRow) -> str:
    return f"{found.invariant}: {found.sentence or found.site}"


def _finding(reader: Reader, row: FindingRow) -> Finding:
    document = _document(reader, row)
    related = tuple(_conflict(document))
    return Finding(
        rule=_rule(row),
        headline=_headline(row),
        text=row.report,
        again=row.command,
        place=_place(row, document, related),
        related=related,
        fingerprint=row.fingerprint,
        count=max(1, row.count),
        cause=str(document.get("cause", "")),
    )


def _rule(row: FindingRow) -> Rule:
    if row.invariant in BY_NAME:
        return of_invariant(row.invariant)
    known = of_ending(row.invariant.partition(" ")[0])
    return Rule(row.invariant, row.sentence or known.sentence, known.help)


def _document(reader: Reader, row: FindingRow) -> Mapping[str, Any]:
    """The failing schedule as it was kept with its first sighting; empty if there is none."""
    for file in reader.artifacts(fingerprint=row.fingerprint):
        if file.media_type == JSON_TYPE:
            return reader.schedule(file.id)
    return {}


def _conflict(document: Mapping[str, Any]) -> Iterator[Stop]:
    """The two steps that the failure is about."""
    steps = document.get("steps") or []
    for index in document.get("conflict") or ():
        step = steps[index] if 0 <= index < len(steps) else {}
        site, cpu = _site(step.get("shown_at")), step.get("cpu", 0)
        if site is not None:
            said = f"step {index}, cpu {cpu}: {step.get('text', '')}"
            yield Stop(site, said, cpu, index, decides=True)


def _place(row: FindingRow, document: Mapping[str, Any], related: Sequence[Stop]) -> Site | None:
    if row.kind == VIOLATION:
        return place_of(Violation(row.invariant, "", "", "", kernel=row.site))
    if related:
        return related[0].site
    sites = [_site(text) for text in document.get("origin") or ()]
    sites += [_site(step.get("shown_at")) for step in reversed(document.get("steps") or ())]
    return next((site for site in sites if site is not None), None)


def _site(text: object) -> Site | None:
    """``dir/file.py:12 in function`` as it was printed."""
    place, _, function = str(text or "").rpartition(" in ")
    file, _, line = place.rpartition(":")
    return Site(file, int(line), function) if file and _LINE.fullmatch(line) else None


# --- tables --------------------------------------------------------------------------------------
def _round_row(one: RoundRow) -> tuple[str, ...]:
    seconds = "" if one.seconds is None else f"{one.seconds:,.1f}"
    operations = "" if one.operations is None else f"{one.operations:,}"
    return f"{one.number}", one.kind, one.verdict or one.state, seconds, operations


def _finding_row(one: FindingRow) -> tuple[str, ...]:
    return one.fingerprint, one.invariant, one.site, f"{one.count:,}", one.status
