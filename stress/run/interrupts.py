"""Ctrl-C, SIGTERM and SIGHUP: the first asks for an orderly end, the second is obeyed at once.

Python runs these handlers in the main thread between two bytecodes; the controller's waits return
when a signal arrives, so that the request is seen within one turn of its loop. While nothing has
been tested yet, the first one is obeyed at once as well (``first_at_once``): kernels may have to be
compiled, which takes long.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from stress.signals import ENDING


class ImmediateEnd(BaseException):
    """A request that is obeyed at once. Not an ``Exception``: nothing on the way may swallow it."""


class Interrupts:
    """While entered, turns the first signal into ``requested`` and raises on the second."""

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._previous: dict[int, Any] = {}
        self._first_raises = False

    @property
    def requested(self) -> bool:
        return self.signal_name is not None

    def __enter__(self) -> Interrupts:
        for number in ENDING:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        first = not self.requested
        if first:
            self.signal_name = signal.Signals(number).name
        if self._first_raises or not first:
            raise ImmediateEnd

    @contextmanager
    def first_at_once(self) -> Iterator[None]:
        """Within, the first request is obeyed at once, also one that came before."""
        self._first_raises = True
        try:
            if self.requested:
                raise ImmediateEnd
            yield
        finally:
            self._first_raises = False
