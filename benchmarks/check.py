"""The time from a broken kernel to the failing schedule in words, with nothing compiled.

``python benchmarks/check.py``: for each break a git checkout of the packages with the break in it,
an empty compile cache, and ``shmstress check --changed`` in a new process: wall and CPU seconds,
and whether the changed line is in the first 40 lines. Exit code 1 if it is not, or if the first
break takes more than its goal of CPU time.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

import shmalloc
import stress
from stress.mutants import MUTANTS

GOAL_S = 15.0
HEAD_LINES = 40
ORDER_FORGOTTEN = (
    "shmalloc/kernels/buddy.py",
    "    if not is_free_head(w0, fixed(mem, zone + c.Z_INDEX), order):\n",
    "    if type_of(w0) != c.T_FREE:\n",
)
NAMES = (
    "put-to-a-full-slab",
    "version-not-bumped",
    "merge-once",
    "isolate-twice",
    "barn-unlocked",
)


class Took(NamedTuple):
    """One run: exit code, seconds, the failure's headline, and whether the line is shown."""

    code: int
    wall_s: float
    cpu_s: float
    found: str
    shown: bool


def checkout(root: Path) -> None:
    for package in (shmalloc, stress):
        assert package.__file__ is not None
        source = Path(package.__file__).parent
        ignored = shutil.ignore_patterns("__pycache__", "*.image")
        shutil.copytree(source, root / source.name, ignore=ignored)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "as it is")


def git(root: Path, *arguments: str) -> None:
    who = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org")
    subprocess.run(["git", *who, *arguments], cwd=root, check=True)


def broken(root: Path, file: str, old: str, new: str) -> Took:
    """Break, check, repair."""
    path = root / file
    text = path.read_text()
    assert text.count(old) == 1, f"{file}: the code has changed; update the break"
    path.write_text(text.replace(old, new))
    first = text[: text.index(old)].count("\n")  # the line above, if it is a deletion
    lines = [f"{file}:{number} in " for number in range(first, first + old.count("\n") + 2)]
    try:
        with tempfile.TemporaryDirectory() as cold:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "stress", "check", "--changed"],
                cwd=root,
                env={**os.environ, "PYTHONPATH": str(root), "SHMALLOC_CACHE_DIR": cold},
                capture_output=True,
                text=True,
                check=False,
            )
            wall_s = time.perf_counter() - start
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
    finally:
        path.write_text(text)
    head = done.stdout.splitlines()[:HEAD_LINES]
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = next((line.partition(" (")[0] for line in head if "(memory model" in line), "nothing")
    shown = any(place in line for place in lines for line in head)
    return Took(done.returncode, wall_s, cpu_s, found, shown)


def main() -> None:
    breaks = {"mergeable forgets the order": ORDER_FORGOTTEN}
    breaks |= {name: (MUTANTS[name].file, *MUTANTS[name].edits[0]) for name in NAMES}
    table = Table(box=MARKDOWN)
    for column in ("break", "found", "wall s", "CPU s", "its line in the first 40"):
        table.add_column(column, justify="right" if column.endswith(" s") else "left")
    failed = False
    with tempfile.TemporaryDirectory() as root:
        checkout(Path(root))
        for number, (name, edit) in enumerate(breaks.items()):
            took = broken(Path(root), *edit)
            failed |= took.code != 1 or not took.shown or (number == 0 and took.cpu_s > GOAL_S)
            shown = "yes" if took.shown else "no"
            table.add_row(name, took.found, f"{took.wall_s:.1f}", f"{took.cpu_s:.1f}", shown)
    Console(width=120).print(table)
    sys.exit(failed)


if __name__ == "__main__":
    main()
