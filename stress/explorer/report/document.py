"""An exploration as data: what ``--json`` writes.

A step has its word as a number and, if there is one, its ``name``; its value as a number, what it
``found`` and ``left`` in memory, and ``means``, the same in words. Text fields that would be empty
are left out.
"""

from __future__ import annotations

from typing import Any

from shmalloc.engine import ops
from stress import __version__
from stress.explorer.report import wording
from stress.explorer.report.account import Account
from stress.explorer.report.explain import findings_of
from stress.explorer.report.failure import Failure
from stress.explorer.report.frames import shown_site
from stress.explorer.report.naming import Naming
from stress.explorer.report.trace import Step, addresses_of
from stress.explorer.result import VERDICT_OF, Exploration
from stress.machine.site import Site

FORMAT = 1


def document(result: Exploration) -> dict[str, Any]:
    """All of ``result`` in JSON's types."""
    return {
        "format": FORMAT,  # its name before version 0.1; the same as schema
        "schema": FORMAT,
        "tool": {"name": "shmstress", "version": __version__, "command": "explore"},
        "program": result.program.name,
        "world": result.world,
        "verdict": result.verdict,
        "exit_code": VERDICT_OF[result.verdict].exit_code,
        "strategy": result.strategy,
        "memory": result.memory,
        "engine": result.engine,
        "seed": result.seed,
        "schedules": result.schedules,
        "steps": result.steps,
        "classes": result.classes,
        "estimate": result.estimate,
        "interval": result.interval,
        "abandoned": result.abandoned,
        "redundant": result.redundant,
        "failures": result.failures,
        "ignored": sum(count for _, count in result.known),
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
        **described(failure),
        "schedule": failure.schedule,
        "again": "\n".join(failure.again),
        "shrunk": failure.shrunk,
        "preemptions": failure.preemptions,
        "found_after": failure.found_after,
    }


def described(account: Account) -> dict[str, Any]:
    """All that printers know of an account, in JSON's types."""
    trace, naming = account.trace, account.naming
    memory = account.trace.memory
    stacks = wording.stacks_of(trace)
    return {
        "headline": account.headline,
        "kind": account.kind,
        "code": account.code,
        "code_name": naming.code(account.code) if account.kind in ("check", "invariant") else "",
        "cause": account.cause,
        "findings": [
            {"code": f.code, "name": f.name, "text": f.text, "words": list(f.words)}
            for f in findings_of(account.program, memory)
        ],
        "origin": [str(site) for site in trace.origin],
        "at_stake": [_word(word, naming) for word in trace.at_stake],
        "steps": [_step(step, naming, stacks[step.index]) for step in trace.steps],
        "markers": [marker._asdict() for marker in trace.markers],
        "conflict": trace.conflict,
    }


def _word(word: int, naming: Naming) -> dict[str, Any]:
    name = naming.word(word)
    return {"word": word, **({"name": name} if name else {})}


def _step(step: Step, naming: Naming, stack: tuple[Site, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "cpu": step.cpu,
        "local": step.local,
        "op": ops.NAMES[step.op],
        **_word(step.address, naming),
        "value": step.value,
        "preempted": step.preempted,
        "text": str(wording.words_of(step, naming)),
        "at": None if step.site is None else str(step.site),
        "shown_at": None if not stack else str(shown_site(stack)),
        "stack": [str(site) for site in stack],
    }
    if step.before and addresses_of(step):
        found |= {"found": list(step.before), "left": list(step.after)}
        means = {
            "found": naming.meaning(step.address, *step.before),
            "left": naming.meaning(step.address, *step.after),
        }
        if any(means.values()):
            found["means"] = means
    return found
