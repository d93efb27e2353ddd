"""Which threads are in an operation of a structure, and may use what their process holds of it.

An exception out of a signal handler comes most often right behind a kernel's return, for the kernel
took the time: then Python never learned what the kernel took for it. What the process holds in
shared memory and no thread uses is such a loss. A thread in an operation may hold something that it
does not know of yet, so its part cannot be told from a loss: callers then wait until it has left.

Data it owns: a list for each structure, with the identifier of a thread for each operation that it
is in. An operation that may hold something writes itself down::

    inside, thread = self._inside, get_ident()
    try:
        inside.append(thread)           # the first call of the block
        ...
    finally:
        inside.remove(thread)           # the first call of the block

CPython runs signal handlers at the start of functions, at backward jumps and behind calls, so an
exception out of one finds the thread either not in the list or in the block. (A list is needed: the
frames of other threads tell the same, but a walk over frames of running threads crashes CPython
3.11, docs/bugs.md 55.)
"""

from __future__ import annotations

from threading import get_ident


def others_in(inside: list[int]) -> bool:
    """Whether another thread is in an operation, or this one is in two; called from within one.

    Two: a signal handler or a finalizer calls the structure in the middle of a call.
    """
    return len(inside) > 1


def keep_own(inside: list[int]) -> None:
    """After a fork, in the child: only the thread that forked is there."""
    me = get_ident()
    inside[:] = [thread for thread in inside if thread == me]
