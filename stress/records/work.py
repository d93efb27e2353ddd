"""``Work``: what is run, as a run or a round of it is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Work:
    """What is run. ``kind``: as in schema.py. ``command``: the line that repeats it."""

    kind: str
    command: str
    spec: Mapping[str, object] = field(default_factory=dict)
    seed: int | None = None
