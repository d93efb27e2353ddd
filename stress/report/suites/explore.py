"""Explorations as a ``Suite``: a case for each program and memory model.

A program whose schedules were all cut at the step limit was not tested: its case is skipped. A
schedule that does not repeat is an error.
"""

from __future__ import annotations

from collections.abc import Sequence

from stress.explorer.result import FAILED, VERDICT_OF, Exploration
from stress.report.suite import Case, Start, Suite, Table
from stress.report.suites.account import finding_of
from stress.verdict import Verdict, worst

COLUMNS = ("program", "memory", "strategy", "verdict", "schedules", "classes", "seconds")


def suite_of(
    results: Sequence[Exploration], start: Start, command: str, left: Sequence[str] = ()
) -> Suite:
    """``command``: the line that explores them again. ``left``: programs that were not explored.

    There are some if it was interrupted.
    """
    verdict = worst(VERDICT_OF[result.verdict] for result in results)
    verdict = worst([verdict, *[Verdict.INTERRUPTED] * bool(left)])
    failures = [result.failure for result in results if result.failure is not None]
    properties = {"verdict": verdict.name, "exit code": str(verdict.exit_code), "spec": command}
    if results:
        properties["seed"] = str(results[0].seed)
    for failure in failures:
        properties[f"token of {failure.program.name} ({failure.memory_model})"] = failure.schedule
    return Suite(
        command="explore",
        verdict=verdict,
        start=start,
        seconds=start.elapsed_s,
        headline=_headline(results, verdict),
        cases=[*map(_case, results), *(_left(name, results[0].memory) for name in left)],
        findings=[finding_of(failure) for failure in failures],
        tables=[Table("Programs", COLUMNS, [_row(one) for one in results], COLUMNS[4:])],
        properties=properties,
        again=[command, *(line for failure in failures for line in failure.again)],
        notes=[f"{one.program.name}: {one.guarantee}" for one in results if one.guarantee],
    )


def _headline(results: Sequence[Exploration], verdict: Verdict) -> str:
    if len(results) == 1:
        return f"{verdict.name} {results[0]}"
    failed = sum(result.verdict == FAILED for result in results)
    schedules = sum(result.schedules for result in results)
    return f"{verdict.name} {len(results)} programs, {failed} failed, {schedules:,} schedules"


def _case(result: Exploration) -> Case:
    verdict, failure = VERDICT_OF[result.verdict], result.failure
    message = str(result) if failure is None else failure.headline
    text = "\n".join(part for part in (str(result), result.note) if part)
    if failure is not None:
        text = failure.report()
    return Case(
        result.memory,
        result.program.name,
        verdict,
        result.seconds,
        "" if verdict is Verdict.PASSED else message,
        "" if verdict is Verdict.PASSED else text,
        "" if failure is None else "\n".join(failure.again),
    )


def _left(name: str, memory: str) -> Case:
    said = "interrupted before it was explored"
    return Case(memory, name, Verdict.INTERRUPTED, message=said, text=said)


def _row(result: Exploration) -> tuple[str, ...]:
    return (
        result.program.name,
        result.memory,
        result.strategy,
        result.verdict,
        f"{result.schedules:,}",
        "" if result.classes is None else f"{result.classes:,}",
        f"{result.seconds:.1f}",
    )
