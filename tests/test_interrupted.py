"""Signals that come while a structure is waited for or used: Ctrl-C, timeouts of tests, alarms."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, Full

import pytest

from shmalloc import Acquired, Arena, MisuseError
from shmalloc.engine.doctor import native_problem
from shmalloc.structures.kernels.ring import queue_drop
from support.interrupts import Interrupted, at_every_instruction, interrupt
from support.runs import wait_until

pytestmark = pytest.mark.skipif(native_problem() is not None, reason=str(native_problem()))
WATCHDOG_S = 60.0


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


def test_an_interrupt_at_any_instruction_loses_no_place_of_a_queue(arena: Arena) -> None:
    """Python looks for signals right behind a kernel, before it has stored what that took."""
    queue = arena.queue(2)

    def empty() -> int:
        for count in range(3):
            try:
                queue.get(timeout=0)
            except Empty:
                return count
        raise AssertionError("more messages than places")

    def use() -> None:
        empty()  # what was put before an interrupt, or not got
        queue.put(b"message", timeout=0)
        queue.get(timeout=0)

    assert at_every_instruction(use, interrupt) > 10
    empty()
    queue.put_nowait(b"one")
    queue.put_nowait(b"two")
    assert [queue.get_nowait(), queue.get_nowait()] == [b"one", b"two"]
    assert queue._inside == []
    queue.destroy()


def test_places_are_given_back_also_if_another_thread_was_in_the_queue(arena: Arena) -> None:
    queue, got = arena.queue(1), []
    reader = threading.Thread(target=lambda: got.append(queue.get(timeout=WATCHDOG_S)))
    reader.start()
    wait_until(lambda: arena.segment.ram.running > 0, "the reader to wait in a kernel")
    publish, tokens = queue._do_publish, []

    def interrupted(claim: int, q: int, token: int, length: int) -> int:
        tokens.append(token)
        raise Interrupted

    queue._do_publish = interrupted
    with pytest.raises(Interrupted):
        queue.put(b"")
    queue._do_publish = publish
    assert queue.qsize() == 0
    with pytest.raises(Full):
        queue.put(b"", timeout=0)  # it might be the reader's
    arena.run(queue_drop, queue._q, tokens[0])
    queue.put(b"message")
    reader.join(WATCHDOG_S)
    queue._do_begin(arena.cpu, queue._at, queue._state)
    queue._lost = True
    queue.put(b"message", timeout=WATCHDOG_S)
    assert got == [b"message"]
    queue.destroy()


def test_a_forked_child_gives_back_what_it_loses_although_a_thread_of_its_parent_waits(
    arena: Arena,
) -> None:
    """That thread is not in the child: nothing of the child's can be its."""
    queue, got = arena.queue(1), []
    reader = threading.Thread(target=lambda: got.append(queue.get(timeout=WATCHDOG_S)))
    reader.start()
    wait_until(lambda: arena.segment.ram.running > 0, "the reader to wait in a kernel")
    pid = os.fork()
    if pid == 0:
        queue._do_begin(arena.cpu, queue._at, queue._state)  # and then comes an exception
        queue._lost = True
        queue.put(b"message", timeout=WATCHDOG_S)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    reader.join(WATCHDOG_S)
    assert got == [b"message"]
    queue.destroy()


def test_an_interrupt_at_any_instruction_loses_no_frame(arena: Arena) -> None:
    pool, taken = arena.pool(2, 3), []

    def use() -> None:
        for frame in taken:  # an interrupted ``give`` is called again
            if frame.held:
                frame.give()
        taken.clear()
        taken.append(pool.take(timeout=0))
        taken[0].give()

    assert at_every_instruction(use, interrupt) > 10
    use()
    assert (pool.free(), pool._inside) == (2, [])
    pool.destroy()


def test_an_interrupt_at_any_instruction_leaves_a_lock_held_or_not(arena: Arena) -> None:
    """Never half of it: held for other processes, and not for this one's threads."""
    lock = arena.lock()
    elsewhere: list[Acquired] = []

    def use() -> None:
        if lock.locked():  # an interrupted ``release`` is called again
            lock.release()
        assert lock.acquire(timeout=0)
        lock.release()

    def others() -> None:
        elsewhere.append(lock.acquire(timeout=0))
        lock.release()

    assert at_every_instruction(use, interrupt) > 10
    use()
    thread = threading.Thread(target=others)
    thread.start()
    thread.join(WATCHDOG_S)
    assert elsewhere == [Acquired.CLEAN]
    lock.destroy()


def test_a_handler_that_asks_for_a_lock_at_any_instruction_never_waits_for_itself(
    arena: Arena,
) -> None:
    lock, told = arena.lock(), []

    def ask() -> None:
        try:
            with lock:
                told.append("free")
        except MisuseError as error:
            told.append("refused" if "this thread holds it" in str(error) else str(error))

    def use() -> None:
        with lock:
            pass

    assert at_every_instruction(use, ask) > 10
    assert set(told) == {"free", "refused"}
    assert not lock.locked()
    lock.destroy()


def test_an_interrupt_at_any_instruction_loses_no_entry_of_a_dict(arena: Arena) -> None:
    table, array = arena.dict(2, item_bytes=64), arena.zeros(3)

    def use() -> None:
        table["array"] = array
        table["bytes"] = b"value"
        table["array"] = b"no array"
        del table["bytes"]
        table["bytes"] = array
        table.pop("bytes")

    assert at_every_instruction(use, interrupt) > 50
    table.clear()
    table[1], table[2] = b"one", b"two"
    table[1], table[2] = b"one more", b"two more"
    assert sorted(table.values()) == [b"one more", b"two more"]
    gc.collect()
    arena.collect()
    # Frames that were cut off may still have arrays that they read; the dict has none.
    ours = [ref for ref in arena._references.live.values() if ref.data == array._ref.data]
    assert array.references == len(ours)
    assert table._inside == []
    table.destroy()
