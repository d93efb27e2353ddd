"""What a check came to: the verdict, the rows as they come, the last words, and a JSON document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from stress.check.blame import blamed, with_suspects
from stress.check.changes import Changes
from stress.check.head import document_head
from stress.check.loop import CRASH, INTERPRETED, Loop, Outcome
from stress.check.select import Selection
from stress.crash.account import account_of as crash_account
from stress.crash.account import page, tell
from stress.crash.result import CrashFailure
from stress.explorer.report.account import Account
from stress.explorer.report.failure import Failure
from stress.explorer.report.trace import kind_of
from stress.explorer.result import ABANDONED, ERROR, EXHAUSTED
from stress.quantities import counted
from stress.verdict import Verdict, worst

MOST_NAMED = 12
COLUMNS = ("program", "memory", "engine", "result", "schedules", "seconds")
WIDTHS = (32, 7, 12, 18, 10, 8)


def verdict_of(loop: Loop) -> Verdict:
    """FAILED before ERROR; VACUOUS if a job never ran, or was cut at the step limit each time."""
    if loop.failures:
        return Verdict.FAILED
    found: list[Verdict] = []
    best: dict[int, str] = {}
    for outcome in loop.outcomes:
        if outcome.verdict == ERROR:
            found.append(Verdict.ERROR)
        elif best.get(id(outcome.job), ABANDONED) == ABANDONED:
            best[id(outcome.job)] = outcome.verdict
    cut = (verdict == ABANDONED for verdict in best.values())
    found += [Verdict.VACUOUS if one else Verdict.PASSED for one in cut]
    found += [Verdict.VACUOUS] * bool(loop.never_ran)
    return worst(found)


def row(outcome: Outcome) -> tuple[str, ...]:
    """The cells of one outcome, by COLUMNS."""
    name = outcome.job.name.removeprefix("crash:")
    said = outcome.verdict
    if outcome.failure is not None:
        said = f"{kind_of(outcome.failure.kind)} {outcome.failure.code or ''}".rstrip()
    return (
        name,
        outcome.job.memory,
        outcome.engine,
        said,
        f"{outcome.schedules:,}",
        f"{outcome.seconds:.1f}",
    )


def line(cells: tuple[str, ...]) -> str:
    """A row as plain text: numbers to the right."""
    parts = [
        f"{cell:>{width}}" if at >= 4 else f"{cell:<{width}}"
        for at, (cell, width) in enumerate(zip(cells, WIDTHS, strict=True))
    ]
    return " ".join(parts).rstrip()


def headline(selection: Selection, changes: Changes | None) -> str:
    """What is going to be checked, and why."""
    some = f"{len(selection.chosen)} of {selection.known} programs"
    if changes is None:
        return f"checking {counted(len(selection.chosen), 'program')}"
    names = selection.reached
    if not names:
        return f"nothing that a program runs has changed since {changes.since}"
    shown = ", ".join(names[:MOST_NAMED])
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"changed since {changes.since}: {shown}{more}; reached by {some}"


def shortest(loop: Loop) -> Outcome | None:
    """Of the failures at hand, the one with the shortest schedule."""
    return min(loop.failures, key=lambda outcome: outcome.length, default=None)


def failure_text(outcome: Outcome, changes: Changes | None) -> str:
    """The failure in words, below the changed lines that it ran."""
    if isinstance(outcome.failure, Failure):
        if changes is None:
            return outcome.failure.report()
        lines = list(blamed(changes, outcome.failure))
        report = with_suspects(changes, outcome.failure).report()
        return "\n".join([*lines, *[""] * bool(lines), report])
    assert isinstance(outcome.failure, CrashFailure)
    return tell(outcome.failure)


def account_of(outcome: Outcome) -> Account:
    """The failure, step by step."""
    if isinstance(outcome.failure, Failure):
        return outcome.failure
    assert isinstance(outcome.failure, CrashFailure)
    return crash_account(outcome.failure)


def page_of(outcome: Outcome) -> str:
    """The failure as one self-contained page."""
    if isinstance(outcome.failure, Failure):
        return outcome.failure.html()
    assert isinstance(outcome.failure, CrashFailure)
    return page(outcome.failure)


def last_words(loop: Loop, selection: Selection, seconds: float) -> Iterator[str]:
    """Sums, what was not checked, and the verdict."""
    first = shortest(loop)
    for outcome in loop.failures:
        if outcome is not first:
            cells = row(outcome)
            yield f"failed as well: {cells[0]} ({cells[1]}): {cells[3]}"
    ran = {id(outcome.job): outcome for outcome in loop.outcomes}
    ended = sum(outcome.verdict == EXHAUSTED for outcome in ran.values())
    total = sum(outcome.schedules for outcome in loop.outcomes)
    by_memory = Counter(outcome.job.memory for outcome in ran.values())
    under = ", ".join(f"{count} under {memory}" for memory, count in by_memory.items())
    if ran:
        yield f"ran {under}: {ended} to the end, {total:,} schedules"
    for sentence in not_checked(loop, selection, seconds):
        yield f"not checked: {sentence}"
    yield f"{verdict_of(loop).name} in {loop.elapsed_s:.1f} s"


def not_checked(loop: Loop, selection: Selection, seconds: float) -> Iterator[str]:
    """What nothing here has looked at, in sentences."""
    if loop.failures:
        yield "what comes after the first failure"
    elif loop.never_ran:
        names = list(dict.fromkeys(job.name for job in loop.never_ran))
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        yield f"{', '.join(names[:MOST_NAMED])}{more}: {seconds:g} s were over; raise --duration"
    elif any(_only_interpreted(loop, outcome) for outcome in loop.outcomes):
        yield f"some programs natively, with more schedules: {seconds:g} s were over"
    if loop.jobs and all(job.memory != CRASH for job in loop.jobs):
        yield "crashes (--crash), and what only a native run shows (shmstress run)"
    yield from selection.left


def _only_interpreted(loop: Loop, outcome: Outcome) -> bool:
    same = [other for other in loop.outcomes if other.job is outcome.job]
    return not any(other.done or other.engine != INTERPRETED for other in same)


def document(
    loop: Loop, selection: Selection, changes: Changes | None, seconds: float
) -> dict[str, Any]:
    """Everything, in JSON's types."""
    first = shortest(loop)
    verdict = verdict_of(loop)
    return {
        **document_head(verdict, changes),
        "changed": selection.reached,
        "programs": list(selection.chosen),
        "outcomes": [_outcome(outcome) for outcome in loop.outcomes],
        "not_checked": list(not_checked(loop, selection, seconds)),
        "failure": None
        if first is None
        else {**_outcome(first), "text": failure_text(first, changes)},
        "seconds": round(loop.elapsed_s, 3),
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "program": outcome.job.name,
        "memory": outcome.job.memory,
        "engine": outcome.engine,
        "verdict": outcome.verdict,
        "schedules": outcome.schedules,
        "cut": outcome.cut,
        "seconds": round(outcome.seconds, 3),
        "at": round(outcome.at_s, 3),
    }
