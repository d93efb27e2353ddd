"""Failures that are known: a search counts them and goes on.

To say whether a failing schedule is a known one it has to be shrunk and repeated, which takes a
thousand times as long as running it. So that is done only now and then for failures that end alike
(the same kind, code and word): for the 1st, the 2nd, the 4th, the 8th. The others are taken for
what the last of these was. ``Known.note`` says how many were looked at; a second defect that ends
like a known one may be missed between two looks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from stress.explorer.report.failure import Failure
from stress.explorer.witness import Signature
from stress.machine.block_layout import Settings
from stress.quantities import counted

Failing = tuple[Settings, list[int], int]  # settings, trace, schedules before it


class Known:
    """The known failures of one exploration; its searches may run in several threads.

    ``look`` shrinks a failing schedule; it gives the failure if that is a known one, else None.
    """

    def __init__(self, look: Callable[[Failing], Failure | None]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._passed: dict[Signature, tuple[Failure, int]] = {}
        self._looks = 0

    @property
    def failures(self) -> tuple[tuple[Failure, int], ...]:
        """One of each that ends alike, and how many schedules ended so."""
        return tuple(self._passed.values())

    def passes(self, signature: Signature, failing: Callable[[], Failing]) -> bool:
        """Whether the search goes past this failure."""
        with self._lock:
            failure, count = self._passed.get(signature, (None, 0))
            if count & (count - 1) == 0:  # 0, or a power of two
                self._looks += 1
                failure = self._look(failing())
            if failure is not None:
                self._passed[signature] = failure, count + 1
            return failure is not None

    def note(self) -> str:
        """Empty where none was passed."""
        passed = sum(count for _, count in self.failures)
        if not passed:
            return ""
        failed = counted(passed, "schedule")
        return f"{failed} failed in ways that are ignored; {self._looks:,} of them were looked at"
