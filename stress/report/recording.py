"""``--db FILE``: one command's run in a database, from its first round to its verdict.

::

    with recorded(db, ignored, Work("explore", line, settings)) as recording:
        round_id = recording.round(Work("explore", ...))      # None if there is no database
        ...
        recording.verdict = Verdict.PASSED

However the command ends, its run is given an end: what the command concluded, INTERRUPTED or ERROR.
Without a database all of this does nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from stress import shell
from stress.records.fingerprint import Ignored
from stress.records.work import Work
from stress.verdict import Verdict

if TYPE_CHECKING:
    from stress.records.writer import Records

DIGEST_DIGITS = 12
T = TypeVar("T")


class Recording:
    """A run that is recorded. ``records`` None: it is not, and only what is ignored is known."""

    def __init__(self, records: Records | None, run_id: int, ignored: Ignored) -> None:
        self.records = records
        self.run_id = run_id
        self.verdict = Verdict.ERROR
        self._ignored = ignored
        self._ended = False

    @property
    def path(self) -> str:
        """The database; empty if there is none."""
        return "" if self.records is None else str(self.records.path)

    def round(self, work: Work) -> int | None:
        """A round begins; None if nothing is recorded."""
        return None if self.records is None else self.records.begin_round(self.run_id, work)

    def record(self, round_id: int | None, write: Callable[[Records, int], T]) -> T | None:
        """Let ``write`` record what came of a round."""
        if self.records is None or round_id is None:
            return None
        return write(self.records, round_id)

    def is_ignored(self, fingerprint: str) -> bool:
        """Whether the hunt is to go past this finding."""
        if self.records is not None:
            return self.records.is_ignored(fingerprint)
        return fingerprint in self._ignored

    def end(self) -> None:
        """The run has ended with ``verdict``; the second call does nothing."""
        if self.records is not None and not self._ended:
            self._ended = True
            self.records.end_run(self.run_id, self.verdict.name)

    def give_up(self) -> None:
        """The database cannot be written: the run counts as lost."""
        self._ended = True

    @property
    def ignores(self) -> bool:
        """Whether there may be something to go past."""
        return bool(self._ignored) or (self.records is not None and self.records.ignores)


def told(found: Iterable[str], database: str) -> list[str]:
    """A line for each finding: how to see what the database knows of it."""
    return [
        f"recorded as finding {name}: shmstress show {name} --db {shell.quote(database)}"
        for name in found
    ]


def gone_past(names: Iterable[str], database: str) -> list[str]:
    """A line for each ignored finding that a hunt has met: which one, and how it counts again."""
    if not database:
        return [f"went past finding {name}, which --ignore names" for name in dict.fromkeys(names)]
    where = shell.quote(database)
    return [
        f"went past finding {name}, which is ignored;"
        f" to open it again: shmstress show {name} --db {where} --open"
        for name in dict.fromkeys(names)
    ]


@contextmanager
def recorded(
    db: str | None, ignored: Ignored, work: Work, keep_bytes: int | None = None
) -> Iterator[Recording]:
    """Record in the database ``db`` what happens in this block; None: in none."""
    if db is None:
        yield Recording(None, 0, ignored)
        return
    from stress.records.writer import Records  # SQLite: only where something is recorded

    with Records(db, ignored=ignored, keep_bytes=keep_bytes) as records:
        recording = Recording(records, begin_run(records, work), ignored)
        try:
            yield recording
        except KeyboardInterrupt:
            recording.verdict = Verdict.INTERRUPTED
            raise
        finally:
            recording.end()


def begin_run(records: Records, work: Work) -> int:
    """A run begins on this machine, with these kernels. Returns its id."""
    from stress.report.environment import environment

    return records.begin_run(work, environment(), kernels_digest())


@cache
def kernels_digest() -> str:
    """A digest of the allocator's kernels: runs with the same one tested the same allocator."""
    from shmalloc import kernels

    state = hashlib.sha256()
    for folder in kernels.__path__:
        for path in sorted(Path(folder).glob("*.py")):
            state.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()[:DIGEST_DIGITS]
