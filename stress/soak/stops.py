"""Ctrl-C and SIGTERM during a soak: an orderly end is asked for, or, by a second one, a sudden one.

Unlike the ``Interrupts`` of a run, nothing is raised where the signal arrives: that could be in the
middle of a transaction. Who waits for a round looks at ``at_once`` several times a second.
"""

from __future__ import annotations

import signal
from types import FrameType

from stress.run.interrupts import Interrupts


class Stops(Interrupts):
    """While entered, turns the first signal into ``requested`` and later ones into ``at_once``."""

    def __init__(self) -> None:
        super().__init__()
        self.at_once = False

    def __enter__(self) -> Stops:
        super().__enter__()
        return self

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.at_once = self.requested
        self.signal_name = signal.Signals(number).name
