"""A strict parser of KTAP version 1, written from the kernel's description of the format.

It knows four kinds of lines and refuses all others (a real reader would skip them): a version line,
a plan, a result, a diagnostic line. Each level of nesting is two spaces further in, begins with a
version line and a plan, and ends with the result of its parent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

RESULT = re.compile(r"(ok|not ok) ([1-9][0-9]*)(?: ([^#]*[^# ]))?(?: # ?(.*))?")
PLAN = re.compile(r"1\.\.(0|[1-9][0-9]*)")
DIRECTIVES = ("SKIP", "TODO", "XFAIL", "TIMEOUT", "ERROR")
OF_A_FAILURE = ("TIMEOUT", "ERROR")


class GrammarError(Exception):
    """A line that KTAP does not allow there."""


@dataclass
class Result:
    """One test. ``children``: None if it has no subtests."""

    name: str
    ok: bool
    directive: str = ""
    said: str = ""
    diagnostics: list[str] = field(default_factory=list)
    children: list[Result] | None = None


def parse(text: str) -> tuple[list[Result], list[str]]:
    """The tests of a document, and the diagnostic lines of none of them."""
    if not text.endswith("\n") or "\r" in text:
        raise GrammarError("lines end with a line feed")
    lines = text[:-1].split("\n")
    results, rest, behind = _level(lines, 0)
    if rest:
        raise GrammarError(f"behind the plan: {rest[0]!r}")
    return results, behind


def _level(lines: list[str], depth: int) -> tuple[list[Result], list[str], list[str]]:
    """The tests of one level, the lines behind it, and diagnostic lines that belong to no test."""
    here = "  " * depth
    if not lines or lines[0] != f"{here}KTAP version 1":
        raise GrammarError(f"no version line: {lines[:1]}")
    lines = lines[1:]
    while lines and lines[0].startswith(f"{here}#"):
        lines = lines[1:]
    plan = PLAN.fullmatch(lines[0].removeprefix(here)) if lines else None
    if plan is None:
        raise GrammarError(f"no plan: {lines[:1]}")
    lines = lines[1:]
    found: list[Result] = []
    said: list[str] = []
    children: list[Result] | None = None
    while lines:
        line = lines[0]
        if line == f"{here}  KTAP version 1":
            children, lines, _ = _level(lines, depth + 1)
            continue
        if not line.startswith(here) or line[len(here) : len(here) + 1] == " ":
            break
        own = line.removeprefix(here)
        if own.startswith("#"):
            if not re.fullmatch(r"#( .*)?", own):
                raise GrammarError(f"no diagnostic line: {line!r}")
            said.append(own[2:])
        else:
            if len(found) == int(plan[1]):
                break
            found.append(_result(own, len(found) + 1, said, children))
            said, children = [], None
        lines = lines[1:]
    if len(found) != int(plan[1]):
        raise GrammarError(f"{plan[0]}, but {len(found)} results")
    return found, lines, said


def _result(line: str, number: int, said: list[str], children: list[Result] | None) -> Result:
    match = RESULT.fullmatch(line)
    if match is None or int(match[2]) != number:
        raise GrammarError(f"no result {number}: {line!r}")
    ok, behind = match[1] == "ok", match[4] or ""
    directive, _, data = behind.partition(" ")
    if directive not in DIRECTIVES:
        directive, data = "", behind
    if directive in OF_A_FAILURE and ok:
        raise GrammarError(f"{directive} of a test that is ok: {line!r}")
    if children is not None and ok == any(
        not one.ok and one.directive != "SKIP" for one in children
    ):
        raise GrammarError(f"its subtests say something else: {line!r}")
    return Result(match[3] or "", ok, directive, data, said, children)
