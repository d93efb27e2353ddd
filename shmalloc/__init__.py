"""shmalloc: page and object allocators over one shared-memory segment, used by many processes.

Importing this package imports no compiler: the native engine is loaded at its first use, and the
names below when they are first asked for (PEP 562).

PYTEST_DONT_REWRITE: this file has no assertion, and pytest.main() warns of a package of a plugin
that a script has imported before.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from shmalloc.dialect import kernel

if TYPE_CHECKING:
    from shmalloc.arena import Arena, open_array, open_structure
    from shmalloc.arrays import SharedArray
    from shmalloc.errors import (
        ArithmeticFault,
        CorruptionError,
        DialectError,
        EngineError,
        EnvironmentUnfitError,
        ExpectationFault,
        KernelFault,
        MisuseError,
        NotReadyError,
        OutOfMemoryError,
        OutsideFault,
        SegmentError,
        ShmallocError,
        Violation,
    )
    from shmalloc.gfp import Gfp
    from shmalloc.layout import Geometry, ZoneSpec
    from shmalloc.leftovers import sweep
    from shmalloc.memory import Ram
    from shmalloc.segment import Segment
    from shmalloc.structures.atomics import Atomic, AtomicPair
    from shmalloc.structures.dicts import Dict
    from shmalloc.structures.locks import Acquired, Lock, LockUnusableError, OwnerDiedError
    from shmalloc.structures.pools import Frame, Pool
    from shmalloc.structures.queues import Queue, ShutDown

__version__ = "0.1.0"
_HOMES = {
    "Arena": "arena", "SharedArray": "arrays", "open_array": "arena", "Geometry": "layout",
    "ZoneSpec": "layout", "Ram": "memory", "Segment": "segment", "sweep": "leftovers",
    "ArithmeticFault": "errors", "DialectError": "errors", "KernelFault": "errors",
    "OutsideFault": "errors", "ExpectationFault": "errors",
    "CorruptionError": "errors", "EngineError": "errors", "EnvironmentUnfitError": "errors",
    "MisuseError": "errors", "NotReadyError": "errors", "OutOfMemoryError": "errors",
    "SegmentError": "errors", "ShmallocError": "errors", "Violation": "errors",
    "Gfp": "gfp", "open_structure": "arena",
    "Atomic": "structures.atomics", "AtomicPair": "structures.atomics", "Dict": "structures.dicts",
    "Acquired": "structures.locks", "Lock": "structures.locks",
    "LockUnusableError": "structures.locks", "OwnerDiedError": "structures.locks",
    "Queue": "structures.queues", "ShutDown": "structures.queues",
    "Frame": "structures.pools", "Pool": "structures.pools",
}  # fmt: skip
__all__ = [
    "Acquired", "Arena", "ArithmeticFault", "Atomic", "AtomicPair", "CorruptionError",
    "DialectError", "Dict", "EngineError", "EnvironmentUnfitError", "ExpectationFault", "Frame",
    "Geometry", "Gfp", "KernelFault", "Lock", "LockUnusableError", "MisuseError", "NotReadyError",
    "OutOfMemoryError", "OutsideFault", "OwnerDiedError", "Pool", "Queue", "Ram", "Segment",
    "SegmentError", "SharedArray", "ShmallocError", "ShutDown", "Violation", "ZoneSpec",
    "__version__", "kernel", "open_array", "open_structure", "sweep",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
