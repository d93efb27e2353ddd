"""``Records``: writes one database, as it happens.

::

    with Records("soak.db") as records:
        run = records.begin_run(Work("soak", command, spec, seed))
        round = records.begin_round(run, Work("run", command, spec, seed))
        records.sample(round, moment)
        with records.together():            # one transaction: all of it, or nothing
            records.violations(round, violations, command)
            records.end_round(round, "FAILED", result=...)
        records.end_run(run, "FAILED")

Each call is one transaction, unless it stands in ``together``. All but samples wait for the disk.
A process that dies loses the round that was running: its row stays, with its samples, and the next
writer marks it "lost". Several processes may write to one file; each has runs of its own.

Errors of the file are ``MisuseError`` or ``EnvironmentUnfitError`` of one line. An object belongs
to one process; its threads may share it.
"""

from __future__ import annotations

import os
import platform
import socket
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from shmalloc import __version__
from shmalloc.errors import MisuseError, Violation
from stress.records import sightings
from stress.records.database import real_path
from stress.records.finding import (
    Attachment,
    Finding,
    finding_of,
    fingerprint_of,
    row_of,
    violation_row,
)
from stress.records.fingerprint import Ignored
from stress.records.keep import Keeper
from stress.records.transactions import Transactions, as_json, as_text
from stress.records.work import Work
from stress.records.writers import Writers

if TYPE_CHECKING:
    from stress.run.histogram import Histogram
    from stress.run.progress import Moment

__all__ = ["Records", "Work"]

RUNNING, ENDED, LOST = "running", "ended", "lost"
STATUSES = ("open", "ignored", "fixed")
SAMPLE_BUSY_S = 0.2  # a sample does not wait long: a run must not stand still for it
VIOLATIONS = 8  # rows of one fingerprint and round


class Records:
    """The writer of one database file; made if it does not exist, unless ``create`` is False.

    ``ignored``: fingerprints that the hunt goes past, besides those that the file says are ignored.
    ``keep_bytes``: old rounds are thinned out so that the file stays below it (keep.py).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        ignored: Ignored | None = None,
        keep_bytes: int | None = None,
    ) -> None:
        self.path = real_path(path)
        self._ignored = ignored or Ignored()
        with ExitStack() as opened:
            self._file = Transactions(self.path, create)
            opened.callback(self._file.close)
            self._keeper = None if keep_bytes is None else Keeper(self._file, keep_bytes)
            self._writers = Writers(self.path, writing=True)
            opened.callback(self._writers.close)
            self._mark_lost()
            self._keep_ignored()
            if self._keeper is not None:
                self._file.when_idle(self._keeper.idle)
            opened.pop_all()  # all is well: they stay open

    # --- runs and rounds ---
    def begin_run(
        self, work: Work, machine: Mapping[str, object] | None = None, kernels: str = ""
    ) -> int:
        """A run begins, with this process as its writer. Returns its id."""
        row = {
            **work.columns(),
            "version": __version__,
            "kernels": kernels,
            "hostname": as_text(socket.gethostname()),
            "python": platform.python_version(),
            "machine": as_json(machine or {}),
        }
        with self.together():
            run_id = self._file.insert("runs", row)
            self._hold(run_id)  # before the row can be seen
        return run_id

    def resume_run(self, run_id: int) -> None:
        """Go on with a run whose writer has died or ended. Raises ``MisuseError`` if it lives."""
        with self.together():
            self._hold(run_id)
            self._file.execute("UPDATE rounds SET state = ? WHERE run_id = ? AND state = ?",
                          (LOST, run_id, RUNNING))  # fmt: skip
            changed = self._file.execute(
                "UPDATE runs SET state = ?, ended_s = NULL, verdict = NULL WHERE id = ?",
                (RUNNING, run_id),
            )
            if changed.rowcount != 1:
                self._writers.let_go(run_id)
                raise MisuseError(f"run: {run_id} is not in {self.path}; see shmstress history")

    def end_run(
        self, run_id: int, verdict: str, summary: Mapping[str, object] | None = None
    ) -> None:
        """A run has ended; another process may then resume it."""
        with self.together():
            self._file.execute(
                "UPDATE runs SET state = ?, ended_s = ?, verdict = ?, summary = ? WHERE id = ?",
                (ENDED, time.time(), verdict, as_json(summary or {}), run_id),
            )
        self._writers.let_go(run_id)

    def note_summary(self, run_id: int, summary: Mapping[str, object]) -> None:
        """What a run has come to so far, for the process that resumes it."""
        with self.together():
            query = "UPDATE runs SET summary = ? WHERE id = ?"
            self._file.execute(query, (as_json(summary), run_id))

    def next_number(self, run_id: int) -> int:
        """The number of the next round: those of lost rounds are not used again."""
        row = self._file.execute(
            "SELECT max(number) FROM rounds WHERE run_id = ?", (run_id,)
        ).fetchone()
        return int(row[0] or 0) + 1

    def begin_round(
        self, run_id: int, work: Work, features: Sequence[str] = (), number: int | None = None
    ) -> int:
        """A round begins. Returns its id. ``number``: by default the next one.

        Raises ``MisuseError`` for a number that the run has already, or a run that is not there.
        """
        with self.together():
            number = self.next_number(run_id) if number is None else number
            row = {
                **work.columns(),
                "run_id": run_id,
                "number": number,
                "features": as_json(list(features)),
            }
            try:
                return self._file.insert("rounds", row)
            except sqlite3.IntegrityError as error:
                known = {
                    "SQLITE_CONSTRAINT_UNIQUE": f"round: {number} of run {run_id} is recorded"
                    " already",
                    "SQLITE_CONSTRAINT_FOREIGNKEY": f"run: {run_id} is not in {self.path}",
                }
                if error.sqlite_errorname not in known:
                    raise
                raise MisuseError(known[error.sqlite_errorname]) from error

    def end_round(
        self,
        round_id: int,
        verdict: str,
        seconds: float | None = None,
        operations: int | None = None,
        result: Mapping[str, object] | None = None,
        latencies: Mapping[str, Histogram] | None = None,
    ) -> None:
        """A round has ended. ``result``: its entry in the JSON document, with marks and events."""
        whole = dict(result or {})
        with self.together():
            self._file.execute(
                "UPDATE rounds SET state = ?, ended_s = ?, verdict = ?, seconds = ?,"
                " operations = ?, marks = ?, events = ?, result = ? WHERE id = ?",
                (ENDED, time.time(), verdict, seconds, operations, as_json(whole.get("marks", {})),
                 as_json(whole.get("events", {})), as_json(whole), round_id),
            )  # fmt: skip
            for operation, histogram in (latencies or {}).items():
                row = (round_id, operation, as_json(histogram.as_dict()))
                self._file.execute("INSERT OR REPLACE INTO latencies VALUES (?, ?, ?)", row)
            if self._keeper is not None:
                self._keeper.ended()

    def run_of(self, round_id: int) -> int:
        """The run that a round is a part of."""
        row = self._file.execute("SELECT run_id FROM rounds WHERE id = ?", (round_id,)).fetchone()
        return int(row[0])

    # --- while it runs ---
    def sample(self, round_id: int, moment: Moment, new_map: bool = True) -> None:
        """One state of a run. Does not wait for the disk, and hardly for another writer.

        ``new_map``: whether the map of the RAM is another one than in the last sample. Raises
        ``Busy`` if another process writes for long; the sample is not recorded then.
        """
        from stress.records import samples

        with self._file.together(durable=False, busy_s=SAMPLE_BUSY_S):
            self._file.insert("samples", samples.row_of(round_id, moment, new_map))
            for row in samples.process_rows(round_id, moment):
                self._file.insert("processes", row)
            if self._keeper is not None:
                self._keeper.sampled()

    # --- findings ---
    def violations(
        self,
        round_id: int,
        found: Sequence[Violation],
        command: str,
        attachments: Sequence[Attachment] = (),
    ) -> list[str]:
        """What a native round found. Returns the fingerprints of its findings.

        The first violation explains the others, so all are reports of one finding: the first that
        is not ignored, else the first. ``attachments``: kept if this is its first sighting.
        """
        if not found:
            return []
        first = next((one for one in found if not self.is_ignored(fingerprint_of(one))), found[0])
        with self.together():
            finding = replace(finding_of(first, command), attachments=attachments)
            name = self.finding(round_id, finding, len(found))
            kept: dict[str, int] = {}
            for violation in found:
                own = fingerprint_of(violation)
                kept[own] = kept.get(own, 0) + 1
                if kept[own] <= VIOLATIONS:
                    self._file.insert("violations", violation_row(round_id, name, own, violation))
        return [name]

    def finding(self, round_id: int, found: Finding, times: int = 1) -> str:
        """A round saw a defect, and reported it so often. Returns its fingerprint.

        A known one is counted (``seen``). What its first sighting left (report, command,
        attachments) stays, until ``reproduced`` has something smaller.
        """
        name = found.fingerprint
        with self.together():
            if not self.seen(round_id, name, times):
                status = "ignored" if name in self._ignored else "open"
                self._file.insert("findings", row_of(found, status, round_id))
                sightings.count(self._file, round_id, name, times)
                for one in found.attachments:
                    self.artifact(self.run_of(round_id), one, round_id, name)
        return name

    def seen(self, round_id: int, fingerprint: str, times: int = 1) -> bool:
        """Count a round that saw a known finding, once; False if it is not known yet.

        One that was fixed is open again.
        """
        with self.together():
            return sightings.see(self._file, round_id, fingerprint, times)

    def reproduced(
        self,
        fingerprint: str,
        repeatable: bool,
        command: str | None = None,
        token: str | None = None,
        report: str | None = None,
    ) -> None:
        """Whether a finding came again when it was repeated, and what is now its smallest form."""
        with self.together():
            self._file.execute(
                "UPDATE findings SET repeatable = ?, command = coalesce(?, command),"
                " token = coalesce(?, token), report = coalesce(?, report) WHERE fingerprint = ?",
                (int(repeatable), command and as_text(command), token, report and as_text(report),
                 fingerprint),
            )  # fmt: skip

    def artifact(
        self,
        run_id: int,
        file: Attachment,
        round_id: int | None = None,
        fingerprint: str | None = None,
    ) -> int:
        """A file that belongs to a run, a round or a finding. Returns its id."""
        row = {
            "run_id": run_id,
            "round_id": round_id,
            "fingerprint": fingerprint,
            "name": as_text(file.name),
            "media_type": file.media_type,
            "bytes": len(file.content),
            "content": file.content,
        }
        with self.together():
            return self._file.insert("artifacts", row)

    def is_ignored(self, fingerprint: str) -> bool:
        """Whether a hunt is to go past it: by ``--ignore``, or because the database says so."""
        if fingerprint in self._ignored:
            return True
        query = "SELECT status FROM findings WHERE fingerprint = ?"
        row = self._file.execute(query, (fingerprint,)).fetchone()
        return row is not None and row[0] == "ignored"

    @property
    def ignored(self) -> tuple[str, ...]:
        """What to go past: the names of ``--ignore``, and the findings that are ignored."""
        rows = self._file.execute("SELECT fingerprint FROM findings WHERE status = 'ignored'")
        return (*self._ignored.names, *(str(row[0]) for row in rows))

    @property
    def ignores(self) -> bool:
        """Whether there is anything to go past."""
        return bool(self.ignored)

    def set_status(self, fingerprint: str, status: str) -> None:
        """Set a finding "open", "ignored" or "fixed". Raises ``MisuseError`` if there is none."""
        if status not in STATUSES:
            raise MisuseError(f"status: {status!r}; use {', '.join(STATUSES)}")
        with self.together():
            query = "UPDATE findings SET status = ? WHERE fingerprint = ?"
            if self._file.execute(query, (status, fingerprint)).rowcount != 1:
                raise MisuseError(f"fingerprint: {fingerprint!r} is not in {self.path}")

    def ignore(self, fingerprint: str) -> None:
        """Go past this finding from now on, in this hunt and in later ones."""
        self.set_status(fingerprint, "ignored")

    # --- the file ---
    def together(self, durable: bool = True) -> AbstractContextManager[None]:
        """One transaction: all that is written in it, or nothing; inside of another, a part."""
        return self._file.together(durable)

    @property
    def over_limit(self) -> bool:
        """Whether the file is larger than ``keep_bytes``, although only findings are left in it."""
        return self._keeper is not None and self._keeper.over

    def close(self) -> None:
        """Close the file. A run that has not ended counts as lost from now on."""
        self._file.close()
        self._writers.close()

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- parts ---
    def _hold(self, run_id: int) -> None:
        if not self._writers.hold(run_id):
            raise MisuseError(f"run: {run_id} of {self.path} has a living writer; wait, or end it")

    def _mark_lost(self) -> None:
        """Runs and rounds that have no writer any more."""
        with self.together():
            for (run_id,) in self._file.execute(
                "SELECT id FROM runs WHERE state = 'running'"
            ).fetchall():
                if not self._writers.alive(run_id):
                    self._file.execute("UPDATE runs SET state = 'lost' WHERE id = ?", (run_id,))
                    self._file.execute(
                        "UPDATE rounds SET state = 'lost' WHERE run_id = ? AND state = 'running'",
                        (run_id,),
                    )

    def _keep_ignored(self) -> None:
        """What ``--ignore`` names and the file knows is ignored from now on."""
        known = [str(row[0]) for row in self._file.execute("SELECT fingerprint FROM findings")]
        for name in known:
            if name in self._ignored:
                self.ignore(name)
