"""Which threads are in an operation of a structure, and may use what their process holds of it.

An exception out of a signal handler comes most often right behind a kernel's return, for the kernel
took the time: then Python never learned what the kernel took for it. What the process holds in
shared memory and no thread uses is such a loss. Threads that use something are found by the frames
of their stacks, which costs nothing until an exception comes.

A thread in an operation may hold something that it does not know of yet, so its part cannot be told
from a loss: callers then wait until it has left.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection
from types import CodeType, FrameType


def others_in(structure: object, operations: Collection[CodeType]) -> bool:
    """Whether another thread is in one of the operations of ``structure``, or this one is twice.

    Twice: a signal handler or a finalizer calls it in the middle of a call.
    """
    calls = {
        thread: _calls(frame, structure, operations)
        for thread, frame in sys._current_frames().items()
    }
    return calls.pop(threading.get_ident(), 0) > 1 or any(calls.values())


def _calls(frame: FrameType | None, structure: object, operations: Collection[CodeType]) -> int:
    found = 0
    while frame is not None:
        if frame.f_code in operations and frame.f_locals.get("self") is structure:
            found += 1
        frame = frame.f_back
    return found
