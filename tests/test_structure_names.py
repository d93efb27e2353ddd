"""Names of structures: how unrelated processes find what others have made."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from shmalloc import Arena, MisuseError
from shmalloc.structures.kernels.entries import make_structure
from shmalloc.structures.names import ST_NAME, words_of

WATCHDOG_S = 60.0


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena.create(size="1MiB", cpus=2, engine="interpreted") as made:
        yield made


def test_every_kind_is_found_by_its_name_and_listed(arena: Arena) -> None:
    made = [
        arena.atomic(7, name="count"),
        arena.atomic_pair(1, 2, name="pair"),
        arena.lock(name="lock"),
        arena.queue(2, name="x" * 32),
        arena.pool(1, 3, name="a.b-c_9"),
        arena.lock(),
    ]
    assert [one.name for one in made] == ["count", "pair", "lock", "x" * 32, "a.b-c_9", None]
    assert [arena.find(one.name) for one in made if one.name] == made[:-1]
    assert arena.structures() == made
    assert (arena.find("count").load(), arena.find("pair").load()) == (7, (1, 2))
    made[3].destroy()
    assert arena.structures() == made[:3] + made[4:]


def test_a_name_has_one_structure_at_a_time(arena: Arena) -> None:
    first = arena.lock(name="one")
    with pytest.raises(MisuseError, match=r"<Lock one of .* has it; use find\('one'\)"):
        arena.queue(2, name="one")
    first.destroy()
    with pytest.raises(MisuseError, match="no structure 'one'"):
        arena.find("one")
    assert arena.queue(2, name="one").name == "one"


@pytest.mark.parametrize("wrong", ["", "x" * 33, "a b", "a/b", "\u00e9", 5, b"one"])
def test_what_cannot_be_a_name_is_refused(arena: Arena, wrong: object) -> None:
    with pytest.raises(MisuseError, match=r"name: .*; use 1 to 32 letters"):
        arena.lock(name=wrong)
    with pytest.raises(MisuseError, match=r"name: .*; use 1 to 32 letters"):
        arena.find(wrong)
    assert arena.structures() == []


def test_find_waits_for_who_makes_it(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, found = threading.Event(), []

    def nap(seconds: float) -> None:
        waits.set()
        os.sched_yield()

    monkeypatch.setattr("shmalloc.structures.operations.time.sleep", nap)
    thread = threading.Thread(target=lambda: found.append(arena.find("late", timeout=WATCHDOG_S)))
    thread.start()
    assert waits.wait(WATCHDOG_S), "the thread did not wait for the structure"
    made = arena.lock(name="late")
    thread.join(WATCHDOG_S)
    assert found == [made]


def test_a_structure_whose_maker_is_not_ready_is_not_found(arena: Arena) -> None:
    """Nor when it died: its entry was never published."""
    at = arena.run(make_structure, 3)
    for i, word in enumerate(words_of("half")):
        arena.segment.ram[at + ST_NAME + i] = word
    assert arena.structures() == []
    assert arena.lock(name="half").name == "half"


RIVAL = """
import sys
from shmalloc import Arena, MisuseError
with Arena.attach(sys.argv[1]) as arena:
    sys.stdin.readline()
    try:
        arena.atomic(name="first")
        print("made")
    except MisuseError:
        arena.find("first").add(1)
        print("found")
"""


def test_of_processes_that_make_one_at_once_one_does() -> None:
    with Arena.create(size="1MiB", cpus=4) as arena:
        command = [sys.executable, "-c", RIVAL, arena.name]
        rivals = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        for rival in rivals:
            assert rival.stdin is not None
            rival.stdin.write("\n")
            rival.stdin.flush()
        said = sorted(rival.communicate(timeout=WATCHDOG_S)[0].strip() for rival in rivals)
        assert said == ["found", "found", "made"]
        assert arena.find("first").load() == 2
