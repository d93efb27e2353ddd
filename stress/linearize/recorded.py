"""Histories that kernels wrote, from the memory of any engine: live, or left by dead processes.

``prepare_log`` sets the area up, ``read_log`` turns it into operations, ``schedules`` runs a
program under the scheduler of the explorer and returns the history of each schedule. The layout of
the words and the rules of recording are in stress/oracles/histories.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableSequence, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shmalloc.errors import MisuseError
from stress.explorer.searches import Budget, Plan, Search
from stress.linearize.history import ANY, Operation
from stress.machine import block as cb
from stress.machine.block_layout import Settings
from stress.machine.machine import VERDICTS
from stress.machine.program import Program
from stress.oracles import histories

ALLOC = 1  # a: order; result: pfn, or a negative code
FREE = 2  # a: pfn, b: order; result: 0, or a negative code


class Entry(NamedTuple):
    """What a kernel recorded of one operation; ``result`` None: it did not return."""

    what: int
    a: int
    b: int
    result: int | None


class Meaning(NamedTuple):
    """An entry in the words of a model: see ``Operation``."""

    name: str
    argument: object
    result: object
    key: object = None


def allocator_meaning(entry: Entry) -> Meaning:
    """Entries ALLOC and FREE, for the model of allocator.py."""
    if entry.what == ALLOC:
        failed = entry.result is None or entry.result < 0
        return Meaning("alloc", entry.a, None if failed else entry.result)
    if entry.what == FREE:
        return Meaning("free", (entry.a, entry.b), entry.result == 0)
    raise MisuseError(f"entry: what={entry.what}; use ALLOC ({ALLOC}) or FREE ({FREE})")


@dataclass(frozen=True)
class LogArea:
    """Where logs lie: from word ``at`` on, ``capacity`` entries for each of ``cpus`` CPUs."""

    at: int
    cpus: int
    capacity: int

    def __post_init__(self) -> None:
        if self.at < 0 or self.cpus < 1 or self.capacity < 1:
            raise MisuseError(f"log: {self}; use at >= 0, cpus >= 1, capacity >= 1")

    @property
    def words(self) -> int:
        """Size of the area, even."""
        logs = self.cpus * (histories.LOG_ENTRIES + self.capacity * histories.ENTRY_WORDS)
        return (histories.LOG_HEADER + logs + 1) & ~1

    def log_of(self, cpu: int) -> int:
        one = histories.LOG_ENTRIES + self.capacity * histories.ENTRY_WORDS
        return self.at + histories.LOG_HEADER + cpu * one


def prepare_log(memory: MutableSequence[int], area: LogArea) -> None:
    """Empty logs, before the first CPU starts."""
    for i in range(area.at, area.at + area.words):
        memory[i] = 0
    memory[area.at + histories.LOG_CAPACITY] = area.capacity


def read_log(
    memory: Sequence[int], area: LogArea, meaning: Callable[[Entry], Meaning] = allocator_meaning
) -> list[Operation]:
    """The operations of all CPUs by call; pending if the call did not return.

    Raises ``MisuseError`` if a log was too short: an incomplete history proves nothing.
    """
    found = []
    for cpu in range(area.cpus):
        log = area.log_of(cpu)
        lost = int(memory[log + histories.LOG_LOST])
        if lost:
            raise MisuseError(
                f"log: cpu {cpu} had room for {area.capacity} operations and made {lost} more;"
                " use a larger capacity"
            )
        for number in range(int(memory[log + histories.LOG_COUNT])):
            at = log + histories.LOG_ENTRIES + number * histories.ENTRY_WORDS
            words = [int(memory[i]) for i in range(at, at + histories.ENTRY_WORDS)]
            if words[histories.ENTRY_CALL]:
                found.append(_operation(cpu, words, meaning))
    return sorted(found, key=lambda operation: operation.call)


def _operation(cpu: int, words: list[int], meaning: Callable[[Entry], Meaning]) -> Operation:
    returned = words[histories.ENTRY_RETURN] or None
    result = None if returned is None else words[histories.ENTRY_RESULT]
    told = meaning(
        Entry(
            words[histories.ENTRY_WHAT], words[histories.ENTRY_A], words[histories.ENTRY_B], result
        )
    )
    return Operation(
        cpu,
        told.name,
        told.argument,
        ANY if returned is None else told.result,
        words[histories.ENTRY_CALL],
        returned,
        told.key,
    )


def schedules(
    program: Program,
    area: LogArea,
    count: int,
    seed: int = 1,
    engine: str = "native",
    step_limit: int = 10_000,
) -> Iterator[tuple[str, list[Operation]]]:
    """The history of each of ``count`` random schedules, with the schedule's verdict.

    ``step_limit`` cuts a schedule: operations in progress are pending, as if all CPUs had died.
    """
    plan = Plan("random", Settings(step_limit=step_limit), engine, seed, stop_on_failure=False)
    search = Search(program, plan, Budget(None, None))
    machine = search.machine
    for k in range(count):
        machine.call(search.driver, seed + k, 1)
        yield (
            VERDICTS[int(machine.block[cb.OUTCOME])],
            read_log(machine.ram.array.tolist(), area),
        )
