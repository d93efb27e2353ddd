"""What a database holds, as tables and as data: its runs, the rounds of one run, its findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from stress.quantities import counted, rough_duration
from stress.records.reader import Reader
from stress.records.rows import FindingRow, RoundRow, RunRow
from stress.report.page.words import date, plain
from stress.report.run_time import worked_s
from stress.tables import grid

SCHEMA = 1
SHORT_COMMAND = 60  # letters of a command in a table; --json has the whole line
RUNNING = "running"


def runs_table(runs: Sequence[RunRow], rounds: Sequence[RoundRow]) -> Table:
    """A row for each run."""
    table = grid("run", "kind", "began", "verdict", "rounds", "took", "seed", "command")
    for run in runs:
        own = [one for one in rounds if one.run_id == run.id]
        table.add_row(
            str(run.id),
            shortened(run.kind),
            date(run.started_s),
            verdict_of(run),
            rounds_of(run, own),
            "" if run.ended_s is None else rough_duration(worked_s(run, own)),
            shortened(run.seed or ""),
            shortened(run.command),
        )
    return table


def verdict_of(row: RunRow | RoundRow) -> str:
    """``PASSED``; in small letters the state of what has no verdict, ``running`` or ``lost``."""
    return shortened(row.verdict or row.state)


def rounds_of(run: RunRow, rounds: Sequence[RoundRow]) -> str:
    """``1,234: 1,200 passed, 30 failed, 4 lost``; ``1`` where it is only one."""
    total = len(rounds) + run.dropped_rounds
    if total <= 1:
        return str(total)
    counts = Counter(verdict_of(one).lower() for one in rounds)
    counts["passed"] += run.dropped_rounds
    parts = (f"{count:,} {verdict}" for verdict, count in counts.most_common() if count)
    return f"{total:,}: {', '.join(parts)}"


def rounds_table(rounds: Sequence[RoundRow]) -> Table:
    """A row for each round of one run."""
    numbers = ("seconds", "operations")
    table = grid("round", "kind", "began", "verdict", *numbers, "seed", "command", right=numbers)
    for one in rounds:
        table.add_row(
            str(one.number),
            shortened(one.kind),
            date(one.started_s),
            verdict_of(one),
            "" if one.seconds is None else plain(one.seconds),
            "" if one.operations is None else f"{one.operations:,}",
            shortened(one.seed or ""),
            shortened(one.command),
        )
    return table


def findings_table(findings: Sequence[FindingRow]) -> Table:
    """A row for each finding."""
    table = grid(
        "finding", "status", "violates", "where", "rounds", "first seen", "last seen", "repeatable",
        right=("rounds",),
    )  # fmt: skip
    for one in findings:
        table.add_row(
            shortened(one.fingerprint),
            shortened(one.status),
            shortened(one.invariant),
            shortened(one.site),
            f"{one.count:,}",
            date(one.first_seen_s),
            date(one.last_seen_s),
            repeatable(one),
        )
    return table


def repeatable(finding: FindingRow) -> str:
    return {None: "not tried", 0: "no"}.get(finding.repeatable, "yes")


def printable(text: str) -> str:
    """``text`` without what a terminal would obey: a database may come from a stranger."""
    return "".join(sign if sign.isprintable() or sign == "\n" else "\ufffd" for sign in text)


def shortened(text: str) -> str:
    line = " ".join(printable(text).split())
    return line if len(line) <= SHORT_COMMAND else f"{line[: SHORT_COMMAND - 1]}…"


def sums(runs: Sequence[RunRow], findings: Sequence[FindingRow]) -> str:
    """``12 runs, 3 findings: 2 open, 1 ignored``."""
    line = f"{counted(len(runs), 'run')}, {counted(len(findings), 'finding')}"
    counts = Counter(one.status for one in findings)
    parts = (f"{counts[status]:,} {status}" for status in ("open", "ignored", "fixed"))
    return f"{line}: {', '.join(parts)}" if findings else line


def document(
    reader: Reader,
    runs: Sequence[RunRow],
    rounds: Sequence[RoundRow],
    findings: Sequence[FindingRow],
) -> dict[str, Any]:
    """All of the tables, and what they leave out, in JSON's types."""
    return {
        "schema": SCHEMA,
        "database": str(reader.path),
        "runs": [one.as_dict() for one in runs],
        "rounds": [one.as_dict() for one in rounds],
        "findings": [one.as_dict() for one in findings],
    }
