"""SIGBUS in the controller: the system has no page left for the segment, and that is a verdict.

The pages of /dev/shm are taken when they are first touched, by workers and by the controller; when
there is none left, the system sends SIGBUS to the process that touches one. A worker dies of it,
and the controller says so (wait.py). The controller itself would die as well, without a word.

So its handler calls Python, which ends the run and the process. That is allowed here although a
signal handler may do little else: the signal comes from an instruction of ours that touches the
segment, in a kernel or in numpy, never from within the interpreter's own memory management; and it
does not return to that instruction. A SIGBUS that another process sent, by kill, is not taken.

What it does not do: save a program that uses an ``Arena``; that dies, and its segment is removed by
the next process that creates one (leftovers.py).
"""

from __future__ import annotations

import ctypes
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shmalloc.compiler.symbols import SigAction
from shmalloc.segment import Segment
from stress.verdict import Verdict

_SA_SIGINFO, _SA_NODEFER = 4, 0x40000000
_CODE_AT = 8  # of si_code in siginfo_t
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def cause(segment: Segment | None) -> str:
    """Why a process got SIGBUS from ``segment``, and the cure."""
    if segment is not None and segment.is_truncated():
        return f"another program truncated the segment {segment.name}; find it, and run again"
    return (
        "the system could not back a page of the segment; free memory or enlarge /dev/shm, use a"
        " smaller --ram, and --prealloc to know before the start"
    )


@contextmanager
def handled(end: Callable[[], None]) -> Iterator[None]:
    """Within, a SIGBUS of this process calls ``end``, and ends the process as unfit.

    ``end`` should not touch the segment; if it does and gets another SIGBUS, the end is at once.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    before = SigAction()
    entered: list[bool] = []

    def on_signal(number: int, info: int, context: int) -> None:
        if ctypes.c_int.from_address(info + _CODE_AT).value <= 0:  # sent by a process
            libc.sigaction(number, ctypes.byref(before), None)
            os.kill(os.getpid(), number)
            return
        try:
            entered.append(True)
            if len(entered) == 1:
                end()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(Verdict.UNFIT.exit_code)

    handler = _Handler(on_signal)
    address = ctypes.cast(handler, ctypes.c_void_p).value
    action = SigAction(handler=address, flags=_SA_SIGINFO | _SA_NODEFER)
    if libc.sigaction(signal.SIGBUS, ctypes.byref(action), ctypes.byref(before)):
        raise OSError(ctypes.get_errno(), "sigaction(SIGBUS)")
    try:
        yield
    finally:
        libc.sigaction(signal.SIGBUS, ctypes.byref(before), None)
