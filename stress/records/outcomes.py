"""What a round found, recorded with its end in one transaction: of a run, the explorer, crash mode.

A violation that a kernel reported comes before those that the controller saw (a worker that died,
a counter that differs), which mostly follow from it. What a process uses of the machine is a matter
of its own, whatever else was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shmalloc.errors import Violation
from stress.records.finding import VIOLATION, Attachment, Finding
from stress.records.fingerprint import without_numbers
from stress.verdict import Verdict

if TYPE_CHECKING:
    from stress.crash.result import CrashResult
    from stress.explorer.result import Exploration
    from stress.records.writer import Records
    from stress.run.result import RunResult


def record_run(
    records: Records, round_id: int, result: RunResult, files: Sequence[Attachment] = ()
) -> list[str]:
    """The end of a native round. Returns the fingerprints of what it found.

    ``files`` are kept with a finding that was not known.
    """
    command = result.spec.command_line()
    with records.together():
        found = records.violations(round_id, by_cause(result.violations), command, files)
        records.violations(round_id, by_cause(result.ignored), command)
        if not result.violations and result.verdict is Verdict.FAILED:
            trouble = replace(_of_trouble(result, command), attachments=files)
            found = [records.finding(round_id, trouble)]
        records.end_round(
            round_id,
            result.verdict.name,
            result.seconds,
            result.ops,
            result.as_dict(),
            result.latencies,
        )
    return found


def by_cause(violations: Sequence[Violation]) -> list[Violation]:
    """The reports of kernels first, in their order."""
    return sorted(violations, key=lambda violation: violation.claim is None)


def _of_trouble(result: RunResult, command: str) -> Finding:
    """A run that failed for a reason that is no violation."""
    said = next(text for verdict, text in result.troubles if verdict is Verdict.FAILED)
    site = without_numbers(said.partition("\n")[0])
    return Finding(VIOLATION, "worker", site, report=said, command=command)


def record_exploration(records: Records, round_id: int, result: Exploration) -> list[str]:
    """The end of an exploration. Returns the fingerprint of its failure, if it has one."""
    from stress.explorer.report.document import document
    from stress.explorer.result import VERDICT_OF
    from stress.records.failures import finding_of_failure, identity_of

    verdict = VERDICT_OF[result.verdict]
    failing = [] if result.failure is None else [result.failure]
    with records.together():
        for failure in (*failing, *(known for known, _ in result.known)):
            if not records.seen(round_id, identity_of(failure).fingerprint):
                records.finding(round_id, finding_of_failure(failure))
        found = [identity_of(failure).fingerprint for failure in failing]
        whole = _without_failure(document(result))
        records.end_round(round_id, verdict.name, result.seconds, result.schedules, whole)
    return found


def record_crash(records: Records, round_id: int, result: CrashResult) -> list[str]:
    """The end of the runs of a crash case. Returns the fingerprints of its failures."""
    from stress.crash.document import document
    from stress.crash.result import VERDICT_OF
    from stress.records.failures import finding_of_crash, identity_of_crash

    with records.together():
        for failure in (*result.failures, *result.ignored):
            if not records.seen(round_id, identity_of_crash(failure).fingerprint):
                records.finding(round_id, finding_of_crash(failure))
        found = [identity_of_crash(failure).fingerprint for failure in result.failures]
        whole = {**document(result), "first_failure": None}
        verdict = VERDICT_OF[result.verdict].name
        records.end_round(round_id, verdict, result.seconds, result.runs, whole)
    return list(dict.fromkeys(found))


def _without_failure(document: dict[str, Any]) -> dict[str, Any]:
    """The finding has it: a row for each round would repeat every step."""
    return {**document, "failure": None}
