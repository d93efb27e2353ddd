"""POS: a random priority for every pending step, drawn again after a conflict.

Yuan, Yang, Gu: Partial order aware concurrency sampling (CAV 2018). The step with the highest
priority runs; every pending step that conflicts with it draws a new priority, and so does the next
step of the CPU that ran. Steps without conflicts do not affect the order of the others, so POS
samples partial orders more evenly than a random walk.

A relax draws all priorities anew: CPUs that spin draw again and again until they are above the one
that they wait for, which would come last for ever.
"""

from __future__ import annotations

from shmalloc.engine import ops
from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.explorer.strategies.pending import conflict, pending_at, pending_op
from stress.explorer.strategies.priorities import PRIORITY_RANGE, draw_all, highest
from stress.machine import block as cb
from stress.machine.schedule import draw


@scheduler
def start(ctl: Control) -> None:
    draw_all(ctl)


@scheduler
def choose(ctl: Control, choices: int) -> int:
    return highest(ctl, choices)


@scheduler
def after(ctl: Control, actor: int, op: int, at: int, choices: int) -> None:
    if op == ops.OP_RELAX:
        draw_all(ctl)
        return
    for k in range(choices):
        other = ctl[cb.CHOICES + k]
        if other != actor and conflict(op, at, pending_op(ctl, other), pending_at(ctl, other)) == 1:
            ctl[cb.PRIORITIES + other] = draw(ctl, PRIORITY_RANGE)
    ctl[cb.PRIORITIES + actor] = draw(ctl, PRIORITY_RANGE)
