"""Forks of a process that uses an arena: every child has a claim of its own, however it is made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from shmalloc import Arena, MisuseError, forking
from shmalloc import constants as c
from support.runs import wait_until

WATCHDOG_S = 60


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena.create(size="1MiB", cpus=4) as made:
        made.free_pages(made.alloc_pages())  # its kernels are loaded
        yield made


def forked(body: Callable[[], object]) -> int:
    """Run ``body`` in a forked child; its pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(WATCHDOG_S)
            body()
            status = 0
        finally:
            os._exit(status)
    return pid


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_goes_on_with_the_inherited_arena_on_a_claim_of_its_own(arena: Arena) -> None:
    def body() -> None:
        assert arena.cpu == 1
        mine = [slot for slot in arena.slots() if slot.pid == os.getpid()]
        assert [(slot.cpu, slot.alive) for slot in mine] == [(1, True)]
        arena.free_pages(arena.alloc_pages(order=3), order=3)
        arena.free_pages_bulk(arena.alloc_pages_bulk(20))
        arena.kfree(arena.kmalloc(100))
        arena.close()

    kept = arena.alloc_pages_bulk(3)  # the page that passes lists of pages stays the parent's
    assert ended(forked(body)) == 0
    arena.free_pages_bulk(kept)
    assert (arena.cpu, arena.slots()[1].free, arena.validate()) == (0, True, [])


def test_children_that_end_without_a_word_lose_no_slot(arena: Arena) -> None:
    for _ in range(9):
        assert ended(forked(arena.alloc_pages)) == 0
    arena.recover()
    assert [slot.claim for slot in arena.slots() if not slot.free] == [0]


def test_a_child_that_is_killed_is_recovered_and_a_grandchild_lives_on(arena: Arena) -> None:
    reader, writer = os.pipe()

    def body() -> None:
        forked(lambda: os.read(reader, 1) and arena.alloc_pages())
        os.kill(os.getpid(), signal.SIGKILL)

    assert ended(forked(body)) == -signal.SIGKILL
    wait_until(lambda: arena.slots()[1].dead, "the grandchild to have closed what it inherited")
    recovered = [dead.cpu for dead in arena.recover()]
    grandchild = arena.slots()[2]
    os.write(writer, b"x")
    assert (recovered, grandchild.alive) == ([1], True)
    wait_until(lambda: arena.slots()[2].dead, "the grandchild to end")


def test_a_fork_that_fails_leaves_a_claim_that_is_recovered(arena: Arena) -> None:
    forking._before()
    forking._after_in_parent()
    assert [dead.cpu for dead in arena.recover()] == [1]


def test_a_child_without_a_claim_is_told_so() -> None:
    with Arena.create(size="1MiB", cpus=1, claims=1) as arena:

        def body() -> None:
            with pytest.raises(MisuseError, match="no claim was free for this process when"):
                arena.alloc_pages()

        assert ended(forked(body)) == 0


def test_a_fork_waits_until_other_threads_are_out_of_calls_that_hold_the_arena(
    arena: Arena,
) -> None:
    inside, left = threading.Event(), []

    def hold() -> None:
        with arena._lock:
            inside.set()
            wait_until(lambda: forking._told, "the fork to ask for the arena")
            left.append(True)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(WATCHDOG_S)
    child = forked(lambda: left[0] and arena.alloc_pages_bulk(2))
    thread.join(WATCHDOG_S)
    assert ended(child) == 0


def test_a_child_cannot_remove_the_segment_of_its_parent(arena: Arena) -> None:
    def body() -> None:
        with pytest.raises(MisuseError, match=r"made .*, and we are a fork of it"):
            arena.unlink()

    assert ended(forked(body)) == 0
    assert arena.name in os.listdir("/dev/shm")


FORK_IN_A_FORK = """
import os

from shmalloc import Arena, MisuseError, forking

def forked(body):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    return pid

def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def refused():
    try:
        arena.alloc_pages()
    except MisuseError as error:
        assert "another fork was under way" in str(error)
    else:
        raise AssertionError("it was not refused")

class Handler:
    def before_fork(self):
        self.inner = forked(refused)

    def after_fork_in_parent(self): ...

    def after_fork_in_child(self, told): ...

with Arena.create(size="1MiB", cpus=4) as arena:
    handler = Handler()
    forking.follow(handler)
    outer = forked(lambda: arena.free_pages_bulk(arena.alloc_pages_bulk(2)))
    forking.forget(handler)
    print(ended(handler.inner), ended(outer))
    print(ended(forked(lambda: arena.free_pages(arena.alloc_pages()))))
    print(arena._lock._is_owned(), arena.validate())
"""


def test_a_fork_in_the_middle_of_another_one_leaves_that_one_as_it_was() -> None:
    """As of a signal handler: it comes when the first child's claim is made, before that fork.

    In a process of its own: a library that is imported here (concurrent.futures) takes a lock
    before each fork, which waits for ever for a fork within a fork.
    """
    done = subprocess.run(
        [sys.executable, "-c", FORK_IN_A_FORK], capture_output=True, text=True, timeout=WATCHDOG_S
    )
    assert (done.stdout.split("\n"), done.stderr) == (["0 0", "0", "False []", ""], "")


def test_a_fork_among_many_living_children_does_not_look_at_each(arena: Arena) -> None:
    reader, writer = os.pipe()
    looks: list[int] = []
    is_held = arena.segment.claim_is_held
    arena.segment.claim_is_held = lambda n: looks.append(n) or is_held(n)  # type: ignore[method-assign]
    children = []
    for _ in range(33):
        children.append(os.fork())
        if children[-1] == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
    os.close(writer)
    assert [ended(child) for child in children] == [0] * 33
    assert len(looks) < 33 * 33 / 3
    assert len(arena.recover()) == 33
    os.close(reader)


FORK_OF_C = """
import ctypes, os
from shmalloc import Arena, MisuseError
with Arena.create(size="1MiB", cpus=4) as arena:
    arena.free_pages(arena.alloc_pages())
    pid = ctypes.CDLL(None).fork()
    if pid == 0:
        try:
            arena.alloc_pages()
        except MisuseError as error:
            print(error, flush=True)
        arena.close()
        os._exit(0)
    print(os.waitpid(pid, 0)[1], len(arena.recover()), arena.cpu, arena.validate())
    arena.free_pages(arena.alloc_pages())
"""


def test_a_fork_that_runs_no_hooks_is_refused_by_every_kernel() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK_OF_C], capture_output=True, text=True, timeout=WATCHDOG_S
    )
    refusal, rest = done.stdout.splitlines()
    assert "this process is a fork without Python's hooks" in refusal
    assert (rest, done.stderr) == ("0 0 0 []", "")


def test_a_parent_works_on_while_its_children_are_killed_in_the_allocator() -> None:
    """No process calls ``recover``: who waits or needs memory does it, and who forks."""
    with Arena.create(size="32MiB", cpus=4) as arena:
        ram, layout = arena.segment.ram, arena.segment.layout
        claims = range(1, arena.segment.geometry.claims)  # whichever a child gets
        counts = [layout.cpu(claim) + c.C_EVENTS + c.EV_ALLOC for claim in claims]

        def churn() -> None:
            while True:
                arena.free_pages_bulk(arena.alloc_pages_bulk(8, order=2), order=2)
                arena.free_pages(arena.alloc_pages(order=5), order=5)

        def allocated() -> int:
            return sum(ram.load(word) for word in counts)

        for _ in range(12):
            before = allocated()
            child = forked(churn)
            wait_until(lambda: allocated() > before, "the child to allocate")  # noqa: B023
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            arena.free_pages_bulk(arena.alloc_pages_bulk(8, order=2), order=2)
        for dead in arena.recover():
            arena.reap(dead)
        assert arena.validate() == []
