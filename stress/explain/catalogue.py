"""The programs and crash cases of the catalogue about the operations of a failed run.

Those that people wrote come when drawn programs have found nothing, and they come first where
processes died: a drawn program has no supervisor. Which parts belong to a workload is a table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from shmalloc.errors import CorruptionError, MisuseError
from stress.crash.allocator import allocator_case, case_names
from stress.crash.result import CrashFailure
from stress.crash.search import Effort as CrashEffort
from stress.crash.search import Hunt
from stress.explain.evidence import Evidence
from stress.explain.search import Effort, Explained, explored, is_same
from stress.programs import PROGRAMS

PARTS: dict[str, tuple[str, ...]] = {
    "churn": ("buddy-", "pcp-", "lock-"),
    "orders": ("buddy-", "lock-", "pages-"),
    "frag": ("buddy-", "pcp-"),
    "bulk": ("bulk-", "pcp-bulk"),
    "handoff": ("passing-", "pcp-"),
    "handover": ("passing-", "claims-"),
    "nowait": ("try-",),
    "oom-edge": ("wait-", "pcp-"),
    "reclaim": ("reclaim-", "water"),
    "hotplug": ("pcp-",),
    "contig": ("contig-", "offline-"),
    "pfn-walker": ("buddy-", "lookup-"),
    "slabmix": ("slab-", "cache"),
    "modules": ("slab-", "cache"),
    "kmalloc": ("kmalloc-", "slab-"),
    "arrays": ("arrays-",),
    "retire": ("pcp-", "filled-", "bulk-"),
}
CRASHES: dict[str, tuple[str, ...]] = {
    "churn": ("pages-", "buddy-"),
    "orders": ("pages-", "buddy-"),
    "slabmix": ("objects-", "slab-"),
    "modules": ("cache", "objects-"),
    "contig": ("range-",),
    "hotplug": ("hotplug", "pages-drain"),
    "oom-edge": ("pages-",),
}
# What a broken kernel makes of the preparation of a program: a refusal, or a fault.
UNPREPARED = (CorruptionError, MisuseError, IndexError, ArithmeticError, AssertionError)
MOMENT_S = 0.6
CRASH_S = 2.0


def programs_about(evidence: Evidence) -> list[str]:
    return _about(PROGRAMS, PARTS, evidence)


def cases_about(evidence: Evidence) -> list[str]:
    return _about(case_names(), CRASHES, evidence)


def _about(
    names: Iterable[str], parts: dict[str, tuple[str, ...]], evidence: Evidence
) -> list[str]:
    wanted = [part for name in evidence.workloads for part in parts.get(name, ())]
    known = list(names)
    chosen = [name for part in wanted for name in known if name.startswith(part)]
    return list(dict.fromkeys(chosen))


def try_programs(
    evidence: Evidence, effort: Effort, seconds: float, tell: Callable[[str], None]
) -> None:
    """Explore them one after the other, each for a moment, until one breaks the same invariant."""
    end = time.monotonic() + seconds
    for name in programs_about(evidence):
        if time.monotonic() > end:
            return
        try:
            program = PROGRAMS[name]()
        except UNPREPARED:
            continue  # a kernel alone breaks it: a drawn program has that already
        effort.programs += 1
        failure = explored(program, effort, None, MOMENT_S)
        if failure is not None and effort.take(
            Explained(None, program, failure, is_same(failure.kind, failure.code, evidence), name)
        ):
            tell(f"{name}: {failure.headline}")
            if effort.found is not None and effort.found.same:
                return


def try_crashes(
    evidence: Evidence, effort: Effort, seconds: float, tell: Callable[[str], None]
) -> None:
    """The same with CPUs that die before each of their writes."""
    end = time.monotonic() + seconds
    for name in cases_about(evidence):
        left = end - time.monotonic()
        if left <= 0:
            return
        try:
            case = allocator_case(name)
        except UNPREPARED:
            continue
        how = CrashEffort(0, 0, 1, engine="interpreted", seconds=min(CRASH_S, left))
        result = Hunt(case, how, report=lambda step: None, first_failure=True).run()
        effort.programs += 1
        effort.schedules += result.runs
        for failure in result.failures[:1]:
            assert isinstance(failure, CrashFailure)
            same = is_same(failure.kind, failure.code, evidence)
            if effort.take(Explained(None, case.program, failure, same, name)):
                tell(f"{name}: a death that is not recovered")
            if same:
                return
