"""Every line that claims to reproduce a failure does so, in a fresh process, from elsewhere."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crash_programs import DIED, PROGRAM, recover_in_haste
from stress import Program, explore
from stress.crash import crash
from stress.crash.account import tell
from stress.crash.search import Effort
from stress.explorer.address import address_of
from stress.explorer.targets import load_program, load_programs
from stress.explorer.token import Token
from stress.machine.program import Program as ProgramType
from stress.mutants import MUTANTS
from stress.mutants.runner import hunt_mutant
from stress.mutants.tree import run_python
from stress.programs import PROGRAMS
from support import doc_tokens
from support.runs import environment

KERNELS = """from shmalloc import kernel
from stress import Program, explore

@kernel
def increment(mem, cpu):
    mem[0] = mem[0] + 1

@kernel
def counted(mem):
    return 0 if mem[0] == 2 else 1

"""
MADE = "program = Program('lost', 2, [increment, increment], check=counted)\n"
EXPLORED = "print(explore(program, races=False, engine='interpreted').failure.report())\n"
SCRIPT = f"{KERNELS}{MADE}{EXPLORED}"
GUARDED = f"{KERNELS}{MADE}if __name__ == '__main__':\n    {EXPLORED}"
BUILT = f"""{KERNELS}
def build():
    {MADE}    return program

def test_it():
    program = build()
    {EXPLORED}"""
LOOPED = f"""{KERNELS}
for words in (4, 2):
    program = Program('lost', words, [increment, increment], check=counted)
    if words == 4 and __name__ == '__main__':
        {EXPLORED}"""
CRASH = f"""{(Path(__file__).parent / "crash_programs.py").read_text()}
case = CrashCase(PROGRAM, recover_nothing, DIED, balanced)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A root with blanks and quotes in its name, and a folder below it."""
    root = tmp_path / "it's a root"
    (root / "deep" / "down").mkdir(parents=True)
    (root / "pyproject.toml").write_text("")
    return root


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    place = tmp_path / "elsewhere"
    place.mkdir()
    return place


def python(place: Path, *arguments: str, check: bool = True) -> str:
    """Standard output of Python in ``place``."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=place,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert not check or done.returncode in (0, 1), done.stderr
    return done.stdout if done.returncode in (0, 1) else f"{done.returncode} {done.stderr}"


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines()]
    return next(line for line in reversed(lines) if line.startswith(("shmstress ", "print(")))


def seen_again(line: str, place: Path) -> str:
    """The output of the line that a failure names, typed in ``place``."""
    words = shlex.split(line)
    assert words[0] == "shmstress"
    return python(place, "-m", "stress", *words[1:])


Printed = Callable[[Path], str]


def by_script(root: Path) -> str:
    (root / "deep" / "lost.py").write_text(SCRIPT)
    return python(root / "deep", "lost.py")


def by_guarded_script(root: Path) -> str:
    (root / "deep" / "lost.py").write_text(GUARDED)
    return python(root, "deep/lost.py")


def by_module(root: Path) -> str:
    package = root / "deep" / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "kernels.py").write_text(KERNELS)
    text = f"from .kernels import *\n{MADE}{EXPLORED}"
    (package / "lost.py").write_text(text)
    return python(root / "deep", "-m", "pkg.lost")


def by_main_of_a_folder_without_init(root: Path) -> str:
    package = root / "deep" / "bare"
    package.mkdir()
    (package / "kernels.py").write_text(KERNELS)
    (package / "lost.py").write_text(f"from .kernels import *\n{MADE}")
    (package / "__main__.py").write_text(f"from .lost import *\n{EXPLORED}")
    return python(root / "deep", "-m", "bare")


def by_module_without_package(root: Path) -> str:
    (root / "deep" / "lost.py").write_text(SCRIPT)
    return python(root, "-m", "deep.lost")


def by_pytest(root: Path) -> str:
    (root / "deep" / "test_lost.py").write_text(f"{KERNELS}{MADE}def test_it():\n    {EXPLORED}")
    return python(root, "-m", "pytest", "-sq", "-p", "no:cacheprovider", "deep/test_lost.py")


def explored(root: Path, target: str, *options: str) -> str:
    return python(
        root, "-m", "stress", "explore", target, "--engine", "interpreted", "--no-races", *options
    )


def by_file_and_name(root: Path) -> str:
    (root / "deep" / "lost.py").write_text(GUARDED)
    return explored(root / "deep", "lost.py:program")


def by_file(root: Path) -> str:
    (root / "deep" / "lost.py").write_text(SCRIPT)
    return explored(root, "deep/lost.py")


def by_file_of_an_odd_name(root: Path) -> str:
    (root / "deep" / "l%2Fö st'; #:.py").write_text(GUARDED)
    return explored(root, "deep/l%2Fö st'; #:.py:program")


def by_file_with_a_helper(root: Path) -> str:
    (root / "deep" / "helper.py").write_text(KERNELS)
    (root / "deep" / "lost.py").write_text(f"from helper import *\n{MADE}")
    return explored(root, "deep/lost.py")


def by_symlink(root: Path) -> str:
    (root / "deep" / "down" / "lost.py").write_text(GUARDED)
    (root / "link").symlink_to(root / "deep")
    return explored(root, "link/down/lost.py")


def by_module_and_name(root: Path) -> str:
    (root / "deep" / "lost.py").write_text(GUARDED)
    return explored(root / "deep", "lost:program")


def by_json(root: Path) -> str:
    (root / "deep" / "lost.py").write_text(GUARDED)
    output = explored(root, "deep/lost.py", "--json", "-")
    return str(json.loads(output)["failure"]["again"])


WAYS = (
    by_script,
    by_guarded_script,
    by_module,
    by_main_of_a_folder_without_init,
    by_module_without_package,
    by_pytest,
    by_file_and_name,
    by_file,
    by_file_of_an_odd_name,
    by_file_with_a_helper,
    by_symlink,
    by_module_and_name,
    by_json,
)


@pytest.mark.parametrize("way", WAYS)
def test_a_printed_line_shows_the_failure_again_from_elsewhere(way, project, elsewhere):
    output = seen_again(last_line(way(project)), elsewhere)
    assert output.splitlines()[-1] == "reproduced: check 1"


@pytest.mark.parametrize("way", [by_script, by_module_without_package, by_file])
@pytest.mark.parametrize("place", [".", "deep/down"])
def test_a_token_works_anywhere_below_its_root_without_it(way, project, place):
    token = last_line(way(project)).split()[-1]
    output = python(project / place, "-m", "stress", "replay", token)
    assert output.splitlines()[-1] == "reproduced: check 1"


def test_a_script_outside_of_any_root_counts_from_its_own_folder(tmp_path, elsewhere):
    (tmp_path / "lost.py").write_text(SCRIPT)
    line = last_line(python(elsewhere, "../lost.py"))
    assert line.startswith(f"shmstress replay --from {tmp_path} shm1/lost.py:program/")
    assert seen_again(line, elsewhere).endswith("reproduced: check 1\n")


def test_a_script_that_explores_at_its_top_level_is_not_run_to_its_end_again(project, elsewhere):
    line = last_line(by_script(project))
    assert seen_again(line, elsewhere).count("to see it again:") == 1


def test_the_page_shows_the_line_that_works_elsewhere(project, elsewhere):
    (project / "lost.py").write_text(GUARDED)
    explored(project, "lost.py", "--html", "page.html")
    page = (project / "page.html").read_text()
    from html import unescape

    found = re.search(r'id="token">([^<]+)<', page)
    assert found is not None
    assert seen_again(unescape(found[1]), elsewhere).endswith("reproduced: check 1\n")


# --- where no command finds it -------------------------------------------------------------------
@pytest.mark.parametrize("text", [BUILT, LOOPED], ids=["function", "loop"])
def test_a_program_without_an_address_says_what_to_call(text, project):
    (project / "test_lost.py").write_text(text)
    run = ["-m", "pytest", "-sq", "-p", "no:cacheprovider"] if text == BUILT else []
    output = python(project, *run, "test_lost.py")
    assert "to see it again, in Python, where this program is built:" in output
    line = last_line(output)
    again = f"import stress\n{KERNELS}"
    again += f"program = Program('lost', {2 if text == BUILT else 4}, [increment, increment],"
    (project / "again.py").write_text(f"{again} check=counted)\n{line}\n")
    assert python(project, "again.py").endswith("reproduced: check 1\n")


@pytest.mark.parametrize("name", ["lost", "lost.PY"])
def test_a_script_that_is_no_python_file_by_its_name_says_what_to_call(name, project):
    (project / name).write_text(SCRIPT)
    assert last_line(python(project, name)).startswith("print(stress.replay(program, ")


def test_replay_of_a_token_without_an_address_names_the_cure(project):
    (project / "test_lost.py").write_text(BUILT + "\nif __name__ == '__main__':\n    test_it()\n")
    token = re.findall(r"shm1/[^']+", python(project, "test_lost.py"))[0]
    said = python(project, "-m", "stress", "replay", token, check=False)
    assert said.startswith("4 ") and "call stress.replay(program, TOKEN)" in said


def test_a_users_program_with_the_name_of_one_of_the_allocators_is_not_taken_for_it():
    theirs = PROGRAMS["lock-try-try"]()
    mine = Program(theirs.name, theirs.words, theirs.threads)
    assert address_of(theirs) is not None and address_of(mine) is None


def test_a_name_below_main_is_no_address(project, elsewhere):
    body = f"    {MADE}    {EXPLORED}"
    (project / "lost.py").write_text(f"{KERNELS}\nif __name__ == '__main__':\n{body}")
    assert last_line(python(project, "lost.py")).startswith("print(stress.replay(program, ")


# --- crashes -------------------------------------------------------------------------------------
def test_the_line_of_a_crash_in_a_file_works_from_elsewhere(project, elsewhere):
    (project / "deep" / "cases.py").write_text(CRASH)
    output = python(
        project, "-m", "stress", "crash", "deep/cases.py", "--engine", "interpreted", "--seeds", "0"
    )
    line = last_line(output)
    assert line.startswith("shmstress crash --from ")
    again = seen_again(line, elsewhere)
    assert again.splitlines()[0] == next(s for s in output.splitlines() if "died before" in s)


def test_a_crash_without_an_address_says_what_to_call():
    effort = Effort(seeds=0, depth=2, engine="interpreted")
    failure = crash(PROGRAM, recover_in_haste, DIED, effort=effort).failures[0]
    assert "with case = CrashCase(program, recover, died, check):" in tell(failure)


# --- tokens --------------------------------------------------------------------------------------
def test_two_files_of_one_name_keep_their_own_programs(tmp_path):
    for folder, name in (("one", "first"), ("two", "second")):
        (tmp_path / folder).mkdir()
        text = f"{KERNELS}program = Program({name!r}, 2, [increment, increment])\n"
        (tmp_path / folder / "lost.py").write_text(text)
    found = load_programs([f"{tmp_path}/one/lost.py", f"{tmp_path}/two/lost.py"])
    assert [program.name for program in found.values()] == ["first", "second"]
    files = {program.threads[0].__globals__["__file__"] for program in found.values()}
    assert len(files) == 2
    for name in [name for name in sys.modules if name.startswith("explored_lost")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["a/b c", "it's", "ü/sc/p1/7/check/1", ""])
def test_a_token_of_a_program_of_any_name_parses_back(name):
    failure = explore(_lost(name), engine="interpreted", races=False).failure
    token = Token.parse(failure.schedule)
    assert (token.target, str(token)) == (name, failure.schedule)


def _lost(name: str) -> ProgramType:
    return Program(name, PROGRAM.words, [_twice], check=_never)


def test_the_program_named_by_hand_wins(project):
    (project / "lost.py").write_text(GUARDED)
    token = last_line(explored(project, "lost.py")).split()[-1]
    (project / "lost.py").rename(project / "moved.py")
    output = python(project, "-m", "stress", "replay", "--program", "moved.py", token)
    assert output.endswith("reproduced: check 1\n")


@pytest.mark.parametrize("name", ["lost.py", "it's lost.py"])
def test_a_file_with_the_printed_line_replays_from_elsewhere(name, project, elsewhere):
    (project / "deep" / name).write_text(GUARDED)
    (elsewhere / "saved.txt").write_text(explored(project, f"deep/{name}"))
    output = python(elsewhere, "-m", "stress", "replay", "saved.txt")
    assert output.endswith("reproduced: check 1\n")


def test_a_saved_root_of_another_machine_is_not_needed_below_ours(project):
    (project / "lost.py").write_text(GUARDED)
    token = last_line(explored(project, "lost.py")).split()[-1]
    (project / "saved.txt").write_text(f"shmstress replay --from /no/such/root {token}\n")
    output = python(project, "-m", "stress", "replay", "saved.txt")
    assert output.endswith("reproduced: check 1\n")


def test_a_token_away_from_its_root_names_the_option(project, elsewhere):
    (project / "lost.py").write_text(GUARDED)
    token = last_line(explored(project, "lost.py")).split()[-1]
    said = python(elsewhere, "-m", "stress", "replay", token, check=False)
    assert said.startswith("4 ") and "token: lost.py is not in the working directory" in said
    assert "--from ROOT" in said


def test_from_that_is_no_directory_is_a_usage_error(project):
    said = python(
        project,
        "-m",
        "stress",
        "replay",
        "--from",
        "nowhere",
        "shm1/lost.py:program/sc/y/10/check/1/000000000000/-",
        check=False,
    )
    assert said.startswith("4 ") and "from: nowhere is not a directory" in said


def test_a_script_in_a_working_directory_that_is_gone_says_how_to_see_it_again(
    project, elsewhere, tmp_path
):
    (project / "lost.py").write_text(SCRIPT)
    gone = tmp_path / "gone"
    gone.mkdir()
    words = shlex.join([sys.executable, str(project / "lost.py")])
    done = subprocess.run(
        ["sh", "-c", f"rmdir {shlex.quote(str(gone))}; {words}"],
        cwd=gone,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert seen_again(last_line(done.stdout), elsewhere).endswith("reproduced: check 1\n")


def test_load_program_finds_what_a_token_names(project):
    (project / "lost.py").write_text(GUARDED)
    assert load_program("lost.py:program", [project]).name == "lost"
    sys.modules.pop("explored_lost")


from shmalloc import kernel  # noqa: E402


@kernel
def _twice(mem, cpu):
    mem[0] = 1


@kernel
def _never(mem):
    return 1


# --- the documentation ---------------------------------------------------------------------------
@pytest.mark.parametrize("found", doc_tokens.all_found(), ids=str)
def test_a_token_in_the_documentation_replays(found):
    assert doc_tokens.replays(found), "run tox -e tokens"


def test_the_documentation_shows_tokens_of_both_kinds():
    shown = [found.text for found in doc_tokens.all_found()]
    assert {text.split()[0].partition("/")[0] for text in shown} == {"shm1", "shmstress"}


def test_a_token_of_changed_kernels_is_made_anew(tmp_path):
    text = "shm1/examples/peterson.py:unfenced/tso/p1/10000/race/0/000000000000/-"
    stale = doc_tokens.Found(tmp_path / "page.md", text, "")
    assert not doc_tokens.replays(stale)
    assert doc_tokens.replays(stale._replace(text=doc_tokens.made_anew(stale)))


# --- mutants -------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["put-to-a-full-slab", "recovery-wakes-none"])
def test_the_token_of_a_mutant_replays_where_it_is_planted(name, tmp_path):
    mutant = MUTANTS[name]
    hunted = next(hunt_mutant(mutant, tmp_path, ["explorer"], None))
    crash_line = hunted.token.startswith("shmstress ")
    words = shlex.split(hunted.token)[1:] if crash_line else ["replay", hunted.token]
    code, output, errors = run_python(tmp_path, ["-m", "stress", *words], 240)
    assert code == 1, errors
    assert crash_line or output.splitlines()[-1].startswith("reproduced: ")
