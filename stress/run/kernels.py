"""Which kernels are called from Python, by whom: what a first run compiles and a later one loads.

Few on purpose: each entry is compiled with everything below it, and loading one costs about 15 ms.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import FunctionType

from shmalloc.kernel.audit import audit, audit_teardown
from shmalloc.kernel.boot import boot
from shmalloc.kernel.cacheset import cache_destroy
from shmalloc.kernel.contig import online_range
from shmalloc.kernel.hotplug import plug_cpu, unplug_cpu
from shmalloc.kernel.pcp import drain_all
from shmalloc.kernel.reap import reap
from shmalloc.kernel.recover import recover, unblock
from shmalloc.kernel.slabaudit import audit_slabs
from shmalloc.kernel.slots import claim_slot, mark_dead, publish, share_slot
from stress.faults.grammar import Fault, Hotplug, Kill, Pressure
from stress.spec import RunSpec
from stress.workloads import WORKLOADS
from stress.workloads.pressure import pressure_give, pressure_take

ENV_PRELOAD = "SHMSTRESS_PRELOAD"
_OF_FAULTS: dict[type[Fault], tuple[FunctionType, ...]] = {
    Kill: (mark_dead, recover, unblock, reap, cache_destroy, online_range, plug_cpu),
    Pressure: (pressure_take, pressure_give),
    Hotplug: (unplug_cpu, plug_cpu),
}


def controller_kernels(spec: RunSpec) -> list[FunctionType]:
    """What the controller itself calls; more, where it does something while the workers run."""
    entries: list[FunctionType] = [boot, publish, audit, drain_all, audit_teardown, audit_slabs]
    if spec.live_faults:
        entries += [claim_slot, share_slot]
    for fault in spec.faults:
        entries += _OF_FAULTS.get(type(fault), ())
    return list(dict.fromkeys(entries))


def worker_kernels() -> list[FunctionType]:
    """What a worker calls to come into its slot."""
    return [claim_slot, share_slot]


def workload_kernels(workloads: Iterable[str], kills: bool) -> list[FunctionType]:
    """What a worker calls at work, on the engine of the workloads; with ``kills`` also what it does
    about the lock of a dead one."""
    entries: list[FunctionType] = [mark_dead, unblock] if kills else []
    for name in workloads:
        entries += [WORKLOADS[name].step, WORKLOADS[name].finish]
    return entries
