"""The sweep: the N-th allocation fails, for N = 1, 2, ... until a run has no failure.

For each N there is a fresh arena and on it one operation (operations.py), the N-th allocation of
which, of pages or of objects, fails: first only that one, so that the operation may fall back, then
that one and all later ones, as if memory had run out. Afterwards

- the operation has answered properly: it fell back and succeeded, returned fewer if it may, or
  refused with the code or exception that its documentation names; nothing else;
- repeated without a fault, it succeeds;
- with everything given back, the audit is clean and the arena holds exactly the pages and caches
  that it holds after a run without faults: the failure path lost nothing.

Deterministic: the same rows every time, on either engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.arena import Arena
from shmalloc.errors import OutOfMemoryError, ShmallocError
from shmalloc.kernels.cache_set import cache_shrink
from stress.faults.allocation import KINDS, AllocationFaults, disarm
from stress.faults.operations import OPERATIONS, Operation
from stress.quantities import nearest
from stress.verdict import Verdict, worst

MOST_RUNS = 200  # a sweep is not meant for operations with more allocations
CODE_NAMES = {value: name for name, value in vars(c).items() if name.startswith("E_")}
_KIND_NAMES = {bit: name for name, bit in KINDS.items()}
_WORLD: dict[str, Any] = {
    "size": 512 * 512,
    "cpus": 2,
    "page_bytes": 512,
    "max_order": 6,
    "pageblock_order": 5,
    "pcp_batch": 2,
    "pcp_high": 8,
    "history": 256,
}


@dataclass(frozen=True)
class Row:
    """The result of one run: allocation ``nth``, its kind, the answer of the operation.

    ``lasting``: all allocations after the ``nth`` failed as well.
    """

    nth: int
    lasting: bool
    kind: str  # "page", "object", or "-" if no allocation failed
    answer: str
    problems: tuple[str, ...] = ()


@dataclass
class Sweep:
    """All runs of one operation, in two series, each up to a run without a failure."""

    name: str
    story: str
    rows: list[Row] = field(default_factory=list)

    @property
    def faults(self) -> int:
        return sum(row.kind != "-" for row in self.rows)

    @property
    def verdict(self) -> Verdict:
        if any(row.problems for row in self.rows):
            return Verdict.FAILED
        if sum(row.kind == "-" for row in self.rows) != 2:
            return Verdict.ERROR  # a series did not end
        return Verdict.PASSED if self.faults else Verdict.VACUOUS


def sweep(operation: Operation, engine: str = "interpreted", most_runs: int = MOST_RUNS) -> Sweep:
    """Run ``operation`` on a fresh arena for each N until nothing fails."""
    result = Sweep(operation.name, operation.story)
    expected = _Run(operation, engine, AllocationFaults()).untouched()
    for lasting in (False, True):
        for nth in range(1, most_runs + 1):
            faults = AllocationFaults(nth=nth, every=int(lasting))
            row = _Run(operation, engine, faults).row(expected)
            result.rows.append(row)
            if row.kind == "-":
                break
    return result


def sweep_all(names: Iterable[str] = (), engine: str = "interpreted") -> Iterator[Sweep]:
    """One sweep for each name, or for every operation. Raises ``MisuseError`` for a wrong name."""
    chosen = list(names) or list(OPERATIONS)
    for name in chosen:
        if name not in OPERATIONS:
            raise nearest(name, OPERATIONS, "operation")
    return (sweep(OPERATIONS[name], engine) for name in chosen)


def verdict_of(sweeps: Iterable[Sweep]) -> Verdict:
    return worst(result.verdict for result in sweeps)


Kept = Counter[tuple[str, int]]


class _Run:
    """One operation on one fresh arena."""

    def __init__(self, operation: Operation, engine: str, faults: AllocationFaults) -> None:
        self._operation = operation
        self._engine = engine
        self._faults = faults
        self._problems: list[str] = []

    def untouched(self) -> Kept:
        """What an arena holds after the operation was done and undone twice, without faults.

        Twice, because a run with a fallback does so.
        """
        with Arena.create(engine=self._engine, **_WORLD) as arena:
            prepared = self._operation.prepare(arena)
            for _ in range(2):
                self._operation.undo(arena, prepared, self._operation.act(arena, prepared))
            return _kept(arena)

    def row(self, expected: Kept) -> Row:
        with Arena.create(engine=self._engine, **_WORLD) as arena:
            prepared = self._operation.prepare(arena)
            ram, slot = arena.segment.ram, arena.segment.layout.cpu(arena.cpu)
            self._faults.arm(ram, slot)
            answer, given = self._act(arena, prepared)
            kind = _failed_kind(arena) if disarm(ram, slot) else "-"
            if given is not None:
                self._operation.undo(arena, prepared, given.value)
            self._again(arena, prepared)
            self._problems += map(str, arena.violations())  # before the audit adds its own
            self._problems += map(str, arena.validate())
            self._compare(_kept(arena), expected)
            nth, lasting = self._faults.nth, self._faults.every == 1
            return Row(nth, lasting, kind, answer, tuple(self._problems))

    def _act(self, arena: Arena, prepared: Any) -> tuple[str, _Given | None]:
        """The answer in words, and what the act returned; nothing if it was refused."""
        operation = self._operation
        try:
            given = operation.act(arena, prepared)
        except OutOfMemoryError:
            return "OutOfMemoryError", None
        except ShmallocError as error:
            self._problems.append(f"raised {type(error).__name__}: {error}")
            return type(error).__name__, None
        if isinstance(given, int) and given < 0:
            name = CODE_NAMES.get(given, str(given))
            if given not in operation.refusals:
                self._problems.append(f"returned {name}, which is not one of its refusals")
            return name, None
        count = len(given) if isinstance(given, list) else given
        if operation.wanted and count < operation.wanted:
            return f"{count} of {operation.wanted}", _Given(given)
        return "succeeded", _Given(given)

    def _again(self, arena: Arena, prepared: Any) -> None:
        """Without faults the operation must succeed, whatever happened before."""
        answer, given = self._act(arena, prepared)
        if given is None or answer != "succeeded":
            self._problems.append(f"again, without a fault: {answer}")
        if given is not None:
            self._operation.undo(arena, prepared, given.value)

    def _compare(self, kept: Kept, expected: Kept) -> None:
        for what, count in (kept - expected).items():
            self._problems.append(f"lost: {count} x {what[0]} {what[1]:#x}")
        for what, count in (expected - kept).items():
            self._problems.append(f"missing: {count} x {what[0]} {what[1]:#x}")


@dataclass(frozen=True)
class _Given:
    value: Any


def _kept(arena: Arena) -> Kept:
    """All that is not free, with all lists and sheaves drained: pages by owner, caches."""
    arena._free_buffer()
    ram, layout = arena.segment.ram, arena.segment.layout
    kept: Kept = Counter()
    for number in range(arena.geometry.caches):
        if ram[layout.at["caches"] + number * ram[c.H_CACHE_STRIDE] + cs.K_STATE] != cs.CACHE_NONE:
            arena.run(cache_shrink, number)
            kept["cache", number] += 1
    arena.drain()
    for pfn in range(arena.geometry.pages):
        word0, word1 = (ram[layout.descriptor(pfn) + i] for i in range(c.D_WORDS))
        kind = word0 & c.TYPE_MASK
        if kind == c.T_ALLOCATED:
            kept["allocated block of owner", word1] += 1 << (word0 >> c.ORDER_SHIFT & c.ORDER_MASK)
        elif kind not in (c.T_FREE, c.T_TAIL):
            kept["page of type", kind] += 1
    return kept


def _failed_kind(arena: Arena) -> str:
    """Which kind of allocation failed, from the history of the slot."""
    ram, layout = arena.segment.ram, arena.segment.layout
    entries = arena.geometry.history
    following = ram[layout.cpu(arena.cpu) + c.C_HISTORY_NEXT]
    for index in range(following - 1, max(following - entries, 0) - 1, -1):
        at = layout.at["history"] + (arena.cpu * entries + index % entries) * c.HI_STRIDE
        if ram[at + c.HI_OP] >> 8 == c.OP_FAULT:
            return _KIND_NAMES[ram[at + c.HI_DETAIL]]
    return "?"
