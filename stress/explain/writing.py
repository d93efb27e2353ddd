"""A file of an explanation: the program, its schedule, and a test that pytest runs."""

from __future__ import annotations

import re
from pathlib import Path

from stress import shell
from stress.crash.result import CrashFailure
from stress.explain.explanation import Explanation
from stress.explorer.report.failure import Failure

HEAD = '''"""{sentence}

Found from a failure of real processes: {text}
Written by shmstress explain; the run: {again}
"""

from __future__ import annotations

'''
OF_PROGRAM = """from stress import replay
{imports}

PROGRAM = {program}
TOKEN = {token!r}


def test_the_schedule_fails_no_more():
    again = replay(PROGRAM, TOKEN)
    assert again.failure is None, again.report()
"""
OF_CRASH = """from stress.crash import rerun
from stress.crash.allocator import allocator_case

CASE = {name!r}


def test_the_death_is_recovered():
    again = rerun(
        allocator_case(CASE), {schedule!r}, victim={victim}, write={point}, then={then}
    )
    assert again.run.kind == "passed", again.text
"""


def text_of(made: Explanation) -> str:
    """The file; there must be a schedule."""
    assert made.found is not None
    evidence = made.evidence
    head = HEAD.format(
        sentence=_plain(str(made)), text=_plain(evidence.text), again=_plain(evidence.again)
    )
    failure = made.found.failure
    if isinstance(failure, CrashFailure):
        return head + OF_CRASH.format(
            name=made.found.name,
            schedule=str(failure.schedule),
            victim=failure.victim,
            point=failure.point,
            then=failure.then,
        )
    imports, program = "from stress.programs import PROGRAMS", f"PROGRAMS[{made.found.name!r}]()"
    if made.found.sketch is not None:
        imports = f"from {made.found.sketch.module} import {made.found.sketch.maker}"
        program = made.found.sketch.text
    return head + OF_PROGRAM.format(imports=imports, program=program, token=failure.schedule)


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("\\\\", "/").replace('"""', "'''")


def write(made: Explanation, folder: Path) -> Path:
    """Write the file into ``folder``; it is named after the invariant."""
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "_", made.evidence.invariant or "hang").lower()
    path = folder / f"test_{name}.py"
    path.write_text(text_of(made), "utf-8")
    return path


def again(made: Explanation, path: Path) -> str:
    """The line that shows the schedule."""
    assert made.found is not None
    failure = made.found.failure
    if not isinstance(failure, Failure):
        return failure.command
    if made.found.sketch is None:
        return f"shmstress replay {shell.quote(failure.schedule)}"
    where = shell.quote(f"{path}:PROGRAM")
    return f"shmstress replay --program {where} {shell.quote(failure.schedule)}"
