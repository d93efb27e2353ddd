"""Engines: how a kernel is run. ``get_engine("native" | "interpreted")``: the same calls.

An engine has ``name``, ``bind(kernel) -> callable(mem, *ints)``, ``call(kernel, mem, *ints)``,
``builtin(kernel, mem) -> callable(*ints)`` and ``warm(kernels)``. llvmlite is imported only to
compile.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from functools import partial
from types import FunctionType
from typing import Any, Protocol

from shmalloc.compiler import notice
from shmalloc.dialect import is_kernel
from shmalloc.errors import EngineError, MisuseError
from shmalloc.memory import Ram

Progress = Callable[[str], None]


def no_kernel(value: object) -> EngineError:
    """What an engine says to something that is no kernel."""
    name = getattr(value, "__qualname__", repr(value))
    return EngineError(f"{name} is not a kernel; decorate it with @kernel")


class Engine(Protocol):
    """What every engine offers. ``bind`` returns a callable that takes ``(mem, *ints)``."""

    name: str

    def bind(self, function: FunctionType) -> Callable[..., int]: ...

    def call(self, function: FunctionType, mem: Ram, *arguments: int) -> int: ...

    def builtin(
        self, function: FunctionType, mem: Ram, releases: bool = True
    ) -> Callable[..., Any]: ...

    def warm(self, functions: Iterable[FunctionType], progress: Progress | None = None) -> None: ...


class Interpreted:
    """Kernels as Python functions: one process, where pdb and coverage work.

    They run rewritten, file and lines kept, to the arithmetic and the faults of compiled code.
    """

    name = "interpreted"

    def __init__(self) -> None:
        self._bound: dict[FunctionType, Callable[..., int]] = {}

    def bind(self, function: FunctionType) -> Callable[..., int]:
        run = self._bound.get(function)
        if run is None:
            if not is_kernel(function):
                raise no_kernel(function)
            from shmalloc.compiler.rewrite import entry, runnable

            run = self._bound[function] = entry(runnable(function))
        return run

    def call(self, function: FunctionType, mem: Ram, *arguments: int) -> int:
        return self.bind(function)(mem, *arguments)

    def builtin(
        self, function: FunctionType, mem: Ram, releases: bool = True
    ) -> Callable[..., Any]:
        return partial(self.bind(function), mem)

    def warm(self, functions: Iterable[FunctionType], progress: Progress | None = None) -> None:
        """Nothing to compile."""


_engines: dict[str, Engine] = {}


def when_waiting_long(ram: Ram, listener: Callable[[int], None] | None) -> None:
    """Call ``listener(word index)`` when compiled code has waited for long for a word of ``ram``.

    None: stop. Interpreted kernels never wait: such a process has its segment to itself.
    """
    if "native" in _engines or "jitter" in _engines:
        notice.listen(ram.place_address, listener)
        if listener is not None:  # another memory may come to have that place
            weakref.finalize(ram, notice.listen, ram.place_address, None).atexit = False


def get_engine(name: str = "native") -> Engine:
    """The engine of that name; the native one is loaded at first use.

    Raises ``MisuseError`` for an unknown name, ``EnvironmentUnfitError`` where native cannot run.
    """
    if name not in _engines:
        if name == "native":
            from shmalloc.engine.native import Native

            _engines[name] = Native()
        elif name == "jitter":
            from shmalloc.engine.jitter_native import JitterEngine

            _engines[name] = JitterEngine()
        elif name == "interpreted":
            _engines[name] = Interpreted()
        else:
            raise MisuseError(f"engine: {name!r}; use 'native' or 'interpreted'")
    return _engines[name]


def forget() -> None:
    """Forget what was read of kernels, for tests that put another kernel into a module.

    Compiled kernels stay what they are.
    """
    from shmalloc.compiler import check, digest, rewrite, scope, types

    check.forget()
    digest.forget()
    scope.forget()
    types.forget()
    rewrite.forget()
    if "interpreted" in _engines:
        _engines["interpreted"] = Interpreted()
