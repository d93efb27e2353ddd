"""``shmstress bisect`` on a small repository with a bug among thirty commits."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from stress.explorer.explore import explore
from stress.explorer.targets import load_program
from support.runs import shmstress

PROGRAM = """
from shmalloc import kernel
from shmalloc.words import fetch_add, load, store
from stress import Program

STEP = {step}

@kernel
def increment(mem, cpu):
{body}

@kernel
def counted(mem):
    return 0 if mem[0] == 2 * STEP else 1

program = Program(name="counter", words=2, threads=[increment, increment], check=counted)
"""
GOOD_BODY = "    fetch_add(mem, 0, STEP)"
BAD_BODY = "    old = load(mem, 0)\n    store(mem, 0, old + STEP)"
LONGER_BODY = "    load(mem, 1)\n    load(mem, 1)\n" + BAD_BODY
CHANGED = "changed"
PLANTED = 17  # the commit that brings the bug, of 30
MISSING = (14, 15)  # commits without the program
Done = subprocess.CompletedProcess[str]
LONGER = 19  # from here on the kernel reads another word first: the schedule counts on


class Repository:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.git("init", "--quiet", "--initial-branch", "main")
        self.commits: list[str] = []

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", *who, *arguments], cwd=self.folder, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self, subject: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", subject)
        self.commits.append(self.git("rev-parse", "HEAD"))

    def status(self) -> str:
        """git's, and what stands in the changed file."""
        told = self.git("status", "--porcelain", "--branch")
        return f"{told}\n{(self.folder / 'notes').read_text()}"


def body_of(number: int) -> str:
    if number < PLANTED:
        return GOOD_BODY
    return BAD_BODY if number < LONGER else LONGER_BODY


def token_in(file: Path) -> str:
    """The same at each call: which schedule "auto" finds first depends on the time it has."""
    program = load_program(f"{file}:program", [])
    found = explore(program, "dpor", engine="interpreted")
    assert found.failure is not None
    return found.failure.schedule


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    made = Repository(tmp_path_factory.mktemp("repository"))
    file = made.folder / "counter.py"
    for number in range(30):
        step = 1 if number < 8 else 3  # a constant changes what the kernels mean
        file.write_text(PROGRAM.format(step=step, body=body_of(number)))
        if number in MISSING:
            file.unlink()
        (made.folder / "notes").write_text(f"{number}\n")
        made.commit(f"commit {number}")
    return made


@pytest.fixture(scope="module")
def token(repository: Repository) -> str:
    return token_in(repository.folder / "counter.py")


def bisected(repository: Repository, *arguments: str) -> subprocess.CompletedProcess[str]:
    return shmstress("bisect", *arguments, "--from", str(repository.folder))


@pytest.fixture(scope="module")
def done(repository: Repository, token: str) -> Done:
    """One bisection from the first to the last commit, of a checkout with a change."""
    (repository.folder / "notes").write_text(CHANGED)
    file = str(repository.folder.parent / f"{repository.folder.name}.json")
    return bisected(repository, token, "--good", repository.commits[0], "--json", file)


def test_it_finds_the_commit_that_brought_the_failure(repository: Repository, done: Done) -> None:
    assert done.returncode == 0, done.stderr
    document = json.loads(Path(f"{repository.folder}.json").read_text())
    assert document["found"]["commit"] == repository.commits[PLANTED]
    assert f"commit {PLANTED} (" in done.stdout


def test_it_shows_the_schedule_before_and_after(done: Done) -> None:
    before, _, after = done.stdout.partition("from it on, the schedule fails")
    assert "counter: passes" in before
    assert "fetch_add(mem, 0, STEP)" in before
    assert "counter: check 1" in after
    assert "store(mem, 0, old + STEP)" in after


def test_a_schedule_that_counts_other_steps_is_searched_anew(done: Done) -> None:
    """The token is of the longer kernel: before that, its schedule ends too early.

    git may choose either of the commits between.
    """
    between = [f"commit {number}: its schedule" for number in range(PLANTED, LONGER)]
    told = [line for line in done.stderr.splitlines() if any(one in line for one in between)]
    assert told and "its schedule passes, another one of" in told[0]


def test_commits_with_the_same_kernels_are_judged_once(done: Done) -> None:
    assert "the kernels of " in done.stderr


def test_a_commit_without_the_program_is_skipped_and_counted(
    repository: Repository, token: str
) -> None:
    good, bad = repository.commits[MISSING[0] - 1], repository.commits[PLANTED]
    done = bisected(repository, token, "--good", good, "--bad", bad)
    assert done.returncode == 0, done.stderr
    assert "of them skipped" in done.stdout
    assert [line for line in done.stderr.splitlines() if line.startswith("skipped")]


def test_a_program_that_is_newer_than_the_bug_judges_every_commit(tmp_path: Path) -> None:
    made = Repository(tmp_path / "repository")
    for number in range(4):
        body = GOOD_BODY if number < 2 else BAD_BODY
        kernels, _, program = PROGRAM.format(step=1, body=body).partition("@kernel\ndef counted")
        (made.folder / "counter.py").write_text(kernels)
        (made.folder / "notes").write_text(f"{number}\n")
        made.commit(f"commit {number}")
    newer = tmp_path / "newer.py"
    newer.write_text(
        "from shmalloc import kernel\nfrom stress import Program\n"
        f"from counter import STEP, increment\n@kernel\ndef counted{program}"
    )
    (tmp_path / "counter.py").write_text(kernels)
    token = token_in(newer)
    (tmp_path / "counter.py").unlink()
    done = bisected(made, token, "--good", made.commits[0], "--program", f"{newer}:program")
    assert "the first commit that fails is" in done.stdout, done.stderr
    assert "commit 2 (" in done.stdout


def test_the_commit_that_mended_a_failure_is_found_too(tmp_path: Path) -> None:
    made = Repository(tmp_path)
    file = tmp_path / "counter.py"
    tokens = []
    for number in range(6):
        file.write_text(PROGRAM.format(step=1, body=BAD_BODY if number < 4 else GOOD_BODY))
        tokens += [token_in(file)] if number == 0 else []
        (tmp_path / "notes").write_text(f"{number}\n")
        made.commit(f"commit {number}")
    first, last = made.commits[0], made.commits[-1]
    done = bisected(made, tokens[0], "--good", last, "--bad", first)
    assert done.returncode == 0, done.stderr
    assert "the first commit that passes is" in done.stdout
    assert "commit 4 (" in done.stdout


def test_only_skipped_commits_left_are_listed(tmp_path: Path) -> None:
    made = Repository(tmp_path)
    file = tmp_path / "counter.py"
    for number, body in enumerate((GOOD_BODY, "", "", BAD_BODY)):
        file.write_text(PROGRAM.format(step=1, body=body) if body else "broken = \n")
        (tmp_path / "notes").write_text(f"{number}\n")
        made.commit(f"commit {number}")
    done = bisected(made, token_in(file), "--good", made.commits[0])
    assert done.returncode == 5, done.stderr
    assert set(made.commits[1:]) == {line.strip() for line in done.stdout.splitlines()[1:]}


def test_a_good_commit_that_fails_is_refused(repository: Repository, token: str) -> None:
    done = bisected(repository, token, "--good", repository.commits[PLANTED])
    assert done.returncode == 4
    assert "good: at" in done.stderr and "the token fails" in done.stderr


def test_an_unknown_revision_is_refused_in_one_line(repository: Repository, token: str) -> None:
    done = bisected(repository, token, "--good", "no-such-branch")
    assert (done.returncode, len(done.stderr.splitlines())) == (4, 1)


def test_the_checkout_and_its_state_stay_as_they_are(repository: Repository, done: Done) -> None:
    assert repository.status() == f"## main\n M notes\n{CHANGED}"
    assert len(repository.git("worktree", "list").splitlines()) == 1
    assert not list((repository.folder / ".git").glob("BISECT*"))


def test_a_folder_without_a_repository_is_refused(tmp_path: Path, token: str) -> None:
    (tmp_path / "counter.py").write_text(PROGRAM.format(step=1, body=BAD_BODY))
    done = shmstress("bisect", token, "--good", "HEAD~1", "--from", str(tmp_path))
    assert done.returncode == 4
    assert "is in no git checkout" in done.stderr
