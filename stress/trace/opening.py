"""Opening a file that a user named: regular files only, and every refusal is one line.

A FIFO without a writer, a terminal or a device would block or act when it is opened, so a path is
looked at first and opened without blocking. What is open already (``-`` for standard input,
``/dev/fd/63`` of a shell's ``<(...)``) may be a pipe; ``streams`` allows those.

Raises ``MisuseError``: ``trace: NAME: what is wrong; cure``. Limits of the machine, such as too
many open files, stay ``OSError``.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

from shmalloc.errors import MisuseError

STANDARD_INPUT = "-"
_OPENED_ELSEWHERE = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
_OF_THE_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_NOT_READ = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES)
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_file(path: str | Path, cure: str, streams: bool = False) -> io.FileIO:
    """The bytes of ``path``, unbuffered; ``cure``: what to name instead, for the error."""
    name = str(path)
    try:
        if streams and name == STANDARD_INPUT:
            return io.FileIO(0, closefd=False)
        if streams and name.startswith(_OPENED_ELSEWHERE):
            return io.FileIO(name)
        _require_regular(Path(name).stat().st_mode, name, cure)
        file = io.FileIO(name, opener=_without_waiting)
        _require_regular(os.fstat(file.fileno()).st_mode, name, cure)  # it may have changed
        return file
    except MisuseError:
        raise
    except (OSError, ValueError) as error:
        raise refusal(name, error, cure) from error


def refusal(name: str, error: Exception, cure: str) -> Exception:
    """The error for a file that cannot be read; one of the machine's limits is kept as it is.

    ``cure`` is of a file with another content; where none was read, its name is what is wrong.
    """
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        return error
    reason = error.strerror if isinstance(error, OSError) else str(error)
    if isinstance(error, OSError) and error.errno in _NOT_READ:
        cure = "name a file that can be read"
    return MisuseError(f"trace: {name}: {reason}; {cure}")


def _require_regular(mode: int, name: str, cure: str) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
        raise MisuseError(f"trace: {name}: it is {kind}; {cure}")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
