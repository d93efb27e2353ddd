"""Crash runs as data: what ``shmstress crash --json`` writes.

Counts of all operations, and one failure of each kind. The first of them is written in full, like
a failure of the explorer (``explorer/report/document``).
"""

from __future__ import annotations

from typing import Any

from shmalloc import __version__
from stress.crash.account import account_of
from stress.crash.report import by_operation
from stress.crash.result import VERDICT_OF, Counts, CrashFailure, CrashResult, place
from stress.explorer.report.document import described
from stress.explorer.report.naming import Naming
from stress.explorer.report.trace import kind_of

SCHEMA = 1


def document(total: CrashResult) -> dict[str, Any]:
    """All of ``total`` in JSON's types."""
    return {
        "schema": SCHEMA,
        "tool": {"name": "shmstress", "version": __version__, "command": "crash"},
        "verdict": total.verdict,
        "exit_code": VERDICT_OF[total.verdict].exit_code,
        "complete": total.complete,
        "programs": total.cases,
        "schedules": total.schedules,
        "steps": total.steps,
        "seconds": round(total.seconds, 3),
        "crashes": _counts(total.total()),
        "crashes_in_recovery": _counts(total.total(second=True)),
        "operations": [
            {
                "operation": name,
                "sites": len(sites),
                "crashes": _counts(once),
                "crashes_in_recovery": _counts(again),
            }
            for name, (sites, once, again) in sorted(by_operation(total).items())
        ],
        "failures": [failure_document(failure) for failure in total.failures],
        "first_failure": described(account_of(total.failures[0])) if total.failures else None,
    }


def _counts(counts: Counts) -> dict[str, int]:
    return dict(vars(counts))


def failure_document(failure: CrashFailure) -> dict[str, Any]:
    """One place of a death that was not recovered."""
    return {
        "text": str(failure),
        "program": failure.case.name,
        "kind": kind_of(failure.kind),
        "code": failure.code,
        "code_name": Naming(failure.case.program).code(failure.code),
        "operation": failure.key.operation,
        "site": place(failure.key.site),
        "schedule": str(failure.schedule),
        "victim": failure.victim,
        "write": failure.point,
        "then": failure.then,
        "again": failure.again(),
    }
