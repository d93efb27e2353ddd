"""``Program``: what the explorer runs. Memory, a kernel for each CPU, what must hold.

A program knows no scheduler and no engine. ``engines.make_machine`` lays it out for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shmalloc.compiler.kinds import ANY
from shmalloc.compiler.rewrite import entry, runnable
from shmalloc.compiler.types import analyse
from shmalloc.dialect import Kernel, is_kernel
from shmalloc.errors import MisuseError
from shmalloc.memory import Ram
from stress.machine import block as cb
from stress.machine.block_layout import BlockPlan, Settings, plan_block
from stress.machine.names import (
    CodeName,
    Findings,
    Names,
    PairName,
    ValueName,
    WordName,
    by_index,
    require_functions,
)
from stress.quantities import counted

Observed = int | tuple[str, int]  # a word, or ("r", cpu): what the kernel of a CPU returned


@dataclass(frozen=True, eq=False, repr=False)
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
    ``word_name(index)``, ``value_name(index, value)``, ``pair_name(index, low, high)``,
    ``code_name(code)``: the same as functions, for words that ``names`` leaves out, for what a
    value or a pair of them means, and for what check and invariant return (names.py).
    ``findings(memory)``: violations that a failed run left in memory, in words.
    ``world``: its size, for a verdict: "2 pages, order <= 1". ``story``: the race it looks for.

    Raises ``MisuseError`` for a program that cannot run.
    """

    name: str
    words: int
    threads: Sequence[Kernel]
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
    pair_name: PairName | None = None
    code_name: CodeName | None = None
    findings: Findings | None = None
    world: str = ""

    def __post_init__(self) -> None:
        for name in ("threads", "observe", "undefined", "locks"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not isinstance(self.name, str) or len(self.name.splitlines()) > 1:
            raise MisuseError(f"name: {self.name!r}; use one line of text")
        if self.words < 2 or self.words % 2:
            raise MisuseError(f"words: {self.words}; use a positive even number")
        if not 1 <= len(self.threads) <= cb.MAX_CPUS:
            raise MisuseError(f"threads: {len(self.threads)}; use 1 to {cb.MAX_CPUS} kernels")
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
        require_functions(self)

    def __repr__(self) -> str:
        size = self.world or counted(self.words, "word")
        return f"<Program {self.name}: {counted(len(self.threads), 'CPU')}, {size}>"

    def _require_observable(self, what: int | tuple[str, int]) -> None:
        cpus = len(self.threads)
        if isinstance(what, tuple):
            if len(what) != 2 or what[0] != "r" or not 0 <= what[1] < cpus:
                raise MisuseError(f"observe: {what!r}; use ('r', cpu) with cpu 0 to {cpus - 1}")
        elif not 0 <= what < self.words:
            raise MisuseError(f"observe: word {what}; use 0 to {self.words - 1}")

    def watchers(self) -> Iterator[tuple[int, Kernel]]:
        """The kernels that watch, each with its slot in the block."""
        if is_kernel(self.check):
            yield cb.CHECK_ENTRY, self.check
        if is_kernel(self.invariant):
            yield cb.INVARIANT_ENTRY, self.invariant

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
        program.words,
        len(program.threads),
        settings,
        program.observe,
        program.undefined,
        program.locks,
    )
