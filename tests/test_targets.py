"""What a user names: FILE.py alone, globs, and files with a mistake in them."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shmalloc.errors import MisuseError
from stress import cli
from stress.crash.targets import load_cases
from stress.explorer.targets import load_program, load_programs
from stress.machine.program import Program
from stress.programs import PROGRAMS
from support.runs import shmstress

HEAD = """from shmalloc import kernel
from stress import Program

@kernel
def one(mem, cpu):
    mem[0] = 1

"""
MADE = "first = Program('first', 2, [one])\n"
Call = Callable[..., tuple[int, str]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("explored_")]:
        del sys.modules[name]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on standard error of a command that exits 4."""
    code = cli.run(arguments)
    captured = capsys.readouterr()
    assert (code, captured.out) == (4, "")
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    return lines[0]


# --- one file ------------------------------------------------------------------------------------
def test_a_file_alone_means_its_only_program(place):
    (place / "mine.py").write_text(HEAD + MADE)
    assert list(load_programs(["mine.py"])) == ["mine.py:first"]


def test_a_file_called_like_a_library_does_not_stand_for_it(place):
    (place / "rich.py").write_text(HEAD + MADE)
    (place / "below.py").write_text("THERE = 1\n")
    load_program("rich.py")
    assert Path(str(importlib.util.find_spec("rich").origin)).parent.name == "rich"
    assert importlib.util.find_spec("below") is not None


def test_a_file_whose_name_is_no_text_is_explored_and_shown_again(place, capfdbinary):
    file = os.fsdecode(b"lost\xff.py")
    (place / file).write_text(HEAD + MADE.replace("[one]", "[one, one]"))
    assert cli.run(["explore", file, "--html", "page.html"]) == 1
    token = re.search(rb"shm1/\S+", capfdbinary.readouterr().out)[0].decode()
    assert "lost%FF.py" in token and cli.run(["replay", token]) == 1
    assert "lost\\udcff.py" in (place / "page.html").read_text("utf-8")


def test_a_log_is_replayed_from_the_root_that_its_line_names(place, capsys, monkeypatch):
    (place / "a root").mkdir()
    (place / "a root" / "mine.py").write_text(HEAD + MADE.replace("[one]", "[one, one]"))
    assert cli.run(["explore", "a root/mine.py"]) == 1
    output = capsys.readouterr().out
    assert "--from '" in output
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / "log").write_text(output)
    monkeypatch.chdir(place / "elsewhere")
    assert cli.run(["replay", "log"]) == 1
    assert "reproduced: race" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["two\nlines", None, 7])
def test_the_name_of_a_program_is_one_line_of_text(name):
    with pytest.raises(MisuseError, match=r"^name: .*use one line of text"):
        Program(name, 2, [])


def test_a_program_that_a_file_imports_is_not_one_of_its_own(place):
    (place / "other.py").write_text(HEAD + MADE)
    (place / "mine.py").write_text("from other import *\nfrom other import first\n"
                                   "second = Program('second', 2, [one])\n")  # fmt: skip
    assert load_program("mine.py").name == "second"
    sys.modules.pop("other")


def test_a_second_name_of_a_program_is_no_second_program(place):
    (place / "mine.py").write_text(HEAD + MADE + "same = first\n")
    assert load_program("mine.py").name == "first"


def test_a_file_with_several_programs_lists_them(place, capsys):
    (place / "mine.py").write_text(HEAD + MADE + "second = Program('second', 2, [one])\n")
    said = refused(capsys, "explore", "mine.py")
    assert "has 2; name one of mine.py:first, mine.py:second, or all: 'mine.py:*'" in said


def test_a_file_of_a_package_that_imports_relatively_is_told_by_its_name_as_a_module(place, capsys):
    inner = place / "pkg" / "inner"
    inner.mkdir(parents=True)
    for folder in (place / "pkg", inner):
        (folder / "__init__.py").write_text("")
    (inner / "mine.py").write_text("from . import other\n")
    told = f"name the module instead of its file, in {place}: pkg.inner.mine:NAME"
    assert told in refused(capsys, "explore", "pkg/inner/mine.py")


def test_a_folder_is_no_file(place, capsys):
    (place / "mine.py").mkdir()
    assert "mine.py is a directory; name a Python file in it" in refused(
        capsys, "explore", "mine.py"
    )


# --- globs ---------------------------------------------------------------------------------------
def test_a_glob_means_all_programs_that_match():
    meant = load_programs(["buddy-merge-*"])
    assert list(meant) == [name for name in PROGRAMS if name.startswith("buddy-merge-")]


def test_a_glob_in_a_file_means_all_of_its_programs_that_match(place):
    (place / "mine.py").write_text(HEAD + MADE + "second = Program('second', 2, [one])\n")
    assert list(load_programs(["mine.py:f*"])) == ["mine.py:first"]


def test_a_glob_that_matches_nothing_is_refused():
    with pytest.raises(MisuseError, match=r"'nothing-\*' is unknown"):
        load_programs(["nothing-*"])


def test_crash_takes_globs(place):
    assert all(name.startswith("wait-list") for name in load_cases(["wait-list*"]))


def test_explore_explores_all_and_ends_with_the_worst(place, capsys):
    text = HEAD + MADE + "@kernel\ndef bad(mem):\n    return 1\n\n"
    (place / "mine.py").write_text(text + "second = Program('second', 2, [one], check=bad)\n")
    assert cli.run(["explore", "mine.py:*", "--engine", "interpreted"]) == 1
    output = capsys.readouterr().out
    assert "first (auto): passed-exhausted" in output and "second" in output


# --- mistakes in a file --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (HEAD + "def f(:\n    pass\n", 8, "SyntaxError: invalid syntax; mend the file"),
        (HEAD + "x = 1\n  y = 2\n", 9, "IndentationError: unexpected indent; mend the file"),
        (HEAD + "nothing_at_all\n", 8, "NameError: name 'nothing_at_all' is not defined; mend"),
        (HEAD + "import no_such_module\n", 8, "ModuleNotFoundError: No module named"),
        (HEAD + "Program('odd', 3, [one])\n", 8, "MisuseError: words: 3; use a positive even"),
        (HEAD + "raise SystemExit(3)\n", 8, "SystemExit: 3; the file ended Python"),
        (HEAD + "def f():\n    return 1 // 0\n\nf()\n", 9, "ZeroDivisionError: "),
        ("from . import sibling\n", 1, "ImportError: attempted relative import"),
        (HEAD + "x = 'a\0b'\n", None, "null bytes"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_with_its_place(text, line, said, place, capsys):
    (place / "mine.py").write_text(text)
    told = refused(capsys, "explore", "mine.py:first")
    assert said in told
    assert f"mine.py{'' if line is None else f':{line}'}: " in told


def test_a_mistake_in_what_a_file_imports_is_told_with_its_own_place(place, capsys):
    (place / "helper.py").write_text("x = 1\n\nboom\n")
    (place / "mine.py").write_text("import helper\n")
    assert "helper.py:3: NameError" in refused(capsys, "explore", "mine.py")


def test_a_mistake_in_a_module_is_one_line_with_its_place(place, capsys):
    (place / "broken_one.py").write_text("x = 1\n\nboom\n")
    assert "broken_one.py:3: NameError" in refused(capsys, "explore", "broken_one:first")


def test_the_traceback_is_shown_on_request(place):
    (place / "mine.py").write_text("boom\n")
    done = shmstress("explore", str(place / "mine.py"), SHMSTRESS_TRACEBACK="1")
    # the children of these tests drop SHMSTRESS_ variables of their parent, not those named here
    assert done.returncode == 4 and "Traceback (most recent call last)" in done.stderr


@pytest.mark.parametrize("command", ["explore", "crash", "check"])
def test_every_command_that_loads_a_file_tells_it_alike(command, place, capsys):
    (place / "mine.py").write_text("boom\n")
    assert "mine.py:1: NameError: name 'boom'" in refused(capsys, command, "mine.py")
