"""CPUs that relax: who has to wait, and when a schedule that only spins is a livelock.

A CPU that relaxed lets others run first (schedule.py; parking.py for searches that try everything).
If no word changes meanwhile, all that are awake spin for nothing; a kernel that can give up
(patience.py) may have an end all the same, so its CPU counts only after it has come back to a state
that it had (private.py).

Own words: RELAXES, RELAXED_AT, IDLE_STATE, IDLE_AGAIN.
"""

from __future__ import annotations

from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.machine import block as cb
from stress.machine.access import fault
from stress.machine.parking import park
from stress.machine.private import private_state

FIRST_KEPT = 4


@scheduler
def step_back(ctl: Control, cpu: int) -> None:
    """``cpu`` relaxed and stands at its next access: it waits until others made progress."""
    if ctl[cb.RELAXED_AT + cpu] != ctl[cb.CHANGES]:
        ctl[cb.RELAXED_AT + cpu] = ctl[cb.CHANGES]
        ctl[cb.RELAXES + cpu] = 0
    ctl[cb.RELAXES + cpu] += 1
    note_idle(ctl, cpu)
    waits = 1
    if ctl[cb.PARKING] == 1:
        waits = park(ctl, cpu)
    if waits == 1 and ctl[cb.STATE + cpu] == cb.READY:
        ctl[cb.STATE + cpu] = cb.YIELDED
        ctl[cb.YIELDED_COUNT] += 1
    if ctl[cb.RELAXES + cpu] >= ctl[cb.IDLE_LIMIT] and all_idle(ctl) == 1:
        fault(ctl, cpu, cb.LIVELOCK, 0)


@scheduler
def note_idle(ctl: Control, cpu: int) -> None:
    """IDLE_AGAIN: since a word last changed, ``cpu`` has come back to a state that it had.

    Then it spins for ever if no word changes. A CPU that counts its spins is never in the
    same state again, and may give up. The state to compare with is that after 4, 8, 16 ... spins.
    """
    spins = ctl[cb.RELAXES + cpu]
    if ctl[cb.GIVES_UP + cpu] == 0:
        ctl[cb.IDLE_AGAIN + cpu] = 1
        return
    if spins < FIRST_KEPT or (spins > FIRST_KEPT and ctl[cb.IDLE_AGAIN + cpu] == 1):
        return
    state = private_state(ctl, cpu)
    ctl[cb.IDLE_AGAIN + cpu] = 0
    if spins > FIRST_KEPT and state == ctl[cb.IDLE_STATE + cpu]:
        ctl[cb.IDLE_AGAIN + cpu] = 1
    elif spins & (spins - 1) == 0:
        ctl[cb.IDLE_STATE + cpu] = state


@scheduler
def all_idle(ctl: Control) -> int:
    """1 if every CPU that is awake has relaxed IDLE_LIMIT times since a word last changed, and has
    come back to a state that it had."""
    for cpu in range(ctl[cb.CPUS]):
        awake = ctl[cb.STATE + cpu] == cb.READY or ctl[cb.STATE + cpu] == cb.YIELDED
        fresh = (
            ctl[cb.RELAXED_AT + cpu] != ctl[cb.CHANGES]
            or ctl[cb.RELAXES + cpu] < ctl[cb.IDLE_LIMIT]
            or ctl[cb.IDLE_AGAIN + cpu] == 0
        )
        if (awake and fresh) or ctl[cb.BUFFERED + cpu] > 0:
            return 0
    return 1
