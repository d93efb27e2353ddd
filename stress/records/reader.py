"""``Reader``: reads one database, also while processes write to it, and never changes it.

::

    with Reader("soak.db") as reader:
        for run in reader.runs():
            for sample in reader.samples(run_id=run.id): ...

A run that is "running" although its writer has died is given as "lost". ``snapshot`` makes all
reads within it see one state of the file; a report that is read in pieces needs that.

A file that is missing, foreign or damaged raises ``MisuseError`` of one line, at any call.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from shmalloc.errors import MisuseError
from stress.records import shapes
from stress.records.database import errors_told, open_for_reading, real_path, remove_copy, told
from stress.records.rows import (
    ArtifactRow,
    FindingRow,
    ProcessRow,
    RoundRow,
    Row,
    RunRow,
    SampleRow,
    SightingRow,
    ViolationRow,
)
from stress.records.writers import Writers

Kind = TypeVar("Kind", bound=Row)
Value = TypeVar("Value")
MAX_ID = (1 << 63) - 1  # the largest integer of SQLite
_OF_ROUND = "round_id = ?"
_OF_RUN = "round_id IN (SELECT id FROM rounds WHERE run_id = ?)"
_SEEN_IN_RUN = f"fingerprint IN (SELECT fingerprint FROM sightings WHERE {_OF_RUN})"


class Reader:
    """The database at ``path``, read-only. Belongs to one process."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = real_path(path)
        self._connection, self._copy = open_for_reading(self.path)
        self._writers = Writers(self.path, writing=False)

    # --- what was run ---
    def runs(self) -> list[RunRow]:
        """All runs, oldest first."""
        return [self._settled(run) for run in self._rows(RunRow, "runs")]

    def run(self, run_id: int) -> RunRow:
        """Raises ``MisuseError`` if there is none with this id."""
        for run in self._rows(RunRow, "runs", "id = ?", (run_id,)) if run_id <= MAX_ID else ():
            return self._settled(run)
        raise MisuseError(f"run: {run_id} is not in {self.path}; see shmstress history")

    def rounds(self, run_id: int | None = None, after: int = 0) -> list[RoundRow]:
        """The rounds of one run, or all, in the order in which they began.

        ``after``: only those of larger ids.
        """
        of_run, values = ("1", ()) if run_id is None else ("run_id = ?", (run_id,))
        lost = {run.id for run in self.runs() if run.state == "lost"}
        rounds = self._rows(RoundRow, "rounds", f"{of_run} AND id > ?", (*values, after))
        return [
            replace(one, state="lost") if one.run_id in lost and one.state == "running" else one
            for one in rounds
        ]

    def round(self, round_id: int) -> RoundRow:
        """Raises ``MisuseError`` if there is none with this id."""
        for one in self._rows(RoundRow, "rounds", "id = ?", (round_id,)):
            return one
        raise MisuseError(f"round: {round_id} is not in {self.path}")

    def samples(
        self,
        run_id: int | None = None,
        round_id: int | None = None,
        after: int = 0,
        limit: int = -1,
    ) -> list[SampleRow]:
        """The samples of a run or of a round, oldest first.

        ``after``: only those of larger ids; ``limit``: the first of them, so many at most.
        """
        where, values = _part(run_id, round_id, after)
        return list(self._rows(SampleRow, "samples", where, (*values, limit), "id LIMIT ?"))

    def processes(
        self,
        run_id: int | None = None,
        round_id: int | None = None,
        after: int = 0,
        limit: int = -1,
    ) -> list[ProcessRow]:
        """What the processes used, as ``samples``."""
        where, values = _part(run_id, round_id, after)
        return list(self._rows(ProcessRow, "processes", where, (*values, limit), "id LIMIT ?"))

    def latencies(self, round_id: int) -> dict[str, dict[str, Any]]:
        """The histogram of each operation, as ``Histogram.from_dict`` reads it."""
        rows = self._query("SELECT * FROM latencies WHERE round_id = ?", (round_id,))
        return {
            self._checked(row["operation"], str, "an operation"): self._data(
                row["histogram"], shapes.Latency, "a histogram"
            )
            for row in rows
        }

    # --- what was found ---
    def findings(self, status: str | None = None, run_id: int | None = None) -> list[FindingRow]:
        """All findings, those of one status, or those that rounds of a run have seen.

        The first that was seen comes first.
        """
        where, values = _given({"status = ?": status, _SEEN_IN_RUN: run_id})
        return list(self._rows(FindingRow, "findings", where, values, "first_seen_s, fingerprint"))

    def finding(self, letters: str) -> FindingRow:
        """The finding whose fingerprint begins so.

        Raises ``MisuseError`` if there is none, or several: they are listed.
        """
        wanted = letters.strip().lower()
        found = [one for one in self.findings() if wanted and one.fingerprint.startswith(wanted)]
        if len(found) == 1:
            return found[0]
        if not found:
            raise MisuseError(
                f"fingerprint: {letters!r} is not in {self.path}; see shmstress history"
            )
        names = ", ".join(one.fingerprint for one in found)
        raise MisuseError(f"fingerprint: {letters!r} may be {names}; type more of it")

    def violations(
        self, fingerprint: str | None = None, round_id: int | None = None
    ) -> list[ViolationRow]:
        """What native rounds reported of a finding, or in a round, in the order of the reports."""
        where, values = _given({"finding = ?": fingerprint, "round_id = ?": round_id})
        return list(self._rows(ViolationRow, "violations", where, values))

    def sightings(
        self, run_id: int | None = None, fingerprint: str | None = None
    ) -> list[SightingRow]:
        """Which rounds of a run saw which findings, or a finding; in the order of the rounds.

        Rounds that ``--keep`` removed are not among them; ``FindingRow.count`` counts those, too.
        """
        where, values = _given({_OF_RUN: run_id, "fingerprint = ?": fingerprint})
        order = "round_id, fingerprint"
        return list(self._rows(SightingRow, "sightings", where, values, order))

    def artifacts(
        self,
        run_id: int | None = None,
        round_id: int | None = None,
        fingerprint: str | None = None,
    ) -> list[ArtifactRow]:
        """Files of a run, a round or a finding, without their contents."""
        where, values = _given(
            {"run_id = ?": run_id, "round_id = ?": round_id, "fingerprint = ?": fingerprint}
        )
        return list(self._rows(ArtifactRow, "artifacts", where, values))

    def content(self, artifact_id: int) -> bytes:
        """The content of a file. Raises ``MisuseError`` if it is not there any more."""
        for row in self._query("SELECT content FROM artifacts WHERE id = ?", (artifact_id,)):
            return self._checked(row[0], bytes, "a file")
        raise MisuseError(f"artifact: {artifact_id} is not in {self.path}")

    def schedule(self, artifact_id: int) -> Mapping[str, Any]:
        """The failing schedule that a file holds, as ``shapes.Schedule`` has it."""
        return self._data(self.content(artifact_id), shapes.Schedule, "a schedule")

    # --- one state of the file ---
    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Reads inside see one state of the file. Meanwhile its WAL only grows: keep it short."""
        with errors_told(self.path):
            self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        self._connection.close()
        self._writers.close()
        remove_copy(self._copy)
        self._copy = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- parts ---
    def _settled(self, run: RunRow) -> RunRow:
        gone = run.state == "running" and not self._writers.alive(run.id)
        return replace(run, state="lost") if gone else run

    def _rows(
        self,
        kind: type[Kind],
        table: str,
        where: str = "",
        values: Sequence[object] = (),
        order: str = "id",
    ) -> Iterator[Kind]:
        condition = f" WHERE {where}" if where else ""
        query = f"SELECT {', '.join(kind.columns())} FROM {table}{condition} ORDER BY {order}"
        for row in self._query(query, values):
            yield self._made(kind, row)

    def _query(self, query: str, values: Any = ()) -> list[sqlite3.Row]:
        with errors_told(self.path):
            return self._connection.execute(query, values).fetchall()

    def _made(self, kind: type[Kind], row: sqlite3.Row) -> Kind:
        try:
            return kind.of(row)
        except (ValueError, TypeError, RecursionError) as error:
            raise told(self.path, sqlite3.DatabaseError(f"{kind.__name__}: {error}")) from error

    def _data(self, text: str | bytes, shape: Any, what: str) -> dict[str, Any]:
        """JSON of this shape, and all else that is in it."""
        try:
            data = shapes.parsed(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise told(self.path, sqlite3.DatabaseError(f"{what}: {error}")) from error
        self._checked(data, shape, what)
        return dict(data)

    def _checked(self, value: Any, shape: type[Value], what: str) -> Value:
        try:
            return msgspec.convert(value, shape, builtin_types=(bytes,))
        except msgspec.ValidationError as error:
            raise told(self.path, sqlite3.DatabaseError(f"{what}: {error}")) from error


def _given(parts: Mapping[str, object]) -> tuple[str, tuple[object, ...]]:
    """The condition of those parts that have a value, and these values."""
    given = {part: value for part, value in parts.items() if value is not None}
    return " AND ".join(given), tuple(given.values())


def _part(run_id: int | None, round_id: int | None, after: int) -> tuple[str, tuple[int, ...]]:
    """The condition for rows of a run or a round with ids above ``after``, and its values."""
    if round_id is not None:
        return f"{_OF_ROUND} AND id > ?", (round_id, after)
    if run_id is not None:
        return f"{_OF_RUN} AND id > ?", (run_id, after)
    return "id > ?", (after,)
