"""Which of the changed lines a failing schedule ran: what stands above the failure.

A line counts as run if a step of the schedule was made in its function. If none was, because what
has changed is a constant or a function that touches no word, the changed lines that the program can
reach are shown. Which of them is wrong only their author can tell, so each is shown with its text.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from stress.check.changes import Changes, git
from stress.explorer.report.failure import Failure
from stress.explorer.report.frames import decided_by, shown_site
from stress.explorer.report.places import path_at, source_at
from stress.explorer.report.trace import Step, may_change
from stress.machine.site import Site

MOST_SHOWN = 6
# Whatever the user's settings say: git's own format, and changed lines alone.
PLAIN = ("-U0", "--inter-hunk-context=0", "--no-color", "--no-ext-diff", "--no-textconv")
MOST_SUSPECTS = 40  # steps
MOST_RUNS = 5  # of a changed line
_HUNK = re.compile(rb"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", re.MULTILINE)


class Line(NamedTuple):
    """A changed line. ``gone``: lines that stood below it were deleted."""

    path: Path
    number: int
    gone: bool


def blamed(changes: Changes, failure: Failure | None) -> Iterator[str]:
    """The changed lines that the schedule ran, each with its text and who ran it.

    All that have changed if a kernel failed before any schedule (None).
    """
    made = () if failure is None else failure.trace.steps
    ran: list[str] = []
    reached: list[str] = []
    for path in changes.files.values():
        functions = _functions(path)
        for line in changed_lines(path, changes.since):
            function = functions.get(line.number, "")
            steps = [step for step in made if _is_in(step, path, function)]
            if function and steps:
                ran.append(f"  {_told(line, function, steps)}")
            elif _names_one(line, function, changes):
                reached.append(f"  {_told(line, function, [])}")
    shown = ran or reached
    if shown:
        how = ", and reached by this program, which made no step there"
        if ran or failure is None:
            how = ", and run by this schedule" if ran else ""
        yield f"Changed since {changes.since}{how}:"
        yield from shown[:MOST_SHOWN]
        if len(shown) > MOST_SHOWN:
            yield f"  and {len(shown) - MOST_SHOWN} more changed lines"


def with_suspects(changes: Changes, failure: Failure) -> Failure:
    """``failure`` with the steps that changed lines made marked, so that its report shows them."""
    found: list[int] = []
    for path in changes.files.values():
        for line in changed_lines(path, changes.since):
            for step in failure.trace.steps:
                if any(
                    _is_at(site, path) and site.line == line.number for site in step.stack
                ) or _decides_at(step, line):
                    found.append(step.index)
    suspects = frozenset(sorted(set(found))[:MOST_SUSPECTS])
    return replace(failure, trace=replace(failure.trace, suspects=suspects))


def _decides_at(step: Step, line: Line) -> bool:
    """Whether the value that the step read is what the changed line decides by."""
    site = None if may_change(step) else decided_by(shown_site(step.stack))
    return site is not None and site.line == line.number and _is_at(site, line.path)


def _names_one(line: Line, function: str, changes: Changes) -> bool:
    """Whether the line is one of a function, or the first of a constant, that has changed."""
    for name, number in changes.names.items():
        if changes.files.get(name.module) == line.path:
            if name.name == function or (not function and number == line.number):
                return True
    return False


def changed_lines(path: Path, revision: str) -> list[Line]:
    """The lines of a file that are not what they were, as they are numbered now."""
    differences = git(path.parent, "diff", *PLAIN, revision, "--", path.name)
    found: list[Line] = []
    for match in _HUNK.finditer(differences or b""):
        first, count = int(match[1]), int(match[2] or 1)
        if count == 0:
            found.append(Line(path, max(first, 1), True))
        found += [Line(path, number, False) for number in range(first, first + count)]
    return found


def _functions(path: Path) -> dict[int, str]:
    """The function that each line is in."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return {}
    return {
        number: node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def _is_in(step: Step, path: Path, function: str) -> bool:
    return any(_is_at(site, path) and site.function == function for site in step.stack)


def _is_at(site: Site, path: Path) -> bool:
    return Path(site.file).name == path.name and os.path.realpath(site.file) == str(path.resolve())


def _told(line: Line, function: str, steps: list[Step]) -> str:
    site = Site(str(line.path), line.number, function)
    exact = [
        step
        for step in steps
        if any(_is_at(site, line.path) and site.line == line.number for site in step.stack)
    ]
    what = "lines below it were deleted" if line.gone else source_at(site)
    place = path_at(site) + (f" in {function}" if function else "")
    if not steps:
        return f"{place}: {what}"
    return f"{place}: {what} ({_who(exact or steps)})"


def _who(steps: list[Step]) -> str:
    """``cpu 2, steps 37 to 39; cpu 1, step 67``: every time, for the first may be the culprit."""
    runs: list[list[Step]] = []
    for step in steps:
        if runs and (runs[-1][-1].cpu, runs[-1][-1].index + 1) == (step.cpu, step.index):
            runs[-1].append(step)
        else:
            runs.append([step])
    told: list[str] = []
    for run in runs[:MOST_RUNS]:
        first, last = run[0].index, run[-1].index
        those = f"step {first}" if first == last else f"steps {first} to {last}"
        told.append(f"cpu {run[0].cpu}, {those}")
    more = len(runs) - MOST_RUNS
    return "; ".join(told) + (f"; and {more} more times" if more > 0 else "")
