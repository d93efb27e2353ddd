"""The database of runs: what a writer wrote is read, once, while it writes and after it died."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from shmalloc.errors import MisuseError, Violation
from stress.records.finding import Attachment, Finding
from stress.records.fingerprint import Ignored
from stress.records.reader import Reader
from stress.records.receiver import RecordingProgress
from stress.records.work import Work
from stress.records.writer import Records

WORK = Work("run", "shmstress run --seed 0x5", {"workers": 2}, seed=5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def records(path: Path) -> Iterator[Records]:
    with Records(path) as records:
        yield records


def begun(records: Records) -> tuple[int, int]:
    run = records.begin_run(WORK)
    return run, records.begin_round(run, WORK)


def tail(pfn: int, found: str = "2") -> Violation:
    return Violation("I_TAIL", f"pfn {pfn}", "1", found, ("cpu 0: allocated",), claim=0)


def race(site: str = "push: mem[at] = value", **more: object) -> Finding:
    command = "shmstress replay x"
    return Finding("schedule", "race", site, report="two writes", command=command, **more)


def test_a_round_is_read_as_it_was_written(path: Path, records: Records) -> None:
    run, round_id = begun(records)
    records.end_round(round_id, "PASSED", 2.5, 1000, {"marks": {"steals": 3}})
    records.end_run(run, "PASSED", {"rounds": 1})
    with Reader(path) as reader:
        (row,) = reader.rounds(run)
        assert (row.number, row.state, row.verdict) == (1, "ended", "PASSED")
        assert (row.seconds, row.operations, row.marks) == (2.5, 1000, {"steals": 3})
        assert reader.run(run).summary == {"rounds": 1}


def test_a_reader_sees_a_running_run_while_its_writer_writes(path: Path, records: Records) -> None:
    with Reader(path) as reader:
        run, _ = begun(records)
        assert reader.run(run).state == "running"


def test_a_run_whose_writer_is_gone_is_lost_for_a_reader(path: Path) -> None:
    with Records(path) as records:
        run, _ = begun(records)
    with Reader(path) as reader:
        assert reader.run(run).state == "lost"
        assert [one.state for one in reader.rounds(run)] == ["lost"]


def test_a_second_writer_leaves_the_run_of_a_living_one_alone(path: Path, records: Records) -> None:
    run, _ = begun(records)
    with Records(path), Reader(path) as reader:
        assert reader.run(run).state == "running"


def test_a_run_with_a_living_writer_cannot_be_resumed(path: Path, records: Records) -> None:
    run, _ = begun(records)
    with Records(path) as other, pytest.raises(MisuseError, match="living writer"):
        other.resume_run(run)


def test_a_resumed_run_goes_on_behind_its_lost_round(path: Path) -> None:
    with Records(path) as records:
        run, _ = begun(records)
    with Records(path) as records:
        records.resume_run(run)
        records.begin_round(run, WORK)
        with Reader(path) as reader:
            states = [(one.number, one.state) for one in reader.rounds(run)]
            assert states == [(1, "lost"), (2, "running")]


def test_rounds_behind_one_that_is_known(path: Path, records: Records) -> None:
    run, first = begun(records)
    records.begin_run(WORK)
    second = records.begin_round(run, WORK)
    with Reader(path) as reader:
        assert [one.id for one in reader.rounds(run, after=first)] == [second]
        assert [one.id for one in reader.rounds(after=second)] == []


def test_a_sample_that_comes_late_is_followed_by_one_a_second_later() -> None:
    times_s, taken = [0.0], []
    records = SimpleNamespace(sample=lambda *_: taken.append(times_s[-1]))
    progress = RecordingProgress(records, 1, lambda: times_s[-1])
    for time_s in (0.0, 0.5, 1.25, 2.0, 7.0, 7.25, 8.0, 8.5, 9.0):
        times_s.append(time_s)
        progress.moment(lambda: SimpleNamespace(ram_map=None))
    assert taken == [0.0, 1.25, 2.0, 7.0, 8.0, 9.0]


def test_a_number_is_recorded_once(records: Records) -> None:
    run, _ = begun(records)
    with pytest.raises(MisuseError, match="recorded already"):
        records.begin_round(run, WORK, number=1)


def test_a_round_of_a_run_that_is_not_there(records: Records) -> None:
    with pytest.raises(MisuseError, match="run: 7 is not in"):
        records.begin_round(7, WORK)


def test_a_broken_rule_of_the_tables_is_told_as_it_is(records: Records) -> None:
    run = records.begin_run(WORK)
    with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
        records.begin_round(run, Work(None, "c"))


def test_a_finding_seen_a_hundred_times_is_one_row(path: Path, records: Records) -> None:
    run, _ = begun(records)
    for number in range(100):
        round_id = records.begin_round(run, WORK)
        records.violations(round_id, [tail(number)], "c")
    with Reader(path) as reader:
        (row,) = reader.findings()
        assert row.count == 100
        assert row.first_round_id != row.last_round_id


def test_every_round_that_saw_a_finding_is_known(path: Path, records: Records) -> None:
    run, first = begun(records)
    rounds = [first, *(records.begin_round(run, WORK) for _ in range(4))]
    for round_id in rounds[:3]:
        name = records.finding(round_id, race())
    records.seen(rounds[1], name, 5)
    with Reader(path) as reader:
        seen = [(one.round_id, one.count) for one in reader.sightings(run, name)]
        assert seen == [(rounds[0], 1), (rounds[1], 6), (rounds[2], 1)]


def test_a_run_has_no_sightings_of_another_run(path: Path, records: Records) -> None:
    _, round_id = begun(records)
    records.finding(round_id, race())
    other, _ = begun(records)
    with Reader(path) as reader:
        assert reader.sightings(other) == [] and len(reader.sightings()) == 1


def test_violations_and_what_follows_from_them_are_reports_of_one_sighting(
    path: Path, records: Records
) -> None:
    _, round_id = begun(records)
    records.violations(round_id, [tail(1), Violation("X_PAYLOAD", "pfn 9", "a", "b")], "c")
    with Reader(path) as reader:
        assert [one.count for one in reader.sightings()] == [2]


def test_the_first_violation_stands_for_those_that_follow(path: Path, records: Records) -> None:
    _, round_id = begun(records)
    later = Violation("X_PAYLOAD", "pfn 9", "a", "b")
    (name,) = records.violations(round_id, [tail(1), later], "c")
    with Reader(path) as reader:
        assert reader.finding(name).invariant == "I_TAIL"
        assert reader.finding(name).count == 1
        assert [one.invariant for one in reader.violations(name)] == ["I_TAIL", "X_PAYLOAD"]


def test_memory_that_grows_is_a_finding_of_its_own(path: Path, records: Records) -> None:
    _, round_id = begun(records)
    grows = [
        Violation("X_MEMORY_GROWTH", f"worker {n} (pid {n})", "less", f"{n} MiB") for n in (7, 8)
    ]
    names = records.violations(round_id, [tail(1), *grows], "c")
    with Reader(path) as reader:
        found = [reader.finding(name).invariant for name in names]
        assert found == ["I_TAIL", "X_MEMORY_GROWTH"]
        assert len(reader.violations(names[1])) == 2


def test_few_violations_of_a_round_are_kept(path: Path, records: Records) -> None:
    _, round_id = begun(records)
    (name,) = records.violations(round_id, [tail(pfn) for pfn in range(200)], "c")
    with Reader(path) as reader:
        assert len(reader.violations(name)) == 8


def test_the_first_that_is_not_ignored_is_the_finding(path: Path) -> None:
    with Records(path) as records:
        _, round_id = begun(records)
        (known,) = records.violations(round_id, [tail(1)], "c")
        records.ignore(known)
        other = Violation("X_PAYLOAD", "pfn 9", "a", "b")
        (name,) = records.violations(round_id, [tail(2), other], "c")
        assert name != known


def test_ignored_by_its_first_letters_before_it_is_seen(path: Path) -> None:
    with Records(path, ignored=Ignored([race().fingerprint[:6]])) as records:
        _, round_id = begun(records)
        assert records.is_ignored(records.finding(round_id, race()))
        with Reader(path) as reader:
            assert [one.status for one in reader.findings()] == ["ignored"]


def test_a_fixed_finding_that_comes_again_is_open(path: Path, records: Records) -> None:
    _, round_id = begun(records)
    name = records.finding(round_id, race())
    records.set_status(name, "fixed")
    records.finding(round_id, race())
    with Reader(path) as reader:
        assert reader.finding(name).status == "open"


def test_the_attachments_of_the_first_sighting_are_kept(path: Path, records: Records) -> None:
    _, round_id = begun(records)
    for text in ("first", "second"):
        name = records.finding(round_id, race(attachments=[Attachment.of_text("a.html", text)]))
    with Reader(path) as reader:
        (file,) = reader.artifacts(fingerprint=name)
        assert reader.content(file.id) == b"first"


def test_an_ambiguous_prefix_lists_what_it_may_be(path: Path, records: Records) -> None:
    _, round_id = begun(records)
    names = {records.finding(round_id, race(f"line {n}")) for n in "abcdefghijklmnopqrstuvw"}
    shared = next(n[0] for n in names if sum(o[0] == n[0] for o in names) > 1)
    with Reader(path) as reader, pytest.raises(MisuseError, match="may be") as error:
        reader.finding(shared)
    assert all(name in str(error.value) for name in names if name[0] == shared)


def test_together_writes_all_or_nothing(path: Path, records: Records) -> None:
    _, round_id = begun(records)
    with pytest.raises(ZeroDivisionError), records.together():
        records.finding(round_id, race())
        records.end_round(round_id, "FAILED")
        1 / 0  # noqa: B018
    with Reader(path) as reader:
        assert reader.findings() == []
        assert [one.state for one in reader.rounds()] == ["running"]


def test_names_of_files_in_any_encoding_are_recorded(path: Path, records: Records) -> None:
    run = records.begin_run(Work("run", "shmstress run --trace caf\udce9"))
    with Reader(path) as reader:
        assert "caf" in reader.run(run).command


def test_the_file_says_what_it_is(path: Path, records: Records) -> None:
    plain = sqlite3.connect(path)
    (found,) = plain.execute("PRAGMA application_id").fetchone()
    plain.close()
    assert found.to_bytes(4, "big") == b"shms"
