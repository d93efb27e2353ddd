"""Boost.Interprocess as a peer: a heap in memory that several processes share.

The library is headers: the system's C++ compiler compiles a few lines of ours over them. The heap
is a ``basic_managed_external_buffer`` with the algorithm and the locks of ``managed_shared_memory``
(a red-black tree, best fit, one mutex that processes share), in memory that we map.
``managed_external_buffer`` itself has no lock.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

OPEN, TAKE, GIVE = "bench_open", "bench_take", "bench_give"
COMPILERS = ("c++", "g++", "clang++")
PACKAGES = "libboost-dev and g++"
BUILD_LIMIT_S = 120
SOURCE = """
#include <boost/interprocess/managed_external_buffer.hpp>
#include <cstddef>
#include <new>
namespace ipc = boost::interprocess;
using Heap = ipc::basic_managed_external_buffer<
    char, ipc::rbtree_best_fit<ipc::mutex_family>, ipc::iset_index>;
extern "C" void *bench_open(void *at, std::size_t bytes, int create) {
    try {
        return create ? new Heap(ipc::create_only, at, bytes) : new Heap(ipc::open_only, at, bytes);
    } catch (...) {
        return nullptr;
    }
}
extern "C" void *bench_take(void *heap, std::size_t bytes) {
    return static_cast<Heap *>(heap)->allocate(bytes, std::nothrow);
}
extern "C" void bench_give(void *heap, void *block) {
    static_cast<Heap *>(heap)->deallocate(block);
}
"""


class BuildError(Exception):
    """It cannot be built here; the message says what is missing."""


def build(folder: Path) -> Path:
    """Compile the lines above into a shared library in ``folder``. Raises ``BuildError``."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise BuildError(f"there is no C++ compiler; install the Debian packages {PACKAGES}")
    source, library = folder / "boost_heap.cpp", folder / "libboost_heap.so"
    source.write_text(SOURCE)
    command = [compiler, "-O2", "-DNDEBUG", "-shared", "-fPIC", "-o", str(library), str(source)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_LIMIT_S)
    if ended.returncode == 0:
        return library
    if "managed_external_buffer.hpp" in ended.stderr and "No such file" in ended.stderr:
        raise BuildError(f"its headers are not here; install the Debian packages {PACKAGES}")
    first = next((line for line in ended.stderr.splitlines() if "error" in line), "no reason given")
    raise BuildError(f"{compiler} cannot compile it: {first.strip()}")
