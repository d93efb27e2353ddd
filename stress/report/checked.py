"""Whether a native run checked an invariant: what the table of invariants names, and when it acts.

An invariant that nothing looked at has not held; a report that says "passed" of it would lie. So
``Acted`` says what a run or a recorded round did, and ``CHECKED_WHEN`` has a line for each checker
that the table knows; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shmalloc.invariants import Invariant
from stress.run.result import RunResult
from stress.workloads import EVENT_NAMES


@dataclass(frozen=True)
class Acted:
    """What took part. ``events``: counts by name, as in the JSON document of a run."""

    operations: int = 0
    audits: int = 0
    events: Mapping[str, int] | None = None
    workloads: frozenset[str] = frozenset()
    native: bool = True
    kills: bool = False

    @classmethod
    def of_run(cls, result: RunResult) -> Acted:
        return cls(
            result.ops,
            result.audits,
            {name: result.event(which) for which, name in EVENT_NAMES.items()},
            frozenset(result.workloads),
            result.spec.engine == "native",
            result.spec.kills,
        )

    @classmethod
    def of_document(cls, result: Mapping[str, Any], spec: Mapping[str, Any]) -> Acted:
        """Of the ``results`` entry of a run's JSON document, as a database keeps it."""
        workloads = [one for one in result.get("workloads", ()) if isinstance(one, Mapping)]
        return cls(
            sum(int(one.get("ops", 0)) for one in workloads),
            int(result.get("audits", 0)),
            result.get("events") or {},
            frozenset(str(one.get("name")) for one in workloads),
            spec.get("engine", "native") == "native",
            "kill" in str(spec.get("faults", "")),
        )

    def happened(self, event: str) -> bool:
        return (self.events or {}).get(event, 0) > 0


Took = Callable[[Acted], bool]


def _audited(acted: Acted) -> bool:
    return acted.audits > 0


def _worked(acted: Acted) -> bool:
    return acted.operations > 0


def _with_objects(acted: Acted) -> bool:
    return acted.happened("obj-alloc")


def _never(acted: Acted) -> bool:
    return False


def _ran(workload: str) -> Took:
    return lambda acted: workload in acted.workloads


CHECKED_WHEN: dict[str, Took] = {
    "audit": _audited,
    "audit at the end of a run": _audited,
    "slab audit": lambda acted: _audited(acted) and _with_objects(acted),
    "slab audit of a debug cache": lambda acted: _audited(acted) and "modules" in acted.workloads,
    "buddy": _worked,
    "alloc_pages": _worked,
    "free_pages": _worked,
    "every addition to and removal from a list": _worked,
    "every compiled access": lambda acted: _worked(acted) and acted.native,
    "cache_alloc": _with_objects,
    "cache_free": _with_objects,
    "cache_alloc and cache_free of a debug cache": _ran("modules"),
    "cache_destroy": lambda acted: acted.happened("cache-gone"),
    "plug_cpu": lambda acted: acted.happened("hotplug"),
    "contig workload": _ran("contig"),
    "pfn-walker workload": _ran("pfn-walker"),
    "owner map": _worked,
    "workloads": _worked,
    "watchdog": _worked,
    "a run's watch of its processes": _worked,
    "recovery": lambda acted: acted.kills,
    "oracle of cover": _never,
    "checks of the explorer's programs": _never,
    "crash mode": _never,
    "no kernel: workloads report X_PAYLOAD": _never,
    "no kernel: the Python face raises MisuseError": _never,
}


def is_checked(row: Invariant, acted: Acted) -> bool:
    """Whether something that checks the invariant took part."""
    return any(CHECKED_WHEN[name](acted) for name in row.checkers)


def why_not(row: Invariant) -> str:
    return f"nothing here checks it ({', '.join(row.checkers)})"
