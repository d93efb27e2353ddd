"""Kept failures: replayed first, dropped when they pass, and safe from whatever is on the disk."""

import json
import multiprocessing
import os

import pytest

from stress.pytest_plugin.kept import Failure, Kept, file_name
from support.kept_writer import failure, write_often
from support.sessions import XDIST, Project

TESTS = """
import pytest
from shmalloc import kernel
from shmalloc.words import fetch_add
from stress import Program

@kernel
def increment(mem, cpu):
    BODY

@kernel
def both_counted(mem):
    return 0 if mem[0] == 2 else 1

@pytest.mark.explore(races=False)
def test_counter():
    return Program("counter", 2, [increment, increment], check=both_counted)

def test_other():
    pass
"""
BROKEN = "mem[0] = mem[0] + 1"
STILL_BROKEN = "mem[0] = mem[0] + 1\n    mem[1] = 5"
MENDED = "fetch_add(mem, 0, 1)"


def with_body(body):
    return TESTS.replace("BODY", body)


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Sessions in a row: fails; changed and fails; mended; fails again; what turned green."""
    project = Project(tmp_path_factory.mktemp("kept"), {})
    sessions = {}
    for name, body, options in [
        ("first", BROKEN, ()),
        ("changed", STILL_BROKEN, ("-n1",)),
        ("mended", MENDED, ("--shm-fixed",)),
        ("afterwards", MENDED, ("--shm-fixed",)),
    ]:
        project.write({"test_counter.py": with_body(body)})
        sessions[name] = project.run(*options, plugins=(XDIST,) if options == ("-n1",) else ())
        kept = project.folder / ".shmalloc"
        sessions[name, "files"] = {str(p.relative_to(kept)) for p in kept.rglob("*.json")}
    return sessions


NAME = file_name("test_counter.py::test_counter")


def test_a_failing_schedule_is_kept_under_its_node_id(story):
    assert story["first", "files"] == {f"failures/{NAME}"}
    assert NAME.startswith("test_counter.py-test_counter-")


def test_it_runs_first_on_the_changed_kernel_too_and_the_test_says_so(story):
    text = story["changed"].cases["test_counter"].text
    assert "kept since 20" in text and "and replayed first" in text
    assert "1 test ran a kept failure first:" in story["changed"].section
    assert "fails again: counter: check 1" in story["changed"].section


def test_its_token_is_renewed_for_the_kernel_as_it_is_now(story):
    tokens = [story[n].cases["test_counter"].properties["shm_token"] for n in ("first", "changed")]
    first, changed = (token.split("/") for token in tokens)
    assert first[-1] == changed[-1] and first[-2] != changed[-2]  # directives; digest


def test_it_is_dropped_when_it_passes_and_listed_as_fixed(story):
    assert story["mended"].outcomes() == {"test_counter": "passed"}  # the others do not run
    assert "turned green, kept failures are dropped" in story["mended"].section
    assert story["mended", "files"] == {f"fixed/{NAME}"}


def test_what_turned_green_can_be_listed_later(story):
    assert story["afterwards"].code == 0 and not story["afterwards"].cases
    assert "test_counter.py::test_counter: counter: check 1" in story["afterwards"].section


def test_the_folder_says_what_to_commit(tmp_path):
    Kept(tmp_path, print).keep("node", [failure()])
    assert "fixed/" in (tmp_path / ".gitignore").read_text()


NODES = [
    "a.py::test[x]", "a.py::test[x] ", "../a.py::t", "a/b.py::t", "a.py::test[\u2603]",
    "a.py::test[" + "y" * 999 + "]", "a.py::test[y/../../z]", "\udcff.py::t", ".", "",
]  # fmt: skip


@pytest.mark.parametrize("node", NODES, ids=range(len(NODES)))
def test_any_node_id_is_a_safe_file_name_of_its_own(tmp_path, node):
    kept = Kept(tmp_path, pytest.fail)
    for one in NODES:
        kept.keep(one, [failure(f"shm1/{NODES.index(one)}")])
    (found,) = kept.of(node)
    assert found.token == f"shm1/{NODES.index(node)}"
    assert len(list((tmp_path / "failures").iterdir())) == len(NODES)
    assert all(len(file_name(one)) < 200 for one in NODES)


def damaged(path):
    yield "no JSON", lambda: path.write_text("{")
    yield "no UTF-8", lambda: path.write_bytes(path.read_bytes().replace(b"node", b"node\xff"))
    yield "deep", lambda: path.write_text('{"zz": ' + "[" * 200_000 + "]" * 200_000 + "}")
    yield "another form", lambda: path.write_text('{"format": 1, "node": 3}')
    yield "another format", lambda: path.write_text(path.read_text().replace(": 1,", ": 9,", 1))
    yield "another test", lambda: path.write_text(path.read_text().replace("node", "x", 1))
    yield "too long", lambda: path.write_bytes(b" " * (2 << 20))
    yield "a pipe", lambda: (path.unlink(), os.mkfifo(path))
    yield "a folder", lambda: (path.unlink(), path.mkdir())
    yield "a link to nothing", lambda: (path.unlink(), path.symlink_to("nothing"))


KINDS = [name for name, _ in damaged(None)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_kept_failure_counts_as_none_and_is_told(tmp_path, kind):
    problems = []
    kept = Kept(tmp_path, problems.append)
    kept.keep("node", [failure()])
    dict(damaged(tmp_path / "failures" / file_name("node")))[kind]()
    assert kept.of("node") == () and kept.nodes() == []
    assert kind == "a link to nothing" or all(str(tmp_path) in text for text in problems)


def test_an_entry_that_was_damaged_is_replaced_when_the_test_fails_again(tmp_path):
    kept = Kept(tmp_path, print)
    kept.keep("node", [failure()])
    (tmp_path / "failures" / file_name("node")).write_text("{")
    kept.keep("node", [failure()])
    assert kept.of("node") == (failure(),)


def test_a_failure_that_comes_back_is_no_longer_fixed(tmp_path):
    kept = Kept(tmp_path, print)
    for now in ([failure()], [], [failure()]):
        kept.keep("node", now)
    assert kept.fixed() == [] and kept.nodes() == ["node"]


def test_two_sessions_that_write_at_once_leave_a_whole_file_or_none(tmp_path, capfd):
    writers = [
        multiprocessing.get_context("forkserver").Process(
            target=write_often, args=(tmp_path, f"shm1/{n}")
        )
        for n in range(2)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert not list(tmp_path.rglob("*.new"))
    assert capfd.readouterr().out == ""


def test_a_folder_that_cannot_be_written_is_a_warning_and_no_crash(tmp_path):
    """Not by permissions, which root does not have: a file is where the folder should be."""
    project = Project(tmp_path, {"test_counter.py": with_body(BROKEN)})
    (tmp_path / ".shmalloc").write_text("no folder")
    session = project.run()
    assert session.outcomes() == {"test_counter": "failure", "test_other": "passed"}
    assert "PytestWarning: shmalloc: " in session.out and "INTERNALERROR" not in session.out
    assert "1 test had a problem with kept failures:" in session.section


def test_a_problem_is_no_crash_where_warnings_are_errors(tmp_path):
    project = Project(tmp_path, {"test_counter.py": with_body(MENDED)})
    folder = tmp_path / "elsewhere" / "failures"
    folder.mkdir(parents=True)
    (folder / NAME).write_text(json.dumps({"format": 1}))
    session = project.run("--shm-db=elsewhere", "-Werror")
    assert "INTERNALERROR" not in session.out
    assert session.outcomes()["test_other"] == "passed"
    assert "is damaged" in session.section


def test_nothing_is_kept_where_nothing_shall_be(tmp_path):
    project = Project(tmp_path, {"test_counter.py": with_body(BROKEN)})
    assert project.run("--shm-db=none", "-k", "counter").code == 1
    assert not (tmp_path / ".shmalloc").exists()


@pytest.mark.parametrize("moment", ["1e300", "-1", "1e12"])
def test_a_time_out_of_range_is_a_damaged_file(tmp_path, moment):
    kept = Kept(tmp_path, (problems := []).append)
    kept.keep("a", [Failure("p", "sc", "t", "headline", 7.0, 7.0)])
    path = tmp_path / "failures" / file_name("a")
    path.write_text(path.read_text().replace('"first_s": 7.0', f'"first_s": {moment}'))
    assert kept.of("a") == () and "is damaged" in problems[0]
