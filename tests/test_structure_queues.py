"""The queue: what goes in comes out, once and in order; what it refuses; histories of processes."""

import logging
import logging.handlers
import multiprocessing
import os
import pickle
import threading
from functools import partial
from queue import Empty, Full

import numpy as np
import pytest

from shmalloc import Arena, MisuseError, OutOfMemoryError, ShutDown, open_structure
from shmalloc.structures.kernels.ring import queue_take
from stress.linearize import check, models
from support.structure_histories import history

PATIENCE_S = 60.0


@pytest.fixture
def arena():
    with Arena.create(size="2MiB", engine="interpreted") as made:
        yield made
        assert made.validate() == []


@pytest.fixture(scope="module")
def shared():
    with Arena.create(size="4MiB") as made:
        yield made
        assert made.validate() == []


def free_pages(arena):
    arena.drain()
    return sum(zone.free_pages for zone in arena.statistics().zones)


def test_messages_come_in_order_bytes_as_they_are_and_others_pickled(arena):
    queue = arena.queue(4, item_bytes=300)
    messages = [b"", b"x" * 300, {"a": [1, 2.5]}, "text"]
    for message in messages:
        queue.put(message)
    assert (queue.qsize(), queue.full()) == (4, True)
    assert [queue.get() for _ in messages] == messages
    assert queue.empty()


def test_a_queue_goes_round_many_times(arena):
    queue = arena.queue(3, item_bytes=8)
    for number in range(50):
        queue.put(number.to_bytes(8, "little"))
        queue.put(b"second")
        assert queue.get() == number.to_bytes(8, "little")
        assert queue.get() == b"second"


def test_a_full_queue_and_an_empty_one_say_so(arena):
    queue = arena.queue(1)
    for wait in (queue.get_nowait, lambda: queue.get(timeout=0.001)):
        with pytest.raises(Empty):
            wait()
    queue.put(1)
    for wait in (partial(queue.put_nowait, 2), lambda: queue.put(2, timeout=0.001)):
        with pytest.raises(Full):
            wait()
    assert queue.get() == 1


def test_what_is_too_large_or_cannot_be_pickled_is_refused_and_takes_no_place(arena):
    queue = arena.queue(1, item_bytes=100)
    with pytest.raises(MisuseError, match="message: 101 bytes; this queue takes 100"):
        queue.put(b"x" * 101)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        queue.put(lambda: None)
    queue.put(b"x" * 100)
    with pytest.raises(MisuseError, match="timeout: -1"):
        queue.put(b"", timeout=-1)


def test_the_arrays_of_a_message_that_is_not_sent_are_not_in_transit(arena):
    queue, sent = arena.queue(1, item_bytes=300), arena.zeros(3)
    queue.put((sent, 1))
    with pytest.raises(Full):
        queue.put_nowait((sent, sent[1:]))
    with pytest.raises(MisuseError, match="this queue takes 300"):
        queue.put((sent, b"x" * 300))
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        queue.put((sent, lambda: None))
    assert (len(arena.leaks()), sent.references) == (1, 2)
    got, _ = queue.get()
    assert (arena.leaks(), sent.references, np.may_share_memory(got, sent)) == ([], 2, True)


def test_a_queue_without_room_is_refused_and_leaves_nothing():
    with Arena.create(size="1MiB", engine="interpreted") as arena:
        free = free_pages(arena)
        with pytest.raises(OutOfMemoryError, match=r"queue\(maxsize=1000, item_bytes=4096\)"):
            arena.queue(1000)
        for wrong in (0, -1, 1 << 20, True, "2"):
            with pytest.raises(MisuseError, match="maxsize: "):
                arena.queue(wrong)
        assert free_pages(arena) == free
        arena.queue(2).destroy()
        assert free_pages(arena) == free


def test_a_destroyed_queue_is_refused(arena):
    queue = arena.queue(2)
    queue.destroy()
    arena.queue(2)
    for use in (partial(queue.put, b""), queue.get, queue.qsize):
        with pytest.raises(MisuseError, match="queue: it was destroyed"):
            use()


def test_an_exception_in_the_middle_of_a_get_leaves_the_message(arena):
    queue = arena.queue(1)
    queue.put(b"kept")
    places = queue._places
    queue._places = []
    for use in (queue.get, partial(queue.put, b"more", timeout=0.001)):
        with pytest.raises((IndexError, Full)):
            use()
    queue._places = places
    assert queue.get(timeout=1) == b"kept"
    queue._places = []
    with pytest.raises(IndexError):
        queue.put(b"torn")
    queue._places = places
    queue.put_nowait(b"whole")
    assert queue.get() == b"whole"


def test_it_is_called_as_the_queues_of_the_standard_library(arena):
    """By position, too: as logging's QueueListener does. Restated from faster-fifo #42."""
    queue = arena.queue(1)
    queue.put("first", True, 1.0)
    for put in (queue.put_nowait, partial(queue.put, block=False), partial(queue.put, timeout=0)):
        with pytest.raises(Full):
            put("second")
    assert queue.get(True, 1.0) == "first"
    for get in (queue.get_nowait, partial(queue.get, False), partial(queue.get, True, 0)):
        with pytest.raises(Empty):
            get()
    for wrong in (1.5, "no", None):
        with pytest.raises(MisuseError, match=r"block: .*timeout=\.\.\. for seconds"):
            queue.get(wrong)


def test_a_queue_that_is_shut_down_gives_what_it_has_and_takes_nothing(arena):
    """Restated from CPython #96471: consumers learn that no message will come."""
    queue = arena.queue(3)
    queue.put("first")
    queue.put("second")
    queue.shutdown()
    for put in (queue.put, queue.put_nowait, partial(queue.put, timeout=1)):
        with pytest.raises(ShutDown):
            put("late")
    assert list(queue) == ["first", "second"]
    for get in (queue.get, queue.get_nowait, partial(queue.get, timeout=1)):
        with pytest.raises(ShutDown):
            get()
    thrown = arena.queue(2)
    thrown.put(1)
    thrown.shutdown(immediate=True)
    with pytest.raises(ShutDown):
        thrown.get()
    assert thrown.qsize() == 0


def test_who_waits_is_told_of_the_shutdown(shared):
    empty, full, told = shared.queue(1), shared.queue(1), []
    full.put(0)

    def wait(work):
        try:
            work(timeout=PATIENCE_S)
        except ShutDown:
            told.append(work)

    calls = [empty.get, partial(full.put, 1)]
    threads = [threading.Thread(target=wait, args=(work,)) for work in calls]
    for thread in threads:
        thread.start()
    empty.shutdown()
    full.shutdown()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(told) == 2
    empty.destroy()
    full.destroy()


def test_a_put_that_began_before_the_shutdown_is_waited_for(arena):
    """Until its message is there, or its process is dead."""
    queue = arena.queue(2)
    token = queue._do_begin(arena.cpu, queue._at, queue._state)
    queue.shutdown()
    with pytest.raises(Empty):
        queue.get(timeout=0)
    queue._do_publish(arena.cpu, queue._q, token, 0)
    assert queue.get() == b""
    with pytest.raises(ShutDown):
        queue.get()


def begin_and_die(handle):
    queue = open_structure(handle)
    queue._do_begin(queue._arena.cpu, queue._at, queue._state)
    os.kill(os.getpid(), 9)


def test_a_producer_that_died_keeps_nobody_waiting_after_the_shutdown(shared):
    queue = shared.queue(2)
    child = multiprocessing.get_context("fork").Process(target=begin_and_die, args=(queue.handle,))
    child.start()
    child.join(PATIENCE_S)
    assert child.exitcode == -9
    queue.shutdown()
    assert list(queue) == []
    queue.destroy()


def test_logging_sends_its_records_through_it(arena):
    queue, told = arena.queue(4), []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    listener = logging.handlers.QueueListener(queue, handler)
    listener.start()
    logging.handlers.QueueHandler(queue).handle(logging.makeLogRecord({"msg": "from a worker"}))
    listener.stop()  # by a last message, behind the others
    assert told == ["from a worker"]


def test_threads_use_one_queue(shared):
    queue, got = shared.queue(2), []

    def consume():
        for _ in range(50):
            got.append(queue.get(timeout=PATIENCE_S))

    threads = [threading.Thread(target=consume) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(100):
        queue.put(number, timeout=PATIENCE_S)
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(got) == list(range(100))
    queue.destroy()


def take_and_die(handle):
    """A consumer that dies before it has its copy."""
    queue = open_structure(handle)
    queue._arena.run(queue_take, queue._q)
    os.kill(os.getpid(), 9)


def test_the_message_of_a_dead_consumer_comes_to_another_one_and_once(shared):
    queue = shared.queue(2)
    queue.put("first")
    queue.put("second")
    child = multiprocessing.get_context("fork").Process(target=take_and_die, args=(queue.handle,))
    child.start()
    child.join(PATIENCE_S)
    assert child.exitcode == -9
    assert sorted([queue.get(timeout=PATIENCE_S), queue.get(timeout=PATIENCE_S)]) == [
        "first",
        "second",
    ]
    with pytest.raises(Empty):
        queue.get(0)
    queue.destroy()


def double(handle):
    queue = open_structure(handle)
    array = queue.get(timeout=PATIENCE_S)
    array *= 2
    queue.put(array[1:], timeout=PATIENCE_S)


def test_an_array_passes_through_a_queue_and_its_sender_may_drop_it(shared):
    """As a ticket: both processes have the same memory, and no reference is left over."""
    queue = shared.queue(1)
    queue.put(shared.array([1, 2, 3]))
    child = multiprocessing.get_context("fork").Process(target=double, args=(queue.handle,))
    child.start()
    child.join(PATIENCE_S)
    assert child.exitcode == 0
    view = queue.get(timeout=PATIENCE_S)
    assert (view.tolist(), view.references, shared.leaks()) == ([4, 6], 1, [])
    queue.destroy()


def exchange(number, structures, do):
    (queue,) = structures

    def get():
        try:
            return queue.get(0)
        except Empty:
            return models.EMPTY

    for turn in range(15):
        item = (number, turn)
        do("enqueue", item, partial(queue.put, item, timeout=PATIENCE_S))
        do("dequeue", None, get)


def test_the_history_of_three_processes_is_linearizable(shared):
    queue = shared.queue(8)
    found = history(shared, [queue.handle], exchange, clients=3)
    assert len(found) == 90
    assert check(found, models.queue()).verdict == "linearizable"
    queue.destroy()
