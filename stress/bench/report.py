"""What a bench prints and writes: tables for people, Markdown, JSON.

Rows that are timed in different ways are never in one table: compiled loops, calls from Python, and
slices of more workers than cores each have their own, and each says how it was timed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from shmalloc import __version__
from stress.bench.catalogue import COMPILED, PATTERNS, PYTHON
from stress.bench.figures import Row, Spread
from stress.bench.goals import IN_F, IN_NS, Judged
from stress.bench.result import Curve, Result
from stress.bench.sheets import Sheet

SCHEMA = 1
COLUMNS = (
    "pattern",
    "allocator",
    "memory",
    "workers",
    "ns",
    "quartiles",
    "F",
    "quartiles of F",
    "M/s",
    "F in ns, by core",
    "slices",
    "dropped",
    "goal",
)
NUMBERS = ("workers", "ns", "F", "M/s", "slices", "dropped", "switches")
ABOUT = {
    (COMPILED, False): (
        "Compiled loops",
        "Timed around one call of a loop of thousands of operations, each worker on its own core.",
    ),
    (COMPILED, True): (
        "Compiled loops, more workers than cores",
        "Wall time of all workers times the cores; a slice in which workers were switched is kept, "
        "and the switches are counted.",
    ),
    (PYTHON, False): (
        "Calls from Python",
        "Timed around a loop of Python, whose own cost is part of every row. A helper process "
        "takes part in each call of SharedMemory and its manager: switches to it are counted.",
    ),
    (PYTHON, True): (
        "Calls from Python, more workers than cores",
        "Wall time of all workers times the cores; the switches are counted.",
    ),
}


def sheets(result: Result) -> list[Sheet]:
    """All tables of a result, the goals last but for what was measured otherwise."""
    found = [
        _rows_sheet(title, note, rows, result.judged, crowded)
        for (timed, crowded), (title, note) in ABOUT.items()
        if (rows := [r for r in result.rows if r.timed == timed and r.crowded == crowded])
    ]
    goals = goals_sheet(result.judged)
    curves = [curve_sheet(curve) for curve in result.curves]
    return [*found, *([goals] if goals.rows else []), *curves, *result.sheets]


def curve_sheet(curve: Curve) -> Sheet:
    """A curve as a table: a row for each value of what grows."""
    xs = sorted({x for points in curve.lines.values() for x, _ in points})
    sheet = Sheet(curve.title, (curve.x, *curve.lines), (curve.x, *curve.lines), f"In {curve.y}.")
    for x in xs:
        values = [dict(points).get(x) for points in curve.lines.values()]
        sheet.rows.append((f"{x:g}", *("" if v is None else f"{v:.3g}" for v in values)))
    return sheet


def _rows_sheet(
    title: str, note: str, rows: Sequence[Row], judged: Sequence[Judged], crowded: bool
) -> Sheet:
    columns = tuple("switches" if crowded and c == "dropped" else c for c in COLUMNS)
    sheet = Sheet(title, columns, NUMBERS, note)
    sheet.rows = [_cells(row, judged) for row in rows]
    return sheet


def _cells(row: Row, judged: Sequence[Judged]) -> tuple[str, ...]:
    own = [one for one in judged if one.goal.row == row.key and one.goal.kind in (IN_F, IN_NS)]
    goal = "; ".join(f"{one.goal} {one.verdict}" for one in own)
    return (
        row.pattern,
        row.who,
        row.memory,
        str(row.workers),
        short_ns(row.ns.median),
        quartiles(row.ns),
        f"{row.f.median:.2f}",
        f"{row.f.low:.2f}-{row.f.high:.2f}",
        f"{row.rate.median:.3g}",
        " ".join(f"{value:.1f}" for value in row.core_f_ns),
        str(row.kept),
        disturbed(row),
        goal,
    )


def disturbed(row: Row) -> str:
    """How many slices were dropped; where they are kept, how often the core was taken away."""
    if row.crowded:
        return str(row.switches)
    kept = row.switches and not row.dropped
    return f"0, {row.switches} switches" if kept else str(row.dropped)


def short_ns(ns: float) -> str:
    """``17.7`` or ``2,456``: three digits at least."""
    return f"{ns:.1f}" if ns < 1000 else f"{ns:,.0f}"


def quartiles(spread: Spread) -> str:
    """``16.9-18.1``."""
    return f"{short_ns(spread.low)}-{short_ns(spread.high)}"


def goals_sheet(judged: Sequence[Judged]) -> Sheet:
    """Every goal of which something was measured."""
    sheet = Sheet(
        "Goals", ("pattern", "allocator", "workers", "goal", "reached", ""), ("workers", "reached")
    )
    for one in judged:
        pattern, who, workers = one.goal.row
        if one.value is not None:
            cells = (pattern, who, str(workers), str(one.goal), one.shown, one.verdict)
            sheet.rows.append(cells)
    return sheet


def head_lines(result: Result) -> list[str]:
    """Where and how it was measured, and what was not."""
    lines = [str(result.machine)]
    if result.core_f_ns:
        f = " and ".join(f"{ns:.1f} ns" for ns in result.core_f_ns)
        lines.append(
            f"F, two uncontended two-word swaps: {f}, by core; "
            f"medians and quartiles of {result.rounds} slices of 1-2 ms, in turn"
        )
    if result.machine.busy:
        lines.append(
            "note: other work was running; rows with many dropped slices rest on few that were left"
        )
    lines += [f"note: {missing}" for missing in result.missing]
    lines += [f"note: {job}: every slice was disturbed: no figure" for job in result.lost]
    few = [row for row in result.rows if row.kept < result.rounds]
    if few:
        lines.append(
            f"note: {len(few)} of {len(result.rows)} rows rest on fewer slices than asked for"
        )
    return lines


def text(result: Result) -> str:
    """The whole report for a terminal."""
    parts = ["\n".join(head_lines(result)) + "\n", *(sheet.text() for sheet in sheets(result))]
    return "\n".join(parts)


def markdown(result: Result) -> str:
    """The whole report as Markdown."""
    head = "\n".join(f"- {line}" for line in head_lines(result))
    return "\n".join([f"{head}\n", *(sheet.markdown() for sheet in sheets(result))])


def document(result: Result) -> str:
    """The whole report as JSON, ``schema`` 1, ending with a newline."""
    made = {
        "schema": SCHEMA,
        "tool": {"name": "shmstress", "version": __version__, "command": "bench"},
        "machine": result.machine.as_dict(),
        "rounds": result.rounds,
        "core_f_ns": list(result.core_f_ns),
        "rows": [row.as_dict() for row in result.rows],
        "goals": [
            {
                "pattern": one.goal.row[0],
                "allocator": one.goal.row[1],
                "workers": one.goal.row[2],
                "goal": str(one.goal),
                "value": one.value,
                "reached": one.reached,
            }
            for one in result.judged
        ],
        "missing": list(result.missing),
        "not_measured": list(result.lost),
        "growth": [curve.as_dict() for curve in result.curves],
        "tables": [{"title": s.title, "columns": s.columns, "rows": s.rows} for s in result.sheets],
    }
    return json.dumps(made, indent=1) + "\n"


def listing() -> Sheet:
    """The patterns by name."""
    sheet = Sheet("", ("pattern", "timed from", "what it does"))
    sheet.rows = [
        (one.name, one.timed, one.story + (" (with --full)" if one.full else ""))
        for one in PATTERNS.values()
    ]
    return sheet
