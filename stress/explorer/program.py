"""``Program``: what the explorer runs, in the words of its user.

A program is a small world: some words of memory, one kernel for each virtual CPU, and kernels that
say what must hold. It is data; nothing here runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy as np

from shmalloc.engine.program import ModelProgram

Observed = int | tuple[str, int]


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

    def __post_init__(self) -> None:
        self.model()

    def model(self) -> ModelProgram:
        """The program as the engines take it."""
        return ModelProgram(
            words=self.words, threads=tuple(self.threads), init=self.init, check=self.check,
            invariant=self.invariant, observe=tuple(self.observe),
            undefined=tuple(self.undefined), locks=tuple(self.locks),
        )  # fmt: skip
