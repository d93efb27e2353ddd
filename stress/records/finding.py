"""``Finding``: what is recorded of a defect that was seen, whichever command saw it.

``outcomes.py`` makes them of the results of a run, of the explorer and of crash mode.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shmalloc.errors import Violation
from stress.records.fingerprint import fingerprint, without_numbers
from stress.records.transactions import as_json, as_text

ALONE = frozenset({"X_MEMORY_GROWTH", "X_DESCRIPTOR_GROWTH"})  # they follow from nothing else
VIOLATION, SCHEDULE, CRASH, MUTANT = "violation", "schedule", "crash", "mutant"


@dataclass(frozen=True)
class Attachment:
    """A file that is kept with a round or a finding."""

    name: str
    content: bytes
    media_type: str = "text/plain"

    @classmethod
    def of_text(cls, name: str, text: str, media_type: str = "text/plain") -> Attachment:
        return cls(name, text.encode("utf-8", "backslashreplace"), media_type)


@dataclass(frozen=True)
class Finding:
    """One sighting of a defect.

    ``kind``: VIOLATION, SCHEDULE, CRASH or MUTANT. ``invariant``: what is broken, or how it ended.
    ``site``: where, in words that take no part in line numbers. ``report``: the failure in words.
    ``command``: the line that shows it again. ``token``: of the explorer. ``repeatable``: whether
    it came again; None: not tried. ``attachments``: kept with its first sighting.
    """

    kind: str
    invariant: str
    site: str
    report: str
    command: str
    shape: str = ""
    sentence: str = ""
    token: str | None = None
    repeatable: bool | None = None
    details: Mapping[str, object] = field(default_factory=dict)
    attachments: Sequence[Attachment] = ()

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.invariant, self.site, self.shape)


def site_of(violation: Violation) -> str:
    """The kernel that reported it, else its place without numbers."""
    return violation.kernel or without_numbers(violation.where)


def fingerprint_of(violation: Violation) -> str:
    """The fingerprint of a violation of a native run."""
    return fingerprint(violation.invariant, site_of(violation))


def finding_of(violation: Violation, command: str) -> Finding:
    """A violation of a native run; ``command`` repeats the run."""
    lines = [str(violation), *([f"in kernel {violation.kernel}"] if violation.kernel else [])]
    if violation.history:
        lines += [f"history of {violation.where}:", *(f"  {line}" for line in violation.history)]
    return Finding(
        kind=VIOLATION,
        invariant=violation.invariant,
        site=site_of(violation),
        sentence=violation.sentence,
        report="\n".join(lines),
        command=command,
    )


def row_of(found: Finding, status: str, round_id: int) -> dict[str, object]:
    """The row of a finding that is new; ``Records`` counts its first sighting, too."""
    now_s = time.time()
    return {
        "fingerprint": found.fingerprint,
        "kind": found.kind,
        "invariant": found.invariant,
        "site": as_text(found.site),
        "sentence": found.sentence,
        "first_seen_s": now_s,
        "last_seen_s": now_s,
        "count": 0,
        "status": status,
        "first_round_id": round_id,
        "last_round_id": round_id,
        "repeatable": found.repeatable,
        "command": as_text(found.command),
        "token": found.token,
        "report": as_text(found.report),
        "details": as_json(found.details),
    }


def violation_row(round_id: int, finding: str, own: str, violation: Violation) -> dict[str, object]:
    """The row of a violation; ``own``: its fingerprint, ``finding``: that of what explains it."""
    return {
        "round_id": round_id,
        "finding": finding,
        "fingerprint": own,
        "time_s": time.time(),
        "invariant": violation.invariant,
        "site": as_text(site_of(violation)),
        "cpu": violation.claim,
        "place": as_text(violation.where),
        "expected": as_text(violation.expected),
        "found": as_text(violation.found),
        "history": as_json(list(violation.history)),
    }
