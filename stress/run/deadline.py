"""A limit in time for what the controller does in kernels.

A recovery that waits for a dead process, or an audit of a list that has become a circle, holds the
controller's main thread inside compiled code, where no signal and no exception reaches it. A timer
beside it says when it is overdue. What follows runs in the timer's thread and must end the process,
because the main thread never returns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FACTOR = (
    3  # of the time after which a worker hangs: we may have to wait for workers that are stopped
)


class Deadline:
    """``overdue(what)`` is called, once, if a guarded piece of work takes too long."""

    def __init__(self, limit_s: float, overdue: Callable[[str], None]) -> None:
        self.limit_s = limit_s
        self._overdue = overdue
        self._closed = False

    @contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """``what`` must be done in time."""
        over = threading.Lock()  # taken once, by the end or by the timer
        timer = threading.Timer(self.limit_s, self._expire, [what, over])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            if over.acquire(blocking=False):
                timer.cancel()
            else:
                threading.Event().wait()  # too late: the timer's thread is ending the process

    def close(self) -> None:
        """No work is overdue from now on: a second Ctrl-C can leave a timer behind."""
        self._closed = True

    def _expire(self, what: str, over: threading.Lock) -> None:
        if not self._closed and over.acquire(blocking=False):
            self._overdue(what)
