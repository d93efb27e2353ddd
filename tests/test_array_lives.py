"""How long an array lives: what interrupts, forks, and a closed arena do to it."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from shmalloc.arena import Arena
from shmalloc.array_words import held_of
from shmalloc.errors import MisuseError
from support.interrupts import at_every_instruction, interrupt

WATCHDOG_S = 60


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena.create(size="4MiB", cpus=8) as made:
        yield made


def make_and_drop(arena: Arena) -> Callable[[], None]:
    def work() -> None:
        first = arena.full(4, 7.0)
        second = arena.open(arena.send(first))
        del first
        third = arena.empty(4)
        assert second[0] == 7.0
        del second, third
        arena.collect()

    return work


def test_an_interrupt_at_any_instruction_loses_no_reference(arena: Arena) -> None:
    work = make_and_drop(arena)
    work()
    used = arena.statistics().used_pages
    hit = at_every_instruction(work, interrupt)
    assert hit > 80
    gc.collect()  # frames of what was cut off
    arena.recover(transit_older_than=0)
    arena.collect()
    assert held_of(arena.segment, arena.cpu) == 0
    assert arena.leaks() == []
    assert arena.statistics().used_pages <= used + 1  # a table may have grown
    assert arena.validate() == []


def test_a_signal_handler_makes_arrays_at_any_instruction(arena: Arena) -> None:
    work, kept = make_and_drop(arena), []

    def handle() -> None:
        made = arena.full(3, float(len(kept)))
        kept.append(made[1:])
        del kept[:-3]
        assert all((array == array[0]).all() for array in kept)

    work()
    assert at_every_instruction(work, handle) > 80
    values = [array[0] for array in kept]
    assert all((array == value).all() for array, value in zip(kept, values, strict=True))
    gc.collect()
    arena.collect()
    assert held_of(arena.segment, arena.cpu) == len(kept)


def test_a_quiet_process_gives_back_what_it_dropped(arena: Arena) -> None:
    made = arena.zeros(3)
    pfn = (made._ref.data - arena.segment.layout.at["frames"]) // arena.geometry.page_words
    del made
    end = threading.Event()
    waited = 0.0
    while "is allocated" in arena.describe(pfn):
        assert waited < WATCHDOG_S, "waited for the tick to free a dropped array"
        end.wait(0.02)
        waited += 0.02


def test_threads_make_cycles_of_arrays(arena: Arena) -> None:
    wrong: list[object] = []

    def work(value: int) -> None:
        for k in range(150):
            made = arena.full(8, float(value))
            ring: list[object] = [made, made[2:]]
            ring.append(ring)
            if k % 10 == 0 and not (made == value).all():
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WATCHDOG_S)
    assert (wrong, [thread.is_alive() for thread in threads]) == ([], [False] * 4)
    gc.collect()
    arena.collect()
    assert held_of(arena.segment, arena.cpu) == 0


# --- close ---------------------------------------------------------------------------------------
def test_a_view_outlives_its_arena_and_then_the_claim_ends() -> None:
    with Arena.create(size="4MiB", cpus=4) as arena:
        with Arena.attach(arena.name) as other:
            view = other.array(np.arange(6.0))[1:]
            claim = other.cpu
        assert other.closed
        assert arena.slots()[claim].pid == os.getpid()
        reused = [arena.full(6, 777.0) for _ in range(50)]
        assert view.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
        with pytest.raises(ValueError, match="is closed"):
            other.zeros(3)
        del view
        other.collect()
        assert (other.segment.released, arena.slots()[claim].pid) == (True, 0)
        del reused


def test_a_view_of_a_page_outlives_its_arena() -> None:
    arena = Arena.create(size="4MiB", cpus=4)
    page = arena.page(arena.alloc_pages(0))
    page[0] = 9
    bytes_of_page = np.frombuffer(page, "u1")
    del page
    arena.close()
    assert bytes_of_page[0] == 9


# --- forks ---------------------------------------------------------------------------------------
def child_of(work: Callable[[], bool]) -> int:
    """Fork; the child ends by ``os._exit``, 0 if ``work`` gave True."""
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            signal.alarm(WATCHDOG_S)
            code = 0 if work() else 3
        finally:
            os._exit(code)
    return pid


def status_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_has_references_of_its_own(arena: Arena) -> None:
    inherited = [arena.full(64, 5.0) for _ in range(20)]
    go, tell = os.pipe()

    def read() -> bool:
        os.read(go, 1)
        right = all((array == 5).all() for array in inherited)
        own = arena.full(64, 3.0)
        del inherited[:10]
        arena.collect()
        right = right and held_of(arena.segment, arena.cpu) == 11 and own[0] == 3

        def again() -> bool:
            return all((array == 5).all() for array in inherited)

        return right and status_of(child_of(again)) == 0

    child = child_of(read)
    inherited.clear()
    reused = [arena.full(64, 777.0) for _ in range(200)]
    os.write(tell, b"x")
    assert status_of(child) == 0
    os.close(go)
    os.close(tell)
    del reused
    arena.recover()
    arena.collect()
    assert held_of(arena.segment, arena.cpu) == 0
    assert arena.validate() == []


def test_a_child_inherits_beside_the_tickets_of_a_child_before_it(arena: Arena) -> None:
    sent = [arena.full(4, float(k)) for k in range(6)]

    def send_and_die() -> bool:
        for array in sent:
            arena.send(array)
        os.kill(os.getpid(), signal.SIGKILL)
        return False

    assert status_of(child_of(send_and_die)) == -signal.SIGKILL
    arena.recover()
    assert [leak.claim for leak in arena.leaks()] == [1] * 6
    more = [arena.full(4, float(k)) for k in range(6)]

    def drop() -> bool:
        right = arena.cpu == 1 and held_of(arena.segment, 1) == 12
        sent.clear()
        right = right and [array[0] for array in more] == list(range(6))
        more.clear()
        arena.collect()
        return right and held_of(arena.segment, 1) == 0

    assert status_of(child_of(drop)) == 0
    assert [array.references for array in sent] == [2] * 6
    assert [array.references for array in more] == [1] * 6
    assert len(arena.leaks()) == 6


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_child_without_references_of_its_own_is_told_so(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception in a hook of a fork, a signal handler's say, does not stop the fork."""
    assert status_of(child_of(lambda: True)) == 0  # the fork before this one went well
    kept = arena.zeros(3)
    monkeypatch.setattr("shmalloc.arrays.copy_references", interrupt)

    def use() -> bool:
        with pytest.raises(MisuseError, match="references of this child process could not be made"):
            arena.zeros(3)
        return True

    assert status_of(child_of(use)) == 0
    assert kept.references == 1


def test_a_killed_child_leaves_nothing(arena: Arena) -> None:
    kept = arena.full(64, 5.0)

    def die() -> bool:
        arena.full(64, 6.0)
        os.kill(os.getpid(), signal.SIGKILL)
        return False

    for _ in range(3):
        assert status_of(child_of(die)) == -signal.SIGKILL
    arena.recover()
    assert (kept.references, kept[0]) == (1, 5.0)


def ticking_thread(arena: Arena) -> threading.Thread:
    ticker = arena._references._ticker
    assert ticker is not None
    return ticker[0]


def has_ended(thread: threading.Thread) -> bool:
    """It was told to end: while its arena lives, it would go on for ever."""
    thread.join(60)
    return not thread.is_alive()


def test_a_fork_ends_the_ticking_thread(arena: Arena) -> None:
    made = arena.zeros(3)
    first = ticking_thread(arena)
    assert status_of(child_of(lambda: threading.active_count() == 1)) == 0
    assert has_ended(first)
    again = arena.zeros(3)
    arena.recover()
    assert ticking_thread(arena).is_alive()
    assert (made.references, again.references) == (1, 1)


def test_a_closed_arena_has_no_thread() -> None:
    with Arena.create(size="1MiB", engine="interpreted") as arena:
        made = arena.zeros(3)
        thread = ticking_thread(arena)
        del made
    assert has_ended(thread)


def test_where_no_thread_can_begin_the_next_call_gives_back(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    kept = arena.zeros(3)
    arena._references.stop_ticking()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    arena.full(3, 1.0)
    assert arena.full(3, 2.0)[0] == 2.0
    arena.collect()
    assert held_of(arena.segment, arena.cpu) == 1
    monkeypatch.undo()
    again = arena.zeros(3)
    assert "shmalloc-tick" in {thread.name for thread in threading.enumerate()}
    assert kept.sum() == again.sum() == 0


def test_a_handler_may_end_the_ticking_thread_at_any_instruction(arena: Arena) -> None:
    references = arena._references

    def work() -> None:
        references.tick()
        references.stop_ticking()

    assert at_every_instruction(work, references.stop_ticking) > 10
    arena.zeros(3)
    assert "shmalloc-tick" in {thread.name for thread in threading.enumerate()}
