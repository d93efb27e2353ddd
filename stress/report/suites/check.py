"""A check as a ``Suite``: a case for each program and memory model, and for each crash case.

A program for which there was no time, or whose schedules were all cut, was not checked: its case is
skipped. The first finding is the one with the shortest schedule, below the changed lines that it
ran.
"""

from __future__ import annotations

from dataclasses import dataclass

from stress.check import unprepared
from stress.check.blame import with_suspects
from stress.check.changes import Changes
from stress.check.loop import CRASH, Job, Loop, Outcome
from stress.check.select import Selection
from stress.check.unprepared import UnpreparedError
from stress.check.verdict import COLUMNS, failure_text, not_checked, row, shortest, verdict_of
from stress.crash.result import CrashFailure
from stress.explorer.report.failure import Failure
from stress.explorer.result import ABANDONED, ERROR
from stress.report.rules import of_ending
from stress.report.suite import Case, Finding, Start, Suite, Table
from stress.report.suites.account import finding_of
from stress.report.suites.crash import finding_of_crash
from stress.verdict import Verdict


@dataclass(frozen=True)
class Checked:
    """All that a check knows when it is over. ``seconds``: its budget."""

    loop: Loop
    selection: Selection
    changes: Changes | None
    seconds: float
    interrupted: bool = False

    @property
    def verdict(self) -> Verdict:
        if self.interrupted and not self.loop.failures:
            return Verdict.INTERRUPTED
        return verdict_of(self.loop)


def suite_of(checked: Checked, start: Start, command: str) -> Suite:
    """``command``: the line that checks again."""
    loop, verdict = checked.loop, checked.verdict
    first = shortest(loop)
    failed = sorted(loop.failures, key=lambda outcome: outcome is not first)
    found = {id(outcome.job): _finding(outcome, checked.changes) for outcome in failed}
    findings = [*found.values()]
    since = {} if checked.changes is None else {"since": checked.changes.since}
    return Suite(
        command="check",
        verdict=verdict,
        start=start,
        seconds=start.elapsed_s,
        headline=f"{verdict.name} in {loop.elapsed_s:.1f} s",
        cases=[_case(job, loop, found.get(id(job))) for job in loop.jobs],
        findings=findings,
        tables=[Table("Programs", COLUMNS, [*map(row, loop.outcomes)], right=COLUMNS[4:])],
        properties={
            "verdict": verdict.name,
            "exit code": str(verdict.exit_code),
            "spec": command,
            **since,
            **{
                f"token of {job_name(o)}": o.failure.schedule
                for o in failed
                if isinstance(o.failure, Failure)
            },
        },
        again=[command, *(finding.again for finding in findings)],
        notes=[
            f"not checked: {one}" for one in not_checked(loop, checked.selection, checked.seconds)
        ],
    )


def suite_of_unprepared(
    error: UnpreparedError, changes: Changes | None, start: Start, command: str
) -> Suite:
    """A program that could not even be prepared: one case, one finding."""
    text = unprepared.text_of(error, changes)
    headline = str(error).splitlines()[0]
    rule = of_ending("preparation")
    return Suite(
        command="check",
        verdict=Verdict.FAILED,
        start=start,
        seconds=start.elapsed_s,
        headline=f"{Verdict.FAILED.name} {headline}",
        cases=[Case("sc", error.name, Verdict.FAILED, 0.0, headline, text, command)],
        findings=[Finding(rule, headline, text, command, error.place)],
        properties={"verdict": Verdict.FAILED.name, "exit code": "1", "spec": command},
        again=[command],
        notes=[f"not checked: {unprepared.LEFT}"],
    )


def job_name(outcome: Outcome) -> str:
    return f"{outcome.job.name} ({outcome.job.memory})"


def _case(job: Job, loop: Loop, found: Finding | None) -> Case:
    outcomes = [outcome for outcome in loop.outcomes if outcome.job is job]
    seconds = sum(outcome.seconds for outcome in outcomes)
    name = job.name.removeprefix(f"{CRASH}:")
    if found is not None:
        text = found.text
        return Case(job.memory, name, Verdict.FAILED, seconds, found.headline, text, found.again)
    for outcome in outcomes:
        if outcome.verdict == ERROR:
            said = outcome.note or "a schedule did not repeat"
            return Case(job.memory, name, Verdict.ERROR, seconds, said)
    if not outcomes:
        return Case(job.memory, name, Verdict.VACUOUS, 0.0, "there was no time for it")
    if all(outcome.verdict == ABANDONED for outcome in outcomes):
        return Case(job.memory, name, Verdict.VACUOUS, seconds, "cut at the step limit each time")
    return Case(job.memory, name, Verdict.PASSED, seconds)


def _finding(outcome: Outcome, changes: Changes | None) -> Finding:
    failure = outcome.failure
    if isinstance(failure, CrashFailure):
        return finding_of_crash(failure)
    assert isinstance(failure, Failure)
    if changes is None:
        return finding_of(failure)
    return finding_of(with_suspects(changes, failure), failure_text(outcome, changes))
