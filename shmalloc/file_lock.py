"""A lock of the system on an open file, that never outlives its holder.

``flock`` belongs to the open file, not to the process: a child that is forked while another thread
holds the lock inherits the open file, so the lock would stay with the child when the parent is
killed, and all who want it wait as long as the child lives. So a child closes what it inherits
(a program that is executed has it closed by the system), and the lock is given back by unlocking,
which counts for all copies of the open file, not by closing.

These are no record locks (``lockf``), as a process loses those when it closes any other handle of
the same file, and segments are opened for a look all the time.

What it owns: ``_held``, the handles that this process has locked. A wait tells who holds the lock,
and has an end: a holder may be stopped.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shmalloc.errors import SegmentError

TELL_AFTER_S = 0.5
LONGEST_WAIT_S = 60.0
_NAP_S = 0.005
_log = logging.getLogger("shmalloc")
_held: set[int] = set()


@contextmanager
def lock_of(handle: int) -> Iterator[bool]:
    """Hold the lock of an open file within the block, if it is free: whether it was."""
    _held.add(handle)
    locked = False
    try:
        locked = _try(handle)
        yield locked
    finally:
        if locked:
            fcntl.flock(handle, fcntl.LOCK_UN)
        _held.discard(handle)


@contextmanager
def exclusive(path: str, what: str, limit_s: float = LONGEST_WAIT_S) -> Iterator[None]:
    """Keep other processes out of their ``exclusive`` blocks on the file at ``path``.

    Raises ``SegmentError``, which names the holder, if the lock is not free within ``limit_s``.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    _held.add(handle)
    try:
        _wait(handle, what, limit_s)
        yield
    finally:
        with suppress(OSError):  # of a file system that has lost its locks; closing does the same
            fcntl.flock(handle, fcntl.LOCK_UN)
        _held.discard(handle)
        os.close(handle)


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(handle: int, what: str, limit_s: float) -> None:
    start_s = time.monotonic()
    told = False
    while not _try(handle):
        waited_s = time.monotonic() - start_s
        if waited_s >= limit_s:
            raise SegmentError(
                f"{what}: {_holder(handle)} has kept others out for {limit_s:g} s;"
                " let it go on, or end it"
            )
        if waited_s >= TELL_AFTER_S and not told:
            _log.warning("%s: waiting for %s", what, _holder(handle))
            told = True
        time.sleep(min(_NAP_S, limit_s - waited_s))


def _holder(handle: int) -> str:
    """Who has locked the file, as far as the system tells."""
    info = os.fstat(handle)
    file = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}:{info.st_ino}"
    with suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()  # "1: FLOCK ADVISORY WRITE 4711 00:17:12 0 EOF"
            if len(words) == 8 and words[1] == "FLOCK" and words[5] == file:
                return f"process {words[4]}"
    return "another process"


def _forget() -> None:
    """In a forked child: leave the locks to the parent."""
    for handle in list(_held):
        with suppress(OSError):  # closed by its block at the moment of the fork
            os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_forget)
