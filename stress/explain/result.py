"""``explain_result``: what ``shmstress explain`` does, for a run that Python has just made."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from shmalloc.errors import MisuseError
from stress.explain.evidence import of_document
from stress.explain.explanation import Explanation, explain, lines_of
from stress.explain.writing import again, write
from stress.report.document import json_document
from stress.run.result import RunResult
from stress.workloads import OWN, WORKLOADS

FOLDER = "explained"


def explain_result(
    result: RunResult,
    seconds: float = 60.0,
    into: str = FOLDER,
    tell: Callable[[str], None] | None = None,
) -> Explanation:
    """Find a schedule that breaks the invariant of a failed run, print it, and write it as a test.

    The workloads of a user's file are explored with their own kernels. ``into``: the folder of the
    test. ``tell`` receives the lines; by default they are printed.

    Raises ``MisuseError`` for a run that found no violation.
    """
    evidence = of_document(json.loads(json_document(result)))
    if evidence is None:
        raise MisuseError("result: the run found no violation, so there is nothing to explain")
    say = tell or (lambda text: print(text, file=sys.stdout))
    users = [WORKLOADS[name] for name in result.spec.workloads if name not in OWN]
    made = explain(evidence, seconds, users=users)
    for line in lines_of(made):
        say(line)
    if made.found is not None:
        path = write(made, Path(into))
        say(f"written: {path}")
        say(f"to see it again:\n  {again(made, path)}")
    return made
