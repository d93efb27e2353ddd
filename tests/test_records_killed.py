"""The writer of a database is killed at each of its statements, and at random: only the running
round is lost, and nothing is there twice.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stress.records.reader import Reader
from stress.records.work import Work
from stress.records.writer import Records
from stress.records.writers import Writers
from support import killed_records
from support.killed_records import RANDOM_DEATHS
from support.runs import environment

SEED = 0x5EED


@pytest.fixture(scope="module")
def deaths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each death left behind: this process has threads, so that another one forks."""
    print(f"seed {SEED:#x}")
    folder = tmp_path_factory.mktemp("killed")
    arguments = [sys.executable, killed_records.__file__, str(folder), hex(SEED)]
    done = subprocess.run(arguments, env=environment(), capture_output=True, timeout=300, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ended(death: dict[str, Any]) -> list[int]:
    return [number for number, state, _ in death["rounds"] if state == "ended"]


def test_a_writer_dies_at_each_of_its_statements_but_the_last_one(deaths: dict[str, Any]) -> None:
    *died, lived = deaths["statements"]
    assert len(died) > 60 and all(death["killed"] for death in died)
    assert not lived["killed"] and lived["failed"] == 0


def test_a_death_leaves_a_whole_file(deaths: dict[str, Any]) -> None:
    every = [*deaths["statements"], deaths["random"]]
    assert [one["integrity"] for one in every] == [[["ok"]]] * len(every)


def test_no_round_is_lost_whose_end_was_told(deaths: dict[str, Any]) -> None:
    lost = [one for one in deaths["statements"] if not {*one["told"]} <= {*ended(one)}]
    assert lost == []


def test_a_death_loses_at_most_the_running_round(deaths: dict[str, Any]) -> None:
    for death in deaths["statements"][:-1]:
        states = [state for _, state, _ in death["rounds"]]
        assert states[:-1] == ["ended"] * len(states[:-1]), death
        assert states[-1:] in ([], ["ended"], ["lost"]), death


def test_a_round_and_what_it_found_are_there_together_or_not_at_all(deaths: dict[str, Any]) -> None:
    for death in (*deaths["statements"], deaths["random"]):
        rounds = len(ended(death))
        assert death["findings"] == ([[rounds]] if rounds else []), death
        assert death["sightings"] == [[rounds]], death
        assert death["violations"] == [[2 * rounds]], death


def test_a_run_that_is_killed_and_resumed_has_each_round_once(deaths: dict[str, Any]) -> None:
    whole = deaths["random"]
    assert whole["deaths"] == RANDOM_DEATHS
    numbers = [number for number, _, _ in whole["rounds"]]
    assert numbers == [*range(1, len(numbers) + 1)]
    assert all(done in (number, None) for number, _, done in whole["rounds"])


def test_a_resumed_run_loses_one_round_a_death_at_most(deaths: dict[str, Any]) -> None:
    whole = deaths["random"]
    assert len(whole["rounds"]) - len(ended(whole)) <= RANDOM_DEATHS
    assert {*whole["told"]} <= {*ended(whole)}


def test_a_forked_child_does_not_keep_the_run_of_its_parent_alive(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from stress.records.writer import Records, Work\n"
        "records = Records(sys.argv[1])\n"
        "records.begin_run(Work('run', 'c'))\n"
        "if os.fork() == 0:\n"
        "    print(os.getpid(), flush=True)\n"
        "    signal.pause()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "runs.db"
    arguments = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            assert parent.wait(60) == -signal.SIGKILL
            with Reader(path) as reader:
                assert reader.runs()[0].state == "lost"
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_lock_names_one_run(tmp_path: Path) -> None:
    one, other = (Writers(tmp_path / "runs.db", writing=True) for _ in range(2))
    try:
        assert one.hold(3) and not other.hold(3) and other.hold(4)
        assert other.alive(3) and not other.alive(5)
    finally:
        one.close()
        other.close()


def test_a_lock_stays_when_another_object_closes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with Records(path) as records:
        run = records.begin_run(Work("run", "c"))
        Records(path).close()
        with Reader(path) as reader:
            assert reader.run(run).state == "running"
