"""From compiled code to Python: "I have been waiting for this word for long, have a look".

A waiter cannot find out whether the owner of a lock is alive: that is in /proc. So the lowering of
``wait`` (where the futex's time is over and the word still holds what was waited for) and of
``notice`` (one call in NOTICE_EVERY) call one C function, whose address is known to compiled code
by a symbol. It takes the GIL, finds the listener of the memory by its side words, and returns when
that has done what it could, perhaps by running kernels over the same memory, beneath the waiter.

A listener's own kernels may wait for long, too, and then it is called again, beneath itself: whom
they wait for may have died just now, and nobody else can help (docs/bugs.md 11).

A listener must not raise: what it could not do, the next call may. If it does all the same, the
exception is kept and raised from ``raise_kept`` when the kernel has returned.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import llvmlite.binding as llvm

SYMBOL = "shmalloc_notice"
NOTICE_EVERY = 256  # calls of ``notice``, each behind a yield of the processor

Listener = Callable[[int], None]

_listeners: dict[int, Listener] = {}
kept: dict[int, Exception] = {}  # side words -> what the listener raised


def _notice(side: int, index: int) -> None:
    """What compiled code calls; ``side`` names the memory, ``index`` the word."""
    listener = _listeners.get(side)
    try:
        if listener is not None:
            listener(index)
    except Exception as error:  # a C caller has nobody to raise to; see raise_kept
        kept.setdefault(side, error)


def listen(side: int, listener: Listener | None) -> None:
    """Call ``listener(word index)`` for long waits in the memory with side words ``side``."""
    if listener is None:
        _listeners.pop(side, None)
    else:
        _listeners[side] = listener


def raise_kept(side: int) -> None:
    """Raise what a listener of this memory failed with, once."""
    if side in kept:
        raise kept.pop(side)


_callable = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(_notice)  # kept: it is called
llvm.add_symbol(SYMBOL, ctypes.cast(_callable, ctypes.c_void_p).value)
