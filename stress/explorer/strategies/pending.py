"""What an actor is about to do, and whether the order of two steps can matter."""

from shmalloc.engine import ops
from shmalloc.engine.control import scheduler
from stress.machine import block as cb
from stress.machine.buffers import flushed_entry


@scheduler
def pending_op(ctl, actor):
    return ctl[cb.OP + actor] if actor < ctl[cb.CPUS] else ops.OP_FLUSH


@scheduler
def pending_at(ctl, actor):
    return ctl[cb.AT + actor] if actor < ctl[cb.CPUS] else ctl[flushed_entry(ctl, actor)]


@scheduler
def touches(op):
    """How many words an op touches."""
    if op == ops.OP_CAS2 or op == ops.OP_LOAD2:
        return 2
    return (
        1
        if op <= ops.LAST_WRITE or op == ops.OP_WAIT or op == ops.OP_WAKE or op == ops.OP_FLUSH
        else 0
    )


@scheduler
def may_write(op):
    """1 if an op may change its word, or the sleep of a CPU that waits at it."""
    return 0 if op <= ops.LAST_READ else 1


@scheduler
def conflict(op, at, other_op, other_at):
    """1 if the order of two accesses may matter."""
    if may_write(op) == 0 and may_write(other_op) == 0:
        return 0
    size = touches(op)
    other_size = touches(other_op)
    return 1 if size * other_size > 0 and at < other_at + other_size and other_at < at + size else 0
