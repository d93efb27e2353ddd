"""What every JSON document of a check begins with."""

from __future__ import annotations

from typing import Any

from stress import __version__
from stress.check.changes import Changes
from stress.verdict import Verdict

SCHEMA = 1


def document_head(verdict: Verdict, changes: Changes | None) -> dict[str, Any]:
    """``changes``: None if parts were named."""
    return {
        "schema": SCHEMA,
        "tool": {"name": "shmstress", "version": __version__, "command": "check"},
        "verdict": verdict.name,
        "exit_code": verdict.exit_code,
        "since": None if changes is None else changes.since,
    }
