"""The rows that a ``Reader`` gives: frozen, with the names of the tables' columns.

What the database keeps as JSON text is data here. ``of`` turns a row of SQLite into one of these,
checked: SQLite itself would keep a text in a column of numbers. shapes.py says what is checked of
the data.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import msgspec

from stress.records import shapes

Kind = TypeVar("Kind", bound="Row")


@dataclass(frozen=True)
class Row:
    """``JSON``: the columns that hold JSON text. ``SHAPES``: what is relied on within some."""

    JSON: ClassVar[frozenset[str]] = frozenset()
    SHAPES: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def columns(cls) -> list[str]:
        return [field.name for field in fields(cls)]

    @classmethod
    def of(cls: type[Kind], row: sqlite3.Row) -> Kind:
        """Raises ``ValueError`` for a value that no writer of ours puts there."""
        values = {
            name: shapes.parsed(row[name]) if name in cls.JSON else row[name]
            for name in cls.columns()
        }
        shapes.require_numbers(values)
        for name, shape in cls.SHAPES.items():
            msgspec.convert(values[name], shape)
        return msgspec.convert(values, cls, builtin_types=(bytes,))

    def as_dict(self) -> dict[str, Any]:
        """For a JSON document."""
        return {name: getattr(self, name) for name in self.columns()}


@dataclass(frozen=True)
class RunRow(Row):
    """One command. ``state``: "running", "ended" or "lost"."""

    JSON = frozenset({"spec", "machine", "summary"})
    SHAPES = MappingProxyType({"machine": shapes.Machine, "summary": shapes.Summary})

    id: int
    kind: str
    command: str
    spec: Mapping[str, Any]
    seed: str | None
    version: str
    kernels: str
    hostname: str
    python: str
    machine: Mapping[str, Any]
    started_s: float
    ended_s: float | None
    state: str
    verdict: str | None
    dropped_rounds: int
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class RoundRow(Row):
    """One part of a run; a run of ``shmstress run`` has one."""

    JSON = frozenset({"spec", "features", "marks", "events", "result"})
    SHAPES = MappingProxyType({"result": shapes.Result})

    id: int
    run_id: int
    number: int
    kind: str
    command: str
    spec: Mapping[str, Any]
    features: Sequence[str]
    seed: str | None
    started_s: float
    ended_s: float | None
    seconds: float | None
    state: str
    verdict: str | None
    operations: int | None
    marks: Mapping[str, int]
    events: Mapping[str, int]
    result: Mapping[str, Any]
    thinned: int


@dataclass(frozen=True)
class SampleRow(Row):
    """One moment of a round. ``ram_map``: None where it is the one of the sample before."""

    JSON = frozenset({"free_by_order", "pcp_pages", "events", "accounts"})
    SHAPES = MappingProxyType({"free_by_order": shapes.Orders, "accounts": list[shapes.Account]})

    id: int
    round_id: int
    at_s: float
    time_s: float
    operations: int
    refused: int
    used_pages: int
    free_pages: int
    isolated_pages: int
    managed_pages: int
    fragmentation: float | None
    audits: int
    reports: int
    free_by_order: Sequence[int]
    pcp_pages: Sequence[int]
    events: Mapping[str, int]
    accounts: Sequence[Mapping[str, Any]]
    ram_map: bytes | None


@dataclass(frozen=True)
class ProcessRow(Row):
    """One process at one moment of a round."""

    id: int
    round_id: int
    time_s: float
    pid: int
    role: str
    rss_bytes: int
    private_bytes: int | None
    shared_bytes: int | None
    pss_bytes: int | None
    fds: int | None
    threads: int | None
    cpu_s: float | None


@dataclass(frozen=True)
class FindingRow(Row):
    """One defect: all that was seen under one fingerprint."""

    JSON = frozenset({"details"})

    fingerprint: str
    kind: str
    invariant: str
    site: str
    sentence: str
    first_seen_s: float
    last_seen_s: float
    count: int
    status: str
    first_round_id: int | None
    last_round_id: int | None
    repeatable: int | None
    command: str
    token: str | None
    report: str
    details: Mapping[str, Any]


@dataclass(frozen=True)
class SightingRow(Row):
    """A round that saw a finding. ``count``: how often it was reported there."""

    round_id: int
    fingerprint: str
    count: int


@dataclass(frozen=True)
class ViolationRow(Row):
    """A report of a native round. ``finding``: the fingerprint of what explains it."""

    JSON = frozenset({"history"})

    id: int
    round_id: int
    finding: str
    fingerprint: str
    time_s: float
    invariant: str
    site: str
    cpu: int | None
    place: str
    expected: str
    found: str
    history: Sequence[str]


@dataclass(frozen=True)
class ArtifactRow(Row):
    """A file without its content: ``Reader.content`` has that."""

    id: int
    run_id: int
    round_id: int | None
    fingerprint: str | None
    name: str
    media_type: str
    bytes: int
