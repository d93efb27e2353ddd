"""``Suite``: what one command tested and found, in the form that every export takes.

::

    suites/run.py, explore.py, crash.py, check.py, stress/mutants/suite.py     make a Suite
                         Suite: cases, findings, tables
    junit.py  ktap.py  markdown.py  sarif.py                                   write it

A *case* is one thing that was tested: a workload, an invariant, a program. Its verdict is that of a
run, so VACUOUS (it tested nothing) is not a pass. A *finding* is one defect in words, with the line
that shows it again and, if known, its place in the source. All texts are plain; each writer escapes
what its format cannot carry. Nothing in here knows a command or a format.
"""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from stress.machine.site import Site
from stress.verdict import Verdict

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")


def printable(text: str) -> str:
    """Without control characters but tab and line feed, and without lone surrogates."""
    return _CONTROL.sub("\ufffd", text)


@dataclass(frozen=True)
class Start:
    """When and where a command began. ``time_s`` is Unix time, ``clock_s`` a monotonic clock."""

    time_s: float
    clock_s: float
    hostname: str

    @classmethod
    def now(cls) -> Start:
        return cls(time.time(), time.monotonic(), platform.node() or "localhost")

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.clock_s

    @property
    def timestamp(self) -> str:
        """``2026-11-29T09:30:00+00:00``: ISO 8601, in UTC."""
        return datetime.fromtimestamp(self.time_s, UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Case:
    """One thing that was tested, in a ``group`` of its like.

    ``message``: why it did not pass, in one line. ``text``: the same in full. ``again``: the line
    that repeats it. ``seconds``: its share of the wall seconds.
    """

    group: str
    name: str
    verdict: Verdict
    seconds: float = 0.0
    message: str = ""
    text: str = ""
    again: str = ""

    @property
    def skipped(self) -> bool:
        return self.verdict is Verdict.VACUOUS

    @property
    def failed(self) -> bool:
        return self.verdict is Verdict.FAILED

    @property
    def in_error(self) -> bool:
        """Neither passed nor failed: interrupted, unfit, or an error of the harness."""
        return not (self.verdict is Verdict.PASSED or self.skipped or self.failed)


@dataclass(frozen=True)
class Rule:
    """What a finding violates: ``I_TAIL``, ``race``; a sentence that says what must hold."""

    name: str
    sentence: str
    help: str = ""


@dataclass(frozen=True)
class Stop:
    """A place in the source, and what is said of it."""

    site: Site
    text: str
    cpu: int = 0
    step: int = 0  # in the order of the schedule
    depth: int = 0  # of calls
    decides: bool = False  # one of the two steps that the failure is about


@dataclass(frozen=True)
class Finding:
    """One defect. ``headline``: one line; ``cause``: sentences; ``text``: all that is known.

    ``place``: the line to look at first; None if no line is known. ``related``: others, with what
    they are. ``path``: the failing schedule, step by step. ``again``: the line that shows it again.
    ``fingerprint``: equal for findings of one defect, on any machine.
    """

    rule: Rule
    headline: str
    text: str
    again: str = ""
    place: Site | None = None
    related: tuple[Stop, ...] = ()
    path: tuple[Stop, ...] = ()
    fingerprint: str = ""
    count: int = 1
    cause: str = ""


@dataclass(frozen=True)
class Table:
    """A table for people; the columns in ``right`` hold numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[str] = ()


@dataclass(frozen=True)
class Suite:
    """What ``command`` (``run``, ``explore``, ...) tested and found.

    ``headline``: the last line of its text. ``properties``: seed, spec, tokens. ``again``: lines
    that repeat it. ``notes``: sentences for people.
    """

    command: str
    verdict: Verdict
    start: Start
    seconds: float
    headline: str
    cases: Sequence[Case] = ()
    findings: Sequence[Finding] = ()
    tables: Sequence[Table] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    again: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def name(self) -> str:
        return f"shmstress {self.command}"

    def groups(self) -> dict[str, list[Case]]:
        """The cases by group, in the order of their first cases."""
        found: dict[str, list[Case]] = {}
        for case in self.cases:
            found.setdefault(case.group, []).append(case)
        return found
