"""``explained``: a program of a few operations in a small world, as the call that makes it again.

``world`` has fields of the geometry by name, and ``pages``, ``max_order``, ``zones``; with
``object_bytes`` it is a world with one cache. ``before`` is what each CPU has done when the program
begins, ``threads`` what it does: operations are tuples such as ``("take", 0, 1)`` (operations.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from shmalloc import constants_slab as cs
from shmalloc.dialect import Kernel
from shmalloc.errors import CorruptionError, MisuseError
from shmalloc.layout import ZoneSpec
from shmalloc.memory import Ram
from stress.explain.operations import (
    CODE,
    EXPLAINED_WORDS,
    MOST_ROWS,
    OBJECTS,
    PAGES,
    PERFORMERS,
    ROW,
    perform_objects,
)
from stress.machine.program import Program
from stress.programs.checks import objects_are_sound, pages_are_sound
from stress.programs.held import slot_at
from stress.programs.initial_state import InitialState
from stress.quantities import nearest

Operation = tuple[Any, ...]
Threads = Sequence[Sequence[Operation]]
SPECIAL = ("pages", "max_order", "zones", "object_bytes", "cache_flags")
NEEDED = ("pages", "object_bytes", "page_bytes", "max_order", "cache_flags")  # of a world
OF_FIRST_ZONE = ("zone_take", "zone_put")
NAME = "explained"
T = TypeVar("T")
Rows = tuple[tuple[Operation, ...], ...]


@dataclass(frozen=True)
class Sketch:
    """A program as data. ``text`` is the call that makes it."""

    world: Mapping[str, Any]
    before: tuple[tuple[Operation, ...], ...]
    threads: tuple[tuple[Operation, ...], ...]

    @property
    def on_objects(self) -> bool:
        return "object_bytes" in self.world

    @property
    def operations(self) -> int:
        return sum(map(len, (*self.threads, *self.before)))

    @property
    def text(self) -> str:
        """Python, over some lines."""
        lines = [
            f"    world={dict(self.world)!r},",
            f"    before={[list(one) for one in self.before]!r},",
            f"    threads={[list(one) for one in self.threads]!r},",
        ]
        return "\n".join(["explained(", *lines, ")"])

    module: ClassVar[str] = "stress.explain"
    maker: ClassVar[str] = NAME

    def program(self) -> Program:
        return explained(self.world, self.before, self.threads)

    def alone(self) -> Sketch:
        """What came before, as what the CPUs do: for a kernel that is wrong without any other."""
        each = zip(self.before, self.threads, strict=True)
        threads = tuple((*before, *operations)[:MOST_ROWS] for before, operations in each)
        return replace(self, before=tuple(() for _ in threads), threads=threads)

    def variants(self) -> Iterator[Sketch]:
        """Everything that has one thing less, the largest first."""
        for cpu in range(len(self.threads)) if len(self.threads) > 1 else ():
            yield replace(
                self, before=_without(self.before, cpu), threads=_without(self.threads, cpu)
            )
        for less in _fewer(self.threads):
            if any(less):
                yield replace(self, threads=less)
        for less in _fewer(self.before):
            yield replace(self, before=less)
        for name in self.world:
            if name not in NEEDED:
                yield replace(self, world={k: v for k, v in self.world.items() if k != name})


def _fewer(rows: Rows) -> Iterator[Rows]:
    """Without one operation."""
    for cpu, operations in enumerate(rows):
        for k in range(len(operations)):
            yield (*rows[:cpu], _without(operations, k), *rows[cpu + 1 :])


def _without(items: tuple[T, ...], k: int) -> tuple[T, ...]:
    return (*items[:k], *items[k + 1 :])


def explained(world: Mapping[str, Any], before: Threads, threads: Threads) -> Program:
    """The program. Raises ``MisuseError`` for what is no operation, ``CorruptionError`` where what
    comes before already breaks the world."""
    wanted = {operation[0] for each in (*before, *threads) for operation in each}
    if world.get("zones", 1) > 1 and wanted & set(OF_FIRST_ZONE):
        raise MisuseError(f"operations: {', '.join(OF_FIRST_ZONE)} know one zone alone")
    state = state_of(world, len(threads))
    on_objects = "object_bytes" in world
    for cpu, operations in enumerate(before):
        perform(state, cpu, operations, on_objects)
    check = objects_are_sound if on_objects else pages_are_sound
    if any(before):
        require_sound(state, check)
    for cpu, operations in enumerate(threads):
        write_code(state, cpu, operations, on_objects)
    run = performer(threads, on_objects)
    return state.program(NAME, (run,) * len(threads), story_of(threads), check=check)


def require_sound(state: InitialState, check: Kernel) -> None:
    """Raise ``CorruptionError`` if the check already refuses what was prepared; on a copy."""
    copy = Ram.of_words(state.ram.words)
    copy.array[:] = state.ram.array
    if faultless(check, Impatient(copy.array)) != 0:
        raise CorruptionError("what comes before the program breaks it: a kernel alone does this")


def faultless(kernel: Kernel, *arguments: Any) -> int:
    """What a kernel returns. Raises ``CorruptionError`` for a fault."""
    try:
        return int(kernel(*arguments) or 0)
    except (IndexError, ArithmeticError, AssertionError, RecursionError) as error:
        raise CorruptionError(f"what comes before the program has a fault: {error}") from error


def story_of(threads: Threads) -> str:
    """``cpu 0: take 0 1; put 0. cpu 1: drain.``"""
    told = [
        f"cpu {cpu}: {'; '.join(' '.join(map(str, one)) for one in each) or 'nothing'}."
        for cpu, each in enumerate(threads)
    ]
    return " ".join(told)


def state_of(world: Mapping[str, Any], cpus: int) -> InitialState:
    """The world, booted and with its cache."""
    changes = {name: value for name, value in world.items() if name not in SPECIAL}
    pages, zones = world["pages"], world.get("zones", 1)
    if zones > 1:
        changes["zones"] = tuple(ZoneSpec(pages) for _ in range(zones))
    if "object_bytes" in world:
        changes["caches"] = 1
    state = InitialState.booted(
        pages, max_order=world.get("max_order", 0), cpus=cpus, work_words=EXPLAINED_WORDS, **changes
    )
    if "object_bytes" in world:
        state.with_cache(world["object_bytes"], world.get("cache_flags", cs.CF_NO_SHEAVES))
    return state


def perform(state: InitialState, cpu: int, operations: Sequence[Operation], objects: bool) -> None:
    """Let ``cpu`` perform operations before the program begins."""
    write_code(state, cpu, operations, objects)
    faultless(performer([operations], objects), Impatient(state.ram.array), cpu)


class Impatient(Ram):
    """The memory of a preparation, in which no other process ever lets a lock go."""

    patience = 1_000

    def relax(self) -> None:
        self.patience -= 1
        if self.patience < 0:
            raise CorruptionError("what comes before the program waits for ever")

    def wait(self, i: int, old: int) -> None:
        self.relax()


def performer(threads: Threads, objects: bool) -> Kernel:
    """The smallest kernel that has all of these operations.

    Raises ``MisuseError`` if none has."""
    wanted = {operation[0] for operations in threads for operation in operations}
    if objects:
        return perform_objects
    for kernel, names in PERFORMERS:
        if wanted <= names:
            return kernel
    raise MisuseError(f"operations: {', '.join(sorted(wanted))}; no kernel has all of them")


def write_code(
    state: InitialState, cpu: int, operations: Sequence[Operation], objects: bool
) -> None:
    table = OBJECTS if objects else PAGES
    if len(operations) > MOST_ROWS:
        raise MisuseError(f"operations: {len(operations)} of cpu {cpu}; use at most {MOST_ROWS}")
    at = slot_at(state.ram, cpu, CODE)
    state.ram[at] = len(operations)
    for row, (name, *given) in enumerate(operations):
        if name not in table:
            raise nearest(name, tuple(table), "operation")
        number, kinds = table[name]
        if len(given) != len(kinds):
            raise MisuseError(f"{name}: it takes {', '.join(kinds) or 'nothing'}")
        for offset, value in enumerate((number, *given, 0, 0)[:ROW]):
            state.ram[at + 1 + ROW * row + offset] = value
