"""Engines: how a kernel is run. ``get_engine("native" | "interpreted")``: the same calls.

An engine has ``name``, ``bind(kernel) -> callable(mem, *ints)``, ``call(kernel, mem, *ints)`` and
``warm(kernels)``. numba and llvmlite are imported only by the modules of this package that say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Protocol

from shmalloc.errors import MisuseError
from shmalloc.memory import Ram

Progress = Callable[[str], None]


class Engine(Protocol):
    """What every engine offers. ``bind`` returns a callable that takes ``(mem, *ints)``."""

    name: str

    def bind(self, function: FunctionType) -> Callable[..., int]: ...

    def call(self, function: FunctionType, mem: Ram, *arguments: int) -> int: ...

    def warm(self, functions: Iterable[FunctionType], progress: Progress | None = None) -> None: ...


class Interpreted:
    """Kernels as the Python functions that they are: one process, pdb and coverage work."""

    name = "interpreted"

    def bind(self, function: FunctionType) -> Callable[..., int]:
        return function

    def call(self, function: FunctionType, mem: Ram, *arguments: int) -> int:
        result: int = function(mem, *arguments)
        return result

    def warm(self, functions: Iterable[FunctionType], progress: Progress | None = None) -> None:
        """Nothing to compile."""


_engines: dict[str, Engine] = {}


def when_waiting_long(ram: Ram, listener: Callable[[int], None] | None) -> None:
    """Call ``listener(word index)`` when compiled code has waited for long for a word of ``ram``.

    None: stop. Interpreted kernels never wait: such a process has its segment to itself.
    """
    if "native" in _engines or "jitter" in _engines:
        from shmalloc.engine.notice import listen

        listen(ram.side, listener)


def get_engine(name: str = "native") -> Engine:
    """The engine of that name; the native one is loaded (and numba imported) at first use.

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
