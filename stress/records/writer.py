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
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING

from shmalloc import __version__
from shmalloc.errors import MisuseError
from stress.records.database import real_path
from stress.records.findings import Findings
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
SAMPLE_BUSY_S = 0.2  # a sample does not wait long: a run must not stand still for it


class Records(Findings):
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
        with ExitStack() as opened:
            super().__init__(Transactions(self.path, create), ignored or Ignored())
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

    # --- the file ---
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
