"""Which run still has its writer: a lock that the system frees when the process ends, however.

A writer locks one byte of the empty file ``DB-writers``, at the id of its run, before the run's row
can be seen. A run that is "running" and whose byte is free has lost its writer. This holds over
containers, where pids mean nothing, and over a reboot; a pid that is used again cannot fool it.

The lock is one of an open file description (OFD), not the older POSIX kind: that one is freed when
this process closes any handle of the file. A forked child would keep it, so it closes its copy.
The file is never removed: two processes could then lock two files of one name.
"""

from __future__ import annotations

import fcntl
import os
import struct
import weakref
from pathlib import Path

from shmalloc.errors import MisuseError

_FLOCK = "hhqqi4x"  # struct flock: type, whence, start, length, pid


class Writers:
    """The lock file of one database; ``writing`` False: only to ask."""

    def __init__(self, database: Path, writing: bool) -> None:
        self.path = database.with_name(f"{database.name}-writers")
        self._unknown = True
        flags = os.O_RDWR | os.O_CREAT if writing else os.O_RDONLY
        try:
            self._file = os.open(self.path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        except OSError as error:
            if writing:
                said = f"{error.strerror}; change its permissions, or name another database"
                raise MisuseError(f"db: {self.path}: {said}") from error
            self._file = -1
            self._unknown = not isinstance(error, FileNotFoundError)  # never written to
        _open.add(self)

    def close(self) -> None:
        """Frees all locks of this object."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def hold(self, run_id: int) -> bool:
        """Lock the byte of a run until ``close`` or this process's end; False: it is taken."""
        try:
            self._call(fcntl.F_OFD_SETLK, fcntl.F_WRLCK, run_id)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def let_go(self, run_id: int) -> None:
        self._call(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, run_id)

    def alive(self, run_id: int) -> bool:
        """Whether another writer holds the run."""
        if self._file < 0:
            return self._unknown
        answer = self._call(fcntl.F_OFD_GETLK, fcntl.F_RDLCK, run_id)
        return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)

    def _call(self, what: int, kind: int, run_id: int) -> bytes:
        request = struct.pack(_FLOCK, kind, os.SEEK_SET, run_id, 1, 0)
        return bytes(fcntl.fcntl(self._file, what, request))


_open: weakref.WeakSet[Writers] = weakref.WeakSet()


def _forget() -> None:
    """In a forked child: the locks are the parent's."""
    for writers in list(_open):
        writers.close()


os.register_at_fork(after_in_child=_forget)
