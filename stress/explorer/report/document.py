"""An exploration as data: what ``--json`` writes."""

from __future__ import annotations

from typing import Any

from shmalloc.engine import ops
from stress.explorer.address import again
from stress.explorer.report.failure import Failure, Step
from stress.explorer.result import Exploration

FORMAT = 1


def document(result: Exploration) -> dict[str, Any]:
    """Everything in ``result``, in JSON's types."""
    return {
        "format": FORMAT,
        "program": result.program.name,
        "verdict": result.verdict,
        "strategy": result.strategy,
        "memory": result.memory,
        "engine": result.engine,
        "seed": result.seed,
        "schedules": result.schedules,
        "steps": result.steps,
        "classes": result.classes,
        "estimate": result.estimate,
        "abandoned": result.abandoned,
        "redundant": result.redundant,
        "failures": result.failures,
        "seconds": round(result.seconds, 6),
        "guarantee": result.guarantee,
        "note": result.note,
        "observed": [list(o) if isinstance(o, tuple) else o for o in result.program.observe],
        "outcomes": [
            {"values": list(values), "count": count}
            for values, count in result.outcomes.most_common()
        ],
        "failure": None if result.failure is None else _failure(result.failure),
    }


def _failure(failure: Failure) -> dict[str, Any]:
    return {
        "kind": failure.kind,
        "code": failure.code,
        "cause": failure.cause,
        "schedule": failure.schedule,
        "again": again(failure.program, failure.schedule),
        "shrunk": failure.shrunk,
        "preemptions": failure.preemptions,
        "found_after": failure.found_after,
        "steps": [_step(step) for step in failure.trace.steps],
        "conflict": failure.trace.conflict,
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "cpu": step.cpu,
        "local": step.local,
        "op": ops.NAMES[step.op],
        "word": step.address,
        "value": step.value,
        "preempted": step.preempted,
        "at": None if step.site is None else str(step.site),
    }
