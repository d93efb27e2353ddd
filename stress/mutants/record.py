"""A hunt as a round of a database: its result, and a finding where it ended as it should not.

A mutant that was found is no finding: that is what a hunt is for. A survivor is one, and so is
whatever is found on the original kernels.
"""

from __future__ import annotations

from dataclasses import asdict

from stress.mutants import MUTANTS
from stress.mutants.runner import FOUND, ORIGINAL, Hunted
from stress.records.finding import MUTANT, Finding
from stress.records.work import Work
from stress.records.writer import Records
from stress.verdict import Verdict


def work_of(hunted: Hunted) -> Work:
    """What was hunted by which engine."""
    chosen = "--original" if hunted.mutant == ORIGINAL else hunted.mutant
    command = f"shmstress mutants --engine {hunted.engine} {chosen}"
    return Work("mutant", command, {"mutant": hunted.mutant, "engine": hunted.engine})


def record_hunt(records: Records, round_id: int, hunted: Hunted) -> None:
    """The end of a hunt, in one transaction."""
    verdict = hunted.verdict
    with records.together():
        if verdict is Verdict.FAILED:
            records.finding(round_id, _finding(hunted))
        schedules = hunted.schedules or None
        records.end_round(round_id, verdict.name, hunted.seconds, schedules, asdict(hunted))


def _finding(hunted: Hunted) -> Finding:
    command = work_of(hunted).command
    if hunted.mutant == ORIGINAL:
        report = f"{hunted}\n{hunted.cause}".strip()
        token = hunted.token or None
        return Finding(MUTANT, hunted.kind, hunted.by, report, command, token=token)
    mutant = MUTANTS[hunted.mutant]
    assert hunted.outcome != FOUND
    site = f"mutant {mutant.name}, {hunted.engine}"
    return Finding(
        MUTANT, mutant.invariant, site, f"{hunted}: {mutant.story}", command, shape="survived"
    )
