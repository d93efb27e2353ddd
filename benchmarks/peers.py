"""Other allocators in the same loops: the cost of one alloc+free pair on this machine.

Native ones are called from a compiled loop through their C entry points, so the loop's own cost is
the same as ours. A library that is not installed is skipped and named. Python's own shared-memory
allocation is timed as its users call it.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable
from functools import cache
from multiprocessing import heap, shared_memory

from measure import Figure

from shmalloc.compiler import codegen, link, load

LIBRARIES = {
    "glibc": (None, "malloc", "free"),
    "mimalloc": ("mimalloc", "mi_malloc", "mi_free"),
    "jemalloc": ("jemalloc", "malloc", "free"),
    "tcmalloc": ("tcmalloc_minimal", "tc_malloc", "tc_free"),
}
SIZES = (64, 4096)
PAIRS = 20_000
PYTHON_PAIRS = 200
LOOP = """
define dso_local void @pairs(i64 %allocate, i64 %release, i64 %bytes, i64 %count) {
start:
  %malloc = inttoptr i64 %allocate to ptr
  %free = inttoptr i64 %release to ptr
  br label %pair
pair:
  %done = phi i64 [ 0, %start ], [ %more, %pair ]
  %block = call ptr %malloc(i64 %bytes)
  call void %free(ptr %block)
  %more = add i64 %done, 1
  %left = icmp slt i64 %more, %count
  br i1 %left, label %pair, label %end
end:
  ret void
}
"""


def _native_loop(library: ctypes.CDLL, alloc: str, free: str) -> Callable[[int, int], None]:
    """``pairs(bytes, count)`` over two functions of a library."""
    loop = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)(_loop_address())
    allocate, release = (
        ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in (alloc, free)
    )
    return lambda size_bytes, count: loop(allocate, release, size_bytes, count)


@cache
def _loop_address() -> int:
    image = link.link([codegen.object_code(LOOP, codegen.host())], "peers")
    return load.load(image, "peers").address("pairs")


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
        pairs = _native_loop(loaded, alloc, free)
        for size in SIZES:
            run = lambda pairs=pairs, size=size: pairs(size, PAIRS)  # noqa: E731
            found.append(Figure(f"{name} pair, {size} B (one process)", run, PAIRS))
    for kind in ("multiprocessing.heap", "SharedMemory"):
        found.append(Figure(f"{kind} pair, from Python", _python_pair(kind), PYTHON_PAIRS))
    return found
