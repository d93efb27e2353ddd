"""Which kernels Python calls, and where: what a first run compiles and a later one loads.

All of ours that a run calls are one plan, so they are one image; those of a user's workloads are
another. The controller has them made before anything else, and names the plans to the forkserver;
its workers are forks with the images in place. If the image of all our kernels of all runs is on
disk, the run uses that and compiles nothing of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from shmalloc.dialect import Kernel
from shmalloc.engine.native import is_kept, warm_together
from shmalloc.kernels.audit import audit, audit_teardown
from shmalloc.kernels.audit_owners import audit_owners
from shmalloc.kernels.audit_quiet import audit_quiet
from shmalloc.kernels.boot import boot
from shmalloc.kernels.cache_set import cache_destroy
from shmalloc.kernels.contig import isolate_range, online_range, unisolate_range
from shmalloc.kernels.hotplug import plug_cpu, unplug_cpu
from shmalloc.kernels.page_owner import set_clocks
from shmalloc.kernels.pcp import drain_all
from shmalloc.kernels.reap import reap
from shmalloc.kernels.recover import recover, unblock
from shmalloc.kernels.slab_audit import audit_slabs
from shmalloc.kernels.slots import claim_slot, mark_dead, publish
from shmalloc.kernels.stack_depot import find_stack, publish_stack, reserve_stack
from stress.faults.grammar import Fault, Hotplug, Kill, Pressure, Report
from stress.oracles.bounds import check_bounds
from stress.run.user_code import kernel_at, place_of
from stress.spec import RunSpec
from stress.workloads import OWN, WORKLOADS
from stress.workloads.kmalloc import unmake_classes
from stress.workloads.latency import clock
from stress.workloads.pressure import pressure_give, pressure_take

Plan = tuple[tuple[str, Kernel], ...]  # engine, kernel

ENV_PRELOAD = "SHMSTRESS_PRELOAD"
HOOKED = "jitter"  # the engine of workloads over a memory with hooks
_AUDITS: tuple[Kernel, ...] = (
    audit,
    audit_owners,
    audit_quiet,
    audit_slabs,
    audit_teardown,
    check_bounds,
    drain_all,
    unmake_classes,
)
_ALWAYS: tuple[Kernel, ...] = (boot, publish, clock, *_AUDITS)
SAMPLING: tuple[Kernel, ...] = (set_clocks, find_stack, reserve_stack, publish_stack)
_OF_FAULTS: dict[type[Fault], tuple[Kernel, ...]] = {
    Kill: (mark_dead, recover, unblock, reap, cache_destroy, online_range, plug_cpu),
    Pressure: (pressure_take, pressure_give),
    Hotplug: (unplug_cpu, plug_cpu),
    Report: (isolate_range, unisolate_range),
}


def plan_of(spec: RunSpec) -> Plan:
    """All that a run calls, and the engine of each: that of the run, or that of its workloads."""
    plan = [(spec.engine, kernel) for kernel in controller_kernels(spec) + worker_kernels()]
    plan += [(spec.work_engine, kernel) for kernel in workload_kernels(spec.workloads, spec.kills)]
    return tuple(dict.fromkeys(plan))


def whole_plan(hooked: bool = False) -> Plan:
    """Every kernel of every native run of our workloads; ``hooked``: of those with hooks."""
    entries = [*_ALWAYS, *worker_kernels(), *SAMPLING]
    entries += [kernel for kernels in _OF_FAULTS.values() for kernel in kernels]
    work_engine = HOOKED if hooked else "native"
    plan = [("native", kernel) for kernel in entries]
    plan += [(work_engine, kernel) for kernel in workload_kernels(OWN, kills=True)]
    return tuple(dict.fromkeys(plan))


def plan_at_hand(plan: Plan) -> Plan:
    """``plan``, or the whole plan if that has all of it and is compiled already."""
    whole = whole_plan(hooked=any(engine == HOOKED for engine, _ in plan))
    return whole if set(plan) <= set(whole) and is_kept(whole) else plan


def keep_whole_plan(spec: RunSpec, tell: Callable[[str], None]) -> None:
    """Compile all that a run like this could want, for many runs that want different parts."""
    if spec.engine == "native":
        whole = whole_plan(spec.hooked)
        if not is_kept(whole):
            warm_together(whole, tell)


def images_of(spec: RunSpec) -> list[Plan]:
    """The plans that a run loads, each an image: ours, and that of its users' workloads if any."""
    users = workload_kernels([name for name in spec.workloads if name not in OWN], kills=False)
    theirs = tuple((spec.work_engine, kernel) for kernel in dict.fromkeys(users))
    ours = tuple(entry for entry in plan_of(spec) if entry not in theirs)
    return [plan_at_hand(ours), *([theirs] if theirs else [])]


def rows_of(plan: Plan) -> list[list[Any]]:
    """A plan by names, for another process, as JSON takes it."""
    return [[engine, place_of(kernel)] for engine, kernel in plan]


def plan_from(rows: Iterable[tuple[str, list[str]]]) -> Plan:
    """The plan with those rows, of the kernels as this process imports them."""
    return tuple((engine, kernel_at(place)) for engine, place in rows)


def controller_kernels(spec: RunSpec) -> list[Kernel]:
    """What the controller itself calls; more if it acts while the workers run."""
    entries = list(_ALWAYS)
    if spec.live_faults:
        entries += [claim_slot]
    kinds = [type(fault) for fault in spec.faults] + [Report] * spec.geometry.reporting
    for kind in kinds:
        entries += _OF_FAULTS.get(kind, ())
    if spec.geometry.page_owner:
        entries += SAMPLING
    return list(dict.fromkeys(entries))


def kernels_of_faults() -> dict[str, tuple[Kernel, ...]]:
    """What the controller calls beside the workers, by the fault that it is for."""
    return {fault.name: kernels for fault, kernels in _OF_FAULTS.items()}


def worker_kernels() -> list[Kernel]:
    """What a worker calls to come into its slot."""
    return [claim_slot]


def workload_kernels(workloads: Iterable[str], kills: bool) -> list[Kernel]:
    """What a worker calls at work, on the engine of the workloads; with ``kills`` also what it does
    about the lock of a dead one."""
    entries: list[Kernel] = [mark_dead, unblock] if kills else []
    for name in workloads:
        entries += [WORKLOADS[name].step, WORKLOADS[name].finish]
    return entries
