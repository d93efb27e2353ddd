"""A bisection in words, and as data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from stress import __version__
from stress.bisect import judge
from stress.bisect.walk import Bisection, Judged
from stress.quantities import counted
from stress.verdict import Verdict

SCHEMA = 1
HASH_DIGITS = 9
SAID = {judge.FAILS: "fails", judge.PASSES: "passes", judge.ABSENT: "skipped"}


def line_of(one: Judged) -> str:
    """``fails    1a2b3c4 2026-11-30 Its subject: its schedule fails``."""
    why = f"the kernels of {one.same_as[:HASH_DIGITS]}" if one.same_as else one.why
    return f"{SAID[one.verdict]:<8} {one.line}: {why}"


def verdict_of(made: Bisection) -> Verdict:
    """PASSED: the commit was found. VACUOUS: only skipped commits are left."""
    return Verdict.PASSED if made.found is not None else Verdict.VACUOUS


def text_of(made: Bisection) -> str:
    """The result: the commit, and its schedule before and after."""
    judged = f"{counted(len(made.judged), 'commit')} judged of {made.commits + 1}"
    skipped = f", {made.skipped} of them skipped" if made.skipped else ""
    does = "passes" if made.mended else "fails"
    if made.found is None:
        left = "\n".join(f"  {commit}" for commit in made.left)
        return f"The first commit that {does} is one of these ({judged}{skipped}):\n{left}\n"
    did = "fails" if made.mended else "passes"
    before = made.before or "  the program cannot run there\n"
    return (
        f"\nbefore it, the schedule {did}:\n\n{before}\n"
        f"from it on, the schedule {does}:\n\n{made.after}\n"
        f"the first commit that {does} is {made.found.line} ({judged}{skipped})\n"
    )


def document_of(made: Bisection) -> dict[str, Any]:
    """The same as a JSON document."""
    verdict = verdict_of(made)
    return {
        "schema": SCHEMA,
        "tool": {"name": "shmstress", "version": __version__, "command": "bisect"},
        "verdict": verdict.name,
        "exit_code": verdict.exit_code,
        **asdict(made),
        "skipped": made.skipped,
    }
