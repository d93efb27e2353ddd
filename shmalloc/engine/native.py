"""The native engine: compiled kernels over ``Ram``, in any number of processes.

A kernel is compiled together with everything that it calls, into an image with the other entries of
its plan (plans.py); images are kept on disk. A bound kernel is a builtin function: a call of it
from Python costs some 60 ns. By default it releases the interpreter's lock meanwhile; ``builtin``
gives one that keeps it, for calls of at most a few microseconds.

A fault (an access outside the segment, a division by zero) ends the call and raises a
``KernelFault`` that says where; earlier writes stay in the segment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from shmalloc.compiler import obtain
from shmalloc.compiler.instances import Instance
from shmalloc.compiler.kinds import Kind
from shmalloc.compiler.words import RAM
from shmalloc.dialect import Kernel
from shmalloc.engine import plans
from shmalloc.engine.doctor import require_native
from shmalloc.engine.registry import Progress, get_engine
from shmalloc.errors import MisuseError
from shmalloc.memory import Ram


class Native:
    """The engine of compiled kernels. Raises ``EnvironmentUnfitError`` on an unfit machine."""

    name = "native"
    compiles = True

    def __init__(self, kind: Kind = RAM) -> None:
        require_native()
        self._kind = kind
        self._bound: dict[Kernel, Callable[..., Any]] = {}

    def bind(self, function: Kernel) -> Callable[..., int]:
        """A callable ``(mem, *ints)`` that runs the machine code of ``function``."""
        run = self._bound.get(function)
        if run is None:
            self._load(function)

            def run(mem: Ram, *arguments: int) -> int:
                call = mem.builtins.get(function)
                if call is None:
                    call = self.builtin(function, mem)
                    mem.builtins[function] = call
                result: int = call(*arguments)
                return result

            self._bound[function] = run
        return run

    def call(self, function: Kernel, mem: Ram, *arguments: int) -> int:
        try:
            call = mem.builtins.get(function)
        except AttributeError:
            raise MisuseError(f"mem: {type(mem).__name__}; a kernel runs over a Ram") from None
        if call is None:
            return self.bind(function)(mem, *arguments)
        result: int = call(*arguments)
        return result

    def call_alone(self, function: Kernel, mem: Ram, *arguments: int) -> int:
        """As ``call``, when no other call that runs alone is in a kernel over ``mem``."""
        call = mem.builtins.get((function, "alone"))
        if call is None:
            call = mem.builtins[function, "alone"] = self.builtin(function, mem, alone=True)
        result: int = call(*arguments)
        return result

    def builtin(
        self, function: Kernel, mem: Ram, releases: bool = True, alone: bool = False
    ) -> Callable[..., Any]:
        """A builtin that takes the kernel's ints and runs it over ``mem``.

        ``releases``: other Python threads may run meanwhile, which costs 70 ns a call. ``alone``:
        no other such call over ``mem`` is in a kernel meanwhile.
        Raises ``MisuseError`` for a memory of another engine.
        """
        if mem.kind != self._kind.name:
            raise MisuseError(f"engine {self.name!r} cannot run over a {type(mem).__name__}")
        self._load(function)
        return obtain.bound(function, self._kind, mem, releases, alone)

    def warm(self, functions: Iterable[Kernel], progress: Progress | None = None) -> None:
        """Compile or load ``functions`` now, as one image; ``progress`` hears of compiling.

        Raises ``DialectError`` for the first that is not in the dialect.
        """
        missing = [f for f in functions if obtain.find(f, self._kind) is None]
        entries = [self.entry(f) for f in dict.fromkeys(missing)]
        for entry in entries:
            obtain.require(entry, progress or obtain.warn, entries)

    def entry(self, function: Kernel) -> Instance:
        """``function`` over this engine's memory, as a part of a plan."""
        return Instance(function, self._kind, True)

    def _load(self, function: Kernel) -> None:
        """Ensure that some image of this process holds ``function``."""
        if obtain.find(function, self._kind) is None:
            along = [self.entry(f) for f in plans.plan_of(function)]
            obtain.require(self.entry(function), obtain.warn, along)


def warm_together(plan: Iterable[tuple[str, Kernel]], progress: Progress | None = None) -> None:
    """Compile or load what several engines need, by their names, as one image.

    It is the image of the whole plan, whatever is loaded already: another process with the same
    plan finds it on disk. Raises ``DialectError`` as ``Native.warm`` does.
    """
    entries, tell = _entries(plan), progress or obtain.warn
    if entries:
        obtain.obtain(entries, tell)
        for entry in entries:
            obtain.require(entry, tell)


def is_kept(plan: Iterable[tuple[str, Kernel]]) -> bool:
    """Whether ``warm_together`` would find the image on disk."""
    return obtain.is_kept(_entries(plan))


def _entries(plan: Iterable[tuple[str, Kernel]]) -> list[Instance]:
    """The kernels of a plan that are compiled; interpreted ones are not."""
    engines = ((get_engine(name), function) for name, function in plan)
    found = (engine.entry(f) for engine, f in engines if isinstance(engine, Native))
    return list(dict.fromkeys(found))
