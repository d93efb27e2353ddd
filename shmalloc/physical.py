"""Shared memory as physical RAM: map it, remove it, and check that there is enough.

``multiprocessing.shared_memory`` provides the bytes; three of its behaviours are wrong for a
segment that many processes use and one owns. This file corrects them:

- its resource tracker removes a segment when any process that attached it ends (CPython #82300).
  Python 3.13 has ``track=False``; before that the registration is left out for our names only.
  Registering and unregistering again is not enough: the tracker keeps a set for all children, so
  two workers that attach at once make it remove a name twice.
- it does not distinguish an owner from a user when ``mmap`` fails: attaching may remove the file.
- closing fails while a memoryview refers to the memory, and unmaps it beneath a numpy array, which
  refers to the mapping and not to the buffer: reading such an array afterwards was fatal. Here the
  mapping is never closed, only forgotten: it lives as long as its last view.

POSIX shared memory of Linux is a file in ``/dev/shm``; its pages exist when first touched. Lack of
room therefore shows not when a segment is made, but as SIGBUS in the middle of a run:
``require_capacity`` checks before, ``reserve`` takes the pages at once.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path
from typing import Any

from shmalloc import cgroup, limits
from shmalloc.errors import EnvironmentUnfitError, SegmentError
from shmalloc.sizes import format_bytes

SHM_DIRECTORY = Path("/dev/shm")
_tracker_lock = threading.Lock()


class _TrackerWithout:
    """Stands in for the resource tracker module: one name is not registered, all others are."""

    def __init__(self, name: str) -> None:
        self._name = name

    def register(self, name: str, rtype: str) -> None:
        if name.lstrip("/") != self._name:
            resource_tracker.register(name, rtype)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(resource_tracker, attribute)


@contextmanager
def _untracked(name: str) -> Iterator[None]:
    module: Any = shared_memory
    with _tracker_lock:
        module.resource_tracker = _TrackerWithout(name)
        try:
            yield
        finally:
            module.resource_tracker = resource_tracker


class Mapping(shared_memory.SharedMemory):
    """One mapped file of ``/dev/shm`` that no tracker knows: its creator must remove it."""

    def __init__(self, name: str, *, create: bool = False, size: int = 0) -> None:
        self._created = create
        self._read_only: mmap.mmap | None = None
        with limits.told(f"size: {format_bytes(size)}" if create else f"name: {name!r}"):
            self._map(name, create, size)

    def _map(self, name: str, create: bool, size: int) -> None:
        if sys.version_info >= (3, 13):
            super().__init__(name=name, create=create, size=size, track=False)
        else:
            with _untracked(name):
                super().__init__(name=name, create=create, size=size)

    def close(self) -> None:
        """Unmap with the last array or view that refers to the memory, which may be now.

        Not by ``mmap.close``: an array over the mapping does not keep it from being closed.
        """
        own: Any = self
        own._buf = own._mmap = own._read_only = None
        super().close()

    @property
    def mapped(self) -> mmap.mmap:
        """The mapping itself: the base of arrays in it."""
        own: Any = self
        found: mmap.mmap = own._mmap
        return found

    @property
    def read_only(self) -> mmap.mmap:
        """A second mapping of the same bytes, made now if need be. It cannot be written through."""
        if self._read_only is None:
            self._read_only = mmap.mmap(self.fileno(), self.size, prot=mmap.PROT_READ)
        return self._read_only

    def part(self, start: int, length: int) -> memoryview:
        """``length`` bytes from byte ``start`` on, writable."""
        assert self.buf is not None, "closed"
        return self.buf[start : start + length]

    def status(self) -> os.stat_result:
        """What tells the file from all others while it is open."""
        return os.fstat(self.fileno())

    def fileno(self) -> int:
        """The open file behind the mapping."""
        own: Any = self
        return int(own._fd)

    def discard(self, start: int, length: int) -> None:
        """Give pages back to the system: they read as zero, and cost nothing, until written."""
        own: Any = self
        own._mmap.madvise(mmap.MADV_REMOVE, start, length)

    def unlink(self) -> None:
        """Remove the name if this object made it. Called by the base class when mapping fails."""
        if self._created:
            remove(self.name)


def mapping_of(name: str, handle: int, size: int) -> Mapping:
    """Map ``name``, which is open as ``handle`` and was checked there.

    Raises ``FileNotFoundError`` if the name means another file by now, and ``SegmentError`` if the
    file has become shorter than ``size`` meanwhile.
    """
    try:
        mapping = Mapping(name)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EACCES, errno.ENXIO):  # a link, another user's
            raise FileNotFoundError(name) from error
        raise
    except ValueError as error:  # an empty file
        raise truncated(name) from error
    try:
        if not os.path.samestat(os.fstat(handle), os.fstat(mapping.fileno())):
            raise FileNotFoundError(name)
        if min(file_size(mapping), mapping.size) < size:
            raise truncated(name)
    except BaseException:
        mapping.close()
        raise
    return mapping


def file_size(mapping: Mapping) -> int:
    """Bytes of the file now; what was mapped beyond them ends a process by SIGBUS."""
    return os.fstat(mapping.fileno()).st_size


def truncated(name: str) -> SegmentError:
    return SegmentError(f"name: {name!r} was truncated; its owner must create it again")


def path_of(name: str) -> Path:
    return SHM_DIRECTORY / name


def remove(name: str, file: os.stat_result | None = None) -> bool:
    """Remove the file of ``name``; False if it is already gone.

    ``file``: only that one. Another process may have removed it, and made another one of that name.
    """
    path = path_of(name)
    with suppress(FileNotFoundError):
        if file is None or os.path.samestat(file, path.lstat()):
            path.unlink()
            return True
    return False


def room() -> int:
    """Bytes that are free in /dev/shm. Raises ``EnvironmentUnfitError`` if there is none."""
    try:
        status = os.statvfs(SHM_DIRECTORY)
    except FileNotFoundError as error:
        raise EnvironmentUnfitError("/dev/shm does not exist; mount a tmpfs there") from error
    return status.f_bavail * status.f_frsize


def is_backed(mapping: Mapping) -> bool:
    """Whether the system has provided every page of the file: none can be missing later."""
    status = os.fstat(mapping.fileno())
    return status.st_blocks * 512 >= status.st_size


def available_memory() -> int:
    """Bytes that this process may still use: the machine's, or its control group's if less."""
    import psutil  # costs 10 ms, only to create a segment; most only attach

    free = int(psutil.virtual_memory().available)
    left = cgroup.memory_left()
    return free if left is None else min(free, left)


def require_capacity(asked: int) -> None:
    """Raise ``EnvironmentUnfitError`` if ``asked`` bytes do not fit into memory now."""
    free = room()
    if asked > free:
        raise _too_small("/dev/shm", asked, free, _SHM_CURE)
    memory = available_memory()
    if asked > memory:
        raise _too_small("this machine's memory", asked, memory, _MEMORY_CURE)


def reserve(name: str, size: int) -> None:
    """Take every page of the file now (about 4 microseconds each), so that none is missing later.

    Raises ``EnvironmentUnfitError`` if there are not enough; the caller then removes the file.
    """
    handle = os.open(path_of(name), os.O_RDWR)
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.ENOMEM):
            raise
        raise _too_small("/dev/shm", size, room(), _SHM_CURE) from error
    finally:
        os.close(handle)


_MEMORY_CURE = "use a smaller size, free some, or raise the limit of its control group"
_SHM_CURE = (
    "use a smaller size, remove files from /dev/shm, or enlarge it: "
    "'mount -o remount,size=8G /dev/shm', in a container '--shm-size=8g'"
)


def _too_small(place: str, asked: int, free: int, cure: str) -> EnvironmentUnfitError:
    return EnvironmentUnfitError(
        f"size: asked for {format_bytes(asked)} ({asked} bytes), {place} has {format_bytes(free)}"
        f" free ({free} bytes); {cure}"
    )
