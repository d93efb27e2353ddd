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
import time
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
from shmalloc.structures.waiting import deadline_of, timeout_of, wait_for

if TYPE_CHECKING:
    from shmalloc.structures.operations import StructureOperations


NAP_S = 0.05  # the longest sleep of a thread that waits for another one of its process


class Acquired(IntEnum):
    """What ``acquire`` came to; false if we do not hold the lock."""

    TIMED_OUT = 0
    CLEAN = 1
    OWNER_DIED = 2


class OwnerDiedError(ShmallocError):
    """A process died under the lock, and what it protects was not repaired."""


class LockUnusableError(ShmallocError):
    """An owner was told of a death and released the lock without ``make_consistent``."""


class _Threads:
    """The lock of this process's threads, in front of the shared one. Any of them may release it.

    Taking it and knowing whose it is are one step, of a dict: so an exception out of a signal
    handler leaves no doubt, and a handler that asks in the middle of a call is refused.
    """

    __slots__ = ("_owner", "_released", "_waiting")

    def __init__(self) -> None:
        self._owner: dict[str, int] = {}
        self._waiting: set[int] = set()
        self._released = threading.Semaphore(0)  # to wake a thread that waits

    def are_ours(self) -> bool:
        """Whether this thread has it."""
        return self._owner.get("thread") == threading.get_ident()

    def acquire(self, deadline: float | None) -> bool:
        """Take it; False at the deadline, by ``time.monotonic``. Not for the thread that has it."""
        thread = threading.get_ident()
        if self._owner.setdefault("thread", thread) == thread:
            return True
        self._waiting.add(thread)
        try:
            while self._owner.setdefault("thread", thread) != thread:
                left = NAP_S if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    return False
                self._released.acquire(timeout=min(left, NAP_S))
            return True
        finally:
            self._waiting.discard(thread)

    def release(self) -> None:
        """Release it, whichever thread has it."""
        self._owner.pop("thread", None)
        if self._waiting:
            self._released.release()


class Lock(Structure):
    """A robust lock. ``repair``: called under the lock after a death; local to this process."""

    kind: ClassVar[int] = 3
    kind_name: ClassVar[str] = "lock"

    __slots__ = ("_do_lock", "_do_unlock", "_held", "_mine", "_pid", "repair")

    def __init__(self, arena: StructureOperations, at: int, state: int) -> None:
        super().__init__(arena, at, state)
        self.repair: Callable[[], None] | None = None
        self._do_lock = arena.builtin(robust_lock, alone=False)
        self._do_unlock = arena.builtin(robust_unlock, alone=False)
        self._renew()

    def _renew(self) -> None:
        """A forked child has threads of its own, and none of its parent's locks."""
        self._mine = _Threads()
        self._held = False  # whether this process holds the shared lock, as far as it knows
        self._pid = THIS_PROCESS.pid

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> Acquired:
        """Take the lock; ``timeout`` in seconds, None: for ever; without ``blocking``, at once.

        Raises ``MisuseError`` if this thread holds it, ``LockUnusableError`` if it is unusable. An
        exception out of a signal handler leaves it as it was.
        """
        if self._pid != THIS_PROCESS.pid:
            self._renew()
        mine = self._mine
        if mine.are_ours():
            raise MisuseError("lock: this thread holds it; release it first, it is not reentrant")
        self._check()
        deadline = deadline_of(timeout_of(blocking, timeout))
        try:
            if not mine.acquire(deadline):
                return Acquired.TIMED_OUT
            if self._arena._closing:  # perhaps by the thread that had it
                self._arena.check_stays()
            told: int = self._do_lock(self._arena.claim, self._at + ST_BODY, 0, 0)
            if told == c.E_AGAIN:
                told = self._wait(deadline)
            if told >= 0:
                self._held = True
                return Acquired.OWNER_DIED if told == OWNER_DIED else Acquired.CLEAN
            mine.release()
        except BaseException:
            self._undo()
            raise
        return self._untaken(told)

    def _undo(self) -> None:
        """Release what this thread has, which may be nothing, as if nothing had happened."""
        if self._mine.are_ours():
            try:
                if not self._segment.closed:
                    self._do_unlock(self._arena.claim, self._at + ST_BODY, 1)
            finally:
                self._held = False
                self._mine.release()

    def _wait(self, deadline: float | None) -> int:
        arena, at, attempt = self._arena, self._at + ST_BODY, self._do_lock
        return wait_for(arena, lambda slept: attempt(arena.claim, at, slept, 1), deadline, False)

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
        if not self._held or self._pid != THIS_PROCESS.pid:
            self._arena.check_open()
            raise MisuseError("lock: this process does not hold it; acquire it first")
        self._arena.check_open()
        try:
            result = self._do_unlock(self._arena.claim, self._at + ST_BODY, keep)
        finally:
            self._held = False
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

    def _told(self) -> str:
        return "held" if self.locked() else "free"

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
        try:
            self._release(1)
        except BaseException:  # out of a signal handler, perhaps before anything was done
            self._undo()
            raise

    def _before_destroy(self) -> None:
        if self._held and self._pid == THIS_PROCESS.pid:
            raise MisuseError("lock: destroy: this process holds it; release it first")

    def _close(self) -> None:
        if self._pid == THIS_PROCESS.pid and self._held:
            self._arena.run(robust_abandon, self._at + ST_BODY)
            self._held = False
            self._mine.release()
