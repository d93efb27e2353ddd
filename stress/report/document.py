"""The JSON document of a run: a view of one ``RunResult``."""

from __future__ import annotations

import json

from shmalloc import __version__
from stress.report.environment import environment
from stress.report.text import HONEST
from stress.report.violations import grouped
from stress.run.result import SCHEMA, RunResult


def json_document(result: RunResult) -> str:
    """One JSON document, ``schema`` 1, ending with a newline."""
    document = {
        "schema": SCHEMA,
        "tool": {"name": "shmstress", "version": __version__, "command": "run"},
        "environment": environment(),
        "spec": result.spec.as_dict(),
        "verdict": result.verdict.name,
        "exit_code": result.verdict.exit_code,
        "results": [_result(result)],
        "reproduce": {"command": result.spec.command_line(), "exact": False, "note": HONEST},
    }
    return json.dumps(document, indent=2) + "\n"


def _result(result: RunResult) -> dict[str, object]:
    groups = [group.as_dict() for group in grouped(result.violations)]
    return {**result.as_dict(), "violation_groups": groups}
