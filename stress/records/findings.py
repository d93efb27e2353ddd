"""``Findings``: the part of a writer that records what was found, and what a hunt goes past.

One row a fingerprint: a finding that is seen again is counted once a round. Each call is one
transaction, unless it stands in ``together``. ``Records`` (writer.py) is the whole writer.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from shmalloc.errors import MisuseError, Violation
from stress.records import sightings
from stress.records.finding import (
    ALONE,
    Attachment,
    Finding,
    finding_of,
    fingerprint_of,
    row_of,
    violation_row,
)
from stress.records.fingerprint import Ignored
from stress.records.transactions import Transactions, as_text

STATUSES = ("open", "ignored", "fixed")
VIOLATIONS = 8  # rows of violations of one fingerprint and round


class Findings:
    """What was found, in ``file``. ``ignored``: what the command itself goes past."""

    def __init__(self, file: Transactions, ignored: Ignored) -> None:
        self._file = file
        self._ignored = ignored

    def together(self, durable: bool = True) -> AbstractContextManager[None]:
        """One transaction: all that is written in it, or nothing; inside of another, a part."""
        return self._file.together(durable)

    def run_of(self, round_id: int) -> int:
        """The run that a round is a part of."""
        row = self._file.execute("SELECT run_id FROM rounds WHERE id = ?", (round_id,)).fetchone()
        return int(row[0])

    def violations(
        self,
        round_id: int,
        found: Sequence[Violation],
        command: str,
        attachments: Sequence[Attachment] = (),
    ) -> list[str]:
        """What a native round found. Returns the fingerprints of its findings.

        The first violation explains the others, so all are reports of one finding: the first that
        is not ignored, else the first. What a process uses of the machine is explained by none.
        ``attachments``: kept if this is its first sighting.
        """
        groups = [[one for one in found if one.invariant not in ALONE]]
        groups += [[one] for one in found if one.invariant in ALONE]
        with self.together():
            names = [self._group(round_id, one, command, attachments) for one in groups if one]
        return list(dict.fromkeys(names))

    def _group(
        self,
        round_id: int,
        found: Sequence[Violation],
        command: str,
        attachments: Sequence[Attachment],
    ) -> str:
        """Violations of one finding. Returns its fingerprint."""
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
        return name

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
                raise MisuseError(f"fingerprint: {fingerprint!r} is not in {self._file.path}")

    def ignore(self, fingerprint: str) -> None:
        """Go past this finding from now on, in this hunt and in later ones."""
        self.set_status(fingerprint, "ignored")
