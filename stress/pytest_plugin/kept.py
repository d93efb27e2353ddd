"""Kept failures: the schedules that failed, by the test that explored them.

::

    .shmalloc/
        .gitignore               leaves out fixed/: commit failures/, or ignore the whole folder
        failures/NAME.json       one file for each test that fails
        fixed/NAME.json          what it failed with before it turned green

NAME is made of the node id: its readable letters and a digest, so that any node id makes a file
name that any file system takes; the file has the node id itself. A file is written beside its place
and moved there in one step: sessions and workers at the same time see whole files, and the last one
that writes a test's file wins. A folder is made when there is something to keep.

Nothing here raises for what it finds on the disk. A file that cannot be read counts as none, a
folder that cannot be written keeps nothing, and ``problem`` receives a sentence about it.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

from msgspec import DecodeError, Meta, Struct, ValidationError, json

from shmalloc.processes import printable
from shmalloc.pytest_plugin.record import encodable

FORMAT = 1
LONGEST_NAME = 80
MOST_BYTES = 1 << 20  # of a file; a longer one is not ours
# msgspec has classes of its own for most of it, but no UTF-8 and deep nesting are Python's
DAMAGED = (DecodeError, ValidationError, UnicodeDecodeError, RecursionError)
MOST_FIXED = 200  # files of tests that turned green; older ones are removed
LATEST_S = 1 << 36  # about the year 4147: what a date can be made of
ATTEMPTS = 3  # another session may remove the folder as we write
IGNORED = """\
# Commit failures/ to share them: each test runs its kept schedules first. The rest stays here.
fixed/
*.new
"""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
Moment = Annotated[float, Meta(ge=0, le=LATEST_S)]  # unix seconds


class Failure(Struct, frozen=True):
    """A schedule that failed. Times are unix seconds."""

    program: str
    memory: str
    token: str
    headline: str
    first_s: Moment
    last_s: Moment
    times: int = 1

    @property
    def title(self) -> str:
        """The headline for a terminal: the file may come from anyone."""
        return printable(self.headline)


class _File(Struct, frozen=True):
    """The content of a file."""

    format: int
    node: str
    failures: tuple[Failure, ...]
    fixed_s: Moment | None = None  # when the test turned green


class Kept:
    """The kept failures of one rootdir. ``folder`` None: nothing is kept."""

    def __init__(self, folder: Path | None, problem: Callable[[str], None]) -> None:
        self._folder = folder
        self._tell_problem = problem

    def of(self, node: str) -> tuple[Failure, ...]:
        """The kept failures of a test."""
        found = self._read("failures", node)
        return () if found is None else found.failures

    def keep(self, node: str, failures: Iterable[Failure]) -> None:
        """Let these be the failures of a test; none: it turned green."""
        before, now = self._read("failures", node), tuple(failures)
        if now:
            self._write("failures", _File(FORMAT, encodable(node), now))
            self._forget_fixed(node, {failure.token for failure in now})
        elif before is not None:
            gone = _File(FORMAT, encodable(node), before.failures, time.time())
            self._write("fixed", gone)
            self._remove("failures", node)
            self._prune()

    def nodes(self) -> list[str]:
        """The node ids of tests with a kept failure."""
        return sorted(file.node for file in self._all("failures"))

    def fixed(self) -> list[tuple[str, Failure, float]]:
        """What turned green, oldest first: node id, failure, and when that was."""
        files = sorted(self._all("fixed"), key=lambda file: file.fixed_s or 0.0)
        return [(f.node, failure, f.fixed_s or 0.0) for f in files for failure in f.failures]

    # --- files ---------------------------------------------------------------------------------
    def _path(self, part: str, node: str) -> Path:
        assert self._folder is not None
        return self._folder / part / file_name(node)

    def _all(self, part: str) -> list[_File]:
        if self._folder is None:
            return []
        try:
            paths = sorted((self._folder / part).glob("*.json"))
        except OSError as error:
            self._tell(self._folder / part, error)
            return []
        return [file for path in paths if (file := self._load(path)) is not None]

    def _read(self, part: str, node: str) -> _File | None:
        if self._folder is None:
            return None
        found = self._load(self._path(part, node))
        if found is not None and found.node != encodable(node):
            self._problem(f"{self._path(part, node)} belongs to another test: it is not used")
            return None
        return found

    def _load(self, path: Path) -> _File | None:
        try:
            text = _content(path)
            found = None if text is None else json.decode(text, type=_File)
        except DAMAGED as error:
            self._problem(f"{path} is damaged ({error}): it is not used")
            return None
        except OSError as error:
            self._tell(path, error)
            return None
        if found is not None and found.format != FORMAT:
            self._problem(f"{path} has format {found.format}, not {FORMAT}: it is not used")
            return None
        return found

    def _write(self, part: str, file: _File) -> None:
        if self._folder is None:
            return
        path = self._path(part, file.node)
        try:
            for attempt in range(ATTEMPTS):
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _replace(path, json.format(json.encode(file), indent=1) + b"\n")
                    break
                except FileNotFoundError:
                    if attempt + 1 == ATTEMPTS:
                        raise
            ignored = self._folder / ".gitignore"
            if not ignored.exists():
                _replace(ignored, IGNORED.encode())
        except OSError as error:
            self._tell(path, error)

    def _remove(self, part: str, node: str) -> None:
        try:
            self._path(part, node).unlink(missing_ok=True)
        except OSError as error:
            self._tell(self._path(part, node), error)

    def _forget_fixed(self, node: str, tokens: set[str]) -> None:
        """What fails again is not fixed."""
        found = self._read("fixed", node)
        if found is not None and any(failure.token in tokens for failure in found.failures):
            self._remove("fixed", node)

    def _prune(self) -> None:
        files = sorted(self._all("fixed"), key=lambda file: file.fixed_s or 0.0)
        for file in files[:-MOST_FIXED]:
            self._remove("fixed", file.node)

    def _problem(self, text: str) -> None:
        self._tell_problem(printable(text))

    def _tell(self, path: Path, error: OSError) -> None:
        self._problem(f"{path}: {error.strerror or error}: kept failures are not complete")


def file_name(node: str) -> str:
    """A file name for any node id."""
    text = encodable(node)
    readable = _UNSAFE.sub("-", text).strip("-.")[-LONGEST_NAME:].lstrip("-.")
    return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def _content(path: Path) -> bytes | None:
    """The bytes of a file; None if there is none. A pipe or a device of that name is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "no regular file")
        text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise OSError(0, f"longer than {MOST_BYTES} bytes")
    return text


def _replace(path: Path, content: bytes) -> None:
    """Write beside the place, then move there: a reader sees all of it or none."""
    new = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    try:
        new.write_bytes(content)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
