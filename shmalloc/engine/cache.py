"""Where compiled kernels are kept, and under which key.

numba's own cache does not notice an edit in an imported function: the old code would run silently
(docs/decisions/0002-compile-cache.md). So each entry is kept in a directory named by a digest of
everything that decides its machine code: bytecode and constants of all kernels that are compiled
into it, the symbols of the units that it calls (units.py), the engine's sources, the compiler's
version, the processor. Two memory types never share a directory, because two signatures in one
index can be mixed up by two processes that write it at once.
"""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType

from shmalloc import dialect

ENV_CACHE_DIR = "SHMALLOC_CACHE_DIR"


@cache
def cache_root() -> Path:
    """The directory of compiled code: $SHMALLOC_CACHE_DIR, or shmalloc/ in the user's cache.

    Falls back to a directory of this user's in the temporary folder where that is not writable.
    """
    chosen = os.environ.get(ENV_CACHE_DIR)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    root = Path(chosen) if chosen else Path(base) / "shmalloc"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=root):
            pass
    except OSError:
        root = Path(tempfile.gettempdir()) / f"shmalloc-{os.getuid()}"
        root.mkdir(mode=0o700, exist_ok=True)
    return root


def folder_of(digest: str) -> Path:
    """Where the machine code with that digest is kept."""
    return cache_root() / digest[:2] / digest


def digest_of(function: FunctionType, salt: str) -> str:
    """Digest of all that is compiled into ``function``, as 32 hex digits.

    Units that it calls count by their names: what is in them is their own matter.
    """
    state = hashlib.sha256(salt.encode())
    for reachable in dialect.closure_of(function, through_units=False):
        kind = (getattr(reachable, "__hot__", False), dialect.is_unit(reachable))
        state.update(f"{reachable.__module__}.{reachable.__qualname__} {kind}".encode())
        if dialect.is_unit(reachable) and reachable is not function:
            continue
        _update_with_code(state, reachable.__code__)
        for name in reachable.__code__.co_names:
            value = reachable.__globals__.get(name)
            if isinstance(value, int):
                state.update(f"{name}={int(value)}".encode())
    return state.hexdigest()[:32]


def _update_with_code(state: hashlib._Hash, code: CodeType) -> None:
    constants = [c for c in code.co_consts if not isinstance(c, str | CodeType)]
    for part in (code.co_code.hex(), repr(constants), repr(code.co_names), repr(code.co_varnames)):
        state.update(part.encode())


@cache
def toolchain_salt() -> str:
    """Version of everything below the kernels: engine sources, compiler, Python, processor."""
    import llvmlite
    import llvmlite.binding as llvm
    import numba

    here = Path(__file__).parent
    sources = b"".join(path.read_bytes() for path in sorted(here.glob("*.py")))
    parts = (
        hashlib.sha256(sources).hexdigest(), numba.__version__, llvmlite.__version__,
        platform.python_version(), llvm.get_host_cpu_name(), str(llvm.get_host_cpu_features()),
    )  # fmt: skip
    return "|".join(parts)
