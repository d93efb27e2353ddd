"""The interpreted engine: kernels as plain Python functions over ``Ram``, in one process.

pdb and coverage work in them. There are no atomics, so no other process may use the segment
meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from shmalloc.compiler.rewrite import entry, runnable
from shmalloc.dialect import Kernel, is_kernel
from shmalloc.engine.registry import Progress, no_kernel
from shmalloc.memory import Ram


class Interpreted:
    """Kernels as Python functions: one process, where pdb and coverage work.

    They run rewritten, with the arithmetic and the faults of compiled code; file and lines stay.
    """

    name = "interpreted"
    compiles = False

    def __init__(self) -> None:
        self._bound: dict[Kernel, Callable[..., int]] = {}

    def bind(self, function: Kernel) -> Callable[..., int]:
        run = self._bound.get(function)
        if run is None:
            if not is_kernel(function):
                raise no_kernel(function)
            run = self._bound[function] = entry(runnable(function))
        return run

    def call(self, function: Kernel, mem: Ram, *arguments: int) -> int:
        return self.bind(function)(mem, *arguments)

    def builtin(self, function: Kernel, mem: Ram, releases: bool = True) -> Callable[..., Any]:
        return partial(self.bind(function), mem)

    def warm(self, functions: Iterable[Kernel], progress: Progress | None = None) -> None:
        """Nothing to compile."""
