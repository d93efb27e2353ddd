"""The line under a failure leads to the same test and schedule, wherever pytest was started."""

import pytest

from support.sessions import XDIST, Project

KERNELS = """
from shmalloc import kernel
from stress import Program

@kernel
def increment(mem, cpu):
    mem[0] = mem[0] + 1

@kernel
def both_counted(mem):
    return 0 if mem[0] == 2 else 1

PROGRAM = Program("counter", 2, [increment, increment], check=both_counted)
"""
MARKED = """
import pytest

@pytest.mark.explore(races=False)
def test_marked():
    return PROGRAM
"""
TEST = """
def test_counter(explorer):
    assert explorer(PROGRAM, races=False)
"""
DOCTEST = """
def counted():
    \"\"\"
    >>> bool(getfixture("explorer")(PROGRAM, races=False))
    True
    \"\"\"
"""
INI = "[pytest]\nshm_engine = interpreted\n"


def lines(session, option="--shm-replay"):
    """The lines of a session that run its tests again."""
    return [line.strip() for line in session.out.splitlines() if option in line]


def runs_again(again):
    return again.returncode == 1 and "reproduced: check 1" in again.stdout


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """Two files of one name, both outside of the rootdir."""
    files = {f"{name}/test_it.py": KERNELS + TEST for name in ("a", "b")}
    project = Project(tmp_path_factory.mktemp("beside"), {**files, "root/pytest.ini": INI})
    (project.folder / "pytest.ini").unlink()
    return project, project.run("-c", "root/pytest.ini", "--import-mode=importlib", "a", "b")


@pytest.mark.parametrize("number", range(2))
def test_of_a_file_outside_of_the_rootdir(beside, number):
    project, session = beside
    line = lines(session)[number]
    assert f" {'ab'[number]}/test_it.py::test_counter " in line
    assert runs_again(project.paste(line))


def test_two_files_outside_of_the_rootdir_keep_failures_of_their_own(beside):
    project, session = beside
    assert "kept since" not in session.out
    assert len(list((project.folder / "root/.shmalloc/failures").iterdir())) == 2


def test_the_rootdir_is_named_where_the_file_alone_leads_to_another(tmp_path):
    files = {"pytest.ini": INI, "sub/tox.ini": "[pytest]\n", "sub/test_it.py": KERNELS + TEST}
    project = Project(tmp_path, files)
    (line,) = lines(project.run())
    assert " -c pytest.ini " in line and runs_again(project.paste(line))


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
def test_of_a_doctest(tmp_path, workers):
    project = Project(tmp_path, {"counted.py": KERNELS + DOCTEST, "pytest.ini": INI})
    session = project.run("--doctest-modules", "-k", "counted", *workers, plugins=(XDIST,))
    (line,) = lines(session)
    assert runs_again(project.paste(line))


def test_plugins_and_settings_that_were_given_are_given_again(tmp_path):
    project = Project(tmp_path, {"test_it.py": KERNELS + TEST})
    given = [
        "-pxdist",
        "-o",
        "shm_engine=interpreted",
        "--import-mode=append",
        "-q",
        "--durations=3",
    ]
    (line,) = lines(project.run(*given))
    words = " -p xdist -o shm_engine=interpreted --import-mode=append --shm-replay "
    assert words in line and "--durations" not in line
    assert runs_again(project.paste(line))


@pytest.mark.parametrize(
    ("test", "line"), [(TEST, "assert explorer("), (MARKED, "@pytest.mark.explore")]
)
def test_the_debugger_stops_in_the_test(tmp_path, test, line):
    text = KERNELS + test
    session = Project(tmp_path, {"test_it.py": text, "pytest.ini": INI}).run("--pdb")
    number = text[: text.index(line)].count("\n") + 1
    assert f"> {tmp_path}/test_it.py({number})test_" in session.out
    assert f"-> {line}" in session.out


# --- what a stranger wrote -----------------------------------------------------------------------
def test_texts_of_kept_failures_cannot_steer_the_terminal(tmp_path):
    project = Project(tmp_path, {"test_it.py": KERNELS + TEST, "pytest.ini": INI})
    project.run()
    (path,) = (tmp_path / ".shmalloc/failures").iterdir()
    evil = path.read_text().replace("counter: check 1", r"\u001b]0;title\u0007\nPASSED \u009b1m")
    path.write_text(evil)
    (path.parent / "\x1b[2Jx.json").write_text("{")
    fixed = tmp_path / ".shmalloc/fixed"
    fixed.mkdir()
    (fixed / "other.json").write_text(evil.replace("\n}", ',\n "fixed_s": 7.0\n}'))
    session = project.run("--shm-fixed", "-v")
    assert not {"\x1b", "\x07", "\x9b"} & set(session.out)
    assert "fails again: ?]0;title??PASSED ?1m" in session.section
    assert "1970-01-01" in session.section and "\nPASSED" not in session.out
