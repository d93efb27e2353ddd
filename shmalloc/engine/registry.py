"""Engines by name: what an engine offers, which are registered, which are in use.

An engine is made when it is first asked for and kept as long as the process. This file knows no
engine: ``register_engine`` names a function that makes one.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from shmalloc.compiler import notice
from shmalloc.dialect import Kernel
from shmalloc.errors import EngineError, MisuseError
from shmalloc.memory import Ram

Progress = Callable[[str], None]


def no_kernel(value: object) -> EngineError:
    """The error of an engine for something that is no kernel."""
    name = getattr(value, "__qualname__", repr(value))
    return EngineError(f"{name} is not a kernel; decorate it with @kernel")


class Engine(Protocol):
    """What every engine offers. ``bind`` returns a callable that takes ``(mem, *ints)``."""

    name: str
    compiles: bool  # to machine code, which may run long without the interpreter

    def bind(self, function: Kernel) -> Callable[..., int]: ...

    def call(self, function: Kernel, mem: Ram, *arguments: int) -> int: ...

    def call_alone(self, function: Kernel, mem: Ram, *arguments: int) -> int: ...

    def builtin(
        self, function: Kernel, mem: Ram, releases: bool = True, alone: bool = False
    ) -> Callable[..., Any]: ...

    def warm(self, functions: Iterable[Kernel], progress: Progress | None = None) -> None: ...


_makers: dict[str, Callable[[], Engine]] = {}
_engines: dict[str, Engine] = {}


def register_engine(name: str, make: Callable[[], Engine]) -> None:
    """Offer an engine under ``name``; ``make`` is called when it is first asked for.

    ``shmalloc.engine`` registers "native" and "interpreted". A package with another engine
    registers it when it is imported, in each process that uses it.
    """
    _makers[name] = make


def registered() -> tuple[str, ...]:
    """The names of all engines of this process, in the order of their registration."""
    return tuple(_makers)


def when_waiting_long(ram: Ram, listener: Callable[[int], None] | None) -> None:
    """Call ``listener(word index)`` when compiled code has waited long for a word of ``ram``.

    None: stop. Interpreted kernels never wait: such a process has its segment to itself.
    """
    if any(engine.compiles for engine in _engines.values()):
        notice.listen(ram.place_address, listener)
        if listener is not None:  # another memory may get that place
            weakref.finalize(ram, notice.listen, ram.place_address, None).atexit = False


def get_engine(name: str = "native") -> Engine:
    """The engine of that name; the native one is loaded at first use.

    Raises ``MisuseError`` for an unknown name, ``EnvironmentUnfitError`` if native cannot run.
    """
    if not isinstance(name, str) or name not in _makers:
        raise MisuseError(f"engine: {name!r}; use {' or '.join(map(repr, registered()))}")
    if name not in _engines:
        _engines[name] = _makers[name]()
    return _engines[name]


def forget() -> None:
    """Forget what was read of kernels, for tests that put another kernel into a module.

    Compiled kernels do not change.
    """
    from shmalloc.compiler import check, digest, runnable, scope, types

    check.forget()
    digest.forget()
    scope.forget()
    types.forget()
    runnable.forget()
    _engines.pop("interpreted", None)
