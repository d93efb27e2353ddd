"""Ctrl-C and SIGTERM: the first one asks for an orderly end, the second one is obeyed at once.

Python runs these handlers in the main thread between two bytecodes; the controller's waits return
when a signal arrives, so that the request is seen within one turn of its loop.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ImmediateEnd(BaseException):
    """The second request to stop. Not an ``Exception``: nothing on the way may swallow it."""


class Interrupts:
    """While entered, turns the first signal into ``requested`` and raises on the second."""

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        return self.signal_name is not None

    def __enter__(self) -> Interrupts:
        for number in _SIGNALS:
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
        if self.requested:
            raise ImmediateEnd
        self.signal_name = signal.Signals(number).name
