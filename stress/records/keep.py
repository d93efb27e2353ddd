"""``--keep SIZE``: old rounds are thinned out, so that the database stays below a size.

What goes first is what is missed least; each step begins with the oldest round:

    1  of rounds that passed, but for the last few: seven samples of eight
    2  of these: all samples, latencies, files and the result; the row stays
    3  of all rounds that have ended: the same two steps
    4  rounds that passed: the row; the run counts them (``runs.dropped_rounds``)
    5  violations that a finding already has from its first round
    6  of the round that runs: every second sample

Findings and the files of their first sighting never go, nor does the last row of a run: the next
round of a run that is resumed takes its number, and so its seed, from there. If they alone are
larger than the limit, the database grows past it.

The size is that of the file with its WAL, and the file itself shrinks: pages that become free are
cut off (``incremental_vacuum``), and the WAL is emptied after each step. During a step the WAL
holds the pages that it changes, at most as much as the file; a reader that holds a snapshot for
long delays the end of that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from shmalloc.errors import MisuseError
from shmalloc.sizes import format_bytes
from stress.records.database import Busy, size_of
from stress.records.transactions import Transactions

LEAST_BYTES = 1 << 20
FULL, TARGET = 0.8, 0.65  # of the limit: above the first, rounds are thinned down to the second
WAL_SHARE = 0.1  # of the limit, for the WAL
PAGE_BYTES = 4096
SAMPLES = 8  # between two looks at the size, within a round
BATCH = 16  # rounds of one transaction
EVERY = 8  # a round that is thinned out keeps one sample of so many, and the last
BUSY_S = 1.0
FRESH = 4  # rounds that keep all they have for as long as others can be thinned out
PASSED = "verdict = 'PASSED' AND state = 'ended'"
OLD = f"{PASSED} AND id NOT IN (SELECT id FROM rounds ORDER BY id DESC LIMIT {FRESH})"
OVER = "state <> 'running'"
UNUSED = (
    "id NOT IN (SELECT first_round_id FROM findings WHERE first_round_id NOT NULL"
    " UNION SELECT last_round_id FROM findings WHERE last_round_id NOT NULL"
    " UNION SELECT round_id FROM artifacts WHERE round_id NOT NULL)"
)
NOT_LAST = "number < (SELECT max(number) FROM rounds AS own WHERE own.run_id = rounds.run_id)"


class Keeper:
    """Keeps the database of ``file`` below ``limit_bytes``."""

    def __init__(self, file: Transactions, limit_bytes: int) -> None:
        if limit_bytes < LEAST_BYTES:
            least = format_bytes(LEAST_BYTES)
            raise MisuseError(f"keep: {format_bytes(limit_bytes)}; use at least {least}")
        self.limit_bytes = limit_bytes
        self.over = False  # what must stay is larger than the limit
        self._file = file
        self._samples = 0
        self._due = True
        pages = max(16, min(1000, int(limit_bytes * WAL_SHARE) // PAGE_BYTES))
        file.execute(f"PRAGMA wal_autocheckpoint = {pages}")

    def sampled(self) -> None:
        """A sample was written."""
        self._samples += 1
        self._due |= self._samples % SAMPLES == 0

    def ended(self) -> None:
        """A round was ended."""
        self._due = True

    def idle(self) -> None:
        """No transaction is open: thin out if it is time. Another writer may put it off."""
        if not self._due:
            return
        self._due = False
        try:
            if self._bytes() > FULL * self.limit_bytes:
                self._thin()
        except Busy:
            self._due = True

    def _bytes(self) -> int:
        return size_of(self._file.connection)

    def _thin(self) -> None:
        goal = TARGET * self.limit_bytes
        steps: list[Callable[[], bool]] = [
            partial(self._next, OLD, 0, self._thin_samples),
            partial(self._next, OLD, 1, self._empty),
            partial(self._next, OVER, 0, self._thin_samples),
            partial(self._next, OVER, 1, self._empty),
            self._drop_round,
            self._drop_violations,
            self._halve_running,
        ]
        for step in steps:
            while self._bytes() > goal and step():
                self._file.shrink()
        self._file.shrink()
        self.over = self._bytes() > self.limit_bytes

    # --- steps: each is one transaction, and says whether there was something to do ---
    def _next(self, which: str, thinned: int, do: Callable[[int], None]) -> bool:
        """The oldest rounds of those that are thinned so far and no further."""
        query = f"SELECT id FROM rounds WHERE {which} AND thinned = ? ORDER BY id LIMIT {BATCH}"
        rows = self._file.execute(query, (thinned,)).fetchall()
        with self._file.together(durable=False, busy_s=BUSY_S):
            for (round_id,) in rows:
                do(round_id)
                again = (thinned + 1, round_id)
                self._file.execute("UPDATE rounds SET thinned = ? WHERE id = ?", again)
        return bool(rows)

    def _thin_samples(self, round_id: int, every: int = EVERY) -> None:
        """One sample of ``every`` stays, and the last; each with its map of the RAM."""
        kept = (
            "SELECT id FROM (SELECT id, row_number() OVER (ORDER BY id DESC) - 1 AS age"
            " FROM samples WHERE round_id = :round) WHERE age % :every = 0"
        )
        values = {"round": round_id, "every": every}
        self._file.execute(
            "UPDATE samples SET ram_map = (SELECT ram_map FROM samples AS before"
            " WHERE before.round_id = :round AND before.id <= samples.id"
            " AND before.ram_map NOT NULL ORDER BY before.id DESC LIMIT 1)"
            f" WHERE round_id = :round AND ram_map IS NULL AND id IN ({kept})",
            values,
        )
        self._file.execute(
            f"DELETE FROM samples WHERE round_id = :round AND id NOT IN ({kept})", values
        )
        self._file.execute(
            "DELETE FROM processes WHERE round_id = :round AND time_s NOT IN"
            " (SELECT time_s FROM samples WHERE round_id = :round)",
            {"round": round_id},
        )

    def _empty(self, round_id: int) -> None:
        """Only the row of the round stays, and the files of findings."""
        for table in ("samples", "processes", "latencies"):
            self._file.execute(f"DELETE FROM {table} WHERE round_id = ?", (round_id,))
        self._file.execute(
            "DELETE FROM artifacts WHERE round_id = ? AND fingerprint IS NULL", (round_id,)
        )
        self._file.execute("UPDATE rounds SET result = '{}' WHERE id = ?", (round_id,))

    def _drop_round(self) -> bool:
        """The oldest round that passed and that no finding names, but for the last of a run."""
        query = (
            f"SELECT id, run_id FROM rounds WHERE {PASSED} AND {UNUSED} AND {NOT_LAST}"
            f" ORDER BY id LIMIT {BATCH}"
        )
        rows = self._file.execute(query).fetchall()
        with self._file.together(durable=False, busy_s=BUSY_S):
            for round_id, run_id in rows:
                self._file.execute("DELETE FROM rounds WHERE id = ?", (round_id,))
                self._file.execute(
                    "UPDATE runs SET dropped_rounds = dropped_rounds + 1 WHERE id = ?", (run_id,)
                )
        return bool(rows)

    def _drop_violations(self) -> bool:
        """Violations of later rounds."""
        with self._file.together(durable=False, busy_s=BUSY_S):
            gone = self._file.execute(
                "DELETE FROM violations WHERE id IN (SELECT violations.id FROM violations"
                " JOIN findings ON finding = findings.fingerprint"
                " WHERE round_id IS NOT first_round_id ORDER BY violations.id LIMIT 1024)"
            )
        return gone.rowcount > 0

    def _halve_running(self) -> bool:
        """Every second sample of the running round with the most."""
        row = self._file.execute(
            "SELECT round_id, count(*) FROM samples JOIN rounds ON rounds.id = round_id"
            " WHERE state = 'running' GROUP BY round_id ORDER BY 2 DESC LIMIT 1"
        ).fetchone()
        if row is None or row[1] <= EVERY:
            return False
        with self._file.together(durable=False, busy_s=BUSY_S):
            self._thin_samples(int(row[0]), every=2)
        return True
