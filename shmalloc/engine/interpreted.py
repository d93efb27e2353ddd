"""The interpreted engine: kernels as plain Python functions over ``Ram``, in one process.

pdb and coverage work in them. There are no atomics, so no other process may use the segment
meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import Any

from shmalloc.compiler.rewrite import entry
from shmalloc.compiler.runnable import runnable
from shmalloc.dialect import Kernel, is_kernel
from shmalloc.engine.registry import Progress, no_kernel
from shmalloc.errors import MisuseError
from shmalloc.memory import Ram


@contextmanager
def _alone(mem: Ram) -> Iterator[None]:
    """Keep other threads out; raise ``MisuseError`` if this one is in a kernel over ``mem``."""
    with mem.turn:
        if mem.interpreting:
            raise MisuseError(
                "called from a signal handler or a finalizer that interrupted another call of this"
                " memory; let the handler set a flag, and call later"
            )
        mem.interpreting = get_ident()
        try:
            yield
        finally:
            mem.interpreting = 0


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

    def call_alone(self, function: Kernel, mem: Ram, *arguments: int) -> int:
        with _alone(mem):
            return self.bind(function)(mem, *arguments)

    def builtin(
        self, function: Kernel, mem: Ram, releases: bool = True, alone: bool = False
    ) -> Callable[..., Any]:
        return (
            partial(self.call_alone, function, mem) if alone else partial(self.bind(function), mem)
        )

    def warm(self, functions: Iterable[Kernel], progress: Progress | None = None) -> None:
        """Nothing to compile."""
