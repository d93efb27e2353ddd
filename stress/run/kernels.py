"""Which kernels are called from Python, by whom: what a first run compiles and a later one loads.

Few on purpose: each entry is compiled with everything below it, and loading one costs about 15 ms.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import FunctionType

from shmalloc.kernel.audit import audit, audit_teardown
from shmalloc.kernel.boot import boot
from shmalloc.kernel.pcp import drain_all
from shmalloc.kernel.slabaudit import audit_slabs
from shmalloc.kernel.slots import claim_slot, publish, share_slot
from stress.workloads import WORKLOADS

ENV_PRELOAD = "SHMSTRESS_PRELOAD"


def controller_kernels() -> list[FunctionType]:
    """What the controller itself calls."""
    return [boot, publish, audit, drain_all, audit_teardown, audit_slabs]


def worker_kernels(workloads: Iterable[str]) -> list[FunctionType]:
    """What a worker calls."""
    entries: list[FunctionType] = [claim_slot, share_slot]
    for name in workloads:
        entries += [WORKLOADS[name].step, WORKLOADS[name].finish]
    return entries
