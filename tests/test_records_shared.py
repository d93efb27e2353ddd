"""Several processes and one database: two write at once, and others read meanwhile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shmalloc.errors import EnvironmentUnfitError
from stress.records.finding import Finding
from stress.records.reader import Reader
from stress.records.work import Work
from stress.records.writer import Records
from support import busy_records
from support.runs import environment

ROUNDS, WRITERS = 40, 2


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, int]]]:
    """A file that two processes wrote at once, and what a reader saw meanwhile: pairs of ended
    rounds and of rounds that the finding counts, each of one snapshot.
    """
    path = tmp_path_factory.mktemp("shared") / "runs.db"
    Records(path).close()
    arguments = [sys.executable, busy_records.__file__, str(path), str(ROUNDS)]
    writers = [
        subprocess.Popen(arguments, env=environment(), stderr=subprocess.PIPE)
        for _ in range(WRITERS)
    ]
    seen: list[tuple[int, int]] = []
    with Reader(path) as reader:
        while any(writer.poll() is None for writer in writers):
            with reader.snapshot():
                rounds = [one for one in reader.rounds() if one.state == "ended"]
                seen.append((len(rounds), sum(one.count for one in reader.findings())))
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors.decode()
    return path, seen


def test_two_writers_lose_nothing(shared: tuple[Path, list[tuple[int, int]]]) -> None:
    with Reader(shared[0]) as reader:
        for run in reader.runs():
            rounds = reader.rounds(run.id)
            assert [one.operations for one in rounds] == [*range(ROUNDS)]
            assert {one.state for one in rounds} == {"ended"}


def test_two_writers_count_one_finding(shared: tuple[Path, list[tuple[int, int]]]) -> None:
    with Reader(shared[0]) as reader:
        assert [one.count for one in reader.findings()] == [WRITERS * ROUNDS]


def test_a_round_is_counted_once_when_two_writers_see_a_finding_in_turns(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    found = Finding("schedule", "race", "push", "two writes", "shmstress replay x")
    with Records(path) as one, Records(path) as other:
        rounds = [(writer, begun(writer)) for writer in (one, other)]
        for writer, round_id in 3 * rounds:
            writer.finding(round_id, found)
        with Reader(path) as reader:
            assert [row.count for row in reader.findings()] == [2]


def begun(records: Records) -> int:
    return records.begin_round(records.begin_run(Work("run", "c")), Work("run", "c"))


def test_a_reader_sees_a_round_together_with_what_it_found(
    shared: tuple[Path, list[tuple[int, int]]],
) -> None:
    _, seen = shared
    assert len({rounds for rounds, _ in seen}) > 2, "nothing was written while it was read"
    assert [rounds for rounds, _ in seen] == [count for _, count in seen]


def test_a_sample_does_not_wait_for_another_writer(tmp_path: Path) -> None:
    from stress.records.database import Busy
    from support.recorded import a_moment

    path = tmp_path / "runs.db"
    with Records(path) as one, Records(path) as other:
        round_id = one.begin_round(one.begin_run(Work("run", "c")), Work("run", "c"))
        with other.together(), pytest.raises(Busy, match="another process keeps it locked"):
            one.sample(round_id, a_moment())


def test_busy_is_an_error_of_the_machine() -> None:
    from stress.records.database import Busy

    assert issubclass(Busy, EnvironmentUnfitError)
