"""The lock on a file: it excludes, it never outlives its holder, and a wait tells and ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shmalloc import file_lock, leftovers
from shmalloc.errors import SegmentError

# Argument 1: the file, 2: what to do while it is locked.
HOLDER = """
import fcntl, os, signal, sys
from shmalloc import file_lock, leftovers
from pathlib import Path
def held(how):
    child = os.fork() if how == "fork" else 0
    if child == 0:
        sys.stdout.write("held\\n")
        sys.stdout.flush()
        sys.stdin.readline()
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[3] == "block":
    with file_lock.exclusive(sys.argv[1], "it"):
        held(sys.argv[2])
else:
    with file_lock.lock_of(os.open(sys.argv[1], os.O_RDONLY)):
        held(sys.argv[2])
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "file"
    path.touch()
    return str(path)


def holder(file: str, how: str, kind: str) -> subprocess.Popen[str]:
    """A process that is within the lock, or whose child is after it was killed there."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, file, how, kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("kind", ["block", "sweep"])
def test_a_child_of_a_killed_holder_keeps_no_process_out(file: str, kind: str) -> None:
    with holder(file, "fork", kind) as process:
        process.wait(timeout=60)
        with file_lock.exclusive(file, "it", limit_s=0):
            pass


def test_a_wait_ends_and_names_the_holder(file: str) -> None:
    with holder(file, "stay", "block") as process:
        with (
            pytest.raises(SegmentError, match=rf"^it: process {process.pid} has kept others out"),
            file_lock.exclusive(file, "it", limit_s=0),
        ):
            pass
        process.communicate("\n")


def test_a_long_wait_is_told_once(
    file: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(file_lock, "TELL_AFTER_S", 0)
    with holder(file, "stay", "block") as process:
        with pytest.raises(SegmentError), file_lock.exclusive(file, "it", limit_s=0.05):
            pass
        assert caplog.messages == [f"it: waiting for process {process.pid}"]
        process.communicate("\n")


def test_after_the_block_the_file_is_free(file: str) -> None:
    with pytest.raises(ZeroDivisionError), file_lock.exclusive(file, "it"):
        raise ZeroDivisionError
    with file_lock.exclusive(file, "it", limit_s=0):
        pass


def test_what_is_locked_is_not_waited_for_by_a_sweep(file: str) -> None:
    with file_lock.exclusive(file, "it"):
        handle = os.open(file, os.O_RDONLY)
        with file_lock.lock_of(handle) as locked:
            assert not locked
        os.close(handle)
        assert not leftovers._sweep_one(Path(file))
