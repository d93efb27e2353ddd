"""The tokens in README.md and docs/: whether they replay, and new ones if kernels have changed.

``python -m support.doc_tokens`` (``tox -e tokens``) replaces each token whose failure is not
reproduced. A token is ``shm1/...``, or a ``shmstress crash ... --schedule`` line. A line of a crash
whose paragraph names a ``mutant `NAME` `` is searched in a copy of the packages with the mutant
planted; any other line shows a run that is recovered.
"""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stress.explorer.explore import explore
from stress.explorer.replay import CLOCKED_KINDS, replay
from stress.explorer.targets import load_program
from stress.explorer.token import Token
from stress.mutants import MUTANTS
from stress.mutants.tree import build, run_python

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
# That of ``pytest --shm-replay`` is of a test file: tests/test_examples.py runs it.
TOKEN = re.compile(r"(?<!--shm-replay )\bshm1/[\w%:,./~-]+/[\d.,s-]+")
CRASH = re.compile(r"shmstress crash [\w-]+ --schedule [\w.@-]+(?: --(?:victim|write|then) \d+)+")
MUTANT = re.compile(r"[Mm]utant:?\s+`([\w-]+)`")
TIMEOUT_S = 300.0


class Found(NamedTuple):
    """One line in a page. ``mutant``: whose kernels it is of; empty: those of this tree."""

    page: Path
    text: str
    mutant: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text}"


def all_found() -> list[Found]:
    return [found for page in PAGES for found in _in_page(page)]


def _in_page(page: Path) -> Iterator[Found]:
    for paragraph in page.read_text().split("\n\n"):
        named = MUTANT.search(paragraph)
        for pattern in (TOKEN, CRASH):
            for match in pattern.finditer(paragraph):
                yield Found(page, match[0], named[1] if named else "")


def replays(found: Found) -> bool:
    """Whether the line still shows its failure, with the kernels as they are now."""
    if found.text.startswith("shm1/"):
        token = Token.parse(found.text)
        again = replay(load_program(token.target, [ROOT]), found.text)
        return again.reproduced and not again.changed
    with tempfile.TemporaryDirectory() as root:
        code, output = _crash(Path(root), found.mutant, shlex.split(found.text)[2:])
    return code == (1 if found.mutant else 0) and "requested deaths" not in output


def made_anew(found: Found) -> str:
    """A line for the same program and memory model that replays."""
    if found.text.startswith("shm1/"):
        token = Token.parse(found.text)
        failure = explore(
            load_program(token.target, [ROOT]),
            memory=token.memory,
            engine="interpreted",
            races=token.kind in CLOCKED_KINDS,
        ).failure
        assert failure is not None, f"{found}: nothing fails any more"
        return failure.schedule
    name = shlex.split(found.text)[2]
    with tempfile.TemporaryDirectory() as root:
        output = _crash(Path(root), found.mutant, [name, "--seeds", "60"])[1]
    match = CRASH.search(output)
    assert match is not None, f"{found}: every crash is recovered"
    return match[0]


def _crash(root: Path, mutant: str, arguments: list[str]) -> tuple[int, str]:
    build(root, MUTANTS[mutant] if mutant else None)
    command = ["-m", "stress", "crash", *arguments, "--engine", "interpreted"]
    code, output, _ = run_python(root, command, TIMEOUT_S)
    return code, output


def main() -> None:
    for found in all_found():
        if not replays(found):
            text = made_anew(found)
            found.page.write_text(found.page.read_text().replace(found.text, text))
            print(f"{found}\n  is now {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
