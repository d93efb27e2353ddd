"""Races and spins: what a schedule without one step can still contain, where CPUs wait for changes.

A CPU that parked (stress/machine/parking.py) goes on when *any* of the words that its spin read has
changed. Its next step, which is marked RESUMED, therefore needs one change of several: a vector
clock cannot say that. So from the first such step on each event has two clocks: ``data_clock`` has
what the order of accesses demands, and CLOCK also what comes before all changes that had been made
when a step was resumed. As long as the two agree about a step, everything that it does not precede
can happen without it. Where they disagree, or the later side of a race was resumed itself, this
module looks for the steps that can: it takes one event after the other, in any order, if everything
that it needs has been taken, and of the changes that a resumed step needs, one is enough.

A step is marked TAKEN while one race is looked at.
"""

from __future__ import annotations

from shmalloc.engine import ops
from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.explorer.dpor.clocks import EVENTS, FIRST_ALONE, before, data_before
from stress.explorer.dpor.fences import is_bypassed
from stress.explorer.dpor.records import (
    ACTOR,
    CHANGED,
    DISTURBS,
    EVENT_OP,
    KIND0,
    OBJECT0,
    OWN,
    RESUMED,
    RESUMED_ALONE,
    TAKEN,
    breaks,
    depth_at,
)
from stress.explorer.dpor.tree import LATEST_RELIED, NEXT, RELIED, SCRATCH, add_to_sequence
from stress.machine import block as cb

ANYTHING = (1 << 62) - 1  # as a mask of what was touched


@scheduler
def needs_search(ctl: Control, earlier: int, later: int) -> int:
    """1 if clocks do not suffice to say what can happen without the earlier side."""
    if ctl[depth_at(ctl, later) + RESUMED] != 0:
        return 1
    return hidden_need(ctl, earlier)


@scheduler
def hidden_need(ctl: Control, earlier: int) -> int:
    """1 if a step was resumed behind ``earlier`` and for it, but not by the order of accesses."""
    for index in range(max(earlier + 1, ctl[FIRST_ALONE]), ctl[EVENTS]):
        event = depth_at(ctl, index)
        if ctl[event + RESUMED] == RESUMED_ALONE and before(ctl, earlier, event) == 1:
            if data_before(ctl, earlier, index) == 0:
                return 1
    return 0


@scheduler
def collect(ctl: Control, earlier: int, later: int) -> int:
    """Add all that can happen without the earlier side, then the later one; 0 if it cannot.

    That has the steps behind the later side, too: nothing is left by which the sequence could grow.
    """
    ctl[NEXT] = ctl[EVENTS]
    for index in range(earlier, ctl[EVENTS]):
        ctl[depth_at(ctl, index) + TAKEN] = 0
    found = 1
    while found == 1:
        found = 0
        for index in range(earlier + 1, ctl[EVENTS]):
            event = depth_at(ctl, index)
            if index == later or ctl[event + TAKEN] == 1 or data_before(ctl, earlier, index) == 1:
                continue
            if can_follow(ctl, earlier, index) == 1:
                ctl[event + TAKEN] = 1
                add_to_sequence(ctl, event)
                found = 1
    ctl[RELIED] = ANYTHING
    if can_follow(ctl, earlier, later) == 0:
        if hidden_need(ctl, earlier) == 0:
            ctl[RELIED] = read_by_spin(ctl, later)
        return 0
    ctl[LATEST_RELIED] = ctl[EVENTS] - 1
    add_to_sequence(ctl, ctl[SCRATCH])
    return 1


@scheduler
def can_follow(ctl: Control, earlier: int, index: int) -> int:
    """1 if step ``index`` can be made after all that was taken. The later side of the race, whose
    clock has the earlier one, is looked at last, and by accesses nothing lies between the two."""
    event = depth_at(ctl, index)
    for other in range(earlier + 1, index):
        if ctl[depth_at(ctl, other) + TAKEN] == 0 and data_before(ctl, other, index) == 1:
            if is_bypassed(ctl, earlier, other, index) == 0:
                return 0
    return 1 if ctl[event + RESUMED] == 0 else overtaken(ctl, earlier, index)


@scheduler
def spin_start(ctl: Control, index: int) -> int:
    """The first step of the spin whose relax comes before the resumed step ``index``."""
    actor = ctl[depth_at(ctl, index) + ACTOR]
    relaxes = 0
    start = index
    for back in range(index):
        event = depth_at(ctl, index - 1 - back)
        if ctl[event + ACTOR] == actor:
            if ctl[event + EVENT_OP] == ops.OP_RELAX:
                relaxes += 1
                if relaxes == 2:
                    return start
            start = index - 1 - back
    return start


@scheduler
def reads(ctl: Control, event: int) -> int:
    """1 if the event found a value, which an atomic update does, too."""
    op = ctl[event + EVENT_OP]
    return 1 if op <= ops.LAST_READ or ops.LAST_STORE < op <= ops.LAST_WRITE else 0


@scheduler
def overtaken(ctl: Control, earlier: int, index: int) -> int:
    """1 if one of the changes that can resume step ``index`` is made without the earlier side."""
    actor = ctl[depth_at(ctl, index) + ACTOR]
    for at in range(spin_start(ctl, index), index):
        read = depth_at(ctl, at)
        if ctl[read + ACTOR] == actor and reads(ctl, read) == 1:
            for other in range(at + 1, ctl[EVENTS]):
                change = depth_at(ctl, other)
                made = other < earlier or ctl[change + TAKEN] == 1
                if made and changes_for(ctl, change, other, read, index, actor) == 1:
                    return 1
    return 0


@scheduler
def changes_for(ctl: Control, change: int, other: int, read: int, index: int, actor: int) -> int:
    """1 if the event ``change`` of step ``other`` changes what ``read`` of ``actor`` has read."""
    if ctl[change + ACTOR] == actor or gives_new_value(ctl, change, read, actor) == 0:
        return 0
    return 1 if other > index or ctl[change + DISTURBS] >> actor & 1 == 1 else 0


@scheduler
def gives_new_value(ctl: Control, change: int, read: int, actor: int) -> int:
    """1 if a word that ``read`` of ``actor`` found has another value since the event ``change``.

    A store of the value that the word has already changes nothing, and ends no wait.
    """
    for k in range(2):
        kind = ctl[read + KIND0 + 2 * k]
        word = ctl[read + OBJECT0 + 2 * k]
        if kind == OWN:
            flusher = ctl[cb.CPUS] + actor
            if ctl[change + ACTOR] == flusher and ctl[change + OBJECT0] == word:
                return 1
        elif kind != 0:
            for j in range(2):
                if ctl[change + CHANGED] >> j & 1 == 1 and ctl[change + OBJECT0 + 2 * j] == word:
                    return 1
    return 0


@scheduler
def read_by_spin(ctl: Control, index: int) -> int:
    """What the spin before the resumed step ``index`` has read, as a mask."""
    actor = ctl[depth_at(ctl, index) + ACTOR]
    mask = 0
    for at in range(spin_start(ctl, index), index):
        event = depth_at(ctl, at)
        if ctl[event + ACTOR] == actor:
            mask |= breaks(ctl, event)
    return mask
