"""Calls between separately compiled kernels: a unit is reached through a symbol, not linked in.

numba links the whole call graph below a function into it and optimizes all of that anew at every
level, so compile time grows with depth times size. A unit (``dialect.unit``) is compiled once for
each memory type; whoever calls it gets one external call in numba's own calling convention. The
symbol carries the digest of what is compiled into the unit, and what it returns: machine code from
the disk cache can only meet the unit that it was compiled against. What that unit calls may change
without it: only the units that contain a kernel, and their callers, are compiled anew when it does
(docs/decisions/0007-units.md).

``publish`` makes one unit callable. It must run before code that names the symbol is compiled or
loaded from the cache; ``native.make_callable`` sees to that.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from shmalloc.engine.atomics import MemoryType

_implementations: dict[FunctionType, dict[MemoryType, Callable[..., Any]]] = {}
_symbols: dict[tuple[FunctionType, MemoryType], str] = {}


def publish(
    function: FunctionType,
    memory_type: MemoryType,
    symbol: str,
    address: int,
    return_type: types.Type,
) -> None:
    """Let compiled code over ``memory_type`` call ``function`` at ``address``."""
    llvm.add_symbol(symbol, address)
    _symbols[function, memory_type] = symbol
    routes = _implementations.get(function)
    if routes is None:
        routes = _implementations[function] = {}
        overload(function, strict=False)(_router(function, routes))
    arguments = function.__code__.co_argcount - 1
    routes[memory_type] = _caller(symbol, memory_type, arguments, return_type)


def is_published(function: FunctionType, memory_type: MemoryType) -> bool:
    return (function, memory_type) in _symbols


def symbol_of(function: FunctionType, memory_type: MemoryType) -> str:
    """The symbol of a unit that was published."""
    return _symbols[function, memory_type]


def _names(arguments: int) -> str:
    return "".join(f", a{k}" for k in range(arguments))


def _define(source: str, name: str, **scope: Any) -> Callable[..., Any]:
    """A function from source text: numba wants exact argument counts, not ``*args``."""
    exec(source, scope)
    made: Callable[..., Any] = scope[name]
    return made


def _router(
    function: FunctionType, routes: dict[MemoryType, Callable[..., Any]]
) -> Callable[..., Any]:
    """The overload of a unit: asks the type of ``mem`` for the implementation."""
    names = _names(function.__code__.co_argcount - 1)
    source = f"def choose(mem{names}):\n    return routes.get(mem)"
    return _define(source, "choose", routes=routes)


def _caller(
    symbol: str, memory_type: MemoryType, arguments: int, return_type: types.Type
) -> Callable[..., Any]:
    """What a call of the unit compiles to: one external call."""
    signature = return_type(memory_type, *[types.int64] * arguments)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        convention = context.call_conv
        kind = convention.get_function_type(signature.return_type, signature.args)
        callee = cgutils.get_or_insert_function(builder.module, kind, symbol)
        assert isinstance(callee, ir.Function)
        # Kernels raise nothing, so there is no error state to pass on.
        _, result = convention.call_function(
            builder, callee, signature.return_type, signature.args, args
        )
        if signature.return_type == types.none:
            return context.get_dummy_value()
        return result

    names = _names(arguments)
    typer = _define(
        f"def typer(typingctx, mem{names}):\n    return signature, codegen", "typer",
        signature=signature, codegen=codegen,
    )  # fmt: skip
    return _define(
        f"def call(mem{names}):\n    return external(mem{names})", "call",
        external=intrinsic(typer),
    )  # fmt: skip
