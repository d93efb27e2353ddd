"""``Machine``: a program laid out for one engine, and what can be read from it after a schedule.

The words of the program are in ``ram``, the scheduler's own in ``block`` (block.py says which).
``call`` runs a scheduler function over the block: a strategy, or one schedule. Whatever the engine,
the block says afterwards what came of it: ``VERDICTS``, ``events_of``, ``fault_of``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import MutableSequence
from typing import NamedTuple, Protocol

import numpy as np

from shmalloc.dialect import Kernel
from shmalloc.engine import ops
from shmalloc.memory import Ram
from stress.machine import block as cb
from stress.machine.block_layout import Settings
from stress.machine.program import Program
from stress.machine.read_only import WROTE

VERDICTS = {
    cb.PASSED: "passed", cb.FAILED: "failed", cb.DEADLOCK: "deadlock", cb.LIVELOCK: "livelock",
    cb.MEMORY: "memory", cb.STACK: "stack", cb.ABANDONED: "abandoned", cb.ERROR: "error",
    cb.INVARIANT: "invariant", cb.RACE: "race", cb.TORN: "torn", cb.UNDEFINED: "undefined",
    cb.ARITHMETIC: "arithmetic", cb.EXPECTATION: "expectation", cb.WROTE: WROTE,
}  # fmt: skip


Block = MutableSequence[int] | np.ndarray


class Event(NamedTuple):
    """One step: which CPU did what to which word, and the value (see ops.py).

    ``second``: the second word of ``load2``.
    """

    cpu: int
    op: int
    address: int
    value: int
    second: int = 0

    def __str__(self) -> str:
        return f"cpu {self.cpu}: {ops.NAMES[self.op]} [{self.address}] = {self.value}"


class Machine(Protocol):
    """A program laid out for one engine."""

    @property
    def program(self) -> Program: ...

    @property
    def settings(self) -> Settings: ...

    @property
    def ram(self) -> Ram: ...

    @property
    def block(self) -> Block: ...

    def warm(self, driver: Kernel) -> None: ...

    def call(self, driver: Kernel, *arguments: int) -> int: ...


def outcomes_of(block: Block) -> Counter[tuple[int, ...]]:
    """How often each tuple of observed values was seen."""
    counts: Counter[tuple[int, ...]] = Counter()
    size = int(block[cb.OBSERVED])
    for slot in range(int(block[cb.TABLE_SLOTS])):
        row = int(block[cb.TABLE_AT]) + slot * (size + 1)
        if block[row]:
            values = block[row + 1 : row + 1 + size]
            counts[tuple(int(value) for value in values)] += int(block[row])
    return counts


def fault_of(block: Block) -> Event | None:
    """The access that was not performed, or could not be."""
    cpu = int(block[cb.FAULT_CPU])
    refused = block[cb.OUTCOME] in (cb.MEMORY, cb.UNDEFINED, cb.STACK)
    if cpu < 0 or not refused:
        return None
    return Event(cpu, int(block[cb.OP + cpu]), int(block[cb.AT + cpu]), 0)


def events_of(block: Block) -> tuple[Event, ...]:
    """The log of the last schedule."""
    first = int(block[cb.LOG_AT])
    last = first + cb.EVENT_WORDS * int(block[cb.STEPS])
    words = [int(word) for word in block[first:last]]
    return tuple(
        Event(*words[at : at + cb.EVENT_WORDS]) for at in range(0, len(words), cb.EVENT_WORDS)
    )
