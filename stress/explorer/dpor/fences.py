"""Heavy fences: which store a fence races with, and what has to come before it.

A heavy fence of word w waits until no store to w is in the buffer of a CPU. So a store, its flush
and the fence are ordered: the fence comes behind the flush, which is no race, as the fence cannot
be made before it. But the fence may come before the store *and* its flush. That is the race of
store and fence, although the flush is ordered in between (``races`` of clocks.py leaves it out).

Of the stores of one CPU to w, the fence races with the last one that can be left out: everything
that its absence takes away must leave no older store of that CPU in the buffer. A read that its
buffer served may hold an older store back::

    w = 1; w = 2; r = w (its buffer: 2); flush 1; flush 2   |   heavy fence of w

The flush of 1 comes behind the read, and that behind the second store; so in front of the second
store the fence would wait for ever, and the race is that with the first one.
"""

from __future__ import annotations

from shmalloc.engine import ops
from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.explorer.dpor.clocks import (
    MAX_RACES,
    RACE_COUNT,
    RACES_LOST,
    add_race,
    before,
    data_before,
    races,
)
from stress.explorer.dpor.records import (
    ACTOR,
    EMPTY,
    ENABLER,
    ENTERS,
    EVENT_OP,
    KIND1,
    OBJECT0,
    OBJECT1,
    depth_at,
)
from stress.machine import block as cb


@scheduler
def find_store_races(ctl: Control, index: int, event: int, actor: int) -> None:
    """Add the races of the heavy fence of step ``index``, which is the new event."""
    if ctl[event + KIND1] != EMPTY:
        return
    for cpu in range(ctl[cb.CPUS]):
        store = last_dispensable(ctl, index, event, cpu) if cpu != actor else -1
        if store >= 0 and races(ctl, store, actor) == 1:
            if ctl[RACE_COUNT] == MAX_RACES:
                ctl[RACES_LOST] += 1
            else:
                add_race(ctl, store, index, 0)


@scheduler
def last_dispensable(ctl: Control, index: int, fence: int, cpu: int) -> int:
    """The last store of ``cpu`` to the word of the fence without which the fence can be made; -1:
    there is none."""
    for back in range(index):
        store = index - 1 - back
        if stores_for(ctl, depth_at(ctl, store), fence, cpu) == 1:
            if older_are_flushed(ctl, index, store, cpu) == 1:
                return store
    return -1


@scheduler
def stores_for(ctl: Control, event: int, like: int, cpu: int) -> int:
    """1 if ``event`` is a store of ``cpu`` to the word of ``like``, a store or a fence."""
    if ctl[event + ACTOR] != cpu or ctl[event + KIND1] != ENTERS:
        return 0
    return 1 if ctl[event + OBJECT1] == ctl[like + OBJECT1] else 0


@scheduler
def older_are_flushed(ctl: Control, index: int, store: int, cpu: int) -> int:
    """1 if the flush of each older store to the same word can be made without step ``store``."""
    waiting = 0
    like = depth_at(ctl, store)
    for k in range(index):
        event = depth_at(ctl, k)
        if k < store:
            waiting += stores_for(ctl, event, like, cpu)
        if flushes_for(ctl, event, like, cpu) == 1 and before(ctl, store, event) == 0:
            waiting -= 1
    return 1 if waiting == 0 else 0


@scheduler
def flushes_for(ctl: Control, event: int, store: int, cpu: int) -> int:
    """1 if ``event`` is the flush of a store of ``cpu`` to the word of the event ``store``."""
    if ctl[event + EVENT_OP] != ops.OP_FLUSH or ctl[event + ACTOR] != ctl[cb.CPUS] + cpu:
        return 0
    return 1 if ctl[event + OBJECT0] == ctl[store + OBJECT0] else 0


@scheduler
def is_bypassed(ctl: Control, earlier: int, other: int, later: int) -> int:
    """1 if step ``other`` comes before ``later`` only for the flush that goes with ``earlier``: the
    two are the sides of a race of store and heavy fence."""
    fence = depth_at(ctl, later)
    if ctl[fence + KIND1] != EMPTY or ctl[depth_at(ctl, earlier) + KIND1] != ENTERS:
        return 0
    for k in range(other, later):
        event = depth_at(ctl, k)
        needed = 1 if ctl[event + ACTOR] == ctl[fence + ACTOR] else 0
        if k == ctl[fence + ENABLER] - 1 or flush_is_needed(ctl, k, earlier, fence) == 1:
            needed = 1
        if needed == 1 and (k == other or data_before(ctl, other, k) == 1):
            return 0
    return 1


@scheduler
def flush_is_needed(ctl: Control, index: int, earlier: int, fence: int) -> int:
    """1 if step ``index`` is a flush of the fence's word that does not go with ``earlier``."""
    event = depth_at(ctl, index)
    if ctl[event + EVENT_OP] != ops.OP_FLUSH or ctl[event + OBJECT0] != ctl[fence + OBJECT0]:
        return 0
    return 1 - data_before(ctl, earlier, index)
