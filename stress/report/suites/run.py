"""A run as a ``Suite``: one case for the processes, one for each workload, one for each invariant.

- ``run``: fails if a worker died or fell silent; skipped if a fault that was asked for never came.
- a workload: no violation belongs to one workload, so it passes if it worked and reached its marks,
  and is skipped otherwise. Its seconds are its share of the wall seconds.
- an invariant: fails if it was violated, and passes only if something that checks it took part in
  this run (checked.py); else it is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator

from shmalloc.errors import Violation
from shmalloc.invariants import TABLE, Invariant
from stress.records.finding import fingerprint_of
from stress.report.checked import Acted, is_checked, why_not
from stress.report.reporters import place_of
from stress.report.rules import of_ending, of_invariant
from stress.report.suite import Case, Finding, Start, Suite, Table
from stress.report.text import (
    LATENCY_COLUMNS,
    REFUSED,
    TIMED,
    WORKLOAD_COLUMNS,
    last_line,
    latency_rows,
    workload_rows,
)
from stress.report.violations import Group, grouped, violation_lines
from stress.run.flight import lines_of
from stress.run.result import RunResult, WorkloadResult
from stress.verdict import Verdict, worst
from stress.workloads import EVENT_NAMES, WORKLOADS


def suite_of(result: RunResult, start: Start) -> Suite:
    """Everything about one run that other tools show."""
    spec = result.spec
    properties = {
        "verdict": result.verdict.name,
        "exit code": str(result.verdict.exit_code),
        "seed": hex(spec.seed),
        "engine": spec.engine,
        "spec": spec.command_line(),
    }
    for line in result.tally.lines(spec.faults):
        name, _, value = line.partition(": ")
        properties[name] = value
    return Suite(
        command="run",
        verdict=result.verdict,
        start=start,
        seconds=start.elapsed_s,
        headline=last_line(result),
        cases=[_run_case(result), *_workload_cases(result), *_invariant_cases(result)],
        findings=findings_of(result),
        tables=[
            Table("Workloads", WORKLOAD_COLUMNS, [*workload_rows(result)], WORKLOAD_COLUMNS[1:]),
            Table("Latencies", LATENCY_COLUMNS, [*latency_rows(result)], LATENCY_COLUMNS[1:]),
        ],
        properties=properties,
        again=[spec.command_line()],
        notes=[*result.notes, *_notes(result)],
    )


def _notes(result: RunResult) -> Iterator[str]:
    lost = result.violations_total - len(result.violations)
    if lost > 0:
        yield f"{lost:,} more violations were counted, not kept"
    yield f"refused: {REFUSED.removeprefix('refused ')}"
    if result.latencies:
        yield f"timed calls: {TIMED}"


# --- cases ---------------------------------------------------------------------------------------
def _run_case(result: RunResult) -> Case:
    """The processes and the faults: what no invariant and no workload stands for."""
    troubles = [text for _, text in result.troubles]
    faults = _missed(result, set(result.tally.marks(result.spec.faults)))
    verdict = worst([Verdict.PASSED, *(verdict for verdict, _ in result.troubles)])
    if not troubles and (faults or result.ops == 0):
        verdict = Verdict.VACUOUS
        said = f"marks never reached: {', '.join(faults)}"
        troubles = [said if faults else "no workload did anything"]
    shown = [*troubles, *(_flight_lines(result) if troubles else ())]
    return Case(
        "run",
        "processes",
        verdict,
        result.startup_s,
        troubles[0].splitlines()[0] if troubles else "",
        "\n".join(shown),
        result.spec.command_line(),
    )


def _flight_lines(result: RunResult) -> list[str]:
    lines = lines_of(result.flight)
    return ["", "the last accesses of all CPUs:", *lines] if lines else []


def _missed(result: RunResult, names: set[str]) -> list[str]:
    return [name for name in result.missed_marks() if name in names]


def _workload_cases(result: RunResult) -> Iterator[Case]:
    for name in result.spec.workloads:
        done = result.workloads.get(name, WorkloadResult(name))
        marks = WORKLOADS[name].required_marks(result.spec)
        missed = _missed(result, {EVENT_NAMES[mark] for mark in marks})
        why = f"marks never reached: {', '.join(missed)}" if missed else ""
        if done.ops == 0:
            why = "it did nothing"
        yield Case(
            "workload",
            name,
            Verdict.VACUOUS if why else Verdict.PASSED,
            done.seconds / result.spec.workers,
            why,
        )


def _invariant_cases(result: RunResult) -> Iterator[Case]:
    """All of the table, then those of violations that are in no table."""
    broken: dict[str, list[Violation]] = {}
    for violation in result.violations:
        broken.setdefault(violation.invariant, []).append(violation)
    again, acted = result.spec.command_line(), Acted.of_run(result)
    for row in TABLE.values():
        if row.name not in broken:
            yield unbroken(row, is_checked(row, acted))
    for name, violations in broken.items():
        lines = list(violation_lines(violations, len(violations)))
        message = lines[0].removeprefix("!!! ")
        yield Case("invariant", name, Verdict.FAILED, 0.0, message, "\n".join(lines), again)


def unbroken(row: Invariant, checked: bool) -> Case:
    """The case of an invariant that was not violated: passed only if something checked it."""
    if checked:
        return Case("invariant", row.name, Verdict.PASSED)
    return Case("invariant", row.name, Verdict.VACUOUS, message=why_not(row))


# --- findings ------------------------------------------------------------------------------------
def findings_of(result: RunResult) -> list[Finding]:
    """A finding for each group of violations, and for each trouble that is one."""
    again = result.spec.command_line()
    found = [_finding(group, again) for group in grouped(result.violations)]
    for verdict, text in result.troubles:
        if verdict is Verdict.FAILED:
            headline = text.splitlines()[0] if text else "a worker failed"
            rule = of_ending("worker")
            found.append(Finding(rule, headline, "\n".join([text, *_flight_lines(result)]), again))
    return found


def _finding(group: Group, again: str) -> Finding:
    first = group.first
    history = () if group.told is None else group.told.history
    lines = [str(first), *([group.more()] if group.count > 1 else [])]
    if history and group.told is not None:
        lines += [f"history of {group.told.where}:", *(f"  {line}" for line in history)]
    return Finding(
        rule=of_invariant(first.invariant),
        headline=str(first),
        text="\n".join(lines),
        again=again,
        place=place_of(first),
        fingerprint=fingerprint_of(first),
        count=group.count,
    )
