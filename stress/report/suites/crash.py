"""Crash runs as a ``Suite``: a case for each program in which CPUs died.

Runs that were cut at the step limit are no pass: their case is skipped. Failures are repeated,
interpreted, to put them into words; beyond ``TOLD`` of them only the place of the death is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stress.crash.account import account_of, tell
from stress.crash.report import COLUMNS, table_rows
from stress.crash.result import AT_END, VERDICT_OF, CrashFailure, CrashResult
from stress.crash.sites import Coverage
from stress.explorer.report.naming import Naming
from stress.explorer.report.trace import kind_of
from stress.quantities import counted
from stress.records.failures import identity_of_crash
from stress.report.rules import of_ending
from stress.report.suite import Case, Finding, Start, Stop, Suite, Table
from stress.report.suites.account import finding_of
from stress.verdict import Verdict

TOLD = 10


@dataclass(frozen=True)
class Crashed:
    """``total``: the sum of ``by_name``. ``known``: the write sites of the allocator."""

    total: CrashResult
    by_name: Mapping[str, CrashResult]
    known: Sequence[Coverage] = ()
    interrupted: bool = False

    @property
    def verdict(self) -> Verdict:
        if self.interrupted and not self.total.failures:
            return Verdict.INTERRUPTED
        return VERDICT_OF[self.total.verdict]


def suite_of(crashed: Crashed, start: Start, command: str) -> Suite:
    """``command``: the line that kills them again."""
    total, verdict = crashed.total, crashed.verdict
    failures = total.failures
    cut = "interrupted" if total.interrupted else "the time ran out"
    left = [] if total.complete else [f"{cut} before everything was tried"]
    if total.ignored:
        places = counted(len(total.ignored), "place")
        left.append(f"{places} where only ignored failures were")
    return Suite(
        command="crash",
        verdict=verdict,
        start=start,
        seconds=start.elapsed_s,
        headline=f"{verdict.name} {counted(total.cases, 'program')},"
        f" {counted(total.schedules, 'schedule')}, {total.runs:,} crashes, {_lost(total):,} not"
        " recovered",
        cases=[_case(name, result) for name, result in crashed.by_name.items()],
        findings=[finding_of_crash(failure, at < TOLD) for at, failure in enumerate(failures)],
        tables=[
            Table("Operations", COLUMNS, table_rows(total, crashed.known), right=COLUMNS[1:]),
        ],
        properties={"verdict": verdict.name, "exit code": str(verdict.exit_code), "spec": command},
        again=[command, *(failure.command for failure in failures[:TOLD])],
        notes=left,
    )


def _lost(result: CrashResult) -> int:
    return result.total().failed + result.total(second=True).failed


def _case(name: str, result: CrashResult) -> Case:
    first = result.failures[0] if result.failures else None
    message = "" if first is None else str(first)
    if result.verdict == "cut":
        message = f"{counted(result.cut, 'run')} cut at the step limit"
    return Case(
        "case",
        name,
        VERDICT_OF[result.verdict],
        result.seconds,
        message,
        message if first is None else tell(first),
        "" if first is None else first.command,
    )


def finding_of_crash(failure: CrashFailure, told: bool = True) -> Finding:
    """``told``: repeat the run and tell its steps."""
    place = None if failure.key.site == AT_END else failure.key.site
    fingerprint = identity_of_crash(failure).fingerprint
    if not told:
        naming = Naming(failure.case.program)
        rule = of_ending(kind_of(failure.kind), naming.code(failure.code))
        words = str(failure)
        return Finding(rule, words, words, failure.command, place, fingerprint=fingerprint)
    found = finding_of(account_of(failure))
    found = replace(found, headline=str(failure), fingerprint=fingerprint)
    if place is None:
        return found
    died = Stop(place, f"cpu {failure.victim} dies before this write", failure.victim)
    return replace(found, place=place, related=(died, *found.related))
