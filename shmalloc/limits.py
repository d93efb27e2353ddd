"""Limits of a process (ulimit) that an arena may meet, said with their cure.

The system reports them as ``OSError`` of whatever call came first: a file that would be too long, a
descriptor too many, an address space that is full. ``told`` makes them ``EnvironmentUnfitError``.
Every other ``OSError`` passes as it is.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from shmalloc.errors import EnvironmentUnfitError

CURES = {
    errno.ENOMEM: (
        "the system has no address space left for it; use a smaller size, or raise the limit"
        " (ulimit -v)"
    ),
    errno.EFBIG: (
        "files of this process may not be so large; use a smaller size, or raise the limit"
        " (ulimit -f)"
    ),
    errno.EMFILE: (
        "this process has as many files open as it may; close some, or raise the limit (ulimit -n)"
    ),
}


@contextmanager
def told(asked: str) -> Iterator[None]:
    """Raise ``EnvironmentUnfitError`` for a limit that is met in the block; ``asked``: for what."""
    try:
        yield
    except OSError as error:
        if error.errno not in CURES:
            raise
        raise EnvironmentUnfitError(f"{asked}: {CURES[error.errno]}") from error
