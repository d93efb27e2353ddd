"""A litmus run as text for people and as one JSON document."""

from __future__ import annotations

import json
from collections.abc import Iterator

from shmalloc import __version__
from stress.litmus.arena import NOT_WRITTEN
from stress.litmus.grading import Row
from stress.litmus.runner import LitmusResult, LitmusRun
from stress.report.environment import environment
from stress.tables import grid, text_of

SCHEMA = 1
HONEST = "litmus runs repeat their settings, not their interleavings"
RARE = 1e-6


def command_line(run: LitmusRun) -> str:
    """The line that runs the same tests again."""
    names = " ".join(test.name for test in run.tests)
    return f"shmstress litmus {names} --duration {run.seconds:g} --seed {run.seed:#x}"


def result_lines(result: LitmusResult) -> Iterator[str]:
    """The table of one test."""
    test = result.test
    cores = ",".join(map(str, sorted(set(result.cores))))
    yield f"{test.name}: {test.story}"
    yield "  " + " | ".join(test.code)
    yield (
        f"  {result.samples:,} samples in {result.seconds:.2f} s, {result.rate / 1e6:.1f} M/s,"
        f" {test.processes} processes on cores {cores}: {result.verdict.name}"
    )
    table = grid(
        "outcome", "samples", "frequency", "grade", "expected", right=["samples", "frequency"]
    )
    for row in result.rows:
        table.add_row(*_cells(result, row))
    for line in text_of(table).splitlines():
        yield f"  {line}".rstrip()
    for row in result.rows:
        if row.violation:
            yield f"  !!! {label(result, row)} was seen {row.samples:,} times: tso forbids it"
    for note in result.notes:
        yield f"  note: {note}"


def _cells(result: LitmusResult, row: Row) -> tuple[str, str, str, str, str]:
    frequency = _percent(row)
    return (label(result, row), f"{row.samples:,}", frequency, row.grade.value, row.expected.value)


def _percent(row: Row) -> str:
    if not row.samples:
        return "-"
    return f"{row.frequency:.4%}" if row.frequency >= RARE else f"{row.frequency * 100:.1e}%"


def label(result: LitmusResult, row: Row) -> str:
    """What the test shows of an outcome; all of it if it should not exist."""
    if row.outcome == NOT_WRITTEN:
        return "a value that was never written"
    shown = " ".join(f"{k}={v}" for k, v in result.test.values(row.outcome).items())
    if not row.violation:
        return shown
    first, second, x, y = row.outcome
    return f"{shown} (results {first:#x} {second:#x}, final x={x} y={y})"


def last_lines(run: LitmusRun) -> Iterator[str]:
    """What ended the run, how to repeat it, and the verdict."""
    for verdict, text in run.troubles:
        yield f"{verdict.name}: {text}"
    yield f"to try again, run: {command_line(run)}"
    yield f"  ({HONEST})"
    samples = sum(result.samples for result in run.results)
    yield (
        f"{run.verdict.name} seed={run.seed:#x} tests={len(run.results)}/{len(run.tests)}"
        f" samples={samples}"
    )


def document(run: LitmusRun) -> str:
    """One JSON document, ending with a newline."""
    whole = {
        "schema": SCHEMA,
        "tool": {"name": "shmstress", "version": __version__, "command": "litmus"},
        "environment": environment(),
        "spec": {
            "tests": [test.name for test in run.tests],
            "seconds": run.seconds,
            "seed": run.seed,
        },
        "verdict": run.verdict.name,
        "exit_code": run.verdict.exit_code,
        "troubles": [text for _, text in run.troubles],
        "results": [_as_dict(result) for result in run.results],
        "reproduce": {"command": command_line(run), "exact": False, "note": HONEST},
    }
    return json.dumps(whole, indent=2) + "\n"


def _as_dict(result: LitmusResult) -> dict[str, object]:
    return {
        "test": result.test.name,
        "story": result.test.story,
        "code": list(result.test.code),
        "cores": list(result.cores),
        "samples": result.samples,
        "seconds": result.seconds,
        "samples_per_second": result.rate,
        "verdict": result.verdict.name,
        "notes": result.notes,
        "outcomes": [_row_as_dict(result, row) for row in result.rows],
    }


def _row_as_dict(result: LitmusResult, row: Row) -> dict[str, object]:
    written = row.outcome != NOT_WRITTEN
    return {
        "values": result.test.values(row.outcome) if written else None,
        "outcome": list(row.outcome) if written else None,
        "samples": row.samples,
        "frequency": row.frequency,
        "grade": row.grade.name.lower(),
        "expected": row.expected.name.lower(),
    }
