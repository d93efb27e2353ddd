"""Which worker runs which workload, and for how long: the slices of a run.

With few workloads every worker keeps its own (worker k runs ``workloads[k % n]``) and all run at
once. With more workloads than half the workers they take turns in slices, two workers at least on
each if there are two, so that a worker that hands memory on has a neighbour. The first
cycle keeps the given order; later ones are shuffled by the seed, so that different workloads meet.

Slices are of equal length. Each ends at a stutter point: all workers park, and an audit runs.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from stress.seeds import derive
from stress.spec import RunSpec

MIN_SLICES = 2


@dataclass(frozen=True)
class Slice:
    """A stretch of work between two stutter points: CPU slot -> workload."""

    index: int
    seconds: float
    assignment: Mapping[int, str]

    def peer_of(self, cpu: int) -> int:
        """The next slot with the same workload, around in a circle; itself if it is alone."""
        slots = list(self.assignment)
        ring = slots[cpu + 1 :] + slots[: cpu + 1]
        return next(other for other in ring if self.assignment[other] == self.assignment[cpu])


def slices_of(spec: RunSpec) -> list[Slice]:
    """All slices of a run, in order."""
    at_once = max(1, spec.workers // 2)
    names = spec.workloads
    turns = 1 if len(names) <= max(at_once, 1) else math.ceil(len(names) / at_once)
    wanted = max(MIN_SLICES, math.ceil(spec.duration_s / spec.audit_every_s))
    count = math.ceil(wanted / turns) * turns
    if turns == 1:
        assignments = _constant(spec)
    else:
        assignments = _taking_turns(spec, at_once, turns)
    seconds = spec.duration_s / count
    return [Slice(i, seconds, next(assignments)) for i in range(count)]


def _constant(spec: RunSpec) -> Iterator[dict[int, str]]:
    names = spec.workloads
    while True:
        yield {cpu: names[cpu % len(names)] for cpu in range(spec.workers)}


def _taking_turns(spec: RunSpec, at_once: int, turns: int) -> Iterator[dict[int, str]]:
    cycle = 0
    while True:
        names = list(spec.workloads)
        if cycle:
            random.Random(derive(spec.seed, f"order of cycle {cycle}")).shuffle(names)
        for turn in range(turns):
            first = turn * at_once
            chosen = [names[(first + i) % len(names)] for i in range(at_once)]
            yield {cpu: chosen[cpu % at_once] for cpu in range(spec.workers)}
        cycle += 1
