"""What a program is told that makes the mistakes of a first day, and what its objects show."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from shmalloc import Arena, CorruptionError, MisuseError, SegmentError, SharedArray

WATCHDOG_S = 60.0


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena.create(size="1MiB", cpus=2, engine="interpreted") as made:
        yield made


MISTAKES: dict[str, tuple[Callable[[Arena], object], str]] = {
    "size by position": (lambda _: Arena.create("64MiB"), r"use size='64MiB'"),
    "text as a number": (lambda _: Arena.create(size="1MiB", cpus="2"), r"cpus: '2'; use an int"),
    "no name": (lambda _: Arena.attach(None), r"name: None; use the name of an arena"),
    "an array of no arena": (lambda _: SharedArray((3,)), r"arena.zeros\(shape\)"),
    "frames too large": (
        lambda a: a.pool(2, (3840, 2160, 3), "u1"),
        r"the largest block has 4MiB: create the arena with a larger max_order \(to 11\)",
    ),
    "no object": (lambda a: a.kfree(0), r"expected the address of an object, found no object"),
    "too large an arena": (lambda _: Arena.create(size="1TiB"), r"use at most 274,877,906,944"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_refused_with_its_cure(arena: Arena, mistake: str) -> None:
    make, said = MISTAKES[mistake]
    with pytest.raises((MisuseError, CorruptionError), match=said):
        make(arena)


def test_a_structure_shows_what_it_is_at_this_moment(arena: Arena) -> None:
    hits, pair, lock = arena.atomic(3, name="hits"), arena.atomic_pair(1, 2), arena.lock()
    queue, pool = arena.queue(4), arena.pool(2, (3, 5), "u1")
    table = arena.dict(8)
    table["key"] = b"value"
    queue.put(b"one")
    frame = pool.take()
    of = f"of {arena.name}: "
    assert repr(hits) == f"<Atomic hits {of}3>"
    assert repr(pair).endswith(of + "(1, 2)>")
    assert repr(table).endswith(of + "1 of 8 keys>")
    assert repr(queue).endswith(of + "1 of 4 messages>")
    assert repr(frame).endswith(of + "1 of 2 frames free, (3, 5) of uint8>>")
    assert repr(lock).endswith(of + "free>")
    with lock:
        assert repr(lock).endswith(of + "held>")
    hits.destroy()
    assert repr(hits).endswith(of + "destroyed>")
    frame.give()
    arena.close()
    assert all(repr(each).endswith(of + "closed>") for each in (pair, lock, queue, pool))


def test_numpy_takes_a_frame_for_its_array(arena: Arena) -> None:
    with arena.pool(1, 4, "i4").take() as frame:
        frame.array[:] = range(4)
        assert np.asarray(frame) is frame.array
        assert (np.sum(frame), np.asarray(frame, "f8").tolist()) == (6, [0.0, 1.0, 2.0, 3.0])
        copied = np.array(frame, copy=True)
        copied[0] = 9
        assert frame.array[0] == 0


def test_an_array_that_is_shared_with_nobody_is_shown_as_plain(arena: Arena) -> None:
    shared = arena.ones(2)
    assert repr(shared) == repr(shared[:]) == "SharedArray([1., 1.])"
    assert repr(shared.copy()) == repr(np.ones_like(shared)) == "array([1., 1.])"


PROGRAM = """
import multiprocessing
from shmalloc import Arena
own = Arena.create(size="1MiB", engine="interpreted")
named = Arena.create({name!r}, size="1MiB", engine="interpreted")
if __name__ == "__main__":
    worker = multiprocessing.get_context("spawn").Process(target=print)
    worker.start()
    worker.join()
"""


def test_a_worker_that_makes_its_arenas_again_is_told_of_the_main_guard(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    name = f"guard-{tmp_path.name}-{os.getpid()}"
    program.write_text(PROGRAM.format(name=name))
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=WATCHDOG_S
    )
    cure = 'create the arena under `if __name__ == "__main__":`'
    told = [line for line in done.stderr.splitlines() if cure in line]
    assert len(told) == 2, done.stderr
    assert "program.py:4: RuntimeWarning" in told[0]
    assert f"{SegmentError.__name__}: name: {name!r} exists" in told[1]
    assert done.stdout == ""
