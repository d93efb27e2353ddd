"""``shmstress soak``, end to end: recorded rounds, a planted bug as one finding, nothing lost.

One small soak is looked at by several tests.
"""

from __future__ import annotations

import json
import shlex
import sqlite3
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from contextlib import closing
from pathlib import Path

import pytest

from shmalloc.errors import Violation
from stress.cli import run
from stress.mutants import MUTANTS
from stress.mutants.tree import build
from stress.records.finding import fingerprint_of
from stress.records.reader import Reader
from stress.soak.draw import Drawer
from stress.soak.spec import spec_from
from support.runs import PATIENCE_S, ROOT, compile_once, environment
from support.soaks import TINY, RunningSoak, rounds_of, runs_of, soak

ROUND_CASES = "shmstress.soak.round"
QUICK = "pages-order-0"  # its crashes take least
MUTANT = "merge-once"  # two free buddies that stay apart: the audit sees them
FLOOD = fingerprint_of(Violation("report table", "segment", "", ""))  # too many at one audit


@pytest.fixture(scope="module", autouse=True)
def compiled():
    compile_once()


def leftovers():
    return {path.name for path in Path("/dev/shm").glob("shm-*")}


# --- a soak that passes --------------------------------------------------------------------------
@pytest.fixture(scope="module")
def passed(tmp_path_factory):
    """Database, document and standard output of a soak of a few seconds."""
    folder = tmp_path_factory.mktemp("soak")
    db, document = folder / "soak.db", folder / "soak.json"
    what = ("--weights", "run=2,crash=1", "--program", QUICK)
    files = ("--json", str(document), "--junit", str(folder / "soak.xml"))
    done = soak(db, *TINY, "--rounds", "3", *what, *files)
    assert done.returncode == 0, done.stderr
    return db, json.loads(document.read_text()), done.stdout


def test_a_soak_passes_and_says_how_to_begin_it_again(passed):
    _, _, text = passed
    assert text.splitlines()[-1].startswith("PASSED seed=0x5 rounds=")
    assert "spec: shmstress soak --workload churn,orders" in text.splitlines()[-1]


def test_every_round_is_recorded_with_its_verdict(passed):
    db, document, _ = passed
    rounds = rounds_of(db)
    assert [one.number for one in rounds] == list(range(1, len(rounds) + 1))
    assert {one.state for one in rounds} == {"ended"}
    assert sum(sum(kind.values()) for kind in document["rounds"].values()) == len(rounds)


def test_the_rounds_are_those_that_the_seed_gives(passed):
    db, _, _ = passed
    drawer = Drawer(spec_from(runs_of(db)[0].spec), 2)
    for one in rounds_of(db):
        drawn = drawer.round(one.number)
        assert (one.command, tuple(one.features)) == (drawn.command, drawn.on)


def test_samples_list_the_soak_and_the_processes_of_the_round(passed):
    db, _, _ = passed
    with Reader(db) as reader:
        native = next(one for one in reader.rounds() if one.kind == "run")
        roles = {one.role for one in reader.processes(round_id=native.id)}
        assert reader.samples(round_id=native.id)
    assert {"soak", "controller", "worker 0"} <= roles


def test_operations_of_the_table_are_those_of_the_rounds(passed):
    db, document, _ = passed
    rounds = [one for one in rounds_of(db) if one.kind == "run"]
    assert document["operations"]["run"] == sum(one.operations for one in rounds) > 0


def test_junit_has_a_case_for_each_round(passed):
    db, _, _ = passed
    cases = ElementTree.parse(db.with_name("soak.xml")).getroot().iter("testcase")
    names = [str(case.get("name")) for case in cases if case.get("classname") == ROUND_CASES]
    assert names == [f"{one.number} {one.kind}" for one in rounds_of(db)]


def test_a_round_is_repeated_by_its_command_alone(passed):
    db, _, _ = passed
    command = next(one.command for one in rounds_of(db) if one.kind == "run")
    done = performed(command)
    assert done.returncode == 0 and command in done.stdout


def test_a_soak_leaves_no_segment(passed):
    db, _, _ = passed
    pids = {one.pid for one in Reader(db).processes(run_id=1)}
    assert not [name for name in leftovers() if int(name.split("-")[1]) in pids]


# --- a planted bug -------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """Database of a soak on broken kernels, its output, and where they are."""
    root = tmp_path_factory.mktemp("broken")
    build(root, MUTANTS[MUTANT])
    db = root / "soak.db"
    how = ("--repeat", "1", "--minimize-time", "5s", "--only", "run", "--rounds", "3")
    return db, soak(db, *TINY, *how, root=root), root


def performed(command, root=ROOT):
    """A command line, run on the packages in ``root``."""
    return subprocess.run(
        [sys.executable, "-m", "stress", *shlex.split(command)[1:], "--progress", "never"],
        env=environment(PYTHONPATH=str(root)),
        cwd=root,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def copy_of(db, folder):
    copy = folder / "copy.db"
    with closing(sqlite3.connect(db)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def finding_of(db):
    with Reader(db) as reader:
        (found,) = reader.findings()
    return found


def test_a_bug_is_one_finding_although_many_rounds_fail(failed):
    db, done, _ = failed
    assert done.returncode == 1
    assert [one.verdict for one in rounds_of(db)].count("FAILED") > 1
    found = finding_of(db)
    assert (found.invariant, found.status, found.repeatable) == ("I_UNMERGED", "open", 1)
    assert f"!!! {found.fingerprint} I_UNMERGED" in done.stdout


def test_the_smallest_command_is_smaller_and_still_fails(failed):
    db, _, root = failed
    command, first = finding_of(db).command, rounds_of(db)[0].command
    assert len(command) < len(first)
    again = performed(command, root)
    assert again.returncode == 1 and "I_UNMERGED" in again.stdout


def test_a_finding_that_is_gone_with_other_kernels_is_fixed(failed, tmp_path):
    """The original packages: the known finding is repeated before the first round."""
    db = copy_of(failed[0], tmp_path)
    done = soak(db, *TINY, "--only", "crash", "--program", QUICK, "--rounds", "1", "--repeat", "1")
    assert done.returncode == 0
    assert finding_of(db).status == "fixed"


def test_a_finding_that_is_ignored_fails_no_soak(failed, tmp_path):
    db = copy_of(failed[0], tmp_path)
    found = finding_of(db)
    names = f"{found.fingerprint[:8]},{FLOOD}"
    how = ("--only", "run", "--rounds", "1", "--ignore", names)
    done = soak(db, *TINY, *how, root=failed[2])
    with Reader(db) as reader:
        again = reader.finding(found.fingerprint)
    assert done.returncode != 1 and again.status == "ignored" and again.count > found.count
    last = rounds_of(db)[-1]
    assert last.result["ignored_total"] > 0
    assert {one["invariant"] for one in last.result["violations"]} <= {"report table"}


# --- the end of a soak, wanted or not -------------------------------------------------------------
LONG = (*TINY, "--only", "run", "--round-time", "2m")


def test_a_soak_that_was_killed_goes_on_with_nothing_twice_and_one_round_lost(tmp_path):
    db = tmp_path / "soak.db"
    with RunningSoak(db, *TINY, "--only", "run", "--rounds", "3") as running:
        running.wait_for_round(2)
        running.kill()
    lost = rounds_of(db)[-1]
    assert soak(db, "--resume").returncode == 0
    rounds = rounds_of(db)
    assert [one.number for one in rounds] == [1, 2, 3]
    assert [one.number for one in rounds if one.state == "lost"] == [lost.number]
    (whole,) = runs_of(db)
    assert (whole.state, sum(whole.summary["rounds"]["run"].values())) == ("ended", 2)


def test_ctrl_c_ends_the_round_and_the_soak_in_order(tmp_path):
    db = tmp_path / "soak.db"
    with RunningSoak(db, *LONG) as running:
        running.wait_for_round(1)
        running.interrupt()
        code, output = running.end()
    (only,) = rounds_of(db)
    assert (code, only.state, only.verdict) == (2, "ended", "INTERRUPTED")
    assert output.splitlines()[-1].startswith("INTERRUPTED") and only.operations > 0


def test_a_second_ctrl_c_ends_it_at_once_and_nothing_is_left(tmp_path):
    db = tmp_path / "soak.db"
    with RunningSoak(db, *LONG) as running:
        running.wait_for_round(1)
        family = {process.pid for process in running.family()}
        running.interrupt()
        running.interrupt()
        code, _ = running.end()
    assert (code, runs_of(db)[0].state) == (2, "ended")
    assert {one.state for one in rounds_of(db)} == {"ended"}
    assert not [name for name in leftovers() if int(name.split("-")[1]) in family]


# --- wrong use -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--only", "runs"), "only: 'runs' is unknown; did you mean 'run'?"),
        (("--weights", "run=0"), "weights: 'run=0' draw nothing"),
        (("--program", "buddy-merge-tak"), "did you mean 'buddy-merge-take'?"),
        (("--ram", "1MiB"), "ram: 1MiB; use at least 4MiB"),
        (("--round-time", "2h"), "round-time: longer than --duration"),
        (("--without", "fault:kil"), "did you mean 'fault:kill'?"),
        (("--trace", "no.npz"), "no.npz"),
        (("--resume",), "does not exist"),
        (("--resume", "--ram", "1GiB"), "resume: --ram is a setting of the soak"),
        (("--ignore", "xyz"), "fingerprint: 'xyz'"),
    ],
)
def test_wrong_use_is_one_line(tmp_path, capsys, arguments, said):
    assert run(["soak", "--db", str(tmp_path / "soak.db"), *arguments]) == 4
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_prints_rounds_and_records_nothing(tmp_path, capsys):
    assert run(["soak", "--db", str(tmp_path / "soak.db"), *TINY, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("\nshmstress ") == 10
    assert list(tmp_path.iterdir()) == []
