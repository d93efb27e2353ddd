"""What processes do that allocate where allocations are sampled: importable in a spawned child."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection

from shmalloc import Arena


def take_four_pages(arena: Arena) -> int:
    """The call site that tests look for."""
    return arena.alloc_pages(order=2)


def take_and_stay(arena: Arena, pipe: Connection) -> None:
    """Allocate, say so, and stay until killed."""
    pipe.send((os.getpid(), take_four_pages(arena)))
    signal.pause()
