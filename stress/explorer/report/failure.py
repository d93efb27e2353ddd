"""A failure and its trace: what reports, pages and tools read.

A trace is the shrunk schedule, run again on the interpreted engine: every step with the place in
the source that made it. Steps are numbered from 0; ``local`` counts the steps of one actor from 1.
The flush of a store buffer is a step of its CPU with the op ``OP_FLUSH``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from stress.machine.site import Site
from stress.machine.program import Program

KINDS = (
    "check", "invariant", "race", "torn", "deadlock", "livelock", "memory", "undefined", "stack",
    "arithmetic",
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One access: see ops.py for ``op`` and for what ``value`` is. ``stack``: innermost first."""

    index: int
    cpu: int
    local: int
    op: int
    address: int
    value: int
    second: int  # the other word of load2; 0 elsewhere
    stack: tuple[Site, ...]
    switched: bool  # another CPU made the step before this one
    preempted: bool  # ... although it could have gone on

    @property
    def site(self) -> Site | None:
        return self.stack[0] if self.stack else None


class Blocked(NamedTuple):
    """A CPU that cannot go on: what it waits for and, where that is known, for whom."""

    cpu: int
    address: int
    holder: int | None
    spinning: bool
    site: Site | None


@dataclass(frozen=True)
class Trace:
    """The shrunk schedule, step by step.

    ``conflict``: indices of the two steps that race or tear, or whose order decides (earlier
    first). ``fault``: the access that was not performed ("memory", "undefined", "stack").
    ``blocked``: the CPUs of a deadlock or livelock, a cycle first, in its order. ``faulted``: where
    a kernel did what has no meaning ("arithmetic").
    """

    cpus: int
    steps: tuple[Step, ...]
    conflict: tuple[int, int] | None = None
    fault: Step | None = None
    blocked: tuple[Blocked, ...] = ()
    memory: tuple[int, ...] = ()
    returns: tuple[int, ...] = ()
    faulted: Site | None = None


@dataclass(frozen=True, eq=False)
class Failure:
    """What went wrong, and the one line that shows it again.

    ``kind``: one of KINDS. ``code``: what the check or invariant returned, else 0. ``schedule``:
    the token for ``replay``. ``shrunk``: no directive of it can be left out. ``preemptions``: how
    often a CPU was stopped that could have gone on. ``cause``: one or two sentences.
    """

    program: Program
    kind: str
    code: int
    schedule: str
    shrunk: bool
    preemptions: int
    trace: Trace
    cause: str
    memory_model: str = "sc"
    found_after: int = 0  # schedules
    shrink_seconds: float = 0.0
    replays: int = 0

    def report(self, width: int = 120) -> str:
        """The failure as text: one column for each CPU, source lines, values, switches."""
        from stress.explorer.report.text import render

        return render(self, width)

    def html(self) -> str:
        """The failure as one self-contained page."""
        from stress.explorer.report.html import render

        return render(self)

    @cached_property
    def headline(self) -> str:
        code = f" {self.code}" if self.code else ""
        return f"{self.program.name}: {self.kind}{code}"


def as_memory(words: np.ndarray) -> tuple[int, ...]:
    return tuple(int(word) for word in words)
