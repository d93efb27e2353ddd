"""A trace: what a run did, step by step, as data that every printer of this folder reads.

A trace is a schedule, run on the interpreted engine: every step with the place in the source that
made it. Steps are numbered from 0; ``local`` counts the steps of one actor from 1. The flush of a
store buffer is a step of its CPU with the op ``OP_FLUSH``.

``explain.steps_of`` makes the steps of any interpreted machine that traces; the caller that runs it
(the explorer, crash mode) adds what only it knows: markers, a conflict, words at stake.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from shmalloc.engine import ops
from stress.machine.machine import Event
from stress.machine.site import Site

KINDS = (
    "check",
    "invariant",
    "race",
    "torn",
    "deadlock",
    "livelock",
    "memory",
    "undefined",
    "stack",
    "arithmetic",
    "expectation",
)


def kind_of(ending: str) -> str:
    """The kind of a failure, by the machine's name of its outcome: a check is what "failed"."""
    return "check" if ending == "failed" else ending


@dataclass(frozen=True)
class Step:
    """One access: see ops.py for ``op`` and ``value``. ``stack``: innermost first.

    ``before``, ``after``: the contents of the step's words in memory, if known.
    """

    index: int
    cpu: int
    local: int
    op: int
    address: int
    value: int
    second: int  # the other word of load2; 0 elsewhere
    stack: tuple[Site, ...]
    switched: bool  # another CPU made the step before this one
    preempted: bool  # ... although it could have continued
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    @property
    def site(self) -> Site | None:
        return self.stack[0] if self.stack else None


def is_pair(step: Step | Event) -> bool:
    """Whether a step accesses two words at once."""
    return step.op in (ops.OP_LOAD2, ops.OP_CAS2)


def addresses_of(step: Step | Event) -> tuple[int, ...]:
    """The words that a step accesses."""
    if step.op > ops.LAST_ADDRESSED and step.op != ops.OP_FLUSH:
        return ()
    return (step.address, step.address + 1) if is_pair(step) else (step.address,)


def may_change(step: Step) -> bool:
    """Whether a step may have changed its words."""
    if step.op in (ops.OP_CAS, ops.OP_CAS2):
        return step.value == 1
    return ops.FIRST_WRITE <= step.op <= ops.LAST_WRITE or step.op == ops.OP_FLUSH


class Blocked(NamedTuple):
    """A CPU that cannot continue: the word it waits for and, if known, the CPU."""

    cpu: int
    address: int
    holder: int | None
    spinning: bool
    site: Site | None


class Marker(NamedTuple):
    """An event that is no step, before step ``before``: ``cpu 1 stops for ever``."""

    before: int
    cpu: int
    text: str


@dataclass(frozen=True)
class Trace:
    """A schedule, step by step.

    ``conflict``: indices of the two steps that race or tear, or whose order decides (earlier
    first). ``fault``: the access that was not performed ("memory", "undefined", "stack").
    ``blocked``: the CPUs of a deadlock or livelock, a cycle first, in its order. ``faulted``: the
    line of an operation without a meaning, or of what was expected. ``written``: what a check or
    invariant wrote, where none may. ``origin``: the line of the check or invariant that returned
    the code, innermost first. ``at_stake``: the words that the failure is about; their steps are
    never left out. ``markers``: in order. ``suspects``: indices of steps that changed lines made or
    decide by; never left out.
    """

    cpus: int
    steps: tuple[Step, ...]
    conflict: tuple[int, int] | None = None
    fault: Step | None = None
    blocked: tuple[Blocked, ...] = ()
    memory: tuple[int, ...] = ()
    returns: tuple[int, ...] = ()
    faulted: Site | None = None
    written: str = ""
    origin: tuple[Site, ...] = ()
    at_stake: tuple[int, ...] = ()
    markers: tuple[Marker, ...] = ()
    suspects: frozenset[int] = frozenset()
