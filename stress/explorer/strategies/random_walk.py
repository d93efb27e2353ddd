"""Random walk: every actor that can make a step is equally likely to make the next one."""

from shmalloc.engine.control import inlined
from stress.machine import block as cb
from stress.machine.schedule import draw


@inlined
def start(ctl):
    """A schedule begins; RANDOM holds its seed."""


@inlined
def choose(ctl, choices):
    """The actor of the next step, one of the first ``choices`` words of CHOICES."""
    return ctl[cb.CHOICES + draw(ctl, choices)]


@inlined
def after(ctl, actor, op, at, choices):
    """``actor`` made the step ``op`` at word ``at``; it was chosen from ``choices`` actors."""
