"""The kill table, for people and as one JSON document."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table

from shmalloc import __version__
from shmalloc.invariants import BY_NAME
from stress.mutants import MUTANTS
from stress.mutants.runner import (
    ENGINES,
    EXPECTED,
    EXPLORER,
    FOUND,
    NATIVE,
    ORIGINAL,
    SURVIVED,
    Hunted,
)
from stress.report.environment import environment
from stress.tables import grid, show
from stress.verdict import Verdict, worst

SCHEMA = 1
FEW = 8  # results that are told in words; of more the JSON document has the words
COLUMNS = ("mutant", "found by", "kind", "schedules", "seconds", "preemptions")
NUMBERS = COLUMNS[3:]
AFTER = {EXPLORER: "in real processes", NATIVE: "explained"}  # the column of ``Hunted.after``
NATIVE_COLUMNS = (0, 1, 2, 4)  # a native run counts no schedules and has no trace to shrink


def verdict_of(results: Sequence[Hunted]) -> Verdict:
    """The worst of all; nothing hunted is nothing tested."""
    return worst(result.verdict for result in results)


def table(results: Sequence[Hunted], engine: str) -> Table:
    """What one engine found, a row a mutant."""
    shown = grid(*COLUMNS, "token, or why not", right=NUMBERS)
    shown.title = f"{'native hunt' if engine == NATIVE else 'explorer'}: who found what"
    shown.title_justify = "left"
    for result in results:
        if result.engine == engine:
            shown.add_row(*row(result))
    return shown


def row(result: Hunted) -> tuple[str, str, str, str, str, str, str]:
    """The cells of one mutant."""
    ran = result.schedules > 0
    return (
        result.mutant,
        result.by if result.outcome == FOUND else result.outcome,
        result.kind,
        f"{result.schedules:,}" if ran else "",
        f"{result.seconds:.1f}" if result.seconds or result.outcome == FOUND else "",
        "" if result.preemptions is None else str(result.preemptions),
        result.token if result.outcome == FOUND else result.note,
    )


def print_tables(results: Sequence[Hunted], to_stderr: bool = False) -> None:
    """All tables, a few results in words, the survivors by name, then the sums and the verdict."""
    stream = sys.stderr if to_stderr else sys.stdout
    for engine in ENGINES:
        if any(result.engine == engine for result in results):
            show(table(results, engine), to_stderr)
            print(file=stream)
    for result in results if len(results) <= FEW else ():
        for line in in_words(result):
            print(line, file=stream)
    for line in last_lines(results):
        print(line, file=stream)


def plain_rows(results: Sequence[Hunted], engine: str) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of one engine without tokens: those go with the kernels."""
    columns = NATIVE_COLUMNS if engine == NATIVE else range(len(COLUMNS))
    rows = []
    followed = any(result.after for result in results if result.engine == engine)
    for result in results:
        if result.engine == engine:
            cells = list(row(result))
            if result.outcome != FOUND:
                cells[1] = f"{result.outcome}: {result.note}"
            rows.append([cells[i] for i in columns] + [result.after] * followed)
    return [COLUMNS[i] for i in columns] + [AFTER[engine]] * followed, rows


def last_lines(results: Sequence[Hunted]) -> list[str]:
    """Survivors, sums, verdict."""
    lines = []
    for result in results:
        if result.verdict is not Verdict.PASSED:
            story = MUTANTS[result.mutant].story if result.mutant in MUTANTS else result.cause
            lines.append(f"!!! {result}: {story}")
    for engine in ENGINES:
        lines += sums([result for result in results if result.engine == engine], engine)
    return [*lines, verdict_of(results).name]


def in_words(result: Hunted) -> list[str]:
    """What the mutant breaks, what found it, and what that said; a survivor has its own line."""
    mutant = MUTANTS.get(result.mutant)
    if result.outcome != FOUND:
        return []
    lines = [f"{result.mutant}: {mutant.story}" if mutant else f"{result.mutant}:"]
    if mutant:
        lines.append(f"  it violates {BY_NAME[mutant.invariant]}")
    lines.append(f"  found by {result.by} in {result.seconds:.1f} s: {result.kind}")
    lines += [f"    {line}" for line in result.cause.splitlines()]
    return [*lines, *([f"  {AFTER[result.engine]}: {result.after}"] if result.after else ())]


def sums(results: Sequence[Hunted], engine: str) -> list[str]:
    """How many were found, of how many that are none other than the original."""
    if not results:
        return []
    if all(result.mutant == ORIGINAL for result in results):
        found = sum(result.outcome == FOUND for result in results)
        seconds = sum(result.seconds for result in results)
        return [
            f"{engine}: {found} reports on the original kernels in {len(results)} hunts,"
            f" {seconds:,.0f} s"
        ]
    real = [r for r in results if not MUTANTS[r.mutant].equivalent]
    found = sum(result.outcome == FOUND for result in real)
    unseen = sum(result.outcome == EXPECTED for result in real)
    survivors = [result.mutant for result in real if result.outcome == SURVIVED]
    line = f"{engine}: {found} of {len(real)} found"
    if unseen:
        line += f", {unseen} of them need not be"
    followed = [result for result in real if result.after]
    if followed:
        done = sum(result.after.startswith("yes") for result in followed)
        line += f"; {AFTER[engine]}: {done} of {len(followed)}"
    equivalent = len(results) - len(real)
    if equivalent:
        line += f"; {equivalent} more are equivalent"
    if survivors:
        line += f"; survivors: {', '.join(survivors)}"
    return [line]


def document(results: Sequence[Hunted], names: Sequence[str], seconds: float | None) -> str:
    """One JSON document, ending with a newline."""
    verdict = verdict_of(results)
    whole = {
        "schema": SCHEMA,
        "tool": {"name": "shmstress", "version": __version__, "command": "mutants"},
        "environment": environment(),
        "spec": {"mutants": list(names), "seconds": seconds},
        "verdict": verdict.name,
        "exit_code": verdict.exit_code,
        "results": [_as_dict(result) for result in results],
    }
    return json.dumps(whole, indent=2) + "\n"


def _as_dict(result: Hunted) -> dict[str, object]:
    described = asdict(result)
    if result.mutant in MUTANTS:
        mutant = MUTANTS[result.mutant]
        described |= {
            "file": mutant.file,
            "story": mutant.story,
            "invariant": mutant.invariant,
            "sentence": BY_NAME[mutant.invariant].sentence,
            "precedent": mutant.precedent,
            "commit": mutant.commit,
            "equivalent": mutant.equivalent,
        }
    return described
