"""The native engine: kernels compiled by numba over ``Ram``, in as many processes as you like.

A kernel is compiled once for each memory type, under one explicit signature of int64s, and kept
on disk (cache.py). ``bind`` returns a callable that costs 0.6-1.5 microseconds a call, so loops
live inside kernels. An access outside of the segment raises ``IndexError`` after the call, as it
does interpreted; the segment was not touched by it.
"""

from __future__ import annotations

import functools
import inspect
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any, TypeVar

import numba
from numba import njit, types
from numba.extending import register_jitable

from shmalloc import dialect
from shmalloc.engine import Progress, cache, lowering, notice, together, units
from shmalloc.engine.doctor import require_native
from shmalloc.errors import EngineError
from shmalloc.memory import Ram

Result = TypeVar("Result")
_callable: set[FunctionType] = set()
_compiling = threading.RLock()


def compiled_once(function: Callable[..., Result]) -> Callable[..., Result]:
    """``functools.cache`` for what compiles: never twice, not even from two threads.

    Addresses into the first result are in use, so it must be the one that is kept.
    """
    cached = functools.cache(function)

    @functools.wraps(function)
    def locked(*arguments: Any) -> Result:
        with _compiling:
            return cached(*arguments)

    return locked


def make_callable(function: FunctionType, memory_type: lowering.MemoryType) -> None:
    """Let compiled code call every kernel that ``function`` can reach over ``memory_type``.

    Units are compiled first, so that the symbols which ``function``'s machine code names exist
    before it is loaded.
    """
    compile_units(function, memory_type)
    for reachable in dialect.closure_of(function, through_units=False):
        if not dialect.is_unit(reachable) and reachable not in _callable:
            _callable.add(reachable)
            inline = getattr(reachable, "__hot__", False)
            register_jitable(error_model="numpy", forceinline=inline, no_cfunc_wrapper=True)(
                reachable
            )


def compile_units(function: FunctionType, memory_type: lowering.MemoryType) -> None:
    """Compile (or load) all units below ``function``, those first that no other process is at."""
    below = [f for f in dialect.closure_of(function) if dialect.is_unit(f) and f is not function]
    while todo := [unit for unit in below if not units.is_published(unit, memory_type)]:
        ready = [
            unit for unit in todo
            if all(units.is_published(called, memory_type) for called in called_units(unit))
        ]  # fmt: skip
        if not any(_compile_unit(unit, memory_type, wait=False) for unit in ready):
            _compile_unit(ready[0], memory_type, wait=True)


def _compile_unit(function: FunctionType, memory_type: lowering.MemoryType, wait: bool) -> bool:
    """Whether the unit was ours to compile or to load."""
    with together.claim(digest_over(function, memory_type), wait) as ours:
        if ours:
            unit_address(function, memory_type)
        return ours


@functools.cache
def called_units(function: FunctionType) -> tuple[FunctionType, ...]:
    """The units that machine code of ``function`` calls."""
    closure = dialect.closure_of(function, through_units=False)
    return tuple(unit for unit in closure if dialect.is_unit(unit) and unit is not function)


@compiled_once
def unit_address(function: FunctionType, memory_type: lowering.MemoryType) -> int:
    """Compile (or load) a unit, make its symbol known to the linker, let compiled code call it."""
    compiled = compile_function(function, memory_type)
    result = compiled.overloads[compiled.signatures[0]]
    address = int(result.library.get_pointer_to_function(result.fndesc.llvm_func_name))
    returned = result.signature.return_type
    digest = cache.digest_of(function, _salt_of(memory_type))
    symbol = f"{function.__qualname__}.{digest}.{returned}"
    units.publish(function, memory_type, symbol, address, returned)
    return address


def _salt_of(memory_type: lowering.MemoryType) -> str:
    return f"{cache.toolchain_salt()}|{memory_type.name}"


def digest_over(function: FunctionType, memory_type: lowering.MemoryType) -> str:
    """Names the machine code of ``function``, whose units are callable already."""
    symbols = [units.symbol_of(unit, memory_type) for unit in called_units(function)]
    return cache.digest_of(function, "|".join((_salt_of(memory_type), *symbols)))


def compile_kernel(function: FunctionType, memory_type: lowering.MemoryType) -> Any:
    """Machine code of ``function`` over ``memory_type``: compiled, or loaded from the cache.

    Raises ``EngineError`` where the source is not a kernel or does not compile.
    """
    if not dialect.is_kernel(function):
        raise EngineError(f"{function.__qualname__} is not a kernel; decorate it with @kernel")
    broken = dialect.violations(function)
    if broken:
        raise EngineError("not in the kernel dialect: " + "; ".join(broken))
    return compile_function(function, memory_type)


def compile_function(function: FunctionType, memory_type: lowering.MemoryType) -> Any:
    """As ``compile_kernel``, for a function of the engine itself."""
    make_callable(function, memory_type)
    count = function.__code__.co_argcount - 1
    signature = (memory_type,) + (types.int64,) * count
    digest = digest_over(function, memory_type)
    try:
        with together.claim(digest, wait=True), kept_under(digest):
            return _njit(function, signature)
    except numba.core.errors.NumbaError as error:
        raise EngineError(f"{function.__qualname__} does not compile: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    """The innermost reason of a compiler error: its outer lines only repeat the way down."""
    plain = re.sub(r"\x1b\[\d*m", "", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    reasons = [line for line in lines if "Error: " in line or line.startswith("No implementation")]
    return reasons[-1] if reasons else lines[-1]


@contextmanager
def kept_under(digest: str) -> Iterator[None]:
    """What is compiled inside is kept in the directory of that digest.

    The directory is a global of numba: one thread at a time, or two would swap their directories.
    """
    with _compiling:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(cache.folder_of(digest))
        try:
            yield
        finally:
            numba.config.CACHE_DIR = before


def _njit(function: FunctionType, signature: tuple[types.Type, ...]) -> Any:
    """Compile, and keep it on disk where another process could load it.

    It could not where a kernel was typed at a prompt or its module is not to be imported by name:
    cached code names the module that it came from.
    """
    options = {"nogil": True, "error_model": "numpy"}
    reachable = dialect.closure_of(function, through_units=False)
    if all(inspect.getmodule(kernel) is not None for kernel in (function, *reachable)):
        try:
            return njit(signature, cache=True, **options)(function)
        except RuntimeError as error:
            if "no locator" not in str(error):
                raise
    return njit(signature, **options)(function)


class Native:
    """The engine of compiled kernels. Raises ``EnvironmentUnfitError`` on an unfit machine."""

    name = "native"

    def __init__(self, memory_type: lowering.MemoryType = lowering.RAM) -> None:
        require_native()
        self._memory_type = memory_type
        self._bound: dict[FunctionType, Callable[..., int]] = {}

    def bind(self, function: FunctionType) -> Callable[..., int]:
        """A callable ``(mem, *ints)`` that runs the machine code of ``function``."""
        if function not in self._bound:
            compiled = compile_kernel(function, self._memory_type)

            def run(mem: Ram, *arguments: int) -> int:
                result: int = compiled(mem, *arguments)
                mem.raise_faults()
                if notice.kept:
                    notice.raise_kept(mem.side)
                return result

            run.dispatcher = compiled  # type: ignore[attr-defined]
            self._bound[function] = run
        return self._bound[function]

    def call(self, function: FunctionType, mem: Ram, *arguments: int) -> int:
        return self.bind(function)(mem, *arguments)

    def warm(self, functions: Iterable[FunctionType], progress: Progress | None = None) -> None:
        """Compile (or load) ``functions`` now; ``progress`` is told each name before it starts."""
        for function in functions:
            if progress is not None:
                progress(function.__name__)
            self.bind(function)
