"""A failing round of real processes, made smaller as long as it fails: delta debugging.

A step proposes a smaller spec; it is taken if the finding comes again (Zeller, Hildebrandt:
"Simplifying and Isolating Failure-Inducing Input", IEEE TSE 28(2), 2002). Steps come in the order
of what they save: first the time, then faults and delays, then workloads, then every other option
goes back to its default, then workers and memory. Passes repeat until one of them changes nothing.

The seed stays: a smaller round is another native run, whose interleavings no seed repeats anyway,
but one seed makes one story. Engine, trace and hang timeout stay, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from msgspec import structs

from shmalloc.errors import MisuseError
from stress.geometry import PAGE_BYTES, GeometrySpec
from stress.spec import RunSpec
from stress.zones import Zone

LEAST_S = 1.0
ROOM = 4.0  # times the work until the finding
LEAST_BYTES = 4 << 20
# What is cut down in ways of its own, or belongs to what is repeated.
KEPT = frozenset({
    "workloads", "workers", "zones", "duration_s", "faults", "jitter", "seed", "engine", "trace",
    "hang_timeout_s", "once",
})  # fmt: skip
T = TypeVar("T")
Fails = Callable[[RunSpec], bool]


@dataclass
class Reduction:
    """``spec``: the smallest that failed so far. ``tried``: how many proposals were performed."""

    spec: RunSpec
    tried: int = 0
    taken: int = 0
    complete: bool = False  # the last pass changed nothing


class Reducer:
    """``fails(spec)`` performs a proposal; ``goes_on`` says whether there is time for another."""

    def __init__(self, spec: RunSpec, fails: Fails, goes_on: Callable[[], bool]) -> None:
        self.result = Reduction(spec)
        self._fails = fails
        self._goes_on = goes_on

    def run(self, seconds_until_finding: float) -> Reduction:
        """``seconds_until_finding``: work that a repetition needed, at most."""
        self._shorten(seconds_until_finding)
        changed = True
        while changed and self._goes_on():
            before = self.result.spec
            for step in (self._faults, self._delays, self._workloads, self._options):
                step()
            for step in (self._geometry, self._zones, self._memory, self._workers):
                step()
            changed = self.result.spec != before
        self.result.complete = not changed and self._goes_on()  # else a pass was cut short
        return self.result

    def _try(self, **changes: Any) -> bool:
        """Whether the spec with ``changes`` fails; then it is the spec from now on."""
        spec = self.result.spec
        if all(getattr(spec, name) == value for name, value in changes.items()):
            return False
        if not self._goes_on():
            return False
        self.result.tried += 1
        try:
            smaller = structs.replace(spec, **changes)
            failed = self._fails(smaller)
        except MisuseError:  # a combination that cannot run
            return False
        if failed:
            self.result.spec = smaller
            self.result.taken += 1
        return failed

    def _shorten(self, seconds: float) -> None:
        spec = self.result.spec
        short = max(LEAST_S, round(ROOM * seconds + 0.5))
        if short < spec.duration_s:
            self._try(duration_s=float(short), audit_every_s=min(spec.audit_every_s, short))

    def _faults(self) -> None:
        if self.result.spec.faults and not self._try(faults=()):
            self._smallest(self.result.spec.faults, "faults", least=0)

    def _delays(self) -> None:
        self._try(jitter=None)

    def _workloads(self) -> None:
        self._smallest(self.result.spec.workloads, "workloads", least=1)

    def _smallest(self, values: Sequence[T], name: str, least: int) -> None:
        """Drop parts of a tuple: halves, then quarters, ..., then single ones (ddmin)."""
        parts = 2
        while len(values) > least and self._goes_on():
            size = -(-len(values) // parts)
            for kept in _complements(values, size):
                if len(kept) >= least and self._try(**{name: tuple(kept)}):
                    values, parts = kept, max(2, parts - 1)
                    break
            else:
                if size == 1:
                    return
                parts = min(len(values), 2 * parts)

    def _options(self) -> None:
        """Every other option back to its default."""
        for field in structs.fields(RunSpec):
            if field.name not in KEPT and not field.required:
                self._try(**{field.name: field.default})

    def _geometry(self) -> None:
        """Each setting of the geometry that ``_options`` could not take back with all others."""
        for field in structs.fields(GeometrySpec):
            geometry = self.result.spec.geometry
            self._try(geometry=structs.replace(geometry, **{field.name: field.default}))

    def _zones(self) -> None:
        """One zone of the whole memory, or at least one node, and no holes."""
        self._try(zones=(Zone(self.result.spec.ram_bytes),))
        for plain in ({"node": 0}, {"holes": ()}):
            zones = self.result.spec.zones
            self._try(zones=tuple(structs.replace(zone, **plain) for zone in zones))

    def _memory(self) -> None:
        while self.result.spec.ram_bytes // 2 >= LEAST_BYTES and self._goes_on():
            if not self._try(zones=tuple(map(_half_of, self.result.spec.zones))):
                return

    def _workers(self) -> None:
        for fewer in (1, 2, self.result.spec.workers // 2):
            if 0 < fewer < self.result.spec.workers and self._try(workers=fewer):
                return


def _half_of(zone: Zone) -> Zone:
    """Half of a zone, with those of its holes that fit."""
    size = zone.bytes // 2 // PAGE_BYTES * PAGE_BYTES
    holes = tuple(hole for hole in zone.holes if hole.at + hole.bytes < size)
    return Zone(size, zone.node, holes)


def _complements(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """``values`` without each stretch of ``size`` of them."""
    for first in range(0, len(values), size):
        yield [*values[:first], *values[first + size :]]
