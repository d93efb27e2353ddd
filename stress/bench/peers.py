"""Other allocators: which there are, how each is found here, and how to get a missing one.

None of their code is here: a library is loaded as it is installed, and called through its public
entry points from the same compiled loops (peer_loops.py). Boost.Interprocess is a header library,
so a few lines of ours over it are compiled when they are wanted (boost.py). LLFree has no package;
``--peer llfree=FILE`` names a shared library that was built from its sources (llfree.py).

Python's own shared memory is timed as its users call it (python_loops.py).
"""

from __future__ import annotations

import ctypes.util
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shmalloc.errors import MisuseError
from stress.bench import boost, llfree
from stress.bench.catalogue import MALLOC, PAGES, PRIVATE
from stress.quantities import nearest

MALLOC_SHAPE, HEAP_SHAPE, LLFREE_SHAPE, PYTHON_SHAPE = "malloc", "heap", "llfree", "python"
NONE, ALL = "none", "all"


@dataclass(frozen=True)
class Peer:
    """``kind``: the patterns it can run; ``shape``: how it is called. ``file``: its library, "":
    that of C, which every process has. ``shared``: whether other processes can use its blocks.
    ``helped``: a process of its own takes part in each call, and may take the core."""

    name: str
    kind: str
    shape: str
    file: str = ""
    take: str = ""
    give: str = ""
    shared: bool = False
    helped: bool = False


@dataclass(frozen=True)
class Missing:
    """A peer that is not here, and what to do about it."""

    name: str
    cure: str
    kind: str = MALLOC

    def __str__(self) -> str:
        return f"{self.name} is not measured: {self.cure}"


# Python's own, and whether the resource tracker or a manager takes part in each call.
PYTHON = {"SharedMemory": True, "multiprocessing.heap": False, "SharedMemoryManager": True}
# name -> library, its two entry points, the Debian package
LIBRARIES = {
    "mimalloc": ("mimalloc", "mi_malloc", "mi_free", "libmimalloc2.0"),
    "jemalloc": ("jemalloc", "malloc", "free", "libjemalloc2"),
    "tcmalloc": ("tcmalloc_minimal", "tc_malloc", "tc_free", "libtcmalloc-minimal4"),
}
NEEDS_FILE = "llfree"
NAMES = ("glibc", *LIBRARIES, "boost", NEEDS_FILE, *PYTHON)
# glibc keeps 144 bytes for thread-local data of libraries that are loaded late; jemalloc has 2600.
TUNABLES = "glibc.rtld.optional_static_tls=65536"


def found(wanted: Sequence[str], folder: Path) -> tuple[list[Peer], list[Missing]]:
    """The peers named that are here, and those that are not.

    A name is ``NAME`` or ``NAME=FILE``; ``all``, and no name at all, mean every one; ``none`` none.

    ``folder``: where something may be built; it must stay while the peers are used. Raises
    ``MisuseError`` for an unknown name, and for a file that is not there.
    """
    peers: list[Peer] = []
    missing: list[Missing] = []
    for name, file in _named(wanted):
        one = find(name, file, folder)
        if isinstance(one, Peer):
            peers.append(one)
        else:
            missing.append(one)
    return peers, missing


def _named(wanted: Sequence[str]) -> Iterable[tuple[str, str]]:
    if NONE in wanted:
        return []
    pairs = [(name, file) for name, _, file in (text.partition("=") for text in wanted)]
    for name, file in pairs:
        if name not in (*NAMES, ALL):
            raise nearest(name, (*NAMES, ALL, NONE), "peer")
        if file and (name in PYTHON or name in ("glibc", "boost", ALL)):
            raise MisuseError(f"peer: {name} takes no file")
        if file and not Path(file).is_file():
            raise MisuseError(f"peer: {name}={file}: there is no such file; name a shared library")
    files = {name: file for name, file in pairs if name != ALL}
    every = not pairs or any(name == ALL for name, _ in pairs)
    return [(name, files.get(name, "")) for name in NAMES if every or name in files]


def find(name: str, file: str, folder: Path) -> Peer | Missing:
    """One peer, if it is here."""
    if name in PYTHON:
        return Peer(name, PRIVATE, PYTHON_SHAPE, shared=True, helped=PYTHON[name])
    if name == "glibc":
        return Peer(name, MALLOC, MALLOC_SHAPE, "", "malloc", "free")
    if name == "boost":
        return _boost(folder)
    if name == NEEDS_FILE:
        return _llfree(file)
    library, take, give, package = LIBRARIES[name]
    path = file or ctypes.util.find_library(library)
    if path is None:
        return Missing(name, f"install the Debian package {package}, or name it: {name}=FILE")
    return Peer(name, MALLOC, MALLOC_SHAPE, path, take, give)


def _boost(folder: Path) -> Peer | Missing:
    try:
        path = boost.build(folder)
    except boost.BuildError as error:
        return Missing("boost", str(error))
    return Peer("boost", MALLOC, HEAP_SHAPE, str(path), boost.TAKE, boost.GIVE, shared=True)


def _llfree(file: str) -> Peer | Missing:
    if not file:
        return Missing(
            NEEDS_FILE,
            "build it as a shared library and name it: --peer llfree=libllfree.so",
            PAGES,
        )
    if platform.machine() != llfree.MACHINE:
        return Missing(NEEDS_FILE, f"its calls are written for {llfree.MACHINE}", PAGES)
    problem = llfree.problem_of(file)
    if problem:
        raise MisuseError(f"peer: llfree={file}: {problem}")
    path = str(Path(file).resolve())
    return Peer(NEEDS_FILE, PAGES, LLFREE_SHAPE, path, llfree.TAKE, llfree.GIVE, shared=True)
