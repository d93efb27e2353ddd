"""``Program``: what the explorer runs. Memory, a kernel for each CPU, what must hold.

A program knows no scheduler and no engine. ``engines.make_machine`` lays it out for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shmalloc.compiler.rewrite import entry
from shmalloc.compiler.runnable import result_of, runnable
from shmalloc.compiler.source import place_of
from shmalloc.dialect import Kernel, is_kernel
from shmalloc.errors import KernelFault, MisuseError
from shmalloc.memory import Ram, WordError
from shmalloc.words import heavy_fence
from stress.machine import block as cb
from stress.machine.arguments import (
    image_of,
    observed_of,
    range_of,
    size_of,
    threads_of,
    tuple_of,
    whole_of,
    word_of,
)
from stress.machine.block_layout import BlockPlan, Settings, add_arguments, plan_block
from stress.machine.names import (
    CodeName,
    Findings,
    Names,
    PairName,
    ValueName,
    WordName,
    by_index,
    is_unprintable,
    require_functions,
)
from stress.machine.patience import can_give_up
from stress.machine.vocabulary import require_vocabulary, says
from stress.quantities import counted

Observed = int | tuple[str, int]  # a word, or ("r", cpu): what the kernel of a CPU returned


@dataclass(frozen=True, eq=False, repr=False)
class Program:
    """Initial memory, one kernel for each virtual CPU, and what must hold.

    ``words``: size of the memory in int64 words, even.
    ``threads``: kernels ``(mem, cpu)``; what one returns is its result. ``(kernel, 3, 5)`` is a
    kernel with more arguments: it is called as ``kernel(mem, cpu, 3, 5)``.
    ``init``: a kernel ``(mem)`` run before, a list of ``(index, value)``, or the whole memory as
    an array. Everything else is zero.
    ``invariant``: kernel ``(mem)`` -> 0 or an error code, after every step; it is no access.
    ``check``: kernel ``(mem)`` -> 0 or an error code, when all CPUs are done. It may ask what a
    CPU returned: ``returned(mem, cpu)`` (vocabulary.py).
    ``check_writes``: the check may write, which is undone; an invariant never may (read_only.py).
    ``observe``: words whose final values are counted as one outcome, in this order; ``("r", cpu)``
    observes what the kernel of ``cpu`` returned.
    ``undefined``: ranges ``(first, end)`` of words that hold nothing yet: reading one before it is
    written is a failure.
    ``locks``: words whose low 16 bits are 1 + the CPU that holds them, 0 when free: with them a
    deadlock of sleepers is seen at the moment its cycle closes, while other CPUs still run.
    ``spurious``: how many waits of each CPU may return without a wake, in one schedule: the
    explorer tries it at every ``wait``, as real futexes and condition variables do.
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
    threads: Sequence[Any]  # afterwards kernels alone: ``arguments`` has the rest
    init: Sequence[tuple[int, int]] | np.ndarray | Callable[..., Any] | None = None
    invariant: Callable[..., Any] | None = None
    check: Callable[..., Any] | None = None
    observe: Sequence[Observed] = ()
    undefined: Sequence[tuple[int, int]] = ()
    locks: Sequence[int] = ()
    spurious: int = 0
    story: str = ""
    names: Names | None = None
    word_name: WordName | None = None
    value_name: ValueName | None = None
    pair_name: PairName | None = None
    code_name: CodeName | None = None
    findings: Findings | None = None
    world: str = ""
    check_writes: bool = False
    arguments: Sequence[Sequence[int]] = ()  # of each thread; from ``threads`` if they say them

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or any(is_unprintable(sign) for sign in self.name):
            raise MisuseError(
                f"name: {self.name!r}; use one line of text without control characters"
            )
        words = self._set("words", size_of(self.words))
        threads, arguments = threads_of(self.threads, self.arguments)
        self._set("threads", threads)
        if not 1 <= len(threads) <= cb.MAX_CPUS:
            raise MisuseError(f"threads: {len(threads)}; use 1 to {cb.MAX_CPUS} kernels")
        for thread, given in zip(threads, self._set("arguments", arguments), strict=True):
            shape = ", ".join(("mem", "cpu", *map(str, given)))
            _require_kernel("threads", thread, 2 + len(given), f"({shape})")
        for name, watcher in (("check", self.check), ("invariant", self.invariant)):
            if watcher is not None:
                _require_kernel(name, watcher, 1, "(mem)")
        require_vocabulary(threads, self.check, self.invariant)
        self._set("init", image_of(self.init, words))
        self._set_each("observe", lambda what: observed_of(what, words, len(threads)))
        self._set("spurious", whole_of("spurious", self.spurious, 0, cb.MAX_SPURIOUS))
        self._set_each("locks", lambda at: word_of("locks", at, words))
        self._set_each("undefined", lambda ends: range_of("undefined", ends, words))
        object.__setattr__(self, "names", by_index(self.names, self.words))
        require_functions(self)

    def __repr__(self) -> str:
        size = self.world or counted(self.words, "word")
        return f"<Program {self.name}: {counted(len(self.threads), 'CPU')}, {size}>"

    def _set(self, name: str, value: Any) -> Any:
        """Keep an argument in the form in which it was examined."""
        object.__setattr__(self, name, value)
        return value

    def _set_each(self, name: str, examined: Callable[[Any], Any]) -> None:
        self._set(name, tuple(examined(one) for one in tuple_of(name, getattr(self, name))))

    def watchers(self) -> Iterator[tuple[int, Kernel]]:
        """The kernels that watch, each with its slot in the block."""
        if is_kernel(self.check):
            yield cb.CHECK_ENTRY, self.check
        if is_kernel(self.invariant):
            yield cb.INVARIANT_ENTRY, self.invariant

    def initialize(self, ram: Ram) -> None:
        """Write the initial memory; a kernel runs interpreted, whatever the engine.

        Raises ``MisuseError`` if that is not possible.
        """
        if isinstance(self.init, np.ndarray):
            ram.array[:] = self.init
        elif callable(self.init):
            try:
                (entry(runnable(self.init)) if is_kernel(self.init) else self.init)(ram)
            except (KernelFault, WordError) as error:
                raise MisuseError(f"init: {error}; prepare memory without a fault") from error
        else:
            for index, value in self.init or ():
                ram[index] = value


def title_of(program: Program, cpu: int) -> str:
    """What ``cpu`` runs: ``add``, or ``add(3, 5)``."""
    given = ", ".join(map(str, program.arguments[cpu]))
    name: str = program.threads[cpu].__name__
    return f"{name}({given})" if given else name


def _require_kernel(argument: str, value: Any, count: int, shape: str) -> None:
    name = getattr(value, "__qualname__", repr(value))
    if not is_kernel(value):
        raise MisuseError(f"{argument}: {name}; use a function {shape} decorated with @kernel")
    code = value.__code__
    if code.co_argcount != count:
        given = ", ".join(code.co_varnames[: code.co_argcount])
        cure = "; numbers for the rest are given as (kernel, 3, 5)" if argument == "threads" else ""
        raise MisuseError(f"{argument}: {name} takes ({given}); it is called with {shape}{cure}")


def require_results(program: Program) -> None:
    """A thread returns one number or nothing, a check or an invariant one: else ``MisuseError``.

    A check that forgets its ``return`` would pass everything.
    """
    watchers = [("check", program.check), ("invariant", program.invariant)]
    for name, kernel in (*(("threads", thread) for thread in program.threads), *watchers):
        if not is_kernel(kernel):
            continue
        result = result_of(kernel)
        if isinstance(result, int):
            text = f"{name}: {kernel.__qualname__} returns several results; return one number"
            raise MisuseError(text)
        if result == "none" and name != "threads":
            place = place_of(kernel, kernel.__code__.co_firstlineno)
            raise MisuseError(
                f"{name}: {kernel.__qualname__}, {place}, returns nothing, so it would pass"
                " everything; return 0 if all is well, else an error code"
            )


def plan_of(program: Program, settings: Settings) -> BlockPlan:
    """A control block for ``program``, but for the parts that only one engine has."""
    plan = plan_block(
        program.words,
        len(program.threads),
        settings,
        program.observe,
        program.undefined,
        program.locks,
    )
    add_arguments(plan, program.arguments)
    plan.content[cb.SPURIOUS] = program.spurious
    plan.content[cb.HEAVY_FENCES] = int(says(program.threads, heavy_fence))
    for cpu, thread in enumerate(program.threads):
        plan.content[cb.GIVES_UP + cpu] = int(can_give_up(thread))
    return plan
