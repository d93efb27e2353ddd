"""Child processes that use an arena, and the nursery that forks them.

Starting Python and importing numpy takes half a second, and a state machine opens hundreds of
children. So one process does it once, the *nursery*: it has no arena and no threads, and forks a
child whenever the machine sends it one end of a socket pair. A child attaches to the arena that it
is told first, then obeys: it receives (method of ``Hands``, arguments), does it, sends the answer.
A child that is told to fork has a child that goes on with all that it has.

A child ends at the end of its socket, so it does not outlive the machine, however that dies; the
nursery ends with the process that started it. Everything that is waited for is named when it does
not come within PATIENCE_S.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import Any

from shmalloc import Arena
from shmalloc.engine import get_engine
from shmalloc.kernels.pages import alloc_pages
from shmalloc.memory import Ram
from stress.hypothesis.hands import Hands

PATIENCE_S = 60.0
ROOT = Path(__file__).parents[2]
# not -m, which would load this file under another name than the machine's, and pickles name it
MAIN = "import sys; from stress.hypothesis import child; child.serve_nursery(int(sys.argv[1]))"
_PID_BYTES = 8


class ChildError(AssertionError):
    """A child raised, died or did not answer."""


@dataclass(frozen=True)
class Raised:
    """What a child answers instead of a result."""

    traceback: str


class Nursery:
    """The process that forks children; ``nursery`` gives that of this process."""

    def __init__(self) -> None:
        self.owner_pid = os.getpid()
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", MAIN, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )

    def fork(self) -> tuple[int, Connection]:
        """The pid of a new child, and the connection to it."""
        ours, theirs = socket.socketpair()
        with ours, theirs, self._lock:
            answer = self._ask(theirs.fileno())
            if len(answer) < _PID_BYTES:
                raise ChildError(f"the nursery (pid {self.process.pid}) ended; see its traceback")
            return int.from_bytes(answer, "little"), Connection(ours.detach())

    def _ask(self, descriptor: int) -> bytes:
        """The pid of a child that has ``descriptor``; nothing if the nursery has ended."""
        try:
            socket.send_fds(self._socket, [b"f"], [descriptor])
            self._await(self._socket.fileno(), "the pid of a new child")
            return self._socket.recv(_PID_BYTES, socket.MSG_WAITALL)
        except ConnectionError:
            return b""

    def _await(self, descriptor: int, what: str) -> None:
        if not select.select([descriptor], [], [], PATIENCE_S)[0]:
            told = f"the nursery (pid {self.process.pid}) did not send {what}"
            raise ChildError(f"{told} within {PATIENCE_S:.0f} s")

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def end(self) -> None:
        """End it. Children that it forked stay."""
        self._socket.close()
        if self.owner_pid == os.getpid():
            self.process.wait(PATIENCE_S)


_nursery: Nursery | None = None


def nursery() -> Nursery:
    """The nursery of this process, started at its first child."""
    global _nursery
    if _nursery is None or _nursery.owner_pid != os.getpid() or _nursery.ended:
        _nursery = Nursery()
    return _nursery


def end_nursery() -> None:
    """End the nursery of this process, if it has one; the next child starts another."""
    global _nursery
    if _nursery is not None:
        _nursery.end()
        _nursery = None


atexit.register(end_nursery)


class Child:
    """A process with an arena of its own, told what to do. Raises ``ChildError``."""

    def __init__(self, pid: int, connection: Connection) -> None:
        self.pid, self._connection = pid, connection
        self._pidfd = os.pidfd_open(self.pid)

    @classmethod
    def attached(cls, name: str) -> Child:
        """A new one that has attached to the arena of that name."""
        child = cls(*nursery().fork())
        try:
            child.tell("attach", name)
        except BaseException:
            child.kill()
            raise
        return child

    def fork(self) -> Child:
        """A child of this one, which goes on with what it has."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            pid = self._ask("fork", (), theirs.fileno())
            return Child(pid, Connection(ours.detach()))

    def tell(self, method: str, *arguments: Any) -> Any:
        """The result of ``Hands.method(*arguments)`` in the child."""
        return self._ask(method, arguments)

    def _ask(self, method: str, arguments: tuple[Any, ...], descriptor: int = -1) -> Any:
        asked = f"{method}{arguments!r}"
        try:
            self._connection.send((method, arguments))
            if descriptor >= 0:
                send_handle(self._connection, descriptor, self.pid)
            if not self._connection.poll(PATIENCE_S):
                raise ChildError(f"{self!r} did not answer {asked} within {PATIENCE_S:.0f} s")
            answer = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise ChildError(f"{self!r} died in {asked}") from error
        if isinstance(answer, Raised):
            raise ChildError(f"{self!r} raised in {asked}:\n{answer.traceback}")
        return answer

    def kill(self) -> None:
        """SIGKILL; returns when it is dead."""
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._wait("to die of SIGKILL")

    def end(self) -> None:
        """Close its arena, and wait until it is gone."""
        self.tell("close")
        self._wait("to end")

    def _wait(self, what: str) -> None:
        self._connection.close()
        gone = select.select([self._pidfd], [], [], PATIENCE_S)[0]
        os.close(self._pidfd)
        if not gone:
            raise ChildError(f"waited {PATIENCE_S:.0f} s for {self!r} {what}")

    def __repr__(self) -> str:
        return f"<Child {self.pid}>"


# --- in the nursery and its children --------------------------------------------------------------
def serve_nursery(descriptor: int) -> None:
    """Fork a child for each socket that arrives, until the other side is closed."""
    get_engine("native").builtin(alloc_pages, Ram.of_words(2))  # loads the image, once for all
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the machine's, which then ends us
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead leave no zombies
    with socket.socket(fileno=descriptor) as control:
        while True:
            message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
            if not message:
                return
            pid = os.fork()
            if pid == 0:
                control.detach()
                os.close(descriptor)
                serve_child(Connection(descriptors[0]))
                os._exit(0)
            os.close(descriptors[0])
            control.sendall(pid.to_bytes(_PID_BYTES, "little"))


def serve_child(connection: Connection) -> None:
    """Obey until told to close, or until the other side is gone."""
    hands: Hands | None = None
    answer: Any
    method = ""
    with suppress(EOFError, ConnectionError):  # the other side is gone
        while method != "close":
            method, arguments = connection.recv()
            try:
                if method == "fork":
                    connection, answer = forked(connection)
                    if answer == 0:
                        continue
                elif hands is None:
                    hands = Hands(Arena.attach(*arguments))
                    answer = None
                else:
                    answer = getattr(hands, method)(*arguments)
            except Exception:
                answer = Raised(traceback.format_exc())
            connection.send(answer)


def forked(connection: Connection) -> tuple[Connection, int]:
    """Fork: our connection and the child's pid; in the child its own, which came by ours, and 0."""
    theirs = recv_handle(connection)
    pid = os.fork()
    if pid == 0:
        connection.close()
        return Connection(theirs), 0
    os.close(theirs)
    return connection, pid
