"""The page docs/performance.md: its generated part, and the pictures beside it.

A page has the two lines ``BEGIN`` and END (stress/report/generated_part.py); what stands around
them is written by people and stays. The tables are those of the report with the numbers of workers
side by side, so that a page has one line for each pattern and allocator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from shmalloc.errors import MisuseError
from stress.bench.figures import Row
from stress.bench.report import ABOUT, goals_sheet, head_lines, short_ns
from stress.bench.result import Result
from stress.bench.sheets import Sheet
from stress.report.generated_part import refreshed

BEGIN = "<!-- written by shmstress bench --full --write -->"
PICTURES = "pictures"


def require_page(path: str) -> str:
    """The text of the page. Raises ``MisuseError`` if there is none with a generated part."""
    place = Path(path)
    text = place.read_text("utf-8") if place.is_file() else ""
    try:
        refreshed(text, BEGIN, "")
    except ValueError:
        raise MisuseError(
            f"write: {path} is no page with a generated part; it needs the line {BEGIN}"
        ) from None
    return text


def renewed(text: str, result: Result, stem: str) -> str:
    """The page with the figures of ``result``; ``stem`` begins the names of its pictures."""
    return refreshed(text, BEGIN, markdown(result, stem))


def pictures(result: Result, stem: str) -> dict[str, Result]:
    """The pictures of a page by file name, and what each shows."""
    made = {f"{stem}.svg": replace(result, curves=[])}
    if result.curves:
        made[f"{stem}-growth.svg"] = replace(result, rows=[])
    return made


def markdown(result: Result, stem: str) -> str:
    """The generated part."""
    head = "\n".join(f"- {line}" for line in head_lines(result))
    rows, *growth = (f"{PICTURES}/{name}" for name in pictures(result, stem))
    parts = [f"{head}\n", goals_sheet(result.judged).markdown(2)]
    parts.append(f"## Every pattern\n\n![The figures of every pattern]({rows})\n")
    parts += [sheet.markdown() for sheet in compact(result.rows)]
    if growth:
        parts.append(f"## How cost grows\n\n![Curves of growth]({growth[0]})\n")
    parts += [sheet.markdown() for sheet in result.sheets]
    return "\n".join(parts)


def compact(rows: Sequence[Row]) -> list[Sheet]:
    """The rows with the numbers of workers side by side, one sheet for each way of timing."""
    made = []
    for (timed, crowded), (title, note) in ABOUT.items():
        alike = [row for row in rows if row.timed == timed and row.crowded == crowded]
        if alike:
            made.append(_compact(title, note, alike))
    return made


def _compact(title: str, note: str, rows: Sequence[Row]) -> Sheet:
    counts = sorted({row.workers for row in rows})
    heads = tuple(f"{n} worker{'s' if n > 1 else ''}: ns" for n in counts)
    ratios = tuple(f"{n}: F" for n in counts)
    columns = tuple(name for pair in zip(heads, ratios, strict=True) for name in pair)
    sheet = Sheet(title, ("pattern", "allocator", "memory", *columns), columns, note)
    found = {row.key: row for row in rows}
    for pattern, who, memory in dict.fromkeys((r.pattern, r.who, r.memory) for r in rows):
        cells = [pattern, who, memory]
        for n in counts:
            row = found.get((pattern, who, n))
            cells += ["", ""] if row is None else [short_ns(row.ns.median), f"{row.f.median:.2f}"]
        sheet.rows.append(tuple(cells))
    return sheet
