"""The bound of PCT: with which probability its schedules have missed a bug.

One schedule shows a bug of depth d with a probability of at least 1 / (n * k**(d - 1)). This holds
for

- n: all that have a priority, the CPUs and, under tso, their store buffers. Under pso a waiting
  store moves from actor to actor, and there is no bound
- k: the schedule's change points were drawn from 1..k, so the bug must need at most k steps with a
  choice. k grows with the longest schedule, and schedules drawn with a smaller one do not count
- schedules that follow the algorithm to their end. One in which a CPU relaxed, or that came near
  the step limit, does not (strategies/pct.py): whether it has missed a bug says nothing. Then there
  is no bound at all, for it is not known how many schedules would have done so

Why a bound of the schedules so far may depend on what they showed: "missed, and all followed the
algorithm" is an event of the original algorithm; and 1 over the product of 1 - chance, as long as
the bug is missed, is a supermartingale: "missed, and the printed bound is at most x" has a
probability of at most x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from stress.explorer.strategies import pct
from stress.machine import block as cb

LEAST_PRINTED = 1e-300  # a smaller one is 0 as a float, which it is not


class PctRun(NamedTuple):
    """What the bound of one search depends on."""

    actors: int
    steps: int  # k
    depth: int
    schedules: int
    counting: int  # of them, those that were drawn with this k
    refusal: str  # why there is no bound; empty: there is one

    @property
    def chance(self) -> float:
        """The least probability that one schedule shows a bug of that depth."""
        return 1 / float(self.actors * self.steps ** (self.depth - 1))


def pct_run(block: Any) -> PctRun:
    """What a search by PCT has run so far."""
    depth, known, last = (int(block[word]) for word in (pct.DEPTH, pct.LONGEST_COUNT, pct.COUNTED))
    schedules = int(block[cb.SCHEDULES])
    since = int(block[pct.K_SINCE]) if last <= known else schedules
    counting = schedules if depth == 1 else schedules - since
    steps = max(known, last, 1)
    return PctRun(int(block[cb.ACTORS]), steps, depth, schedules, counting, _refusal(block))


def _refusal(block: Any) -> str:
    if block[cb.ACTORS] > 2 * block[cb.CPUS]:  # pso: an actor is a place in a buffer, not a store
        return "under pso a waiting store has no priority of its own"
    if block[cb.ABANDONED_COUNT]:
        return f"{block[cb.ABANDONED_COUNT]:,} schedules were cut at the step limit"
    if block[pct.UNFAITHFUL]:
        return f"in {block[pct.UNFAITHFUL]:,} schedules a CPU relaxed, or they were too long"
    return ""


def pct_guarantee(runs: Sequence[PctRun]) -> str:
    """The bound of all schedules together; empty if there is none."""
    steps = max(run.steps for run in runs)
    counting = [run for run in runs if run.steps == steps or run.depth == 1]
    if any(run.refusal for run in runs) or not sum(run.counting for run in counting):
        return ""
    missed = math.prod((1 - run.chance) ** run.counting for run in counting)
    actors, depth = runs[0].actors, runs[0].depth
    within = f" within {steps} steps" if depth > 1 else ""
    most = f"at most {missed:.3g}" if missed > LEAST_PRINTED else f"less than {LEAST_PRINTED:g}"
    return (
        f"a bug of depth <= {depth}{within} is missed with a probability of {most}"
        f" (PCT: n = {actors}, k = {steps}, {sum(run.counting for run in counting):,} of"
        f" {sum(run.schedules for run in runs):,} schedules, 1 in"
        f" {actors * steps ** (depth - 1):,} shows it)"
    )


def pct_note(runs: Sequence[PctRun]) -> str:
    """Why there is no bound."""
    for run in runs:
        if run.refusal:
            return f"no bound of PCT: {run.refusal}"
    return "no bound of PCT: the last schedule was the longest"
