"""From a token and two commits to the commit that brought its failure, or the one that mended it.

The ends are judged first: a good commit that fails, or a bad one that passes, is an error of the
question. Then git chooses commits (checkout.py), and each is judged in a process of its own that
imports the packages and programs of that commit (judge.py). A commit whose kernels, by their
digest, are those of a judged one has its verdict without a run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shmalloc.compiler.directory import ENV_CACHE_DIR
from shmalloc.errors import MisuseError
from stress.bisect import judge
from stress.bisect.checkout import BAD, GOOD, SKIP, Checkout

PATIENCE_S = 120.0  # for a process that judges, besides the time of its search
# What git is told: its good commits are the older ones, and it looks for the first other one.
MARKS = {judge.FAILS: BAD, judge.PASSES: GOOD, judge.ABSENT: SKIP}
MARKS_OF_MEND = {judge.FAILS: GOOD, judge.PASSES: BAD, judge.ABSENT: SKIP}


@dataclass(frozen=True)
class Judged:
    """A commit, ``line`` in words. ``same_as``: the commit whose kernels it has; ``why`` else."""

    commit: str
    line: str
    verdict: str
    digest: str
    why: str
    token: str
    same_as: str = ""


@dataclass
class Bisection:
    """``found``: the commit that brought the failure, None if only skipped ones are ``left``.

    ``mended``: it ended the failure, for ``good`` is the later commit. ``before``, ``after``: a
    schedule that fails on one side of ``found``, line by line, at its parent and at ``found``.
    """

    token: str
    good: str
    bad: str
    mended: bool
    commits: int
    judged: list[Judged] = field(default_factory=list)
    found: Judged | None = None
    left: list[str] = field(default_factory=list)
    before: str = ""
    after: str = ""

    @property
    def skipped(self) -> int:
        return sum(one.verdict == judge.ABSENT for one in self.judged)


class Walk:
    """One bisection. ``program``: its target; ``inside``: the folders in which it is searched,
    relative to the top of the worktree."""

    def __init__(
        self,
        checkout: Checkout,
        token: str,
        program: str,
        inside: Sequence[Path],
        seconds: float,
        tell: Callable[[Judged], None],
    ) -> None:
        self._checkout, self._token = checkout, token
        self._program, self._inside = program, inside
        self._seconds, self._tell = seconds, tell
        self._by_digest: dict[str, Judged] = {}

    def run(self, good: str, bad: str) -> Bisection:
        """Raises ``MisuseError`` if the ends do not differ as they should."""
        here = self._checkout
        good, bad = here.commit(good), here.commit(bad)
        mended = here.is_ancestor(bad, good)
        older, newer = (bad, good) if mended else (good, bad)
        made = Bisection(self._token, good, bad, mended, here.count(older, newer))
        for commit, wanted in ((good, judge.PASSES), (bad, judge.FAILS)):
            here.go(commit)
            self._require(self._next(made, commit), wanted)
        here.start(newer, older)
        marks = MARKS_OF_MEND if mended else MARKS
        while here.found is None and not here.left:
            here.mark(marks[self._next(made, here.head).verdict])
        made.left = here.left
        if here.found is not None:
            made.found = next(one for one in made.judged if one.commit == here.found)
            failing = made.found if not mended else self._last_failing(made)
            made.after = self._shown(here.found, failing.token)
            made.before = self._shown(f"{here.found}^", failing.token)
        return made

    def _last_failing(self, made: Bisection) -> Judged:
        """The judgement of the mend's parent, or the next one that fails."""
        parent = self._checkout.commit(f"{self._checkout.found}^")
        failing = [one for one in made.judged if one.verdict == judge.FAILS]
        return next((one for one in failing if one.commit == parent), failing[-1])

    def _next(self, made: Bisection, commit: str) -> Judged:
        """Judge the commit that is checked out."""
        answer = self._ask(known=sorted(self._by_digest), seconds=self._seconds)
        line, digest = self._checkout.line_of(commit), answer.get("digest", "")
        if answer["verdict"] == judge.KNOWN:
            known = self._by_digest[digest]
            one = Judged(commit, line, known.verdict, digest, "", known.token, known.commit)
        else:
            told = answer["why"], answer.get("token", self._token)
            one = Judged(commit, line, answer["verdict"], digest, *told)
            if one.verdict != judge.ABSENT:
                self._by_digest[digest] = one
        made.judged.append(one)
        self._tell(one)
        return one

    def _require(self, one: Judged, wanted: str) -> None:
        if one.verdict != wanted:
            option = "good" if wanted == judge.PASSES else "bad"
            raise MisuseError(
                f"{option}: at {one.line!r} the token {one.verdict}"
                f"{f' ({one.why})' if one.why else ''}; name a commit at which it {wanted}"
            )

    def _shown(self, commit: str, token: str) -> str:
        """The steps of ``token`` at a commit; empty where it cannot run."""
        self._checkout.go(commit)
        return str(self._ask(shows=token).get("steps", ""))

    def _ask(
        self, known: Sequence[str] = (), seconds: float = 0.0, shows: str = ""
    ) -> dict[str, Any]:
        """What judge.py answers about the commit that is checked out."""
        top = self._checkout.folder
        request = {
            "token": self._token,
            "program": self._program,
            "folders": [str(top / folder) for folder in self._inside],
            "known": list(known),
            "seconds": seconds,
            "shows": shows,
        }
        paths = [str(top), str(top / "src"), os.environ.get("PYTHONPATH", "")]
        variables = {name: v for name, v in os.environ.items() if not name.startswith("SHMSTRESS_")}
        variables |= {
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            ENV_CACHE_DIR: str(self._checkout.cache),
        }
        try:
            done = subprocess.run(
                [sys.executable, "-P", str(judge.__file__)],
                input=json.dumps(request),
                cwd=top,
                env=variables,
                capture_output=True,
                check=False,
                text=True,
                timeout=PATIENCE_S + seconds,
            )
        except subprocess.TimeoutExpired:
            return {"verdict": judge.ABSENT, "why": f"no verdict after {PATIENCE_S + seconds:g} s"}
        lines = done.stdout.splitlines()
        if done.returncode != 0 or not lines:
            said = (done.stderr.splitlines() or [f"exit code {done.returncode}"])[-1]
            return {"verdict": judge.ABSENT, "why": said}
        answer: dict[str, Any] = json.loads(lines[-1])
        return answer
