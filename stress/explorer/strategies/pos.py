"""POS: a random priority for every pending step, drawn anew where the order just mattered.

Yuan, Yang, Gu: Partial order aware concurrency sampling (CAV 2018). The step with the highest
priority runs; every pending step that conflicts with it draws a new priority, and so does the next
step of the CPU that ran. Steps that conflict with nothing do not disturb the order of those that
do, so partial orders are sampled more evenly than by a random walk.
"""

from shmalloc.engine.control import scheduler
from stress.machine.block import AT, CHOICES, CPUS, OP, PRIORITIES, ACTORS
from stress.machine.buffers import flushed_entry
from shmalloc.engine.ops import LAST_READ, LAST_WRITE, OP_CAS2, OP_FLUSH, OP_LOAD2, OP_WAIT, OP_WAKE
from stress.machine.schedule import draw

PRIORITY_RANGE = 1 << 30


@scheduler
def pending_op(ctl, actor):
    return ctl[OP + actor] if actor < ctl[CPUS] else OP_FLUSH


@scheduler
def pending_at(ctl, actor):
    return ctl[AT + actor] if actor < ctl[CPUS] else ctl[flushed_entry(ctl, actor)]


@scheduler
def touches(op):
    """How many words an op touches."""
    if op == OP_CAS2 or op == OP_LOAD2:
        return 2
    return 1 if op <= LAST_WRITE or op == OP_WAIT or op == OP_WAKE or op == OP_FLUSH else 0


@scheduler
def may_write(op):
    """1 if an op may change its word, or somebody's sleep at it."""
    return 0 if op <= LAST_READ else 1


@scheduler
def conflict(op, at, other_op, other_at):
    """1 if the order of two accesses may matter."""
    if may_write(op) == 0 and may_write(other_op) == 0:
        return 0
    size = touches(op)
    other_size = touches(other_op)
    return 1 if size * other_size > 0 and at < other_at + other_size and other_at < at + size else 0


@scheduler
def start_pos(ctl):
    for actor in range(ctl[ACTORS]):
        ctl[PRIORITIES + actor] = draw(ctl, PRIORITY_RANGE)


@scheduler
def after_pos(ctl, actor, op, at, choices):
    """Step ``op`` at ``at`` of ``actor`` was made; the choices are those it was chosen from."""
    for k in range(choices):
        other = ctl[CHOICES + k]
        if other != actor and conflict(op, at, pending_op(ctl, other), pending_at(ctl, other)) == 1:
            ctl[PRIORITIES + other] = draw(ctl, PRIORITY_RANGE)
    ctl[PRIORITIES + actor] = draw(ctl, PRIORITY_RANGE)
