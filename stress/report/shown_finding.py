"""One finding of a database, for people and as data: what it is, where it was seen, how to repeat
it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from stress import shell
from stress.quantities import counted
from stress.records.reader import Reader
from stress.records.rows import FindingRow
from stress.report.history import repeatable
from stress.report.page.words import date, size

SCHEMA = 1
FOLLOWERS = 10  # violations that were seen with it


def finding_lines(reader: Reader, finding: FindingRow, database: str) -> Iterator[str]:
    """The failure in words, when and how often it was seen, and the lines that go on from here."""
    yield f"finding {finding.fingerprint} ({finding.status}): {title(finding)}"
    if finding.sentence:
        yield f"violated: {finding.sentence}"
    yield f"seen in {counted(finding.count, 'round')}"
    yield f"  first {date(finding.first_seen_s)}{_round(reader, finding.first_round_id)}"
    yield f"  last  {date(finding.last_seen_s)}{_round(reader, finding.last_round_id)}"
    yield f"repeatable: {repeatable(finding)}"
    yield ""
    yield from finding.report.rstrip().splitlines()
    yield from _followers(reader, finding)
    yield from _again(finding)
    yield from _artifacts(reader, finding, database)


def title(finding: FindingRow) -> str:
    """``I_TAIL in audit.audit_tails``."""
    return f"{finding.invariant} in {finding.site}" if finding.site else finding.invariant


def status_line(finding: FindingRow, database: str) -> str:
    """What became of a finding whose status was set, and what undoes that."""
    now = f"finding {finding.fingerprint} is {finding.status} now: {title(finding)}"
    if finding.status == "open":
        return now
    return f"{now}; to open it again: {line_of(finding.fingerprint, database, '--open')}"


def line_of(fingerprint: str, database: str, *more: str) -> str:
    """The line that shows a finding, or does something to it."""
    return shell.join(["shmstress", "show", fingerprint, "--db", database, *more])


def _again(finding: FindingRow) -> Iterator[str]:
    """The lines that repeat it, unless the report says them: a shorter one may be known since."""
    told = {line.strip() for line in finding.report.splitlines()}
    lines = finding.command.splitlines()
    if not told.issuperset(line.strip() for line in lines):
        yield ""
        yield "to see it again:"
        yield from (f"  {line}" for line in lines)


def _round(reader: Reader, round_id: int | None) -> str:
    """``, round 12 of run 3``; empty if the round is no longer kept."""
    if round_id is None:
        return ""
    one = reader.round(round_id)
    return f", round {one.number} of run {one.run_id}"


def _followers(reader: Reader, finding: FindingRow) -> Iterator[str]:
    """Violations that a round saw together with this one: they may follow from it."""
    seen = Counter(
        (one.invariant, one.site)
        for one in reader.violations(finding.fingerprint)
        if one.fingerprint != finding.fingerprint
    )
    if seen:
        yield ""
        yield "seen in the same rounds, perhaps because of it:"
    for (invariant, site), count in seen.most_common(FOLLOWERS):
        yield f"  {invariant} in {site}, {counted(count, 'time')}"
    if len(seen) > FOLLOWERS:
        yield f"  and {len(seen) - FOLLOWERS} more kinds"


def _artifacts(reader: Reader, finding: FindingRow, database: str) -> Iterator[str]:
    files = reader.artifacts(fingerprint=finding.fingerprint)
    if files:
        yield ""
        yield "kept with it:"
    for file in files:
        line = line_of(finding.fingerprint, database, "--artifact", file.name)
        target = shell.quote(PurePath(file.name).name)  # the name may be a stranger's
        yield f"  {file.name} ({size(file.bytes)}): {line} > {target}"


def document(reader: Reader, finding: FindingRow) -> dict[str, Any]:
    """The finding with the rounds that saw it, its violations and files, in JSON's types."""
    name = finding.fingerprint
    sightings = reader.sightings(fingerprint=name)
    return {
        "schema": SCHEMA,
        "database": str(reader.path),
        "finding": finding.as_dict(),
        "rounds": [one.round_id for one in sightings],
        "violations": [one.as_dict() for one in reader.violations(name)],
        "artifacts": [one.as_dict() for one in reader.artifacts(fingerprint=name)],
    }
