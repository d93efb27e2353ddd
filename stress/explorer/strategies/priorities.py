"""Priorities of actors, for strategies that run the highest one: in PRIORITIES of the block."""

from __future__ import annotations

from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.machine import block as cb
from stress.machine.schedule import draw

PRIORITY_RANGE = 1 << 30


@scheduler
def draw_all(ctl: Control) -> None:
    """A random priority for every actor."""
    for actor in range(ctl[cb.ACTORS]):
        ctl[cb.PRIORITIES + actor] = draw(ctl, PRIORITY_RANGE)


@scheduler
def highest(ctl: Control, choices: int) -> int:
    """The choice with the highest priority."""
    best = ctl[cb.CHOICES]
    for k in range(1, choices):
        actor = ctl[cb.CHOICES + k]
        if ctl[cb.PRIORITIES + actor] > ctl[cb.PRIORITIES + best]:
            best = actor
    return best
