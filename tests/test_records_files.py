"""Files that are no database of ours, damaged, or not to be written: one line, and no change."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from shmalloc.errors import EnvironmentUnfitError, MisuseError
from stress import cli
from stress.records import database, schema
from stress.records.database import size_of
from stress.records.finding import Finding
from stress.records.reader import Reader
from stress.records.work import Work
from stress.records.writer import Records
from stress.records.writers import Writers
from stress.run.progress import Progress
from stress.verdict import EXIT_USAGE, Verdict
from support.recorded import a_moment

STRANGER = 65534  # a user without rights
WORK = Work("run", "shmstress run")
RACE = Finding("schedule", "race", "push", "two writes", "shmstress replay x")


def made(path: Path) -> Path:
    """A database with a round and a finding."""
    with Records(path) as records:
        round_id = records.begin_round(records.begin_run(WORK), WORK)
        records.finding(round_id, RACE)
        records.end_round(round_id, "FAILED")
    return path


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as plain:
        plain.execute("CREATE TABLE cookies (name)")
        plain.commit()


def marked(path: Path) -> None:
    """Another program's mark, and no table yet."""
    with closing(sqlite3.connect(path)) as plain:
        plain.execute("PRAGMA application_id = 7")
        plain.commit()


def newer(path: Path) -> None:
    with closing(sqlite3.connect(made(path))) as plain:
        plain.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
        plain.commit()


def older(path: Path) -> None:
    """Format 1 knew no sightings."""
    with closing(sqlite3.connect(made(path))) as plain:
        plain.execute("DROP TABLE sightings")
        plain.execute("PRAGMA user_version = 1")
        plain.commit()


def hollow(path: Path) -> None:
    """Our mark on a file that has not our tables."""
    with closing(sqlite3.connect(made(path))) as plain:
        plain.execute("DROP TABLE runs")
        plain.commit()


def cut(path: Path) -> None:
    whole = made(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def scribbled(path: Path) -> None:
    """Pages overwritten in the middle, the header as it was."""
    whole = bytearray(made(path).read_bytes())
    for at in range(4096, len(whole), 4096):
        whole[at : at + 256] = bytes(255 - n for n in range(256))
    path.write_bytes(whole)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a directory": (Path.mkdir, "is a directory"),
    "a fifo": (os.mkfifo, "is no regular file"),
    "a text": (lambda path: path.write_text("hello " * 1000), "is no SQLite database"),
    "another program's": (foreign, "is a database of another program"),
    "another program's, empty": (marked, "is a database of another program"),
    "of a newer version": (newer, f"has format {schema.VERSION + 1}"),
    "of format 1": (older, f"has format 1, and this shmstress knows {schema.VERSION};"),
    "without our tables": (hollow, "is damaged"),
    "cut off": (cut, "is damaged|is no SQLite database"),
    "scribbled over": (scribbled, "is damaged"),
}


@pytest.fixture(params=REFUSED, ids=lambda name: name.replace(" ", "-"))
def refused(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    make, text = REFUSED[request.param]
    make(tmp_path / "runs.db")
    return tmp_path / "runs.db", text


def test_a_writer_refuses_it(refused: tuple[Path, str]) -> None:
    path, text = refused
    with pytest.raises(MisuseError, match=text):
        Records(path)


def test_a_writer_leaves_it_as_it_is(refused: tuple[Path, str]) -> None:
    path, _ = refused
    before = path.read_bytes() if path.is_file() else path.stat().st_mode
    with pytest.raises(MisuseError):
        Records(path)
    assert (path.read_bytes() if path.is_file() else path.stat().st_mode) == before


def test_a_reader_refuses_it(refused: tuple[Path, str]) -> None:
    path, text = refused
    with pytest.raises(MisuseError, match=text), Reader(path) as reader:
        reader.runs(), reader.rounds(), reader.findings()


def test_a_command_refuses_it_in_one_line(
    refused: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.run(["history", str(refused[0])])
    said = capsys.readouterr().err
    if refused[0].is_dir():  # which may be one of run --out
        assert "has no records.db" in said
    assert (code, said.count("\n")) == (EXIT_USAGE, 1), said


def test_a_writer_that_cannot_begin_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Records) -> None:
        raise EnvironmentUnfitError("the disk is full")

    monkeypatch.setattr(Records, "_mark_lost", fail)
    with pytest.raises(EnvironmentUnfitError):
        Records(tmp_path / "runs.db")
    opened = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert [name for name in opened if name.startswith(str(tmp_path))] == []


def test_a_large_file_is_read_through_only_after_an_unclean_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, checked = made(tmp_path / "runs.db"), []
    monkeypatch.setattr(database, "WHOLE_BYTES", 0)
    monkeypatch.setattr(database, "_require_whole", lambda *_: checked.append(path))
    Records(path).close()
    assert checked == []
    (tmp_path / "runs.db-wal").write_bytes(b"left by a killed writer")
    Records(path).close()
    assert checked == [path]


def test_what_a_reader_leaves_beside_a_file_is_no_unclean_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, checked = made(tmp_path / "runs.db"), []
    monkeypatch.setattr(database, "WHOLE_BYTES", 0)
    monkeypatch.setattr(database, "_require_whole", lambda *_: checked.append(path))
    Reader(path).close()
    assert (tmp_path / "runs.db-wal").stat().st_size == 0
    Records(path).close()
    assert checked == [] and not (tmp_path / "runs.db-wal").exists()


def test_a_file_that_is_missing_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="does not exist"):
        Reader(tmp_path / "runs.db")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="its folder does not exist"):
        Records(tmp_path / "deep" / "runs.db")


def test_standard_output_is_no_database() -> None:
    with pytest.raises(MisuseError, match="a database is no stream"):
        Records("-")


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    path.touch()
    made(path)
    with Reader(path) as reader:
        assert len(reader.findings()) == 1


def test_a_link_leads_to_one_database(tmp_path: Path) -> None:
    made(tmp_path / "runs.db")
    (tmp_path / "link.db").symlink_to("runs.db")
    with Records(tmp_path / "link.db") as records:
        assert records.path == tmp_path / "runs.db"


@pytest.mark.parametrize("name", ["with blanks.db", "%41?mode=ro&x=#.db", "ümläut.db"])
def test_any_name_names_a_file(tmp_path: Path, name: str) -> None:
    made(tmp_path / name)
    assert {one.name for one in tmp_path.iterdir()} == {name, f"{name}-writers"}


# --- rows that no writer of ours makes ---
STRANGE = {
    "a text for a time": "UPDATE findings SET first_seen_s = 'yesterday'",
    "nothing for a count": "UPDATE findings SET count = 'many'",
    "no JSON": "UPDATE runs SET spec = '{'",
    "JSON of another kind": "UPDATE rounds SET features = '7'",
    "deep JSON": "UPDATE rounds SET result = replace(hex(zeroblob(100000)), '0', '[')",
    "bytes for a text": "UPDATE findings SET site = x'fffe'",
}


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("command", ["history", "show"])
def test_a_strange_row_is_told_in_one_line(
    tmp_path: Path, name: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made(tmp_path / "runs.db")
    with closing(sqlite3.connect(path)) as plain:
        plain.execute(STRANGE[name])
        plain.commit()
    arguments = {"history": [str(path)], "show": [RACE.fingerprint, "--db", str(path)]}
    code = cli.run([command, *arguments[command]])
    said = capsys.readouterr()
    in_what_show_reads = "findings" in STRANGE[name] or "rounds" in STRANGE[name]
    if command == "show" and not in_what_show_reads:
        assert code == 0
    else:
        assert (code, said.err.count("\n")) == (EXIT_USAGE, 1), said.err


def test_what_a_terminal_would_obey_is_not_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made(tmp_path / "runs.db")
    with closing(sqlite3.connect(path)) as plain:
        plain.execute("UPDATE findings SET report = char(27) || '[2J', site = char(27) || '[1m'")
        plain.execute("UPDATE runs SET command = char(27) || ']0;title' || char(7)")
        plain.commit()
    cli.run(["history", str(path)])
    cli.run(["show", RACE.fingerprint, "--db", str(path)])
    said = capsys.readouterr().out
    assert "[2J" in said and "\x1b" not in said and "\x07" not in said


# --- no right to write ---
@contextmanager
def without_rights() -> Iterator[None]:
    """As a user who may not write here: root may everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(STRANGER)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A database in a folder that only its owner may write to, and that all may look into.

    Not below tmp_path: pytest lets only its own user into that.
    """
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "read-only"
        folder.mkdir()
        made(folder / "runs.db").chmod(0o444)
        Path(home).chmod(0o755)
        folder.chmod(0o555)
        yield folder / "runs.db"
        folder.chmod(0o755)


def test_a_database_that_cannot_be_written_is_read(read_only: Path) -> None:
    with without_rights(), Reader(read_only) as reader:
        assert [one.state for one in reader.runs()] == ["lost"]
        assert len(reader.findings()) == 1


def test_reading_it_leaves_no_file(read_only: Path) -> None:
    before = sorted(read_only.parent.iterdir())
    with without_rights(), Reader(read_only) as reader:
        reader.runs()
    assert sorted(read_only.parent.iterdir()) == before


def test_what_a_killed_writer_left_in_its_wal_is_read_there_too(read_only: Path) -> None:
    live = read_only.parent.parent / "live.db"
    folder = read_only.parent
    folder.chmod(0o755)
    with Records(live) as records:
        round_id = records.begin_round(records.begin_run(WORK), WORK)
        records.finding(round_id, RACE)
        for name in ("live.db", "live.db-wal"):  # as a kill would leave them
            (folder / name).write_bytes((live.parent / name).read_bytes())
            (folder / name).chmod(0o444)
    folder.chmod(0o555)
    with without_rights(), Reader(folder / "live.db") as reader:
        assert len(reader.findings()) == 1


def test_a_writer_refuses_a_folder_that_it_cannot_write(read_only: Path) -> None:
    with without_rights(), pytest.raises(MisuseError, match="can"):
        Records(read_only)


def test_a_lock_file_that_cannot_be_read_says_that_writers_live(read_only: Path) -> None:
    read_only.with_name("runs.db-writers").chmod(0)
    with without_rights():
        writers = Writers(read_only, writing=False)
        assert writers.alive(1) == (os.geteuid() != 0)
        writers.close()


# --- a full disk ---
def fill(records: Records) -> None:
    """Let the file have no page more than it has now."""
    connection = records._file.connection
    pages = size_of(connection) // 4096
    connection.execute(f"PRAGMA max_page_count = {pages}")


LONG = Finding("schedule", "race", "push", "two writes " * 10_000, "shmstress replay x")


def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    with Records(tmp_path / "runs.db") as records:
        round_id = records.begin_round(records.begin_run(WORK), WORK)
        fill(records)
        with pytest.raises(EnvironmentUnfitError, match="the disk is full") as error:
            records.finding(round_id, LONG)
        assert "\n" not in str(error.value)


def test_a_full_disk_changes_nothing_of_what_is_there(tmp_path: Path) -> None:
    with Records(tmp_path / "runs.db") as records:
        round_id = records.begin_round(records.begin_run(WORK), WORK)
        fill(records)
        with pytest.raises(EnvironmentUnfitError), records.together():
            records.end_round(round_id, "FAILED")
            records.finding(round_id, LONG)
        with Reader(records.path) as reader:
            assert [one.state for one in reader.rounds()] == ["running"]


def test_a_run_goes_on_when_its_database_is_full(tmp_path: Path) -> None:
    from stress.records.receiver import RecordingProgress

    with Records(tmp_path / "runs.db") as records:
        round_id = records.begin_round(records.begin_run(WORK), WORK)
        clock = iter(range(1_000_000))
        receiver = RecordingProgress(records, round_id, lambda: float(next(clock)))
        fill(records)
        for _ in range(200):
            receiver.moment(a_moment)
        assert receiver.trouble is not None and "the disk is full" in receiver.trouble


def test_a_run_whose_database_was_full_is_no_success(tmp_path: Path) -> None:
    from stress.report.recorded_run import recorded_run
    from stress.run.result import RunResult
    from stress.spec import RunSpec, Zone

    spec = RunSpec(("churn",), workers=1, zones=(Zone(8 << 20),))
    with recorded_run(spec, [str(tmp_path / "runs.db")], []) as record:
        fill(record._kept[0].recording.records)
        record.progress(Progress())
        result = RunResult(spec, details={"long": "a text " * 20_000})
        record.finish(result, None)
        assert result.verdict is Verdict.ERROR
        assert "the disk is full" in result.troubles[0][1]
