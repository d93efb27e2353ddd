"""Names, paths and lines of others' files: nothing of them reaches a terminal or a page as control.

The attack: a file whose name and source hold escape sequences of a terminal and markup.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from shmalloc.dialect import kernel
from shmalloc.errors import MisuseError
from stress.cli import run
from stress.explorer.address import Address
from stress.machine.program import Program
from stress.machine.site import Site
from stress.surroundings import plain

EVIL = "\x1b]0;owned\x07\x1b[31m<script>\x9b2J"
SOURCE = """
from shmalloc import kernel
from stress import Program
@kernel
def touch(mem, cpu):
    mem[0] = mem[0] + 1  # EVIL
program = Program("touching", words=2, threads=(touch, touch))
"""


@kernel
def nothing(mem, cpu):
    return 0


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / f"a{EVIL}"
    folder.mkdir()
    path = folder / f"b{EVIL}.py"
    path.write_text(SOURCE.replace("EVIL", EVIL), "utf-8")
    monkeypatch.chdir(folder)
    return str(path)


def controls(text: str) -> set[str]:
    return {sign for sign in text if not sign.isprintable()} - {"\n"}


def test_a_failure_of_a_hostile_file_is_plain_text(hostile, capsys) -> None:
    assert run(["explore", f"{hostile}:program", "--engine", "interpreted"]) == 1
    shown = capsys.readouterr()
    assert "race" in shown.out and controls(shown.out + shown.err) == set()


@pytest.mark.parametrize("option", ["--junit", "--ktap", "--markdown", "--sarif", "--html"])
def test_a_file_of_results_has_no_control_characters(hostile, tmp_path, capsys, option) -> None:
    target = tmp_path / "results"
    arguments = ["explore", f"{hostile}:program", "--engine", "interpreted"]
    assert run([*arguments, option, str(target)]) == 1
    text = target.read_text("utf-8")
    assert controls(text) <= {"\t"} and f"<script>{EVIL[-3:]}" not in text
    if option == "--junit":
        ElementTree.fromstring(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["explore", f"no{EVIL}.py:program"],
        ["replay", f"no{EVIL}"],
        ["replay", f"shm1/no{EVIL}/sc"],
        ["run", "--workload", f"no{EVIL}"],
        ["run", "--ram", f"{EVIL}"],
        ["crash", f"no{EVIL}"],
        [f"no{EVIL}"],
    ],
)
def test_an_error_that_repeats_its_argument_is_plain_text(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 4
    shown = capsys.readouterr()
    assert shown.err and controls(shown.out + shown.err) == set()


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "\x9b", "\u202e", "\ud800", 7])
def test_a_name_that_is_no_plain_line_is_refused(name) -> None:
    with pytest.raises(MisuseError, match="without control characters"):
        Program(name, words=2, threads=(nothing,))


def test_lines_stay_lines() -> None:
    assert plain("a\n\tb\x1b[0m\n") == "a\n        b\\x1b[0m\n"


def test_a_place_is_plain_text() -> None:
    assert str(Site("a\x1b.py", 3, "f")) == "a\\x1b.py:3 in f"


@pytest.mark.parametrize("name", ["plain", "with space", "it's", f"{EVIL}'\\n", "\udc80"])
def test_a_shell_reads_the_printed_root_back(tmp_path, name) -> None:
    root = tmp_path / name
    option = Address("x.py:p", root).option
    assert option.isprintable()
    script = f"printf %s {option.removeprefix('--from ')}"
    ran = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert ran.stdout == os.fsencode(root)
    if name.isprintable():
        assert shlex.split(option) == ["--from", str(root)]


@pytest.mark.parametrize("path", ["/etc/x.py", "../x.py", "a/../../x.py"])
def test_a_token_names_no_file_outside_of_its_root(tmp_path, monkeypatch, capsys, path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    (tmp_path / "x.py").write_text("import sys\nsys.exit('executed')\n")
    token = f"shm1/{path}:program/sc/y/100/check/1/{'0' * 12}/-"
    assert run(["replay", token]) == 4
    assert "leaves the folder" in capsys.readouterr().err
