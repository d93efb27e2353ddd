"""Random walk: every actor that can make a step is equally likely to make the next one."""

from __future__ import annotations

from shmalloc.engine.control import inlined
from shmalloc.units import Control
from stress.machine import block as cb
from stress.machine.schedule import draw


@inlined
def start(ctl: Control) -> None:
    """Begin a schedule; RANDOM holds its seed."""


@inlined
def choose(ctl: Control, choices: int) -> int:
    """The actor of the next step, one of the first ``choices`` words of CHOICES."""
    return ctl[cb.CHOICES + draw(ctl, choices)]


@inlined
def after(ctl: Control, actor: int, op: int, at: int, choices: int) -> None:
    """``actor`` has made the step ``op`` at word ``at``, chosen from ``choices`` actors."""
