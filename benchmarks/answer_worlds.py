"""Memory to measure on: a segment in 4 KiB pages or in huge ones, and what the system refused.

``Segment`` maps a file of /dev/shm wherever the system puts it. A huge page needs a mapping whose
address and offset agree modulo 2 MiB, so these worlds map a file of their own (memfd) at an aligned
address, for both sizes of pages alike: the only difference is the size.

Ways to huge pages, tried in this order; each that fails says what the system answered:

1. ``hugetlb``: a memfd with MFD_HUGETLB, from the pool of vm.nr_hugepages.
2. ``collapse``: MADV_HUGEPAGE, every page touched, then MADV_COLLAPSE (Linux 6.1), which asks
   neither for shmem_enabled nor for khugepaged.

``huge_bytes`` counts what is really mapped so (smaps), which is believed, not the return value.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shmalloc.engine import get_engine
from shmalloc.image import write_image
from shmalloc.kernels.boot import boot
from shmalloc.layout import Geometry, Layout
from shmalloc.memory import Ram

HUGE = 2 << 20
MADV_HUGEPAGE, MADV_COLLAPSE = 14, 25
MAP_FIXED, MAP_SHARED, MAP_PRIVATE = 0x10, 0x01, 0x02
MAP_ANONYMOUS, MAP_NORESERVE = 0x20, 0x4000
READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


@dataclass(frozen=True)
class World:
    """A booted segment: its words, where they lie, and how it is mapped."""

    ram: Ram
    layout: Layout
    mapped_as: str
    huge_bytes: int


def _checked(result: int | None, what: str) -> int:
    if result is None or result in (-1, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), what + ": " + os.strerror(ctypes.get_errno()))
    return result


def protect(address: int, size: int, allowed: int) -> None:
    """mprotect: whole system pages. Raises ``OSError``."""
    _checked(_libc.mprotect(address, size, allowed), "mprotect")


@contextmanager
def _mapping(size: int, flags: int) -> Iterator[int]:
    """The address of ``size`` bytes of a new memfd, aligned to huge pages."""
    file = os.memfd_create("answer", flags)
    try:
        os.ftruncate(file, size)
        nothing = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        around = _checked(_libc.mmap(None, size + HUGE, 0, nothing, -1, 0), "mmap")
        try:
            at = -(-around // HUGE) * HUGE
            _checked(_libc.mmap(at, size, READ_WRITE, MAP_SHARED | MAP_FIXED, file, 0), "mmap")
            yield at
        finally:
            _libc.munmap(around, size + HUGE)
    finally:
        os.close(file)


def huge_bytes_at(address: int, smaps: str | None = None) -> int:
    """Bytes of the mapping at ``address`` that are mapped by huge entries."""
    text = Path("/proc/self/smaps").read_text() if smaps is None else smaps
    inside, found = False, 0
    for line in text.splitlines():
        key, _, rest = line.partition(" ")
        if "-" in key and not key.endswith(":"):
            inside = int(key.split("-")[0], 16) == address
        elif inside and key in ("ShmemPmdMapped:", "Shared_Hugetlb:", "Private_Hugetlb:"):
            found += int(rest.split()[0]) * 1024
    return found


def _collapse(address: int, size: int) -> None:
    _checked(_libc.madvise(address, size, MADV_HUGEPAGE), "madvise(MADV_HUGEPAGE)")
    ctypes.memset(address, 0, size)
    _checked(_libc.madvise(address, size, MADV_COLLAPSE), "madvise(MADV_COLLAPSE)")


@contextmanager
def world(geometry: Geometry, way: str = "small", sealed: bool = False) -> Iterator[World]:
    """A booted segment in memory mapped by ``way``: "small", "hugetlb" or "collapse".

    ``sealed``: no page may be touched, not even by the boot: a touch ends the process. Raises
    ``OSError`` if the system does not map the segment so.
    """
    layout = Layout.of(geometry)
    size = -(-layout.bytes // HUGE) * HUGE
    flags = os.MFD_HUGETLB if way == "hugetlb" else 0  # type: ignore[attr-defined]
    with _mapping(size, flags) as at:
        if way == "collapse":
            _collapse(at, size)
        else:
            ctypes.memset(at, 0, size)
        words = (ctypes.c_char * layout.bytes).from_address(at)
        ram = Ram(memoryview(words).cast("B"))
        write_image(ram, layout)
        if sealed:
            seal(ram, layout)
        get_engine("native").call(boot, ram)
        huge = huge_bytes_at(at)
        if way != "small" and huge < size:
            raise OSError(f"{way}: {huge >> 20} of {size >> 20} MiB are in huge pages")
        yield World(ram, layout, way, huge)


def seal(ram: Ram, layout: Layout) -> None:
    """Let no page of the segment be touched from now on; descriptors and lists may be."""
    first = layout.at["frames"] * 8
    protect(ram.base + first, layout.bytes - first, 0)


def ways_to_huge(geometry: Geometry) -> tuple[str | None, dict[str, str]]:
    """The first way that works here, and what the system answered to those that do not."""
    answers = {}
    for way in ("hugetlb", "collapse"):
        try:
            with world(geometry, way):
                return way, answers
        except OSError as error:
            answers[way] = str(error.strerror or error)
    return None, answers


def settings() -> dict[str, str]:
    """What the system says about huge pages."""
    thp = Path("/sys/kernel/mm/transparent_hugepage")
    places = {
        "vm.nr_hugepages": Path("/proc/sys/vm/nr_hugepages"),
        "shmem_enabled": thp / "shmem_enabled",
        "transparent_hugepage": thp / "enabled",
    }
    return {name: path.read_text().strip() for name, path in places.items() if path.exists()}


def permutation(n: int, seed: int) -> np.ndarray:
    """A random order of ``n`` things."""
    return np.random.default_rng(seed).permutation(n)
