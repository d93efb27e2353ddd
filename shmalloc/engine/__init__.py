"""Engines: how a kernel is run. ``get_engine("native" | "interpreted")``: the same calls.

An engine has ``name``, ``bind(kernel) -> callable(mem, *ints)``, ``call(kernel, mem, *ints)``,
``builtin(kernel, mem) -> callable(*ints)`` and ``warm(kernels)``. llvmlite is imported only to
compile. Importing this package registers both engines and loads neither.
"""

from shmalloc.engine.registry import (
    Engine,
    Progress,
    forget,
    get_engine,
    no_kernel,
    register_engine,
    when_waiting_long,
)

__all__ = [
    "Engine",
    "Progress",
    "forget",
    "get_engine",
    "no_kernel",
    "register_engine",
    "when_waiting_long",
]


def _native() -> Engine:
    from shmalloc.engine.native import Native

    return Native()


def _interpreted() -> Engine:
    from shmalloc.engine.interpreted import Interpreted

    return Interpreted()


register_engine("native", _native)
register_engine("interpreted", _interpreted)
