"""``Work``: what is run, as a run or a round of it is recorded."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from stress.records.transactions import as_json, as_text


@dataclass(frozen=True)
class Work:
    """What is run. ``kind``: as in schema.py. ``command``: the line that repeats it."""

    kind: str
    command: str
    spec: Mapping[str, object] = field(default_factory=dict)
    seed: int | None = None

    def columns(self) -> dict[str, object]:
        """What rows of runs and of rounds have in common; it begins now."""
        return {
            "kind": self.kind,
            "command": as_text(self.command),
            "spec": as_json(self.spec),
            "seed": None if self.seed is None else hex(self.seed),
            "started_s": time.time(),
        }
