"""Liveness: a lock of the system on one byte of a segment's file says that a claim's process lives.

Each claim has a byte of its own, far beyond the file's contents, at FIRST_BYTE + its number. Who
claims it locks the byte through an open file description that is made for nothing else (an OFD
lock, F_OFD_SETLK), and the system drops the lock when the last descriptor of that description is
closed: when the process ends in any way, and not before. So

- a look at it costs a microsecond and asks the system, not a pid: it is right in every pid
  namespace, however pids are reused, and for a process that is stopped
- a process that only opens and closes the file, as all do, loses nothing (``lockf`` would)
- a program that is executed inherits nothing, as descriptors close on exec

Data it owns: ``_held``, the descriptors of this process's claims, and ``_for_child``, those of them
that were made for the child of a fork which is about to happen (forking.py). The child keeps these
and closes the others, or its parent's death would stay unnoticed for as long as the child lives;
the parent closes these. If there is no child, the system drops their locks, as at a death. A fork
that runs no hooks of Python keeps all of them in the child.

Rules for callers: lock the byte first, then write the claim into its record; to release it, clear
the record first. So a record that names a claim, a byte that is free, and the same record again
afterwards prove a death.

What it does not do: decide what a death means (cpus.py, recovery.py). pid and start time are in the
record only to be shown to people.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import suppress

from shmalloc import forking
from shmalloc.errors import EnvironmentUnfitError

FIRST_BYTE = 1 << 62
_FLOCK = struct.Struct("hhqqi4x")  # struct flock: type, whence, start, length, pid
_BUSY = (errno.EAGAIN, errno.EACCES)
_held: set[int] = set()
_for_child: set[int] = set()


def take(file: int, number: int) -> int | None:
    """Lock the byte of claim ``number``: the descriptor that holds it; None: another one does.

    ``file`` is any open descriptor of the segment's file, which may have no name any more.
    Raises ``EnvironmentUnfitError`` where the file system or the sandbox has no such locks.
    """
    descriptor = os.open(f"/proc/self/fd/{file}", os.O_RDWR | os.O_CLOEXEC)
    _held.add(descriptor)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _byte(fcntl.F_WRLCK, number))
    except OSError as error:
        release(descriptor)
        if error.errno in _BUSY:
            return None
        raise _unfit(error) from error
    return descriptor


def release(descriptor: int) -> None:
    """Drop the lock that ``take`` gave; nothing in a forked child, which holds none of them."""
    if descriptor in _held:
        _held.discard(descriptor)
        os.close(descriptor)


def is_held(file: int, number: int) -> bool:
    """Whether a living process, perhaps this one, holds the byte of claim ``number``.

    ``file``: a descriptor that holds no claim itself; one that is open for reading will do.
    """
    try:
        answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _byte(fcntl.F_WRLCK, number))
    except OSError as error:
        raise _unfit(error) from error
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def give_to_child(descriptor: int) -> None:
    """The next fork's child shall hold this claim, and this process no longer. Before a fork."""
    _for_child.add(descriptor)


def _in_parent() -> None:
    while _for_child:
        release(_for_child.pop())


def _in_child(told: bool) -> None:
    if not told:  # they are for the child of another fork
        _for_child.clear()
    for descriptor in _held - _for_child:
        with suppress(OSError):  # another thread of the parent was closing it at that moment
            os.close(descriptor)
    _held.intersection_update(_for_child)
    _for_child.clear()


def _byte(kind: int, number: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, FIRST_BYTE + number, 1, 0)


def _unfit(error: OSError) -> EnvironmentUnfitError:
    return EnvironmentUnfitError(
        f"/dev/shm has no locks of open files (F_OFD_SETLK: {error.strerror}), by which the death"
        " of a process is noticed; mount a tmpfs there"
    )


forking.register(_in_parent, _in_child)
