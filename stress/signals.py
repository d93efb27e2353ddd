"""The signals that ask a command to end, and how it obeys.

Ctrl-C sends SIGINT, a closed terminal SIGHUP; timeout(1), service managers, containers and CI send
SIGTERM, often to the whole process group. Each raises ``Interrupted`` in the main thread: every
``with`` block on the way is left, results are written, and the exit code is 2.

Who started us may have a signal ignored (nohup: SIGHUP; ``&`` in a script: SIGINT); it stays so.
Processes that we start ignore all of them: the command that started them decides.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """One of the signals has arrived; ``signal_name`` says which."""

    def __init__(self, signal_name: str) -> None:
        super().__init__(signal_name)
        self.signal_name = signal_name


@contextmanager
def obeyed() -> Iterator[None]:
    """Within, each of the signals raises ``Interrupted``; what is left to do after it ignores them.

    In another thread than the main one, which gets no signals, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def noted(note: Callable[[KeyboardInterrupt], None]) -> Iterator[None]:
    """Within, what would raise is given to ``note`` instead.

    For waits for threads: an exception in one can leave a lock of Python's taken for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    raising = (_interrupt, signal.default_int_handler)
    before = {n: signal.getsignal(n) for n in ENDING if signal.getsignal(n) in raising}

    def on_signal(number: int, frame: FrameType | None) -> None:
        note(Interrupted(signal.Signals(number).name))

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore() -> None:
    """For a process that another one ends."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(signal.Signals(number).name)
