"""What the harness knows about a workload: its kernels, the marks it must reach, its file.

A workload is a pair of kernels over the segment and knows no engine and no process:

- ``step(mem, cpu, steps)`` runs a bounded number of steps, leaves early when H_STOP is set, and
  returns the operations done (negative: it cannot go on, an E_* code);
- ``finish(mem, cpu)`` gives back everything it holds; it may be called twice.

Its work area holds what it remembers between two calls (area.py).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shmalloc import constants as c
from shmalloc.dialect import Kernel

if TYPE_CHECKING:
    from stress.spec import RunSpec

EVENT_NAMES = {
    value: name.removeprefix("EV_").lower().replace("_", "-")
    for name, value in vars(c).items()
    if name.startswith("EV_") and name != "EV_COUNT"
}

# What cannot happen if every block is a page: a tail is what a walker retries at.
_OF_LARGER_BLOCKS = (c.EV_SPLIT, c.EV_MERGE, c.EV_WALK_RETRY)


@dataclass(frozen=True)
class Workload:
    """One workload. ``marks`` are events ``EV_*`` without which its run tested nothing.

    ``work_words``: the size of its work area, with the words that every workload has (area.py).
    """

    name: str
    step: Kernel
    finish: Kernel
    marks: tuple[int, ...] = ()
    work_words: int = 16
    shared_marks: tuple[int, ...] = ()  # required as well if two workers share a node
    parameters: tuple[int, ...] = ()
    file: str | None = None  # a recording that ``prepare`` of its own module puts into the segment
    in_flight: int = 1  # most blocks allocated but not yet in the owner map, besides
    in_flight_pageblocks: int = 0  # every page of as many pageblocks
    classes: bool = False  # whether it makes the caches of kmalloc
    retires: bool = False  # whether pages leave service for good
    least_workers: int = 1  # what it tests happens between that many
    unfit: Mapping[str, str] = field(default_factory=dict)  # fault -> why it cannot run under it

    @property
    def story(self) -> str:
        """The docstring of the workload's file."""
        return inspect.getdoc(inspect.getmodule(self.step)) or ""

    @property
    def summary(self) -> str:
        """The first line of the story, without the name."""
        return self.story.partition("\n")[0].partition(": ")[2]

    def most_in_flight(self, spec: RunSpec) -> int:
        """Blocks that a worker of ``spec`` may have allocated and not yet in the owner map."""
        return self.in_flight + (self.in_flight_pageblocks << spec.geometry.pageblocks)

    def required_marks(self, spec: RunSpec) -> tuple[int, ...]:
        """The marks without which a run of ``spec`` is vacuous."""
        marks = self.marks + (self.shared_marks if spec.workers > spec.nodes else ())
        single = spec.geometry.max_order == 0
        return tuple(mark for mark in marks if not (single and mark in _OF_LARGER_BLOCKS))
