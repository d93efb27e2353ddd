"""Other allocators in the very same loops: what one alloc+free pair costs with them, here and now.

Native ones are called from a compiled loop through their C entry points, so the loop's own cost is
the same as ours. A library that is not installed is skipped and named. Python's own shared-memory
allocation is timed as its users call it.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable
from multiprocessing import heap, shared_memory

import numba
from measure import Figure

LIBRARIES = {
    "glibc": (None, "malloc", "free"),
    "mimalloc": ("mimalloc", "mi_malloc", "mi_free"),
    "jemalloc": ("jemalloc", "malloc", "free"),
    "tcmalloc": ("tcmalloc_minimal", "tc_malloc", "tc_free"),
}
SIZES = (64, 4096)
PAIRS = 20_000
PYTHON_PAIRS = 200


def _entry(library: ctypes.CDLL, alloc: str, free: str) -> tuple[Callable, Callable]:
    allocate, release = getattr(library, alloc), getattr(library, free)
    allocate.argtypes, allocate.restype = [ctypes.c_size_t], ctypes.c_void_p
    release.argtypes, release.restype = [ctypes.c_void_p], None
    return allocate, release


def _native_loop(allocate: Callable, release: Callable) -> Callable[[int, int], None]:
    @numba.njit
    def pairs(size_bytes, count):
        for _ in range(count):
            release(allocate(size_bytes))

    return pairs


def _python_pair(kind: str) -> Callable[[], None]:
    if kind == "multiprocessing.heap":
        arena = heap.Heap()

        def run() -> None:
            for _ in range(PYTHON_PAIRS):
                arena.free(arena.malloc(64))
    else:

        def run() -> None:
            for _ in range(PYTHON_PAIRS):
                block = shared_memory.SharedMemory(create=True, size=4096)
                block.close()
                block.unlink()

    return run


def figures() -> list[Figure]:
    """A figure for every peer that is installed and size that it serves."""
    found = []
    for name, (library, alloc, free) in LIBRARIES.items():
        path = ctypes.util.find_library(library) if library else None
        if library and path is None:
            print(f"peer {name}: lib{library} is not installed, skipped")
            continue
        try:
            loaded = ctypes.CDLL(path)
        except OSError as error:  # jemalloc wants its static TLS from the start: LD_PRELOAD it
            print(f"peer {name}: {error}; skipped")
            continue
        pairs = _native_loop(*_entry(loaded, alloc, free))
        for size in SIZES:
            run = lambda pairs=pairs, size=size: pairs(size, PAIRS)  # noqa: E731
            found.append(Figure(f"{name} pair, {size} B (one process)", run, PAIRS))
    for kind in ("multiprocessing.heap", "SharedMemory"):
        found.append(Figure(f"{kind} pair, from Python", _python_pair(kind), PYTHON_PAIRS))
    return found
