"""How Python waits in a kernel: one sleep of the futex at a time, so that Ctrl-C works.

A kernel sleeps for at most 50 ms and answers E_AGAIN; in between Python looks at the time, obeys
signals, ends the wait if the arena is being closed, and recovers processes that died, because what
we wait for may be in their hands.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from shmalloc import constants as c
from shmalloc.checked import check_seconds
from shmalloc.errors import MisuseError
from shmalloc.memory import FUTEX_SLEEP_NS

if TYPE_CHECKING:
    from shmalloc.structures.operations import StructureOperations

_SLEEP_S = FUTEX_SLEEP_NS / 1e9


def deadline_of(timeout: float | None) -> float | None:
    """The moment at which to give up, by ``time.monotonic``. Raises ``MisuseError``."""
    check_seconds("timeout", timeout, "to wait for ever")
    return None if timeout is None else time.monotonic() + timeout


def timeout_of(block: bool, timeout: float | None) -> float | None:
    """Seconds to wait, None: for ever, of what the standard library's queues and locks take.

    Raises ``MisuseError`` for a ``block`` that is no truth value: it may be meant as a timeout.
    """
    if isinstance(block, int) and block in (0, 1):
        return timeout if block else 0
    raise MisuseError(f"block: {block!r}; use True or False, and timeout=... for seconds")


def wait_for(
    arena: StructureOperations,
    attempt: Callable[[int], int],
    deadline: float | None,
    rescue: bool = True,
) -> int:
    """``attempt(sleeps so far)``, which sleeps once, until it answers something else than E_AGAIN.

    Or E_AGAIN at the deadline. ``rescue``: recover dead processes every 50 ms; a lock does not need
    it, for its word names the owner (recovery.py).
    """
    ram = arena.segment.ram
    slept = 0
    looked = time.monotonic()
    try:
        while True:
            now = time.monotonic()
            if deadline is not None:
                left = deadline - now
                if left <= 0:
                    return c.E_AGAIN
                ram.sleep_at_most(min(left, _SLEEP_S))
            result = attempt(slept)
            if arena._rescuer.found:
                arena._finish_rescue()
            if result != c.E_AGAIN:
                return result
            slept += 1
            arena.check_stays()
            if rescue and time.monotonic() - looked >= _SLEEP_S:
                arena._finish_rescue()
                looked = time.monotonic()
    finally:
        ram.sleep_at_most(_SLEEP_S)
