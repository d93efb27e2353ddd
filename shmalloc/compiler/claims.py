"""Claims: one thread of one process builds an image, and the others wait, up to a limit.

Each directory of images has one file ``lock``, made once and never removed. A POSIX record lock on
one byte of it, far beyond its (empty) content, claims a key::

    lock   [ no data ] ........ byte at 8 bytes of sha256(key), without their sign bit ........

These are record locks because a process owns them, not an open file as with ``flock`` and OFD
locks: a child that is forked while another thread builds inherits the descriptor, but not the lock,
so it makes no other process wait; a process that dies in any way, or calls ``exec``, holds nothing
any more; and the system knows the pid of a holder. They have two weaknesses, which the tables below
address.

*Any* close of a descriptor of that file drops *all* locks that the process has on it. So ``_files``
keeps one descriptor per file, which is never closed. If the file was deleted and made again, the
old descriptor stays open as well, because another thread may be about to lock it; once closed, its
number could mean an unrelated file by then. (So the file system of a directory in which this
process has built something cannot be unmounted before its end.)

Threads of one process do not exclude each other. So ``_held`` says which claim has a byte::

    _held   (pid, path of the lock file, byte) -> Claim

Its only writes are ``setdefault`` and ``pop``, each atomic. There is no mutex, because a signal
handler may fetch a kernel at any moment and would wait for the code that it interrupted. A forked
child starts with an empty table, as the threads that held the claims do not exist in it; after a
fork without Python's hooks, the pid in the key makes them void.

A thread that holds a claim never waits for another: two threads that build nested images in
opposite order would wait for each other. It builds what it needs twice instead.

Rules for callers: ``release`` in a ``finally``, also after ``take`` was interrupted; look for the
image again after ``take``, because another process may just have finished it.

What it does not do: promise that an image is built once. If files cannot be locked, the lock file
was deleted, or a holder takes too long, several processes build the same image and the last one
stays: more work, never a wrong result.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import struct
import time
from _thread import get_ident  # ``threading`` takes longer to import than an image to load

from shmalloc.compiler.directory import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LOCK_NAME = "lock"
TELL_AFTER_S = 0.5  # a shorter wait is not worth a line
BEING_OPENED = -1  # by another thread of this process
SHORTEST_NAP_S, LONGEST_NAP_S = 0.002, 0.05
_FLOCK = struct.Struct("hhqqi0q")  # l_type, l_whence, l_start, l_len, l_pid

_held: dict[tuple[int, str, int], Claim] = {}
_files: dict[str, int] = {}  # path of a lock file -> its descriptor
_opening: dict[tuple[int, str], object] = {}  # (pid, path) -> the thread that is opening it


class Claim:
    """The right to build one image; ours from ``take`` to ``release``."""

    def __init__(self, folder: str, key: str) -> None:
        self._path = f"{folder}/{LOCK_NAME}"
        digest = hashlib.sha256(key.encode()).digest()
        self._byte = int.from_bytes(digest[:8], "little") >> 1
        self._slot = (os.getpid(), self._path, self._byte)
        self._thread = get_ident()
        self._locked: int | None = None

    def take(self, tell: Callable[[str], None], limit_s: float) -> bool:
        """Wait until no other builder has this image. False: the caller builds it, too.

        That is after ``limit_s``, or at once if this thread already holds a claim.
        """
        patient = not self._is_nested()
        start_s = time.monotonic()
        told = False
        nap_s = SHORTEST_NAP_S
        while not self._try():
            waited_s = time.monotonic() - start_s
            if not patient:
                return False
            if waited_s >= limit_s:
                tell(
                    f"{self._holder()} has been compiling these kernels for more than"
                    f" {limit_s:g} s; compiling them here as well"
                )
                return False
            if waited_s >= TELL_AFTER_S and not told:
                tell(f"waiting for {self._holder()}, which is compiling these kernels")
                told = True
            time.sleep(min(nap_s, limit_s - waited_s))
            nap_s = min(2 * nap_s, LONGEST_NAP_S)
        return True

    def release(self) -> None:
        """Release the claim; does nothing if it was never ours, or in a forked child."""
        if os.getpid() != self._slot[0] or _held.get(self._slot) is not self:
            return
        # The lock before the entry: once the entry is gone, another thread may have locked this
        # byte for itself, and unlocking would take its lock away.
        if self._locked is not None and _is_open(self._locked, self._path):
            _unlock(self._locked, self._byte)
        self._locked = None
        _held.pop(self._slot, None)

    def _is_nested(self) -> bool:
        """Whether this thread holds a claim; a signal handler sees that of the interrupted code."""
        pid, thread = os.getpid(), get_ident()
        held = list(_held.items())  # one step: other threads may change the table meanwhile
        return any(slot[0] == pid and claim._thread == thread for slot, claim in held)

    def _try(self) -> bool:
        """Get the entry, then the byte; the entry stays ours while we try for the byte again."""
        return _held.setdefault(self._slot, self) is self and self._lock_byte()

    def _lock_byte(self) -> bool:
        """False only if another process has the byte; if no lock is possible it is ours."""
        descriptor = _descriptor(self._path)
        if descriptor is None or descriptor == BEING_OPENED:
            return descriptor is None
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._byte)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as POSIX leaves it open
            return False
        except OSError:
            return True  # ENOLCK, ENOSYS, a network file system without locks: build unprotected
        self._locked = descriptor
        return True

    def _holder(self) -> str:
        """The holder that we wait for, as far as the system knows."""
        if _held.get(self._slot) is not self:
            return "another thread of this process"
        descriptor = _files.get(self._path)
        pid = 0 if descriptor is None else _locker(descriptor, self._byte)
        if pid <= 0:  # it has just released, or is in another pid namespace
            return "another process"
        try:
            with open(f"/proc/{pid}/comm", errors="replace") as file:  # noqa: PTH123
                return f"process {pid} ({shown(file.read().rstrip())})"
        except OSError:  # it is ending, or /proc is hidden from us
            return f"process {pid}"


def _unlock(descriptor: int, byte: int) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, byte)
    except OSError:
        return  # a network file system that lost its locks; ours end with this process anyway


def _locker(descriptor: int, byte: int) -> int:
    """The pid that keeps us from locking ``byte``; 0 if there is none, or none that we can see."""
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    try:
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, wanted))
    except OSError:
        return 0  # only the name in a message is lost
    return int(pid) if kind != fcntl.F_UNLCK else 0


def _descriptor(path: str) -> int | None:
    """The one descriptor of a lock file, None if there can be none, or BEING_OPENED.

    Two threads must not both open it: the second would have to close its own, which drops a lock
    that the first may have by then.
    """
    known = _files.get(path)
    if known is not None and _is_open(known, path):
        return known
    me = object()
    turn = (os.getpid(), path)
    try:
        if _opening.setdefault(turn, me) is not me:
            return BEING_OPENED
        known = _files.get(path)
        if known is not None and _is_open(known, path):
            return known  # the thread before us has opened it
        return _opened(path)
    finally:
        if _opening.get(turn) is me:
            del _opening[turn]


def _opened(path: str) -> int | None:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError:
        return None  # read-only, no space, something else of that name: build unprotected
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)  # no lock file, so no lock can be lost
        return None
    _files[path] = descriptor
    return descriptor


def _is_open(descriptor: int, path: str) -> bool:
    """Whether the descriptor is still that of the file at ``path``.

    It is not, if the directory was deleted, or if the program closed all descriptors (as daemons
    do) and the number now means another file.
    """
    try:
        ours, there = os.fstat(descriptor), os.lstat(path)
    except OSError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


def _forget() -> None:
    """Forget the claims in a forked child: their threads do not exist here."""
    _held.clear()
    _opening.clear()


os.register_at_fork(after_in_child=_forget)
