"""What a model memory runs, and what came of it; and the loop that both engines share.

Here is no scheduler (schedule.py) and no engine. A ``World`` is one program laid out for one
engine: words, control block, CPUs. ``run`` drives it in batches short enough for Ctrl-C.
"""

from __future__ import annotations

import time
from collections.abc import Callable, MutableSequence, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple, Protocol

import numpy as np

from shmalloc.dialect import is_kernel
from shmalloc.engine import ops
from shmalloc.engine import schedule as s
from shmalloc.errors import MisuseError
from shmalloc.memory import Ram

BATCH_S = 0.05
VERDICTS = {
    s.PASSED: "passed", s.FAILED: "failed", s.DEADLOCK: "deadlock", s.LIVELOCK: "livelock",
    s.MEMORY: "memory", s.STACK: "stack", s.ABANDONED: "abandoned", s.ERROR: "error",
}  # fmt: skip


Block = MutableSequence[int] | np.ndarray


class Event(NamedTuple):
    """One step: which CPU did what to which word, and the value (see ops.py)."""

    cpu: int
    op: int
    address: int
    value: int

    def __str__(self) -> str:
        return f"cpu {self.cpu}: {ops.NAMES[self.op]} [{self.address}] = {self.value}"


@dataclass(frozen=True, eq=False)
class ModelProgram:
    """Initial memory, one kernel ``(mem, cpu)`` for each virtual CPU, and a final check.

    ``init``: a kernel ``(mem)``, a list of ``(index, value)``, or an image of the whole memory.
    ``check``: a kernel ``(mem) -> 0 or an error code``, run unscheduled when all CPUs are done.
    """

    words: int
    threads: tuple[FunctionType, ...]
    init: Sequence[tuple[int, int]] | np.ndarray | Callable[..., Any] | None = None
    check: FunctionType | None = None

    def __post_init__(self) -> None:
        if self.words < 2 or self.words % 2:
            raise MisuseError(f"words: {self.words}; use a positive even number")
        if not 1 <= len(self.threads) <= s.MAX_CPUS:
            raise MisuseError(f"threads: {len(self.threads)}; use 1 to {s.MAX_CPUS} kernels")
        for thread in self.threads:
            _require_kernel("threads", thread, 2, "(mem, cpu)")
        if self.check is not None:
            _require_kernel("check", self.check, 1, "(mem)")
        if isinstance(self.init, np.ndarray) and self.init.shape != (self.words,):
            raise MisuseError(f"init: an image of shape {self.init.shape}; use ({self.words},)")

    def initialize(self, ram: Ram) -> None:
        """Write the initial memory; a kernel runs interpreted, whatever the engine."""
        if isinstance(self.init, np.ndarray):
            ram.array[:] = self.init
        elif callable(self.init):
            self.init(ram)
        else:
            for index, value in self.init or ():
                ram[index] = value


def _require_kernel(argument: str, value: Any, count: int, shape: str) -> None:
    if not is_kernel(value) or value.__code__.co_argcount != count:
        name = getattr(value, "__qualname__", repr(value))
        raise MisuseError(f"{argument}: {name}; use a function {shape} decorated with @kernel")


@dataclass(frozen=True, eq=False)
class ModelResult:
    """What a run found. ``events``, ``memory`` and ``returns`` are of the last schedule it ran.

    A run ends at the first failure. "passed" means: no failure in that many schedules;
    "abandoned": none either, but some were cut at the step limit. ``fault``: the access that was
    not performed, with the verdicts "memory" (where a thread made it) and "stack".
    """

    verdict: str
    code: int
    schedules: int
    steps: int
    abandoned: int
    failing_seed: int | None
    events: tuple[Event, ...]
    memory: np.ndarray
    returns: tuple[int, ...]
    fault: Event | None
    seconds: float


class World(Protocol):
    """A program laid out for one engine."""

    @property
    def ram(self) -> Ram: ...

    @property
    def block(self) -> Block: ...

    def explore(self, seed: int, count: int) -> int: ...


def make_block_words(
    program: ModelProgram, step_limit: int, idle_limit: int, logging: bool
) -> list[int]:
    """A control block, but for the parts that only one engine has."""
    log_words = s.EVENT_WORDS * step_limit if logging else 0
    header = [0] * s.VARIABLE
    header[s.CPUS] = len(program.threads)
    header[s.WORDS] = program.words
    header[s.STEP_LIMIT] = step_limit
    header[s.IDLE_LIMIT] = idle_limit
    header[s.LOGGING] = int(logging)
    header[s.LOG_AT] = s.VARIABLE
    header[s.STAMPS_AT] = s.VARIABLE + log_words
    header[s.UNDO_AT] = header[s.STAMPS_AT] + program.words
    header[s.EPOCH] = 1
    return header + [0] * (log_words + 3 * program.words)


def run_world(world: World, seed: int, schedules: int, seconds: float | None = None) -> ModelResult:
    """Run ``schedules`` schedules from ``seed`` on, or until a failure, or until ``seconds``."""
    if seed < 0 or schedules < 1 or seed + schedules > s.MASK62:
        raise MisuseError(f"seed, schedules: {seed}, {schedules}; use seed >= 0, schedules >= 1")
    start = time.perf_counter()
    done, batch, failing = 0, 1, None
    while done < schedules and failing is None:
        before = time.perf_counter()
        size = min(batch, schedules - done)
        passed = world.explore(seed + done, size)
        failing = seed + done + passed if passed < size else None
        done += passed
        now = time.perf_counter()
        if seconds is not None and now - start >= seconds:
            break
        if now - before < BATCH_S / 2:
            batch *= 2
        elif now - before > BATCH_S:
            batch = max(1, batch // 2)
    return _result(world, failing, time.perf_counter() - start)


def _result(world: World, failing: int | None, seconds: float) -> ModelResult:
    block = world.block
    verdict = VERDICTS[int(block[s.OUTCOME])]
    if failing is None:
        verdict = "abandoned" if block[s.ABANDONED_COUNT] else "passed"
    return ModelResult(
        verdict=verdict,
        code=int(block[s.CODE]),
        schedules=int(block[s.SCHEDULES]),
        steps=int(block[s.TOTAL_STEPS]),
        abandoned=int(block[s.ABANDONED_COUNT]),
        failing_seed=failing,
        events=_events(block) if block[s.LOGGING] else (),
        memory=world.ram.array.copy(),
        returns=tuple(int(block[s.RETURN + cpu]) for cpu in range(int(block[s.CPUS]))),
        fault=_fault(block),
        seconds=seconds,
    )


def _fault(block: Block) -> Event | None:
    cpu = int(block[s.FAULT_CPU])
    return None if cpu < 0 else Event(cpu, int(block[s.OP + cpu]), int(block[s.AT + cpu]), 0)


def _events(block: Block) -> tuple[Event, ...]:
    first = int(block[s.LOG_AT])
    last = first + s.EVENT_WORDS * int(block[s.STEPS])
    words = [int(word) for word in block[first:last]]
    return tuple(
        Event(*words[at : at + s.EVENT_WORDS]) for at in range(0, len(words), s.EVENT_WORDS)
    )
