"""What was found once is told, repeated and gone past: --db, history, show and --ignore."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from stress import cli
from stress.records.reader import Reader
from stress.verdict import EXIT_USAGE, Verdict
from support.runs import shmstress

PROGRAM = """from shmalloc import kernel
from stress import Program

@kernel
def count(mem, cpu):
    value = mem[0]
    mem[0] = value + 1

@kernel
def counted(mem):
    return 0 if mem[0] == 2 else 3

lost = Program("lost update", 2, [count, count], check=counted)
"""
SITE = "check 3 in lost.counted: return 0 if mem[0] == 2 else 3"
PASSED, FAILED = Verdict.PASSED.exit_code, Verdict.FAILED.exit_code


class Hunt:
    """A file with a program that loses an update, and a database."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "lost.py").write_text(PROGRAM)
        self.program, self.db = str(folder / "lost.py"), str(folder / "hunt.db")
        self._capsys = capsys

    def call(self, *arguments: str) -> tuple[int, str]:
        """Exit code and standard output of one command."""
        code = cli.run(arguments)
        return code, self._capsys.readouterr().out

    def explore(self, *more: str) -> int:
        search = ("--engine", "interpreted", "--no-races", "--duration", "10s", *more)
        code, self.told = self.call("explore", self.program, "--db", self.db, *search)
        return code

    def finding(self) -> str:
        with Reader(self.db) as reader:
            (found,) = reader.findings()
        return found.fingerprint


@pytest.fixture
def hunt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Hunt:
    return Hunt(tmp_path, capsys)


def test_from_a_failure_to_its_page_to_going_past_it(hunt: Hunt, tmp_path: Path) -> None:
    """The whole way, as docs/database.md tells it."""
    assert hunt.explore() == FAILED
    name = hunt.finding()

    code, listed = hunt.call("history", hunt.db)
    assert code == 0 and name in listed and "1 run, 1 finding: 1 open" in listed

    code, told = hunt.call("show", name[:6], "--db", hunt.db)
    assert told.startswith(f"finding {name} (open): {SITE}\n")
    assert told.count("to see it again:") == 1
    assert "--artifact 'lost update.html' > 'lost update.html'\n" in told
    assert "lost.py:7 mem[0] = value + 1" in told, "the failure in words"

    again = next(line for line in told.splitlines() if line.startswith("  shmstress replay"))
    assert shmstress(*shlex.split(again)[1:]).returncode == FAILED

    page = tmp_path / "page.html"
    chosen = ("--artifact", "lost update.html", "--output", str(page))
    assert hunt.call("show", name, "--db", hunt.db, *chosen)[0] == 0
    assert page.read_text().startswith("<!DOCTYPE html>")

    assert hunt.explore("--ignore", name[:8]) == PASSED
    assert hunt.explore() == PASSED, "the database remembers what is ignored"

    opened = ("show", name, "--db", hunt.db, "--open")
    assert f"to open it again: shmstress {shlex.join(opened)}" in hunt.told
    assert hunt.call(*opened) == (0, f"finding {name} is open now: {SITE}\n")
    assert hunt.explore() == FAILED


def test_a_finding_that_comes_again_is_counted(hunt: Hunt) -> None:
    for seed in ("1", "2", "3"):
        hunt.explore("--strategy", "random", "--seed", seed)
    with Reader(hunt.db) as reader:
        assert [one.count for one in reader.findings()] == [3]


def test_an_ignored_finding_is_still_counted(hunt: Hunt) -> None:
    hunt.explore()
    hunt.explore("--ignore", hunt.finding())
    with Reader(hunt.db) as reader:
        assert [(one.count, one.status) for one in reader.findings()] == [(2, "ignored")]


def test_a_fixed_finding_that_comes_again_fails_and_is_open(hunt: Hunt) -> None:
    hunt.explore()
    hunt.call("show", hunt.finding(), "--db", hunt.db, "--fixed")
    assert hunt.explore() == FAILED
    with Reader(hunt.db) as reader:
        assert [one.status for one in reader.findings()] == ["open"]


def test_the_settings_file_names_the_database(
    hunt: Hunt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hunt.explore()
    (tmp_path / "shmstress.toml").write_text('[history]\ndb = "hunt.db"\n')
    monkeypatch.chdir(tmp_path)
    assert hunt.finding() in hunt.call("history")[1]


def test_the_environment_names_the_database_of_every_command(
    hunt: Hunt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHMSTRESS_DB", hunt.db)
    search = ("--engine", "interpreted", "--no-races")
    assert hunt.call("explore", hunt.program, *search)[0] == FAILED
    assert hunt.finding() in hunt.call("history")[1]


def test_without_a_database_what_was_gone_past_is_named(hunt: Hunt) -> None:
    hunt.explore()
    name = hunt.finding()
    search = ("explore", hunt.program, "--engine", "interpreted", "--no-races", "--ignore")
    assert f"went past finding {name}, which --ignore names" in hunt.call(*search, name)[1]


def test_a_finding_that_is_ignored_is_told_in_one_line(hunt: Hunt) -> None:
    hunt.explore()
    code, told = hunt.call("show", hunt.finding(), "--db", hunt.db, "--ignore")
    assert (code, told.count("\n")) == (0, 1) and "is ignored now: check 3" in told
    assert told.endswith(
        f"to open it again: shmstress show {hunt.finding()} --db {hunt.db} --open\n"
    )


def test_several_fingerprints_are_ignored_at_once(
    hunt: Hunt, monkeypatch: pytest.MonkeyPatch
) -> None:
    hunt.explore()
    assert hunt.explore("--ignore", f"abcdef,{hunt.finding()}") == PASSED
    assert hunt.explore("--ignore", "abcdef", "--ignore", hunt.finding()) == PASSED


def test_history_as_data_has_every_row(hunt: Hunt) -> None:
    hunt.explore()
    whole = json.loads(hunt.call("history", hunt.db, "--json", "-")[1])
    assert [run["verdict"] for run in whole["runs"]] == ["FAILED"]
    assert [one["kind"] for one in whole["rounds"]] == ["explore"]
    assert [one["fingerprint"] for one in whole["findings"]] == [hunt.finding()]


def test_a_finding_as_data_has_its_files(hunt: Hunt) -> None:
    hunt.explore()
    whole = json.loads(hunt.call("show", hunt.finding(), "--db", hunt.db, "--json", "-")[1])
    assert [one["name"] for one in whole["artifacts"]] == ["lost update.html", "lost update.json"]


def test_history_shows_the_rounds_of_one_run(hunt: Hunt) -> None:
    hunt.explore()
    listed = hunt.call("history", hunt.db, "--run", "1")[1]
    assert "round   kind" in listed


MISTAKES = {
    "no database": (["history"], "db: none is named"),
    "a missing database": (["history", "nowhere.db"], "does not exist"),
    "a run that is none": (["history", "DB", "--run", "7"], "run: 7 is not in"),
    "a run past all numbers": (["history", "DB", "--run", "9" * 20], "99 is not in"),
    "a finding that is none": (["show", "abcdef", "--db", "DB"], "fingerprint: 'abcdef' is not in"),
    "a file that is none": (["show", "NAME", "--db", "DB", "--artifact", "x"], "known are lost"),
    "two statuses": (["show", "NAME", "--db", "DB", "--open", "--fixed"], "exclude each other"),
    "no fingerprint": (["explore", "PROGRAM", "--ignore", "xyz"], "fingerprint: 'xyz'"),
    "all failures, but some": (
        ["explore", "PROGRAM", "--ignore", "abcdef", "--all-failures"],
        "ignore: not together with --all-failures",
    ),
    "a database for a document": (
        ["explore", "PROGRAM", "--db", "DB", "--json", "DB"],
        "is the file of",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_one_line(
    hunt: Hunt, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hunt.explore()
    arguments, text = MISTAKES[name]
    words = {"DB": hunt.db, "NAME": hunt.finding(), "PROGRAM": hunt.program}
    code = cli.run([words.get(word, word) for word in arguments])
    said = capsys.readouterr().err
    assert (code, said.count("\n")) == (EXIT_USAGE, 1) and text in said, said


def test_an_interrupted_command_leaves_a_run_that_says_so(
    hunt: Hunt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stress.commands.explore.explore", interrupted)
    assert hunt.explore() == Verdict.INTERRUPTED.exit_code
    with Reader(hunt.db) as reader:
        assert [one.verdict for one in reader.runs()] == ["INTERRUPTED"]


# --- native runs ---
@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was recorded twice: with --db, and by --out."""
    folder = tmp_path_factory.mktemp("run")
    databases = ("--db", str(folder / "run.db"), "--out", str(folder / "out"))
    done = shmstress("run", "--workload", "bulk", "--workers", "2", "--ram", "16MiB", "--duration",
                     "2s", "--seed", "0x2a", "--progress", "never", *databases)  # fmt: skip
    assert done.returncode == PASSED, done.stdout + done.stderr
    return folder


def test_a_run_is_sampled_each_second_and_at_its_end(run_folder: Path) -> None:
    with Reader(run_folder / "run.db") as reader:
        (round_row,) = reader.rounds()
        samples = reader.samples(round_id=round_row.id)
        assert len(samples) >= 2 and samples[-1].operations == round_row.operations
        assert {one.role for one in reader.processes()} >= {"controller", "worker 0", "worker 1"}


def test_a_run_has_its_spec_its_seed_and_its_machine(run_folder: Path) -> None:
    with Reader(run_folder / "run.db") as reader:
        (run,) = reader.runs()
        assert (run.kind, run.seed, run.verdict) == ("run", "0x2a", "PASSED")
        assert run.spec["workload"] == "bulk" and run.machine["cores"] > 0 and run.kernels


def test_a_run_has_the_latencies_of_its_operations(run_folder: Path) -> None:
    with Reader(run_folder / "run.db") as reader:
        (round_row,) = reader.rounds()
        assert any(one["calls"] > 0 for one in reader.latencies(round_row.id).values())


def test_the_folder_of_a_run_has_the_same_in_its_database(run_folder: Path) -> None:
    (inside,) = (run_folder / "out").glob("*/records.db")
    with Reader(run_folder / "run.db") as reader, Reader(inside) as other:
        assert reader.rounds()[0].result == other.rounds()[0].result


def test_a_mutant_that_was_found_is_a_round_and_no_finding(tmp_path: Path) -> None:
    path = tmp_path / "mutants.db"
    done = shmstress("mutants", "merge-once", "--duration", "30s", "--db", str(path))
    assert done.returncode == PASSED, done.stderr
    with Reader(path) as reader:
        assert [one.result["outcome"] for one in reader.rounds()] == ["found"]
        assert reader.findings() == []


def test_a_recovery_that_failed_is_recorded_and_gone_past(hunt: Hunt, tmp_path: Path) -> None:
    text = "from crash_programs import case_of, recover_lock_only as half\ncase = case_of(half)\n"
    (tmp_path / "half.py").write_text(text)
    crash = ("crash", str(tmp_path / "half.py"), "--engine", "interpreted", "--seeds", "1")
    assert hunt.call(*crash, "--db", hunt.db)[0] == FAILED
    with Reader(hunt.db) as reader:
        assert reader.finding(hunt.finding()).site.startswith("(transfer), crash_programs.transfer")
    assert hunt.call(*crash, "--ignore", hunt.finding())[0] == PASSED
