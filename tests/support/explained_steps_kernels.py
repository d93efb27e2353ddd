"""A workload whose two processes count in one word, and each believes that it is alone."""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.reporting import report
from shmalloc.words import load, store
from stress.workloads.area import W_DATA, work_at


@kernel
def step(mem, cpu, steps):
    at = work_at(mem, 0) + W_DATA
    for _ in range(steps):
        store(mem, at, cpu + 1)
        if load(mem, at) != cpu + 1:
            report(mem, cpu, c.X_PAYLOAD, 0, cpu + 1, 0)
    return steps


@kernel
def finish(mem, cpu):
    return 0
