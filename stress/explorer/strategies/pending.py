"""What an actor is about to do, and whether the order of two steps can matter."""

from __future__ import annotations

from shmalloc.engine import ops
from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.machine import block as cb
from stress.machine.buffers import flushed_entry


@scheduler
def pending_op(ctl: Control, actor: int) -> int:
    return ctl[cb.OP + actor] if actor < ctl[cb.CPUS] else ops.OP_FLUSH


@scheduler
def pending_at(ctl: Control, actor: int) -> int:
    return ctl[cb.AT + actor] if actor < ctl[cb.CPUS] else ctl[flushed_entry(ctl, actor)]


@scheduler
def touches(op: int) -> int:
    """The number of words that an op touches."""
    if op == ops.OP_CAS2 or op == ops.OP_LOAD2:
        return 2
    if op == ops.OP_WAIT or op == ops.OP_WAKE or op == ops.OP_FLUSH or op == ops.OP_HEAVY_FENCE:
        return 1
    return 1 if op <= ops.LAST_WRITE else 0


@scheduler
def may_write(op: int) -> int:
    """1 if an op may change its word, or wake a CPU that waits at it."""
    return 0 if op <= ops.LAST_READ else 1


@scheduler
def conflict(op: int, at: int, other_op: int, other_at: int) -> int:
    """1 if the order of two accesses may matter."""
    if may_write(op) == 0 and may_write(other_op) == 0:
        return 0
    size = touches(op)
    other_size = touches(other_op)
    return 1 if size * other_size > 0 and at < other_at + other_size and other_at < at + size else 0
