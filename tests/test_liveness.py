"""Who is alive: the lock of a claim, in other processes, pid namespaces and at every end."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from shmalloc import Arena, EnvironmentUnfitError, liveness
from shmalloc.segment import Segment
from support.runs import wait_until

CLAIMER = """
import sys
from shmalloc import Arena
arena = Arena.attach(sys.argv[1], engine="interpreted")
pfn = arena.alloc_pages(order=2)
print(arena.cpu, pfn, flush=True)
sys.stdin.readline()
arena.close()
"""
OBSERVER = """
import sys
from shmalloc import Arena
with Arena.attach(sys.argv[1], engine="interpreted") as arena:
    print(arena.slots()[0].alive, arena.recover())
"""


@pytest.fixture
def arena() -> Iterator[Arena]:
    shape = {"page_bytes": 512, "max_order": 4, "pageblock_order": 3}
    with Arena.create(size="256KiB", cpus=3, engine="interpreted", **shape) as made:
        yield made


@pytest.fixture
def other(arena: Arena) -> Iterator[subprocess.Popen[str]]:
    """A process that has claimed slot 1, owns a block, and closes its arena when it gets a line."""
    child = subprocess.Popen(
        [sys.executable, "-c", CLAIMER, arena.name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline().split()[0] == "1"
    yield child
    child.kill()
    child.communicate()


def test_a_stopped_process_is_alive_and_a_zombie_is_dead(
    arena: Arena, other: subprocess.Popen[str]
) -> None:
    other.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, other.pid, os.WSTOPPED)
    stopped = arena.slots()[1]
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    zombie = arena.slots()[1]
    assert (stopped.alive, stopped.dead, zombie.alive, zombie.dead) == (True, False, False, True)


def test_a_process_of_another_pid_namespace_is_alive(arena: Arena) -> None:
    """Two containers with one /dev/shm: the pid of a record means nothing in the other one."""
    unshare = shutil.which("unshare")
    enter = [unshare or "", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if unshare is None or subprocess.run([*enter, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets us make no pid namespace")
    done = subprocess.run(
        [*enter, sys.executable, "-c", OBSERVER, arena.name],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("True []\n", "")


def test_one_that_closes_between_the_looks_at_record_and_lock_is_not_taken_for_dead(
    arena: Arena, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    look: Callable[[int, int], bool] = liveness.is_held

    def close_first(file: int, number: int) -> bool:
        if number == 1 and other.poll() is None:
            other.communicate("\n", timeout=60)
        return look(file, number)

    monkeypatch.setattr(liveness, "is_held", close_first)
    assert (arena.recover(), arena.slots()[1].free) == ([], True)


def test_a_claim_ends_with_the_segment_of_a_process_that_lives_on(arena: Arena) -> None:
    segment = Segment.attach(arena.name)
    assert segment.hold_claim(2)
    assert not arena.segment.hold_claim(2)
    held = arena.segment.claim_is_held(2)
    segment.close()
    assert (held, arena.segment.claim_is_held(2)) == (True, False)


def test_a_forked_child_does_not_keep_the_claim_of_its_parent_alive(arena: Arena) -> None:
    """The child outlives its parent, which is killed."""
    forks = CLAIMER.replace("sys.stdin", "import os; os.fork(); sys.stdin")
    parent = subprocess.Popen(
        [sys.executable, "-c", forks, arena.name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    parent.stdout.readline()
    children = f"/proc/{parent.pid}/task/{parent.pid}/children"
    with open(children) as file:
        wait_until(lambda: file.seek(0) == 0 and file.read() != "", "the fork")
        file.seek(0)
        child = int(file.read())
    parent.kill()
    parent.wait()
    os.kill(child, 0)  # lives
    wait_until(lambda: arena.slots()[1].dead, "the parent's claim to be dead")
    parent.communicate()


def test_a_file_system_without_such_locks_is_unfit(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with pytest.raises(EnvironmentUnfitError, match="mount a tmpfs"):
        Arena.attach(arena.name, engine="interpreted")
