"""From compiled code to Python: "I have waited long for this word, check its owner".

Compiled code cannot find out whether the owner of a lock is alive: that is in /proc. So ``wait``
(when the futex times out and the word is unchanged) and ``notice`` (one call in NOTICE_EVERY) call
``notice`` here (``rt.tell`` of runtime.py). It finds the listener of the memory by its place, and
returns when the listener has done what it can, perhaps by running kernels over the same memory,
beneath the waiter.

A listener's own kernels may also wait long, and then it is called again, beneath itself: the
process that they wait for may just have died, and no other process can help (docs/bugs.md 11).

A listener must not raise: what it could not do, the next call may. If it raises all the same, the
exception is kept, and raised when the waiting kernel has returned.

A listener is Python code, so the interpreter runs handlers of signals and finalizers in it, and as
the first thing in ``notice``, for a signal ends the kernel's sleep. What they raise is kept, too.
What they call over the same memory would run in the middle of the waiting kernel: ``is_beneath``
tells, by the frames of Python's stack, which are there before a line of ``notice`` has run.
A child that such a handler forks may end or start a program, but not come back into the kernel,
which works for its parent: it is ended here.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from types import FrameType

from shmalloc.compiler.runtime import FAULT, LISTENER, PLACE

Listener = Callable[[int], None]

_listeners: dict[int, Listener] = {}
_FORKED_BENEATH = (
    b"shmalloc: a signal handler forked while its thread was in a kernel; the child cannot go on\n"
)
# Address of a frame -> what was raised beneath it. Compiled code adds to this very dict.
exceptions: dict[int, BaseException] = {}


def notice(frame: int, index: int) -> None:
    """What compiled code calls; ``frame`` is that of the waiting call."""
    listener, pid = _listeners.get(_place_of(frame)), os.getpid()
    try:
        if listener is not None:
            listener(index)
    except BaseException as error:  # a C caller cannot take an exception; nor may Ctrl-C get lost
        exceptions.setdefault(frame, error)
        ctypes.c_int64.from_address(frame + 8 * FAULT).value = LISTENER
    finally:
        if os.getpid() != pid:
            os.write(2, _FORKED_BENEATH)
            os._exit(1)


def _place_of(frame: int) -> int:
    return ctypes.c_int64.from_address(frame + 8 * PLACE).value


def is_beneath(place: int) -> bool:
    """Whether this thread is in a kernel over the memory with that place, which waits."""
    above: FrameType | None = sys._getframe()
    while above is not None:
        if above.f_code is notice.__code__ and _place_of(above.f_locals["frame"]) == place:
            return True
        above = above.f_back
    return False


def listen(place: int, listener: Listener | None) -> None:
    """Call ``listener(word index)`` for long waits in the memory with that place."""
    if listener is None:
        _listeners.pop(place, None)
    else:
        _listeners[place] = listener


def kept(frame: int) -> BaseException | None:
    """The exception of a listener beneath the call with that frame, once."""
    return exceptions.pop(frame, None)
