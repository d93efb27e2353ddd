"""``Transactions``: a connection that writes, and its transactions.

``together`` makes what stands in it one transaction, of several calls too: the outermost block
begins and commits. An exception has to leave the outermost block, which then rolls back.

``durable`` transactions are committed with ``PRAGMA synchronous = FULL``: the disk has them, and
all that was committed before them. The others use NORMAL and do not wait for the disk: they
survive the death of the process, and a power cut may take the last of them.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stress.records.database import BUSY_S, errors_told, open_for_writing

Values = Sequence[object] | Mapping[str, object]


class Transactions:
    """The one connection of a writer. Belongs to one process; its threads may share it."""

    def __init__(self, path: Path, create: bool) -> None:
        self.path = path
        self.connection = open_for_writing(path, create)
        self._lock = threading.RLock()
        self._depth = 0
        self._idle: Callable[[], None] | None = None
        self._pid = os.getpid()

    @contextmanager
    def together(self, durable: bool = True, busy_s: float = BUSY_S) -> Iterator[None]:
        """One transaction; inside of another one, a part of it.

        ``busy_s``: how long to wait for another writer. Raises ``Busy`` after that.
        """
        if self._pid != os.getpid():
            raise RuntimeError("these records belong to the process that opened them")
        with self._lock, errors_told(self.path):
            if self._depth == 0:
                self._begin(durable, busy_s)
            self._depth += 1
            try:
                yield
                if self._depth == 1:
                    self.connection.execute("COMMIT")
            except BaseException:
                if self._depth == 1 and self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
            finally:
                self._depth -= 1
            if self._depth == 0 and self._idle is not None:
                self._in_idle_time(self._idle)

    def _in_idle_time(self, do: Callable[[], None]) -> None:
        self._idle = None  # its own transactions do not call it again
        try:
            do()
        finally:
            self._idle = do

    def when_idle(self, do: Callable[[], None]) -> None:
        """Call ``do`` after each commit, outside of any transaction."""
        self._idle = do

    def shrink(self) -> None:
        """Cut free pages off the end of the file, and empty the WAL; a reader may put it off."""
        with self._lock, errors_told(self.path):
            self.connection.execute("PRAGMA synchronous = NORMAL")
            self.connection.execute("PRAGMA busy_timeout = 0")
            # a statement without columns, a step for each page: execute() takes the first step only
            self.connection.executescript("PRAGMA incremental_vacuum")
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _begin(self, durable: bool, busy_s: float) -> None:
        self.connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        self.connection.execute(f"PRAGMA busy_timeout = {int(busy_s * 1000)}")
        self.connection.execute("BEGIN IMMEDIATE")

    def execute(self, query: str, values: Values = ()) -> sqlite3.Cursor:
        with self._lock, errors_told(self.path):
            return self.connection.execute(query, values)

    def insert(self, table: str, row: Mapping[str, object]) -> int:
        """Add a row by the names of its columns. Returns its id."""
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        query = f"INSERT INTO {table} ({names}) VALUES ({marks})"
        return int(self.execute(query, tuple(row.values())).lastrowid or 0)

    def close(self) -> None:
        with self._lock:
            if self._pid == os.getpid():
                self.connection.close()


def as_text(value: str) -> str:
    """Without what is no UTF-8: names of files may hold any bytes."""
    return value.encode("utf-8", "backslashreplace").decode()


def as_json(value: Any) -> str:
    return as_text(json.dumps(value, separators=(",", ":"), default=str))
