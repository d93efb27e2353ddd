"""``Lock``: mutual exclusion of processes that may die in the middle.

::

    with lock:                        # OwnerDiedError if an owner died under the lock
        ...

    lock.repair = mend                # called under the lock in that case, instead of the error

    if lock.acquire(timeout=1) is Acquired.OWNER_DIED:    # the same by hand, as with POSIX
        ...                           # repair what the lock protects
        lock.make_consistent()
    lock.release()

What the lock protects is as the dead left it, and every later owner is told, until one of them says
``make_consistent``. An owner who was told and releases without saying so makes the lock unusable.
``with`` never does: it leaves the lock as it found it, and raises.

Threads of a process are kept apart by a lock of the process, in front of the shared one. A thread
that holds the lock and asks again is refused. The owner is the process: any of its threads may
release.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import IntEnum
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar

from shmalloc import constants as c
from shmalloc.bound import THIS_PROCESS
from shmalloc.errors import MisuseError, ShmallocError
from shmalloc.structures.handles import Structure
from shmalloc.structures.kernels.entries import ST_BODY
from shmalloc.structures.kernels.robust import (
    OWNER_DIED,
    make_consistent,
    robust_abandon,
    robust_holder,
    robust_lock,
    robust_unlock,
)
from shmalloc.structures.waiting import deadline_of, wait_for

if TYPE_CHECKING:
    from shmalloc.structures.operations import StructureOperations


class Acquired(IntEnum):
    """What ``acquire`` came to; false if we do not hold the lock."""

    TIMED_OUT = 0
    CLEAN = 1
    OWNER_DIED = 2


class OwnerDiedError(ShmallocError):
    """A process died under the lock, and what it protects was not repaired."""


class LockUnusableError(ShmallocError):
    """An owner was told of a death and released the lock without ``make_consistent``."""


class Lock(Structure):
    """A robust lock. ``repair``: called under the lock after a death; local to this process."""

    kind: ClassVar[int] = 3
    kind_name: ClassVar[str] = "lock"

    __slots__ = ("_do_lock", "_do_unlock", "_holder", "_mine", "_pid", "repair")

    def __init__(self, arena: StructureOperations, at: int, state: int) -> None:
        super().__init__(arena, at, state)
        self.repair: Callable[[], None] | None = None
        self._do_lock = arena.builtin(robust_lock, alone=False)
        self._do_unlock = arena.builtin(robust_unlock, alone=False)
        self._renew()

    def _renew(self) -> None:
        """A forked child has threads of its own, and none of its parent's locks."""
        self._mine = threading.Lock()
        self._holder = 0  # the thread that holds it, of this process
        self._pid = THIS_PROCESS.pid

    def acquire(self, timeout: float | None = None) -> Acquired:
        """Take the lock; ``timeout`` in seconds, None: for ever.

        Raises ``MisuseError`` if this thread holds it, ``LockUnusableError`` if it is unusable.
        """
        if self._pid != THIS_PROCESS.pid:
            self._renew()
        thread = threading.get_ident()
        if self._holder == thread:
            raise MisuseError("lock: this thread holds it; release it first, it is not reentrant")
        self._check()
        deadline = None if timeout is None else deadline_of(timeout)
        if not self._mine.acquire(timeout=-1 if timeout is None else timeout):
            return Acquired.TIMED_OUT
        try:
            told: int = self._do_lock(self._arena.cpu, self._at + ST_BODY, 0, 0)
            if told == c.E_AGAIN:
                told = self._wait(deadline)
            if told >= 0:
                self._holder = thread
        except BaseException:
            if not self._segment.closed:  # a signal may come between the kernel and its result
                self._do_unlock(self._arena.cpu, self._at + ST_BODY, 1)
            self._mine.release()
            raise
        if told < 0:
            self._mine.release()
            return self._untaken(told)
        return Acquired.OWNER_DIED if told == OWNER_DIED else Acquired.CLEAN

    def _wait(self, deadline: float | None) -> int:
        arena, at, attempt = self._arena, self._at + ST_BODY, self._do_lock
        return wait_for(arena, lambda slept: attempt(arena.cpu, at, slept, 1), deadline, False)

    def _untaken(self, told: int) -> Acquired:
        if told == c.E_AGAIN:
            return Acquired.TIMED_OUT
        if told == c.E_STATE:
            raise LockUnusableError(
                "lock: an owner was told of a death and released it without make_consistent; what"
                " it protects is lost: make both anew"
            )
        raise MisuseError("lock: this process holds it through another arena; release it there")

    def release(self) -> None:
        """Release it. After OWNER_DIED without ``make_consistent`` it is unusable from now on.

        Raises ``MisuseError`` if this process does not hold it.
        """
        self._release(0)

    def _release(self, keep: int) -> None:
        self._arena.check_open()
        if not self._holder or self._pid != THIS_PROCESS.pid:
            raise MisuseError("lock: this process does not hold it; acquire it first")
        self._holder = 0
        result = self._do_unlock(self._arena.cpu, self._at + ST_BODY, keep)
        self._mine.release()
        if result < 0:
            raise MisuseError("lock: it was not ours any more; was this process taken for dead?")

    def make_consistent(self) -> None:
        """Say that what the lock protects is repaired: later owners are told of no death.

        Raises ``MisuseError`` unless this process holds the lock and was told.
        """
        if self._arena.run(make_consistent, self._at + ST_BODY) < 0:
            raise MisuseError("lock: make_consistent is for an owner that was told OWNER_DIED")

    def locked(self) -> bool:
        """Whether some process held it a moment ago."""
        self._check()
        return robust_holder(self._segment.ram[self._at + ST_BODY]) != 0

    def __enter__(self) -> Lock:
        if self.acquire() is Acquired.OWNER_DIED:
            if self.repair is None:
                self._release(1)
                raise OwnerDiedError(
                    "lock: a process died under it; set lock.repair, or acquire(), repair what it"
                    " protects, make_consistent() and release()"
                )
            try:
                self.repair()
            except BaseException:
                self._release(1)
                raise
            self.make_consistent()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._release(1)

    def _before_destroy(self) -> None:
        if self._holder and self._pid == THIS_PROCESS.pid:
            raise MisuseError("lock: destroy: this process holds it; release it first")

    def _close(self) -> None:
        if self._pid == THIS_PROCESS.pid and self._holder:
            self._arena.run(robust_abandon, self._at + ST_BODY)
            self._holder = 0
            self._mine.release()
