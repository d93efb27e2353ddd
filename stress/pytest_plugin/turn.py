"""The turn: one native run at a time on this machine, so that each has the cores that it counts on.

::

    /tmp/shmalloc-UID/turn      locked (flock) by the process whose turn it is; it holds the pid and
                                the node id of its test, for those that wait

The system frees the lock when its holder dies in any way. Programs that the holder starts do not
have it (close-on-exec); a fork of it gives its copy back at once. Nothing depends on the text in
the file: it is only shown.

The folder belongs to one user and can be changed by no other: a folder that another user made there
is refused, and then runs take no turns, with a line that says so. ``$SHMALLOC_TURN_DIR`` names
another folder.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from shmalloc.compiler.directory import UntrustedError, shown, trusted

ENV_FOLDER = "SHMALLOC_TURN_DIR"
NAP_S = 0.05
TELL_AFTER_S = 0.5  # a shorter wait is not worth a line
MOST_SHOWN = 400  # bytes of what another process wrote

_held: set[int] = set()


class Turn:
    """Waits for the turn in ``__enter__``, ends it in ``__exit__``.

    ``me``: pid and node id, in two lines. ``say`` gets a line for people.
    """

    def __init__(self, me: str, say: Callable[[str], None]) -> None:
        self._me = me
        self._say = say
        self._path = ""
        self._descriptor = -1

    def __enter__(self) -> Turn:
        try:
            self._path = f"{trusted(folder_of_turns(), make=True)}/turn"
            self._open()
            self._wait()
        except (UntrustedError, OSError) as error:
            self._end()
            self._say(f"native runs do not take turns: {error}")
        except BaseException:  # Ctrl-C
            self._end()
            raise
        else:
            with suppress(OSError):  # no room: those that wait learn no name
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, self._me.encode("utf-8", "backslashreplace"), 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _wait(self) -> None:
        """Until the lock is ours; says once for which process it waits."""
        started_s = time.monotonic()
        told = ""
        while not self._try():
            holder = self._holder()
            if time.monotonic() - started_s >= TELL_AFTER_S and holder and holder != told:
                mine = shown(self._me.partition("\n")[2])
                self._say(f"{mine} waits for {holder}, which has the cores")
                told = holder
            time.sleep(NAP_S)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        self._descriptor = os.open(self._path, flags, 0o600)
        _held.add(self._descriptor)

    def _try(self) -> bool:
        """Whether the lock is ours now, on the file that others find at the path."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            if os.path.samestat(os.fstat(self._descriptor), Path(self._path).stat()):
                return True
        except FileNotFoundError:
            pass  # it was cleaned away: the next one to come makes another
        self._end()
        self._open()
        return False

    def _holder(self) -> str:
        """``process 123 (tests/test_a.py::test_b)``; empty while the file says nothing yet."""
        text = os.pread(self._descriptor, MOST_SHOWN, 0).decode("utf-8", "replace")
        pid, _, node = text.partition("\n")
        return f"process {shown(pid)} ({shown(node)})" if pid.isdigit() else ""

    def _end(self) -> None:
        if self._descriptor >= 0:
            _held.discard(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


def folder_of_turns() -> str:
    """Where the file of turns is: the same place for all processes of this user."""
    return os.environ.get(ENV_FOLDER) or f"/tmp/shmalloc-{os.geteuid()}"


def _let_go() -> None:
    """In a forked child: the lock is its parent's, and must not live on in the child."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
