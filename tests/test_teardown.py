"""Threads, signal handlers and the end of an arena: a clear error or an answer, never a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from shmalloc import Arena, MisuseError
from shmalloc import constants as c
from shmalloc.compiler import notice
from shmalloc.engine import Engine
from shmalloc.engine.doctor import native_problem
from support import calling
from support.runs import wait_until

WATCHDOG_S = 60
ROUNDS = int(WATCHDOG_S / 0.05)  # of a kernel that sleeps 50 ms at a time


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena.create(size="1MiB", cpus=4) as made:
        yield made


@pytest.fixture
def word(arena: Arena) -> int:
    """A word of our own, 0; the next one too."""
    at = arena.segment.layout.frame(arena.alloc_pages())
    arena.segment.ram[at] = arena.segment.ram[at + 1] = 0
    return at


@pytest.fixture
def sleeper(arena: Arena, word: int) -> Iterator[threading.Thread]:
    """A thread that is in a kernel of the arena, asleep until the word is set."""
    thread = threading.Thread(target=lambda: arena.run(calling.sleep_until_set, word, ROUNDS))
    thread.start()
    ram = arena.segment.ram
    wait_until(lambda: ram.load(word + 1) > 0, "the thread to sleep in the kernel")
    yield thread
    if ram.words:
        ram.store(word, 1)
    thread.join(WATCHDOG_S)


# --- the end of an arena -------------------------------------------------------------------------
def test_whatever_was_handed_out_stays_readable_when_the_arena_is_closed(engine: Engine) -> None:
    """Restated from numpy #23305 and CPython #102349, for every method that hands memory out."""
    shape = {"page_bytes": 4096, "max_order": 4, "pageblock_order": 3, "engine": engine.name}
    with Arena.create(size="1MiB", cpus=2, **shape) as arena:
        shared = arena.array(np.arange(3))
        cache = arena.cache("frames", 64)
        page, block, kept = arena.alloc_pages(), arena.kmalloc(64), cache.alloc()
        memory = [arena.page(page), arena.memory(block, 64), cache.view(kept)]
        for number, part in enumerate(memory):
            part[:3] = bytes([number, 7, 7])
        arrays = [np.ndarray(3, "u1", buffer=part) for part in memory]
        seen = [np.frombuffer(part, "u1", 3) for part in memory]
        words, values = arena.segment.ram.array[:4], shared.array
        del memory, part
    assert [array.tolist() for array in arrays] == [[n, 7, 7] for n in range(3)]
    assert [array.tolist() for array in seen] == [[n, 7, 7] for n in range(3)]
    assert (values.tolist(), len(words.tolist())) == ([0, 1, 2], 4)


def test_close_refuses_while_another_thread_stays_in_a_kernel(
    arena: Arena, sleeper: threading.Thread, word: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shmalloc.memory.CLOSE_WAIT_S", 0.01)
    with pytest.raises(MisuseError, match="another thread is in a kernel"):
        arena.close()
    arena.segment.ram.store(word, 1)
    sleeper.join(WATCHDOG_S)
    arena.free_pages(arena.alloc_pages())  # as open as before


def _waits(thread: threading.Thread, function: str) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and frame.f_code.co_name != function:
        frame = frame.f_back
    return frame is not None


def test_close_ends_the_waits_of_other_threads(arena: Arena) -> None:
    empty, full, pool = arena.queue(1), arena.queue(1), arena.pool(1, 3)
    mine, told = arena.lock(), []
    full.put(b"")
    frame = pool.take()
    mine.acquire()

    def wait(work: Callable[..., object]) -> None:
        try:
            work(timeout=WATCHDOG_S)
        except MisuseError as error:
            told.append(str(error))

    calls = [empty.get, partial(full.put, b""), pool.take, mine.acquire]
    threads = [threading.Thread(target=wait, args=(work,)) for work in calls]
    for thread in threads:
        thread.start()
    waited = list(zip(threads, ["wait_for"] * 3 + ["acquire"], strict=True))
    wait_until(lambda: all(_waits(*one) for one in waited), "the threads to wait")
    arena.close()
    for thread in threads:
        thread.join(WATCHDOG_S)
    assert ["is closed; attach to it again" in text for text in told] == [True] * 4
    assert frame is not None


def test_a_process_whose_daemon_thread_waits_ends_in_order(arena: Arena) -> None:
    """Without a word, and it has not died: no other process has anything to recover."""
    queue = arena.queue(1)
    script = (
        "import sys, threading, time\n"
        "from shmalloc import open_structure\n"
        "queue = open_structure(bytes.fromhex(sys.argv[1]))\n"
        "threading.Thread(target=queue.get, daemon=True).start()\n"
        "while not queue._arena.segment.ram.running: time.sleep(0.001)\n"
    )
    command = [sys.executable, "-c", script, queue.handle.hex()]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=WATCHDOG_S)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert arena.recover() == []


def test_a_thread_that_calls_after_the_close_gets_an_error(arena: Arena) -> None:
    """Eight threads at work while the arena is closed beneath them, twice at once."""
    errors: list[BaseException] = []
    working = threading.Barrier(9, timeout=WATCHDOG_S)

    def work() -> None:
        try:
            arena.free_pages(arena.alloc_pages())
            working.wait()
            while True:
                arena.free_pages(arena.alloc_pages(order=1), order=1)
                arena.free_pages_bulk(arena.alloc_pages_bulk(3))
        except MisuseError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    working.wait()
    closers = [threading.Thread(target=arena.close) for _ in range(2)]
    for thread in [*closers, *threads]:
        if thread in closers:
            thread.start()
    for thread in [*closers, *threads]:
        thread.join(WATCHDOG_S)
        assert not thread.is_alive()
    assert [("closed" in str(error)) for error in errors] == [True] * 8


# --- one thread at a time ------------------------------------------------------------------------
def test_a_thread_waits_while_another_one_is_in_a_kernel_on_the_same_claim(
    arena: Arena, sleeper: threading.Thread, word: int
) -> None:
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.append(arena.alloc_pages(order=2)))
    thread.start()
    ram = arena.segment.ram
    slept = ram.load(word + 1)
    wait_until(lambda: ram.load(word + 1) > slept + 1, "the sleeper to sleep twice more")
    before = list(got)
    ram.store(word, 1)
    thread.join(WATCHDOG_S)
    assert (before, len(got)) == ([], 1)


def test_a_thread_that_waits_for_memory_keeps_no_other_one_from_freeing_it(arena: Arena) -> None:
    taken = arena.alloc_pages_bulk(arena.geometry.pages)
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.append(arena.alloc_pages(wait_s=WATCHDOG_S)))
    thread.start()
    wait_until(lambda: arena.segment.ram.load(c.H_WAITERS) != 0, "the thread to wait for memory")
    arena.free_pages_bulk(taken)
    thread.join(WATCHDOG_S)
    assert len(got) == 1


def test_what_a_handler_calls_in_the_middle_of_a_call_is_refused(arena: Arena, word: int) -> None:
    """The kernel waits; its listener is Python code, in which a signal handler runs."""
    refused: list[str] = []

    def handler(number: int, frame: object) -> None:
        for call in (arena.alloc_pages, arena.close, lambda: arena.free_pages_bulk([1])):
            with pytest.raises(MisuseError) as caught:
                call()
            refused.append(str(caught.value))
        arena.segment.ram.store(word, 1)

    def listener(index: int) -> None:
        signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    place = arena.segment.ram.place_address
    kept = notice._listeners[place]
    notice.listen(place, listener)
    try:
        arena.run(calling.sleep_until_set, word, ROUNDS)
    finally:
        notice.listen(place, kept)
        signal.signal(signal.SIGUSR1, before)
    assert ["signal handler or a finalizer" in text for text in refused] == [True] * 3
    arena.free_pages(arena.alloc_pages())


def test_an_interpreted_call_in_the_middle_of_another_one_is_refused() -> None:
    with Arena.create(size="64KiB", cpus=2, engine="interpreted") as arena:
        refused: list[str] = []

        def handler(number: int, frame: object) -> None:
            try:
                arena.alloc_pages()
            except MisuseError as error:
                refused.append(str(error))

        before = signal.signal(signal.SIGUSR1, handler)
        sys.settrace(lambda frame, event, _: _raise_in(frame))
        try:
            arena.alloc_pages()
        finally:
            sys.settrace(None)
            signal.signal(signal.SIGUSR1, before)
        assert len(refused) == 1
        assert "signal handler or a finalizer" in refused[0]
        assert arena.validate() == []


def _raise_in(frame: object) -> None:
    """Interrupt one kernel, in its middle."""
    if frame.f_code.co_name == "lock" and sys.gettrace() is not None:  # type: ignore[attr-defined]
        sys.settrace(None)
        signal.raise_signal(signal.SIGUSR1)


def test_a_python_without_the_gil_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert "PYTHON_GIL=1" in str(native_problem())


TESTS = str(Path(__file__).parent)
STORM = [sys.executable, "-W", "ignore", "-m", "support.thread_storm", "--rounds", "30"]


def test_eight_threads_use_one_arena_in_every_way_at_once() -> None:
    """A short one of ``tox -e threads``, which forks among threads."""
    done = subprocess.run(
        STORM,
        capture_output=True,
        text=True,
        timeout=2 * WATCHDOG_S,
        env={**os.environ, "PYTHONPATH": TESTS},
    )
    assert done.stdout.endswith("wrong: []\n"), done.stdout + done.stderr


# --- cold ----------------------------------------------------------------------------------------
COLD = """
import threading
from shmalloc import kernel
from shmalloc.engine import get_engine
from shmalloc.memory import Ram
from support.calling import count_up
ram, answers = Ram.of_words(64), []
barrier = threading.Barrier(8)
def work():
    barrier.wait()
    answers.append(get_engine().call(count_up, ram, 0, 8, 50))
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(answers, ram[8])
"""


def test_the_first_use_by_eight_threads_at_once_compiles_and_ends(tmp_path: object) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COLD],
        capture_output=True,
        text=True,
        timeout=WATCHDOG_S,
        env={**os.environ, "PYTHONPATH": TESTS, "SHMALLOC_CACHE_DIR": f"{tmp_path}"},
    )
    assert (done.stdout, done.stderr) == ("[50, 50, 50, 50, 50, 50, 50, 50] 400\n", "")
