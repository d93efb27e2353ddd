"""``explain``: the whole way from evidence to a schedule, within a budget, and what to say of it.

The time goes first to what a drawn program can show, then to the catalogue, then to other drawn
ones; where processes died, the crash cases come first. A part is kept for cutting down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from shmalloc.invariants import BY_NAME
from stress.crash.result import CrashFailure
from stress.explain.catalogue import try_crashes, try_programs
from stress.explain.evidence import Evidence
from stress.explain.reduce import reduced
from stress.explain.search import Effort, Explained, ending_of, search
from stress.explain.steps import step_sketches
from stress.explorer.report.failure import Failure
from stress.quantities import counted
from stress.workloads.registry import Workload

DRAWN_SHARE, CATALOGUE_SHARE, REDUCE_SHARE = 0.45, 0.5, 0.15
CRASH_SHARE = 0.5
REDUCE_S = 20.0  # at most


@dataclass(frozen=True)
class Explanation:
    """What came of it. ``found`` None: nothing fails; ``effort`` says how far it came."""

    evidence: Evidence
    effort: Effort
    found: Explained | None

    @property
    def token(self) -> str:
        """What repeats the schedule: a token, or the line of a crash; empty if there is none."""
        if self.found is None:
            return ""
        failure = self.found.failure
        return failure.schedule if isinstance(failure, Failure) else failure.command

    def __str__(self) -> str:
        """One sentence."""
        if self.found is None:
            return f"not explained: {self.effort}"
        kind = ending_of(self.found)
        what = "breaks the same invariant" if self.found.same else "breaks another invariant"
        sketch = self.found.sketch
        how = f"by {self.found.name}" if sketch is None else _size_of(sketch.threads)
        return f"explained {how}: a schedule {what}, {kind}; {self.effort}"


def _size_of(threads: Sequence[Sequence[object]]) -> str:
    operations = counted(sum(map(len, threads)), "operation")
    return f"by {counted(len(threads), 'CPU')} with {operations}"


def explain(
    evidence: Evidence,
    seconds: float,
    seed: int = 1,
    tell: Callable[[str], None] = lambda text: None,
    users: Sequence[Workload] = (),
) -> Explanation:
    """Look for a schedule that breaks the invariant of a failed run, and cut it down.

    ``users``: the workloads of the run that are a user's, whose own kernels are explored.
    """
    effort = Effort()
    begin = time.monotonic()

    def left(share: float) -> float:
        return share * (seconds - (time.monotonic() - begin))

    if evidence.kills:
        try_crashes(evidence, effort, left(CRASH_SHARE), tell)
    for workload in users:
        search(evidence, effort, left(DRAWN_SHARE), seed, tell, step_sketches(workload))
    if not _is_over(effort) and evidence.alphabet:
        search(evidence, effort, seconds * DRAWN_SHARE * _rest(evidence), seed, tell)
    if not _is_over(effort):
        try_programs(evidence, effort, left(CATALOGUE_SHARE), tell)
    if not _is_over(effort) and evidence.alphabet:  # with what is left, other ones
        search(evidence, effort, left(1.0) - REDUCE_SHARE * seconds, seed + 1, tell)
    found = effort.found
    if found is not None and not isinstance(found.failure, CrashFailure):
        found = reduced(found, evidence, effort, min(REDUCE_S, max(left(1.0), 1.0)))
    effort.seconds = time.monotonic() - begin
    return Explanation(evidence, effort, found)


def _rest(evidence: Evidence) -> float:
    return 1 - CRASH_SHARE if evidence.kills else 1.0


def _is_over(effort: Effort) -> bool:
    return effort.found is not None and effort.found.same


def lines_of(made: Explanation) -> Iterator[str]:
    """What was seen, what was in flight, and what was found, in words."""
    evidence = made.evidence
    row = BY_NAME.get(evidence.invariant)
    yield f"to be explained: {evidence.text or evidence.invariant}"
    if row is not None:
        yield f"  {evidence.invariant}: {row.sentence}"
    if evidence.kernel:
        yield f"  seen by {evidence.kernel}"
    for cpu, lines in evidence.in_flight.items():
        yield from (f"  in flight on {line}" for line in lines[-2:] or (f"cpu {cpu}: nothing",))
    if made.found is not None:
        if made.found.sketch is not None:
            yield f"  program: {made.found.program.story}"
        if isinstance(made.found.failure, Failure):
            yield made.found.failure.report()
    yield str(made)
