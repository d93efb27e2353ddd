"""SIGSTOP with a promise: a thread that sends SIGCONT in time, whatever the controller waits for.

The controller may itself wait, inside of a compiled kernel, for a lock that the stopped worker
holds; so another thread must let the worker go on. Compiled kernels run without the interpreter
lock, which is why a thread is enough.
"""

from __future__ import annotations

import heapq
import os
import signal
import threading
import time
from collections.abc import Callable


class Resumer:
    """Stops processes for a while. ``close`` lets all of them go on at once."""

    def __init__(self) -> None:
        self._wanted = threading.Condition()
        self._stopped: list[tuple[float, int, int, Callable[[], object]]] = []
        self._count = 0
        self._ending = False
        self._thread: threading.Thread | None = None

    def stop(self, pid: int, for_s: float, before: Callable[[], object]) -> bool:
        """SIGSTOP now, SIGCONT in ``for_s``; calls ``before`` just before it. False: it is dead.

        By a descriptor of the process: its pid may belong to another process by then.
        """
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        with self._wanted:
            self._count += 1
            turn = (time.monotonic() + for_s, self._count, handle, before)
            heapq.heappush(
                self._stopped, turn
            )  # first: no process stays stopped if we are interrupted
            if not _send(handle, signal.SIGSTOP):
                self._stopped.remove(turn)
                heapq.heapify(self._stopped)
                os.close(handle)
                return False
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="resumer", daemon=True)
                self._thread.start()
            self._wanted.notify()
        return True

    def resume_all(self) -> None:
        """Let all of them go on now."""
        with self._wanted:
            while self._stopped:
                self._resume_first()

    def close(self) -> None:
        self.resume_all()
        with self._wanted:
            self._ending = True
            self._wanted.notify()
        if self._thread is not None:
            self._thread.join()

    def _serve(self) -> None:
        with self._wanted:
            while not self._ending:
                if not self._stopped:
                    self._wanted.wait()
                elif (left_s := self._stopped[0][0] - time.monotonic()) > 0:
                    self._wanted.wait(left_s)
                else:
                    self._resume_first()

    def _resume_first(self) -> None:
        _, _, handle, before = heapq.heappop(self._stopped)
        try:
            before()
            _send(handle, signal.SIGCONT)
        finally:
            os.close(handle)


def _send(handle: int, number: signal.Signals) -> bool:
    """Whether the process was there to get the signal."""
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    return True
