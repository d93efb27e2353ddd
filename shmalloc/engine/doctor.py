"""Can this machine run compiled kernels? Asked before anything is compiled.

A processor without a 16-byte compare-exchange would abort the process inside LLVM ("Symbol not
found: __atomic_compare_exchange_16"), so this reports a clear error first.
"""

from __future__ import annotations

import platform
import sys

from shmalloc.compiler import processor
from shmalloc.errors import EnvironmentUnfitError

SUPPORTED_MACHINES = ("x86_64", "AMD64", "aarch64")


def native_problem() -> str | None:
    """Why compiled kernels cannot run here, with the cure; None if they can."""
    machine = platform.machine()
    if machine not in SUPPORTED_MACHINES:
        return f"processor {machine}: no two-word swap known; use engine='interpreted'"
    if platform.system() != "Linux":
        return f"system {platform.system()}: needs Linux futexes; use engine='interpreted'"
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        # Wrappers count calls by plain accesses, under the interpreter's lock.
        return "this Python runs without the GIL, which calls of kernels rely on; set PYTHON_GIL=1"
    features = processor.features()
    if machine != "aarch64" and "cx16" not in features:
        return "this x86 processor lacks cmpxchg16b (cx16); use engine='interpreted'"
    if machine == "aarch64" and "atomics" not in features:
        # Not only for casp: without LSE, a compare-and-swap is no full barrier, and the explorer's
        # tso takes each of them for one.
        return "this ARM processor lacks the atomics of LSE; use engine='interpreted'"
    return None


def require_native() -> None:
    """Raise ``EnvironmentUnfitError`` if compiled kernels cannot run."""
    problem = native_problem()
    if problem is not None:
        raise EnvironmentUnfitError(problem)
