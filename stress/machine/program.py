"""What a model memory runs, and what came of it; and the loop that both engines share.

Here is no scheduler (schedule.py) and no engine. A ``World`` is one program laid out for one
engine: words, control block (block_layout.py), CPUs. ``run_world`` drives it in short batches, so
that Ctrl-C is heard.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple, Protocol

import numpy as np

from shmalloc.compiler.kinds import ANY
from shmalloc.compiler.rewrite import entry, runnable
from shmalloc.compiler.types import analyse
from shmalloc.dialect import is_kernel
from stress.machine import block as s
from shmalloc.engine import ops
from stress.machine.block_layout import BlockPlan, Settings, plan_block
from stress.machine.names import (
    CodeName, Findings, Names, ValueName, WordName, by_index, require_functions,
)  # fmt: skip
from shmalloc.errors import MisuseError
from shmalloc.memory import Ram

BATCH_S = 0.05
VERDICTS = {
    s.PASSED: "passed", s.FAILED: "failed", s.DEADLOCK: "deadlock", s.LIVELOCK: "livelock",
    s.MEMORY: "memory", s.STACK: "stack", s.ABANDONED: "abandoned", s.ERROR: "error",
    s.INVARIANT: "invariant", s.RACE: "race", s.TORN: "torn", s.UNDEFINED: "undefined",
    s.ARITHMETIC: "arithmetic",
}  # fmt: skip


Block = MutableSequence[int] | np.ndarray
Observed = int | tuple[str, int]  # a word, or ("r", cpu): what the kernel of a CPU returned


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


@dataclass(frozen=True, eq=False)
class Program:
    """Initial memory, one kernel for each virtual CPU, and what must hold.

    ``words``: size of the memory in int64 words, even.
    ``threads``: kernels ``(mem, cpu)``; what one returns is its result.
    ``init``: a kernel ``(mem)`` run before, a list of ``(index, value)``, or the whole memory as
    an array. Everything else is zero.
    ``invariant``: kernel ``(mem)`` -> 0 or an error code, after every step; it is no access.
    ``check``: kernel ``(mem)`` -> 0 or an error code, when all CPUs are done.
    ``observe``: words whose final values are counted as one outcome, in this order; ``("r", cpu)``
    observes what the kernel of ``cpu`` returned.
    ``undefined``: ranges ``(first, end)`` of words that hold nothing yet: reading one before it is
    written is a failure.
    ``locks``: words whose low 16 bits are 1 + the CPU that holds them, 0 when free: with them a
    deadlock of sleepers is seen at the moment its cycle closes, while other CPUs still run.
    ``names``: what words are called, ``{0: "head", "tail": 2}``; either way round.
    ``word_name(index)``, ``value_name(index, value)``, ``code_name(code)``: the same as functions,
    for words that ``names`` leaves out, for what a value means, and for what check and invariant
    return (names.py).
    ``findings(memory)``: violations that a failed run left in memory, in words.
    ``world``: what is in it, for a verdict: "2 pages, order <= 1". ``story``: what it hunts.

    Raises ``MisuseError`` for what cannot be run.
    """

    name: str
    words: int
    threads: Sequence[FunctionType]
    init: Sequence[tuple[int, int]] | np.ndarray | Callable[..., Any] | None = None
    invariant: Callable[..., Any] | None = None
    check: Callable[..., Any] | None = None
    observe: Sequence[Observed] = ()
    undefined: Sequence[tuple[int, int]] = ()
    locks: Sequence[int] = ()
    story: str = ""
    names: Names | None = None
    word_name: WordName | None = None
    value_name: ValueName | None = None
    code_name: CodeName | None = None
    findings: Findings | None = None
    world: str = ""

    def __post_init__(self) -> None:
        for name in ("threads", "observe", "undefined", "locks"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.words < 2 or self.words % 2:
            raise MisuseError(f"words: {self.words}; use a positive even number")
        if not 1 <= len(self.threads) <= s.MAX_CPUS:
            raise MisuseError(f"threads: {len(self.threads)}; use 1 to {s.MAX_CPUS} kernels")
        for thread in self.threads:
            _require_kernel("threads", thread, 2, "(mem, cpu)")
        for name, watcher in (("check", self.check), ("invariant", self.invariant)):
            if watcher is not None:
                _require_kernel(name, watcher, 1, "(mem)")
        if isinstance(self.init, np.ndarray) and self.init.shape != (self.words,):
            raise MisuseError(f"init: an image of shape {self.init.shape}; use ({self.words},)")
        for what in self.observe:
            self._require_observable(what)
        for name, places in (
            ("locks", self.locks),
            ("undefined", [at for ends in self.undefined for at in ends]),
        ):
            for at in places:
                if not 0 <= at < self.words + (name == "undefined"):
                    raise MisuseError(f"{name}: word {at}; use 0 to {self.words - 1}")
        object.__setattr__(self, "names", by_index(self.names, self.words))
        require_functions(self.words, self.word_name, self.value_name, self.code_name)

    def _require_observable(self, what: int | tuple[str, int]) -> None:
        cpus = len(self.threads)
        if isinstance(what, tuple):
            if len(what) != 2 or what[0] != "r" or not 0 <= what[1] < cpus:
                raise MisuseError(f"observe: {what!r}; use ('r', cpu) with cpu 0 to {cpus - 1}")
        elif not 0 <= what < self.words:
            raise MisuseError(f"observe: word {what}; use 0 to {self.words - 1}")

    def watchers(self) -> Iterator[tuple[int, FunctionType]]:
        """The kernels that watch, each with its slot in the block."""
        if is_kernel(self.check):
            yield s.CHECK_ENTRY, self.check
        if is_kernel(self.invariant):
            yield s.INVARIANT_ENTRY, self.invariant

    def initialize(self, ram: Ram) -> None:
        """Write the initial memory; a kernel runs interpreted, whatever the engine."""
        if isinstance(self.init, np.ndarray):
            ram.array[:] = self.init
        elif is_kernel(self.init):
            entry(runnable(self.init))(ram)
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
    def program(self) -> Program: ...

    @property
    def settings(self) -> Settings: ...

    @property
    def ram(self) -> Ram: ...

    @property
    def block(self) -> Block: ...

    def warm(self, driver: FunctionType) -> None: ...

    def call(self, driver: FunctionType, *arguments: int) -> int: ...


def require_single_results(program: Program) -> None:
    """A thread, a check or an invariant returns one number, or nothing: else ``MisuseError``."""
    named = [("threads", thread) for thread in program.threads]
    for name, kernel in (*named, ("check", program.check), ("invariant", program.invariant)):
        if is_kernel(kernel) and isinstance(analyse(kernel, ANY).result, int):
            text = f"{name}: {kernel.__qualname__} returns several results; return one number"
            raise MisuseError(text)


def plan_of(program: Program, settings: Settings) -> BlockPlan:
    """A control block for ``program``, but for the parts that only one engine has."""
    return plan_block(
        program.words, len(program.threads), settings, program.observe, program.undefined,
        program.locks,
    )  # fmt: skip


def run_world(
    world: World, driver: FunctionType, seed: int, schedules: int, seconds: float | None = None
) -> ModelResult:
    """Run ``schedules`` schedules from ``seed`` on, or until a failure, or until ``seconds``.

    ``driver(ctl, seed, count)`` runs ``count`` schedules; how many passed before a failure.
    """
    if seed < 0 or schedules < 1 or seed + schedules > s.MASK62:
        raise MisuseError(f"seed, schedules: {seed}, {schedules}; use seed >= 0, schedules >= 1")
    start = time.perf_counter()
    done, batch, failing = 0, 1, None
    while done < schedules and failing is None:
        before = time.perf_counter()
        size = min(batch, schedules - done)
        passed = world.call(driver, seed + done, size)
        failing = seed + done + passed if passed < size else None
        done += passed
        now = time.perf_counter()
        if seconds is not None and now - start >= seconds:
            break
        batch = next_batch(batch, now - before)
    return _result(world, failing, time.perf_counter() - start)


def next_batch(batch: int, seconds: float) -> int:
    """How many schedules to run at once, after ``batch`` of them took ``seconds``."""
    if seconds < BATCH_S / 2:
        return batch * 2
    return max(1, batch // 2) if seconds > BATCH_S else batch


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
        events=events_of(block) if block[s.LOGGING] else (),
        memory=world.ram.array.copy(),
        returns=tuple(int(block[s.RETURN + cpu]) for cpu in range(int(block[s.CPUS]))),
        fault=fault_of(block),
        seconds=seconds,
    )


def fault_of(block: Block) -> Event | None:
    """The access that was not performed, or could not be."""
    cpu = int(block[s.FAULT_CPU])
    refused = block[s.OUTCOME] in (s.MEMORY, s.UNDEFINED, s.STACK)
    if cpu < 0 or not refused:
        return None
    return Event(cpu, int(block[s.OP + cpu]), int(block[s.AT + cpu]), 0)


def events_of(block: Block) -> tuple[Event, ...]:
    """The log of the last schedule."""
    first = int(block[s.LOG_AT])
    last = first + s.EVENT_WORDS * int(block[s.STEPS])
    words = [int(word) for word in block[first:last]]
    return tuple(
        Event(*words[at : at + s.EVENT_WORDS]) for at in range(0, len(words), s.EVENT_WORDS)
    )
