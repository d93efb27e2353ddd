"""Priorities of actors, for strategies that run the highest one: in PRIORITIES of the block."""

from shmalloc.engine.control import scheduler
from stress.machine.block import CHOICES, PRIORITIES

PRIORITY_RANGE = 1 << 30


@scheduler
def highest(ctl, choices):
    """The choice with the highest priority."""
    best = ctl[CHOICES]
    for k in range(1, choices):
        actor = ctl[CHOICES + k]
        if ctl[PRIORITIES + actor] > ctl[PRIORITIES + best]:
            best = actor
    return best
