"""A worktree of a repository in which git bisects, with a compile cache of its own.

git keeps what was judged, chooses the next commit and knows about merges and skipped commits; the
user's checkout stays as it is. Worktree and cache lie in a temporary directory and go with it.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shmalloc.errors import MisuseError
from stress.check.changes import run_git

_FOUND = re.compile(r"^([0-9a-f]{40,64}) is the first '?\w+'? commit", re.MULTILINE)
_LEFT = re.compile(r"^([0-9a-f]{40,64})$", re.MULTILINE)
_ONLY_SKIPPED = "There are only 'skip'ped commits left to test"
GOOD, BAD, SKIP = "good", "bad", "skip"


class Checkout:
    """``found``: the first bad commit; ``left``: those that it could be, if all were skipped."""

    def __init__(self, top: Path, folder: Path) -> None:
        self._top = top
        self.folder = folder / "tree"
        self.cache = folder / "cache"
        self.found: str | None = None
        self.left: list[str] = []

    def start(self, bad: str, good: str) -> None:
        """Begin; HEAD is the first commit to judge, unless ``found`` is known at once."""
        self._look(self._git("bisect", "start", bad, good))

    def is_ancestor(self, older: str, newer: str) -> bool:
        return self._git("rev-list", "--max-count=1", f"{newer}..{older}") == "" and older != newer

    def mark(self, verdict: str) -> None:
        """Say GOOD, BAD or SKIP of HEAD; HEAD is the next one, unless it is over."""
        self._look(self._git("bisect", verdict, may_fail=verdict == SKIP))

    def _look(self, said: str) -> None:
        found = _FOUND.search(said)
        self.found = found and found[1]
        if _ONLY_SKIPPED in said:
            self.left = _LEFT.findall(said)

    @property
    def head(self) -> str:
        return self.commit("HEAD")

    def commit(self, revision: str) -> str:
        return self._git("rev-parse", "--verify", f"{revision}^{{commit}}").strip()

    def go(self, commit: str) -> None:
        self._git("checkout", "--quiet", "--detach", commit)

    def line_of(self, commit: str) -> str:
        """``1a2b3c4 2026-11-30 Its subject``."""
        line = self._git("log", "-1", "--date=short", "--format=%h %ad %<(60,trunc)%s", commit)
        return line.strip()

    def count(self, good: str, bad: str) -> int:
        """Commits of which one is the first bad one."""
        return int(self._git("rev-list", "--count", f"{good}..{bad}"))

    def _git(self, *arguments: str, may_fail: bool = False) -> str:
        return git(self.folder, *arguments, may_fail=may_fail)


def git(folder: Path, *arguments: str, may_fail: bool = False) -> str:
    """What git says. Raises ``MisuseError`` with its own words if it refuses."""
    try:
        done = run_git(folder, *arguments)
    except FileNotFoundError as error:
        raise MisuseError(f"bisect: {error.strerror}: git; install git") from error
    output, errors = os.fsdecode(done.stdout), os.fsdecode(done.stderr)
    if done.returncode != 0 and not may_fail:
        said = (errors.strip() or output.strip()).splitlines() or ["no reason given"]
        raise MisuseError(f"bisect: git {arguments[0]}: {said[0]}")
    return output


@contextmanager
def checkout_of(top: Path) -> Iterator[Checkout]:
    """A worktree of the repository at ``top``, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="shmstress-bisect-"))
    made = Checkout(top, folder)
    try:
        git(top, "worktree", "add", "--quiet", "--detach", str(made.folder), "HEAD")
        made.cache.mkdir(mode=0o700)
        yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        git(top, "worktree", "prune")
