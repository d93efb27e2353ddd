"""What ``--compare`` and ``--by`` mean: which rounds are side A, and which are side B.

::

    --compare other.db      A: the rounds of this database;       B: those of the other one
    --compare 3             A: the rounds of the run of the page;   B: those of run 3
    --by link-store         A and B: the rounds of this database with one and the other link store
    --by link-store=page,table

Without ``--run``, a database means all its runs: ten runs in one file are ten rounds to compare.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shmalloc.errors import MisuseError
from stress.quantities import counted
from stress.records.reader import Reader
from stress.records.rows import RoundRow
from stress.report.page.comparing import compared
from stress.report.page.facts import settings_of
from stress.report.page.figures import figures_of
from stress.report.page.model import Comparison
from stress.report.sources import database_of

MOST_LISTED = 8


def with_other(
    reader: Reader, source: str, run_id: int | None, shown: int, other: str
) -> Comparison:
    """``--compare``. ``run_id``: what ``--run`` says; ``shown``: the run of the page."""
    if other.isdigit() and not Path(other).exists():
        left, right = reader.rounds(shown), reader.rounds(reader.run(int(other)).id)
        names = (_said(f"run {shown} of {source}", left), _said(f"run {other}", right))
        return compared((names[0], figures_of(reader, left)), (names[1], figures_of(reader, right)))
    left = reader.rounds(run_id)
    with Reader(database_of(other, "compare")) as another, another.snapshot():
        right = another.rounds()
        return compared(
            (_said(source, left), figures_of(reader, left)),
            (_said(other, right), figures_of(another, right)),
        )


def by_setting(reader: Reader, source: str, run_id: int | None, by: str) -> Comparison:
    """``--by``: two values of one setting. Raises ``MisuseError`` if they are not just two."""
    name, _, wanted = by.partition("=")
    groups: dict[str, list[RoundRow]] = {}
    for one in reader.rounds(run_id):
        settings = settings_of(one)
        if name in settings:
            groups.setdefault(_text(settings[name]), []).append(one)
    chosen = wanted.split(",") if wanted else sorted(groups)
    if len(chosen) != 2 or not set(chosen) <= set(groups):
        there = ", ".join(sorted(groups)[:MOST_LISTED]) or "none"
        raise MisuseError(
            f"by: {by!r} has to give two groups of rounds; values of {name} in {source}: {there};"
            " choose with NAME=A,B"
        )
    left, right = (groups[value] for value in chosen)
    return compared(
        (_said(f"{name} {chosen[0]}", left), figures_of(reader, left)),
        (_said(f"{name} {chosen[1]}", right), figures_of(reader, right)),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _said(what: str, rounds: Sequence[RoundRow]) -> str:
    return f"{what} ({counted(len(rounds), 'round')})"
