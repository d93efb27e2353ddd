"""``shmstress check``: what it chooses, what it says, and that it finds what was just broken."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

import pytest

import shmalloc
from crash_programs import case_of, recover_nothing
from shmalloc.errors import MisuseError
from shmalloc.kernels import hotplug
from stress import cli
from stress.check import changes as changing
from stress.check import select as selecting
from stress.check.blame import changed_lines
from stress.check.changes import changes_since
from stress.check.loop import CRASH, INTERPRETED, Job, Loop, Turn
from stress.check.select import candidates, select
from stress.check.source import nodes_of
from stress.check.verdict import failure_text, page_of, row, shortest, verdict_of
from stress.mutants import MUTANTS
from stress.mutants.mutant import rewrite
from stress.mutants.tree import copy_packages
from stress.programs import PROGRAMS, locks
from stress.verdict import Verdict
from support.runs import ROOT, environment, hear_ctrl_c

BUDDY, SLAB, HOTPLUG = (f"shmalloc/kernels/{name}.py" for name in ("buddy", "slab_put", "hotplug"))
Edit = Callable[[str, str, str], int]


def git(folder: Path, *arguments: str) -> str:
    names = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    done = subprocess.run(
        ["git", *names, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git checkout of the two packages, as they are here."""
    root = tmp_path_factory.mktemp("checkout")
    copy_packages(root)
    git(root, "init", "-q")
    (root / ".git" / "info" / "exclude").write_text("__pycache__/\n")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "as it is")
    return root


@pytest.fixture
def edit(checkout: Path) -> Iterator[Edit]:
    """Replace a text in a file of the checkout; gives the line. All is undone afterwards."""

    def replace(name: str, old: str, new: str) -> int:
        text = (checkout / name).read_text()
        assert text.count(old) == 1, f"{name}: {old!r}"
        rewrite(checkout / name, text.replace(old, new))
        return text[: text.index(old)].count("\n") + 1

    yield replace
    git(checkout, "checkout", "-q", ".")
    git(checkout, "clean", "-qfd")


@pytest.fixture
def inside(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process, as if it ran the packages of the checkout."""
    places = {name: checkout / name for name in ("shmalloc", "stress")}
    monkeypatch.setattr(changing, "PACKAGES", places)
    monkeypatch.setattr(selecting, "PACKAGES", places)
    monkeypatch.chdir(checkout)
    return checkout


def check(place: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    """The command of the checkout: exit code, standard output, standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "stress", "check", *arguments],
        cwd=place,
        text=True,
        check=False,
        env={**environment(PYTHONPATH=str(place), PYTHONDONTWRITEBYTECODE="1"), **variables},
        capture_output=True,
        timeout=500,
    )
    return done.returncode, done.stdout, done.stderr


def chosen(crash: bool = False, parts: tuple[str, ...] = ()) -> list[str]:
    return list(select(candidates(parts, crash), changes_since(None)).chosen)


# --- from a broken kernel to its line ------------------------------------------------------------
BREAKS = {
    "mergeable forgets the order": (
        BUDDY,
        "    if not is_free_head(w0, fixed(mem, zone + c.Z_INDEX), order):\n",
        "    if type_of(w0) != c.T_FREE:\n",
        "I_TAIL",
        "buddy",
    ),
    "a put to a full slab": (SLAB, *MUTANTS["put-to-a-full-slab"].edits[0], "I_SLAB", "slab"),
    "two CPUs are told that no reference is left": (
        "shmalloc/kernels/array_table.py",
        "            return references - 1",
        "            return load(mem, entry + c.AR_COUNT) & c.AR_REFS_MASK",
        "M_DOUBLE_FREE",
        "arrays",
    ),
    "a version that is not bumped": (
        MUTANTS["version-not-bumped"].file,
        *MUTANTS["version-not-bumped"].edits[0],
        "X_VERSION",
        "buddy",
    ),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_a_broken_kernel_is_named_with_its_line_in_the_first_40_lines(
    broken, checkout, edit, tmp_path
):
    name, old, new, invariant, part = BREAKS[broken]
    number = edit(name, old, new)
    code, output, error = check(
        checkout, part, "--changed", "--seconds", "240", SHMALLOC_CACHE_DIR=str(tmp_path)
    )
    head = "\n".join(output.splitlines()[:40])
    assert code == 1, error
    assert invariant in head and f"{name}:{number} in " in head
    assert "compiling" not in error and not list(tmp_path.glob("*.image"))


@pytest.mark.parametrize(
    ("old", "new", "invariant"),
    [
        (
            "    account(mem, zone, mt, -(1 << order))\n    accept_for",
            "    account(mem, zone, mt, -(1 << high))\n    accept_for",
            "I_CONSERVATION",
        ),
        (
            "    count = area_count(zone, order, mt)\n    mem[count] = mem[count] - 1",
            "    count = area_count(zone, order, mt)\n    mem[count] = mem[count] // (order >> 9)",
            "ZeroDivisionError",
        ),
        (
            "    count = area_count(zone, order, mt)\n    mem[count] = mem[count] - 1",
            "    count = area_count(zone, order, mt)\n    mem[count] = mem[count + (1 << 40)]",
            "outside the segment",
        ),
    ],
    ids=["refused", "fault", "outside"],
)
def test_a_kernel_that_fails_alone_is_named_before_any_schedule(
    old, new, invariant, checkout, edit
):
    number = edit(BUDDY, old, new) + new.count("\n") * (invariant != "I_CONSERVATION")
    code, output, error = check(checkout, "--changed")
    assert (code, "Traceback" in error) == (1, False)
    assert f"{BUDDY}:{number} in " in output and invariant in output
    assert invariant == "I_CONSERVATION" or f"{BUDDY}:{number} in " in output.partition("  at ")[2]
    code, output, _ = check(checkout, "--changed", "--json", "-")
    assert (code, json.loads(output)["verdict"]) == (1, "FAILED")
    assert f"{BUDDY}:{number}" in json.loads(output)["failure"]["text"]


def test_the_changed_line_and_the_token_are_in_the_document(checkout, edit):
    name, old, new, _, _ = BREAKS["mergeable forgets the order"]
    number = edit(name, old, new)
    code, output, _ = check(checkout, "buddy-merge-merge-3", "--changed", "--json", "-")
    document = json.loads(output)
    text = document["failure"]["text"]
    assert (code, document["exit_code"], document["verdict"]) == (1, 1, "FAILED")
    assert document["changed"] == ["shmalloc.kernels.buddy.mergeable"]
    assert f"{BUDDY}:{number} in mergeable: if type_of(w0) != c.T_FREE:" in text
    assert "shm1/buddy-merge-merge-3/" in text


def test_a_changed_line_names_every_cpu_that_ran_it(checkout, edit):
    name, old, new, _, _ = BREAKS["mergeable forgets the order"]
    number = edit(name, old, new)
    document = json.loads(check(checkout, "buddy-merge-merge-3", "--changed", "--json", "-")[1])
    text = document["failure"]["text"]
    line = next(line for line in text.splitlines() if f"{BUDDY}:{number} in " in line)
    cpus = re.findall(r"cpu (\d), steps? \d+", line)
    assert {"1", "2"} <= set(cpus)  # 2 took the smaller block, 1 ran the line last


def test_the_time_to_choose_the_programs_counts():
    assert Loop([], (), 5.0, spent_s=3.0).left_s <= 2.0


# --- what has changed ----------------------------------------------------------------------------
def test_a_changed_kernel_is_reached_by_programs_of_its_part_first(inside, edit):
    name, old, new, _, _ = BREAKS["mergeable forgets the order"]
    edit(name, old, new)
    names = chosen()
    parts = [name.partition("-")[0] for name in names]
    assert set(parts[: parts.count("buddy")]) == {"buddy"}
    assert len(names) > parts.count("buddy")


def test_programs_that_do_not_reach_a_changed_kernel_are_not_chosen(inside, edit):
    edit(
        HOTPLUG,
        "cas(mem, state, c.CPU_OFFLINE, c.CPU_CHANGING",
        "cas(mem, state, 1, c.CPU_CHANGING",
    )
    names = set(chosen())
    assert {"pcp-plug-plug", "pcp-unplug-plug"} <= names
    assert {name.partition("-")[0] for name in names} == {"pcp"}


def test_a_changed_constant_is_a_change_of_the_kernels_that_name_it(inside, edit):
    text = (inside / "shmalloc/constants.py").read_text()
    line = next(line for line in text.splitlines() if line.startswith("E_AGAIN"))
    edit("shmalloc/constants.py", line, f"E_AGAIN = {-4711}")
    names = chosen()
    assert "buddy-split-lookup" in names and "lock-try-try" not in names


def test_a_changed_check_is_a_change_of_its_programs(inside, edit):
    text = (inside / "stress/programs/checks.py").read_text()
    line = next(line for line in text.splitlines() if line.startswith("def partition_is_legal("))
    edit("stress/programs/checks.py", line, line.replace("def ", "async def "))
    names = chosen()
    assert "buddy-split-legal" in names and "lock-try-try" not in names


def test_a_changed_program_is_checked(inside, edit):
    text = (inside / "stress/programs/buddy.py").read_text()
    line = next(line for line in text.splitlines() if line.startswith("def alloc_alloc_3("))
    edit("stress/programs/buddy.py", line, f"{line}\n    name = str(name)")
    assert chosen() == ["buddy-alloc-alloc-3"]


def test_a_new_function_that_nothing_calls_is_named_as_not_checked(inside, edit):
    (inside / BUDDY).write_text((inside / BUDDY).read_text() + "\n\ndef idle():\n    return 1\n")
    selection = select(candidates((), False), changes_since(None))
    assert selection.chosen == {}
    assert selection.left == ["shmalloc.kernels.buddy: no program reaches idle; run pytest"]


def test_a_change_of_the_machine_is_named_as_not_checked(inside, edit):
    edit("stress/machine/fibers.py", "\nSTACK_WORDS = ", "\nSTACK_WORDS = 0 + ")
    selection = select(candidates((), False), changes_since(None))
    assert [left for left in selection.left if "stress.machine.fibers" in left]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def mergeable(", "# a comment\ndef mergeable("),
        ("def mergeable(", "\n\n\ndef mergeable("),
    ],
    ids=["comment", "blank lines"],
)
def test_what_changes_no_meaning_is_no_change(old, new, inside, edit):
    edit(BUDDY, old, new)
    assert changes_since(None).names == {}


def test_docstrings_and_annotations_are_no_change():
    plain = nodes_of("def f(mem, cpu):\n    return X\n", "m")
    dressed = nodes_of('def f(mem: M, cpu: "C") -> int:\n    """Say."""\n    return X\n', "m")
    assert plain["f"].text == dressed["f"].text


def test_the_annotation_of_a_name_is_no_change_but_that_of_a_field_is():
    plain = nodes_of("X = 1\ndef f():\n    n = 1\nclass C:\n    n = 1\n", "m")
    dressed = nodes_of("X: A = 1\ndef f():\n    n: A = 1\nclass C:\n    n: A = 1\n", "m")
    assert {name: plain[name].text == dressed[name].text for name in plain} == {
        "X": True,
        "f": True,
        "C": False,
    }


def test_the_variables_of_a_git_hook_do_not_name_another_checkout(inside, edit, monkeypatch):
    edit(BUDDY, "def mergeable(", "def mergeable_(")
    with monkeypatch.context() as hook:
        for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
            hook.setenv(name, "/nowhere")
        names = {str(name) for name in changes_since(None).names}
    assert "shmalloc.kernels.buddy.mergeable_" in names


def test_a_users_settings_of_git_change_no_changed_line(inside, edit, monkeypatch):
    number = edit(BUDDY, "def mergeable(", "def mergeable_(")
    edit(BUDDY, "def absorb(", "def absorb_(")
    settings = {"diff.external": "echo", "diff.interHunkContext": "99", "color.ui": "always"}
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(settings)))
    for at, (name, value) in enumerate(settings.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{at}", name)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{at}", value)
    lines = changed_lines(inside / BUDDY, "HEAD")
    assert len(lines) == 2 and lines[0].number == number


def test_changes_are_counted_from_the_commit_that_is_named(inside, edit):
    edit(BUDDY, "def mergeable(", "def mergeable_(")
    git(inside, "commit", "-qam", "renamed")
    try:
        assert changes_since(None).names == {}
        names = {str(name) for name in changes_since("HEAD~1").names}
        assert {"shmalloc.kernels.buddy.mergeable", "shmalloc.kernels.buddy.mergeable_"} <= names
    finally:
        git(inside, "reset", "-q", "--hard", "HEAD~1")


def test_a_new_file_that_git_does_not_know_is_a_change(inside, edit):
    (inside / "shmalloc/kernels/fresh.py").write_text("ONE = 1\n")
    assert [str(name) for name in changes_since(None).names] == ["shmalloc.kernels.fresh.ONE"]


def test_a_constant_made_of_a_changed_one_is_reached(tmp_path):
    (tmp_path / "low.py").write_text("A = 1\n")
    (tmp_path / "high.py").write_text("from low import A\nB = A + 1\ndef f(mem):\n    return B\n")
    from stress.check.source import Name, Sources

    sources = Sources({name: tmp_path / f"{name}.py" for name in ("low", "high")})
    seen, todo = set(), [Name("high", "f")]
    while todo:
        seen.add(todo[-1])
        todo += [one for one in sources.used_by(todo.pop()) if one not in seen]
    assert Name("low", "A") in seen


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout of a user: a program, and the modules that its kernel uses, one through one."""
    (tmp_path / "deep.py").write_text("STEP = 1\n")
    (tmp_path / "helper.py").write_text(
        "import deep\nfrom shmalloc import kernel\n\n\n@kernel\ndef add(mem):\n"
        "    mem[0] = mem[0] + deep.STEP\n"
    )
    (tmp_path / "mine.py").write_text(
        "from helper import add\nfrom shmalloc import kernel\nfrom stress import Program\n\n\n"
        "@kernel\ndef one(mem, cpu):\n    add(mem)\n\n\n"
        "program = Program('mine', 2, [one, one])\n"
    )
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "as it is")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in ("deep", "helper", "mine", "explored_mine"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("part", ["mine.py", "mine.py:program", "mine:program"])
def test_what_a_users_program_imports_is_a_change_of_it(part, users, capsys):
    (users / "deep.py").write_text("STEP = 2\n")
    assert cli.run(["check", "--changed", part, "--duration", "5"]) == 1
    captured = capsys.readouterr()
    assert "deep.STEP" in captured.err and "deep.py: run pytest" not in captured.out


def test_a_file_of_kernels_is_a_module_of_the_packages(inside, edit):
    edit(*BREAKS["mergeable forgets the order"][:3])
    names = changes_since(None, [inside / BUDDY]).names
    assert [str(name) for name in names] == ["shmalloc.kernels.buddy.mergeable"]


# --- where nothing can be said -------------------------------------------------------------------
def test_outside_of_a_checkout_changed_is_a_usage_error(tmp_path):
    copy_packages(tmp_path)
    code, output, error = check(tmp_path, "--changed", GIT_CEILING_DIRECTORIES=str(tmp_path.parent))
    assert (code, output) == (4, "")
    assert len(error.splitlines()) == 1 and "is in no git checkout; name the parts" in error


def test_packages_of_another_checkout_are_not_taken_for_those_here(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    place = {name: ROOT / name for name in ("shmalloc", "stress")}
    monkeypatch.setattr(changing, "PACKAGES", place)
    with pytest.raises(MisuseError, match=r"not those of .*set PYTHONPATH="):
        changes_since(None)


def test_installed_packages_are_not_taken_for_those_of_the_checkout_here(
    checkout, monkeypatch, tmp_path
):
    for package in ("shmalloc", "stress"):
        (tmp_path / package).mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(checkout)
    place = {name: tmp_path / name for name in ("shmalloc", "stress")}
    monkeypatch.setattr(changing, "PACKAGES", place)
    with pytest.raises(MisuseError, match=r"not those of .*pip install -e"):
        changes_since(None)


def test_a_revision_that_is_none_is_a_usage_error(inside):
    with pytest.raises(MisuseError, match="since: 'no-such' is no commit"):
        changes_since("no-such")


def test_a_kernel_that_does_not_even_import_is_one_line(checkout, edit):
    number = edit(BUDDY, "def mergeable(", "def mergeable((")
    code, output, error = check(checkout, "--changed")
    assert (code, output) == (4, "")
    assert len(error.splitlines()) == 1 and re.search(rf"buddy\.py:{number}: SyntaxError", error)


def test_nothing_changed_is_nothing_run(checkout):
    code, output, error = check(checkout, "--changed")
    assert code == 5 and "VACUOUS" in output
    assert "nothing that a program runs has changed since HEAD" in error
    assert "schedules" not in error  # no table without rows


# --- parts ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("part", "some"),
    [
        ("buddy", {n for n in PROGRAMS if n.startswith("buddy-")}),
        ("lock-try-try", {"lock-try-try"}),
        ("buddy-*-walk", {"buddy-split-walk", "buddy-merge-walk"}),
        (locks.__file__, {n for n in PROGRAMS if n.startswith("lock-")}),
    ],
)
def test_a_part_means_these_programs(part, some, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert set(candidates((part,), False)) == some


@pytest.mark.parametrize("part", ["hotplug", hotplug.__file__])
def test_a_module_of_kernels_means_the_programs_that_reach_it(part, monkeypatch):
    monkeypatch.chdir(ROOT)
    names = set(candidates((part,), False))
    assert "pcp-plug-plug" in names and "buddy-merge-merge" not in names


def test_crash_cases_come_with_the_option(monkeypatch):
    names = candidates(("lock", "pages"), True)
    assert "lock-try-try" in names and any(name.startswith("crash:pages-") for name in names)


def test_a_part_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(MisuseError, match="part: 'budy' is unknown; did you mean 'buddy'"):
        candidates(("budy",), False)


def test_small_and_large_worlds_take_turns():
    words = [PROGRAMS[n]().words for n in select(candidates(("buddy",), False), None).chosen]
    assert words[0] == min(words) and words[1] == max(words)


def test_users_files_are_checked_by_their_name(tmp_path, capsys):
    shutil.copy(ROOT / "examples" / "lost_update.py", tmp_path / "mine.py")
    assert cli.run(["check", f"{tmp_path}/mine.py"]) == 1
    assert "lost-update: " in capsys.readouterr().out


# --- the loop and its verdict --------------------------------------------------------------------
def job(name: str) -> Job:
    return Job(name, "sc", PROGRAMS[name]())


def test_a_job_that_is_done_has_no_second_turn():
    turns = [Turn("dpor", INTERPRETED, 30.0)] * 2
    loop = Loop([job("lock-try-try"), job("lock-sleep-2")], turns, 300).run()
    assert [outcome.job.name for outcome in loop.outcomes] == ["lock-try-try", "lock-sleep-2"]
    assert verdict_of(loop) is Verdict.PASSED


def test_a_job_that_never_ran_makes_it_vacuous():
    loop = Loop([job("lock-try-try")], [Turn("dpor", INTERPRETED, 1.0)], 0.0).run()
    assert loop.never_ran and verdict_of(loop) is Verdict.VACUOUS


def test_a_job_that_was_cut_each_time_makes_it_vacuous():
    loop = Loop([job("lock-sleep-2")], [Turn("random", INTERPRETED, 1.0, 3)], 30, step_limit=4)
    assert verdict_of(loop.run()) is Verdict.VACUOUS


def test_a_crash_that_is_not_recovered_has_its_text_and_a_page():
    jobs = [Job("mortal", CRASH, case_of(recover_nothing))]
    found = shortest(Loop(jobs, [Turn("dpor", INTERPRETED, 60.0)], 300).run())
    headline = failure_text(found, None).splitlines()[0].partition(" (")[0]
    assert "cpu 0 died before its write" in headline or "cpu 1 died before its write" in headline
    assert row(found)[3] == headline.partition(": ")[2].partition(";")[0].partition(" I_")[0]
    page = page_of(found)
    assert page.startswith("<!DOCTYPE html>") and escape(headline) in page


def test_a_program_that_passes_exits_0_and_says_what_was_not_checked(capsys):
    assert cli.run(["check", "lock-try-try"]) == 0
    output = capsys.readouterr().out
    assert "ran 1 under sc, 1 under tso: 2 to the end" in output
    assert "not checked: crashes (--crash)" in output
    assert output.splitlines()[-1].startswith("PASSED in ")


def test_a_checkout_that_is_not_the_one_that_runs_is_named_as_not_checked(
    checkout, monkeypatch, capsys
):
    monkeypatch.chdir(checkout)
    assert cli.run(["check", "lock-try-try", "--duration", "20s"]) in (0, 5)
    home = Path(shmalloc.__path__[0]).parent  # the checkout, or where a wheel was installed
    said = f"the packages in {home}, not those of {checkout}; install that checkout"
    assert f"not checked: this process runs {said}" in capsys.readouterr().out


def test_nothing_named_is_a_usage_error(capsys):
    assert cli.run(["check"]) == 4
    assert "name a part such as buddy, or use --changed" in capsys.readouterr().err


def test_an_interrupt_shows_what_ran_and_exits_2():
    with subprocess.Popen(
        [sys.executable, "-m", "stress", "check", "lock-sleep-kept-3", "--seconds", "400"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    ) as child:
        assert child.stderr is not None
        while not child.stderr.readline().startswith("lock-sleep-kept-3"):
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        output, _ = child.communicate(timeout=120)
    assert child.returncode == 2 and "under sc" in output
