"""What a failed run left behind, as an explanation needs it: in numbers and names, from any source.

The document of a run (``run.json``, ``--json``) has all of it: the violations with the kernel that
reported each and the last operations on what is at stake, the last operations of every CPU
(``in_flight``), and the spec. A violation of a database has the first two.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shmalloc.invariants import BY_NAME

# What a line of a history says, and the operation of an explanation that is.
_DID = (
    (re.compile(r"allocated pfn \d+, order (\d+)"), "take"),
    (re.compile(r"freed pfn \d+, order (\d+)"), "put"),
    (re.compile(r"found no block of order (\d+)"), "take"),
    (re.compile(r"refilled"), "take"),
    (re.compile(r"drained"), "drain"),
    (re.compile(r"allocated (?:the )?object"), "object_take"),
    (re.compile(r"freed (?:the )?object"), "object_put"),
    (re.compile(r"made a slab"), "object_take"),
    (re.compile(r"unmade the slab"), "shrink"),
    (re.compile(r"isolated pfns"), "isolate"),
    (re.compile(r"took offline"), "offline"),
)
# Words of a flight recording, and the operations that touch them.
_TOUCHED = {
    "cache": ("object_take", "object_put"),
    "page lists": ("take", "put"),
    "pageblock": ("isolate", "restore"),
}
# What the workers of a workload may be in the middle of.
WORKLOADS: dict[str, tuple[str, ...]] = {
    "churn": ("take", "put", "zone_take", "zone_put"),
    "orders": ("take", "put", "zone_take", "zone_put"),
    "frag": ("take", "put", "drain"),
    "bulk": ("bulk", "take", "put"),
    "handoff": ("take", "put", "drain"),
    "nowait": ("try_take", "try_put", "take", "put", "drain"),
    "oom-edge": ("take", "put", "drain"),
    "reclaim": ("take", "put", "drain"),
    "hotplug": ("unplug", "plug", "drain", "take", "put"),
    "contig": ("isolate", "restore", "offline", "online", "range", "take", "put"),
    "pfn-walker": ("walk", "look", "take", "put", "zone_take", "zone_put"),
    "slabmix": ("object_take", "object_put", "shrink"),
    "modules": ("object_take", "object_put", "shrink"),
    "kmalloc": ("object_take", "object_put"),
}


@dataclass(frozen=True)
class Evidence:
    """``invariant``: what is broken first; ``kernel``: which one saw it. ``did``: how often each
    operation stands in the histories, ``orders``: of blocks in them. ``in_flight``: the last
    operations of each CPU, as text. ``workloads``, ``options``: of the run; ``kills``: whether its
    processes died. ``text``: the violation in words, ``again``: the line that repeats the run."""

    invariant: str
    kernel: str = ""
    did: Mapping[str, int] = field(default_factory=dict)
    orders: tuple[int, ...] = ()
    in_flight: Mapping[int, Sequence[str]] = field(default_factory=dict)
    workloads: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    kills: bool = False
    text: str = ""
    again: str = ""

    @property
    def code(self) -> int:
        """What a check returns for it; 0 for a violation that no check has."""
        row = BY_NAME.get(self.invariant)
        return row.number if row else 0

    @property
    def alphabet(self) -> Counter[str]:
        """Operations with their weights: those seen, and those that the workloads make."""
        weights: Counter[str] = Counter()
        for name in self.workloads:
            weights.update(WORKLOADS.get(name, ()))
        weights.update({name: min(count, 4) for name, count in self.did.items()})
        return weights


def of_history(lines: Iterable[str]) -> tuple[Counter[str], list[int]]:
    """The operations in lines of a history, and the orders of their blocks."""
    did: Counter[str] = Counter()
    orders: list[int] = []
    for line in lines:
        for pattern, name in _DID:
            found = pattern.search(line)
            if found:
                did[name] += 1
                orders += [int(found[1])] if pattern.groups else []
                break
    return did, orders


def of_flight(lines: Iterable[str]) -> Counter[str]:
    """What the words that the flight recorder has say of the operations that touched them."""
    did: Counter[str] = Counter()
    for line in lines:
        for word, names in _TOUCHED.items():
            if word in line:
                did.update(names)
    return did


def of_document(document: Mapping[str, Any]) -> Evidence | None:
    """The evidence of a run's JSON document; None if the run found no violation."""
    result = document["results"][0]
    violations = result["violations"]
    if not violations:
        return _of_trouble(document, result)
    first = violations[0]
    spec = document.get("spec", {})
    in_flight = {int(cpu): tuple(lines) for cpu, lines in result.get("in_flight", {}).items()}
    lines = [line for one in violations[:8] for line in one["history"]]
    did, orders = of_history([*lines, *(line for each in in_flight.values() for line in each)])
    did.update(of_flight(result.get("flight", ())))
    return Evidence(
        first["invariant"],
        first["kernel"],
        did,
        tuple(orders),
        in_flight,
        tuple(workloads_of(spec)),
        spec,
        "kill" in str(spec.get("faults", "")),
        f"{first['invariant']}: at {first['where']}, expected {first['expected']},"
        f" found {first['found']}",
        document.get("reproduce", {}).get("command", ""),
    )


def _of_trouble(document: Mapping[str, Any], result: Mapping[str, Any]) -> Evidence | None:
    """A run that hung, or whose worker died of a fault, has no violation of a kernel."""
    if not result.get("troubles"):
        return None
    spec = document.get("spec", {})
    text = result["troubles"][0]["text"]
    return Evidence("", workloads=tuple(workloads_of(spec)), options=spec, text=text)


def workloads_of(spec: Mapping[str, Any]) -> Iterable[str]:
    """The workloads of a spec, which has them as a list or as a text."""
    named = spec.get("workloads", spec.get("workload", ()))
    return named.split(",") if isinstance(named, str) else named
