"""What the controller does in kernels must come to an end, too: nobody else watches it.

A recovery that waits for somebody dead, or an audit of a list that has become a circle, holds the
controller's main thread inside of compiled code, where no signal and no exception reaches it. So a
timer beside it says that it is overdue; what follows runs in the timer's thread, and has to end the
process, since the main thread never comes back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FACTOR = (
    3  # of the time after which a worker hangs: we may have to wait for workers that are stopped
)


class Deadline:
    """``overdue(what)`` is called, once, where a guarded piece of work takes too long."""

    def __init__(self, limit_s: float, overdue: Callable[[str], None]) -> None:
        self.limit_s = limit_s
        self._overdue = overdue

    @contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """``what`` must be done in time."""
        over = threading.Lock()  # taken once, by whoever comes first: the end, or the timer
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

    def _expire(self, what: str, over: threading.Lock) -> None:
        if over.acquire(blocking=False):
            self._overdue(what)
