"""Hunts as a ``Suite``: a case for each mutant and hunter.

A mutant that must be found and was not fails; one that need not be found (it is equivalent, or no
run can see it) is skipped; a hunt that failed itself is an error. On the original kernels it is the
other way round: what is found there fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shmalloc.invariants import BY_NAME
from stress.mutants import MUTANTS
from stress.mutants.report import NUMBERS, in_words, last_lines, plain_rows, verdict_of
from stress.mutants.runner import ENGINES, EXPECTED, FOUND, ORIGINAL, Hunted
from stress.report.rules import of_ending
from stress.report.suite import Case, Finding, Rule, Start, Suite, Table
from stress.verdict import Verdict

SURVIVES = Rule("mutant-survives", "a kernel that is broken on purpose is found out")


def suite_of(results: Sequence[Hunted], start: Start, command: str, interrupted: bool) -> Suite:
    """``command``: the line that hunts them again."""
    verdict = verdict_of(results)
    if interrupted and verdict is not Verdict.FAILED:
        verdict = Verdict.INTERRUPTED
    sums = last_lines(results)[:-1]
    tokens = {f"token of {one.mutant} ({one.engine})": one.token for one in results if one.token}
    return Suite(
        command="mutants",
        verdict=verdict,
        start=start,
        seconds=start.elapsed_s,
        headline=f"{verdict.name} {sums[-1] if sums else 'nothing was hunted'}",
        cases=[_case(result) for result in results],
        findings=[_finding(one, command) for one in results if one.verdict is Verdict.FAILED],
        tables=[*_tables(results)],
        properties={
            "verdict": verdict.name, "exit code": str(verdict.exit_code), "spec": command, **tokens,
        },
        again=[command],
        notes=[line.removeprefix("!!! ") for line in sums],
    )  # fmt: skip


def _case(result: Hunted) -> Case:
    verdict = result.verdict
    if result.outcome == EXPECTED and result.mutant != ORIGINAL:
        verdict = Verdict.VACUOUS
    passed = verdict is Verdict.PASSED
    again = f"shmstress mutants {result.mutant} --engine {result.engine}"
    return Case(
        result.engine,
        result.mutant,
        verdict,
        result.seconds,
        "" if passed else str(result),
        "" if passed else _words(result),
        "" if result.mutant == ORIGINAL else again,
    )


def _words(result: Hunted) -> str:
    mutant = MUTANTS.get(result.mutant)
    if mutant is None or result.outcome == FOUND:
        return "\n".join([str(result), *in_words(result)])
    return f"{result}\n{mutant.story}\nit violates {BY_NAME[mutant.invariant]}"


def _finding(result: Hunted, command: str) -> Finding:
    if result.mutant == ORIGINAL:
        kind, _, code = result.kind.partition(" ")
        return Finding(of_ending(kind, code), str(result), _words(result), command)
    again = f"shmstress mutants {result.mutant} --engine {result.engine}"
    return Finding(SURVIVES, str(result), _words(result), again)


def _tables(results: Sequence[Hunted]) -> Iterator[Table]:
    for engine in ENGINES:
        columns, rows = plain_rows(results, engine)
        if rows:
            yield Table(f"Hunted by {engine}", columns, rows, NUMBERS)
