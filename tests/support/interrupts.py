"""Interrupts: exceptions that a signal handler raises, at every instruction where one may.

Python looks for signals after a call, at the start of a function, and when a loop jumps back; here
a trace function acts at each of these instructions of shmalloc in turn.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

LOOKS = ("CALL", "RESUME", "JUMP_BACKWARD")  # after these instructions


class Interrupted(Exception):
    pass


def at_instruction(number: int, act: Callable[[], None]) -> Callable[..., Any]:
    """A trace function that calls ``act`` once, at the ``number``-th instruction in shmalloc."""
    left = [number]
    last: dict[FrameType, str] = {}

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if "shmalloc" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            before = last.get(frame)
            last[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if before is not None and before.startswith(LOOKS):
                left[0] -= 1
                if left[0] == 0:
                    act()
        return trace

    trace.left = left  # type: ignore[attr-defined]
    return trace


def at_every_instruction(work: Callable[[], None], act: Callable[[], None]) -> int:
    """``work`` again and again, each time with ``act`` at the next instruction; how many."""
    sys.settrace(at_instruction(1 << 60, interrupt))  # 3.12: from the second time on
    work()
    sys.settrace(None)
    number = 0
    while True:
        number += 1
        trace = at_instruction(number, act)
        sys.settrace(trace)
        try:
            work()
        except Interrupted:
            pass
        finally:
            sys.settrace(None)
        if trace.left[0] > 0:  # type: ignore[attr-defined]
            return number - 1


def interrupt() -> None:
    raise Interrupted
