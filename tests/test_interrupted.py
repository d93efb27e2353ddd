"""Signals that come while a structure is waited for or used: Ctrl-C, timeouts of tests, alarms."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from shmalloc import Arena, MisuseError
from shmalloc.engine.doctor import native_problem
from support.runs import wait_until

pytestmark = pytest.mark.skipif(native_problem() is not None, reason=str(native_problem()))
WATCHDOG_S = 60.0


class Interrupted(Exception):
    """What the handler raises."""


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    with Arena.create(size="1MiB", cpus=2) as made:
        yield made


@contextmanager
def handled(handler: Callable[[], None]) -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, lambda number, frame: handler())
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


@contextmanager
def signalled_in_a_kernel(arena: Arena) -> Iterator[None]:
    """Send this process a signal once it is in a kernel, which waits."""

    def send() -> None:
        wait_until(lambda: arena.segment.ram.running > 0, "the main thread to be in a kernel")
        os.kill(os.getpid(), signal.SIGUSR1)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        sender.join(WATCHDOG_S)


@pytest.mark.parametrize("what", ["get", "put", "take"])
def test_what_a_handler_raises_ends_the_wait(arena: Arena, what: str) -> None:
    """As Ctrl-C does. The signal ends the sleep of the kernel, and is heard beneath it."""
    queue, pool = arena.queue(1), arena.pool(1, 3)
    frame = pool.take()
    if what == "put":
        queue.put(b"full")
    wait = {"get": queue.get, "put": lambda **how: queue.put(b"", **how), "take": pool.take}[what]

    def interrupt() -> None:
        raise Interrupted

    with handled(interrupt), signalled_in_a_kernel(arena), pytest.raises(Interrupted):
        wait(timeout=WATCHDOG_S)
    frame.give()
    queue.destroy()
    pool.destroy()


def test_what_a_handler_calls_in_the_middle_of_a_wait_is_refused_at_once(arena: Arena) -> None:
    queue, refused = arena.queue(1), []

    def call() -> None:
        try:
            arena.zeros(3)
        except MisuseError as error:
            refused.append(str(error))
        raise Interrupted

    with handled(call), signalled_in_a_kernel(arena), pytest.raises(Interrupted):
        queue.get(timeout=WATCHDOG_S)
    queue.destroy()
    assert ["signal handler or a finalizer" in text for text in refused] == [True]
