"""Which workers have fallen silent: a worker must raise its beat every ``timeout_s``.

The clock that counts is the controller's. If the controller itself was not run for a while (the
machine slept, a debugger held it), the workers are not to blame: every deadline moves by that gap.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class Watchdog:
    """Compares beats between two looks. Raises nothing and kills no process."""

    def __init__(self, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.timeout_s = timeout_s
        self._clock = clock
        self._last_look_s = clock()
        self._seen: dict[int, tuple[int, float]] = {}

    def look(self, beats: Mapping[int, int]) -> list[int]:
        """The members of ``beats`` (who -> beat count) that have been silent for too long.

        A worker that is not in ``beats`` (parked, waiting for a message) is not watched and
        starts anew when it returns.
        """
        now = self._clock()
        gap = now - self._last_look_s
        self._last_look_s = now
        forgiven = gap if gap > self.timeout_s / 2 else 0.0
        seen: dict[int, tuple[int, float]] = {}
        for who, beat in beats.items():
            last_beat, since_s = self._seen.get(who, (beat, now))
            seen[who] = (beat, now) if beat != last_beat else (beat, since_s + forgiven)
        self._seen = seen
        return [who for who, (_, since_s) in seen.items() if now - since_s > self.timeout_s]
