"""What the loops of all strategies share: repeating a trace, keeping a failure, the self-check.

The loop runs one schedule in SELF_CHECK_EVERY a second time by the trace of the first. Kernels are
deterministic, so both must make the same events; if they do not, the explorer (or a kernel outside
the dialect) is broken and every verdict is worthless: OUTCOME becomes ERROR.
"""

from __future__ import annotations

from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.machine import block as cb
from stress.machine.choices import follow_entry
from stress.machine.schedule import begin, conclude, settle, shared_step_or_settle
from stress.machine.visibility import gather

SELF_CHECK_EVERY = 100
STOP_ON_FAILURE = 90


@scheduler
def enabled(ctl: Control, actor: int, choices: int) -> int:
    """1 if ``actor`` is among the gathered choices."""
    for k in range(choices):
        if ctl[cb.CHOICES + k] == actor:
            return 1
    return 0


@scheduler
def follow(ctl: Control, steps: int) -> None:
    """Run the schedule of the actors in REPEAT; ERROR if one of them cannot make its step."""
    begin(ctl)
    while ctl[cb.OUTCOME] == cb.RUNNING:
        choices = gather(ctl)
        if choices == 0:
            settle(ctl)
        elif ctl[cb.STEPS] >= ctl[cb.STEP_LIMIT]:
            ctl[cb.OUTCOME] = cb.ABANDONED  # as the first time: the trace has no next step
        elif ctl[cb.STEPS] >= steps:
            ctl[cb.OUTCOME] = cb.ERROR
        else:
            actor = follow_entry(ctl, ctl[ctl[cb.REPEAT_AT] + ctl[cb.STEPS]])
            if enabled(ctl, actor, choices) == 1:
                shared_step_or_settle(ctl, actor)
            else:
                ctl[cb.OUTCOME] = cb.ERROR


@scheduler
def traced(ctl: Control) -> int:
    """Steps in the trace: those made, and the one that was refused, if any."""
    refused = ctl[cb.OUTCOME] == cb.MEMORY or ctl[cb.OUTCOME] == cb.UNDEFINED
    return min(ctl[cb.STEPS] + 1, ctl[cb.STEP_LIMIT]) if refused else ctl[cb.STEPS]


@scheduler
def keep_failure(ctl: Control) -> None:
    """Keep the trace of the first schedule that failed."""
    if ctl[cb.KEPT_OUTCOME] == 0:
        ctl[cb.KEPT_OUTCOME] = ctl[cb.OUTCOME]
        ctl[cb.KEPT_CODE] = ctl[cb.CODE]
        ctl[cb.KEPT_STEPS] = traced(ctl)
        ctl[cb.KEPT_SCHEDULE] = ctl[cb.SCHEDULES]
        for k in range(traced(ctl)):
            ctl[ctl[cb.KEPT_AT] + k] = ctl[ctl[cb.TRACE_AT] + k]


@scheduler
def repeats(ctl: Control) -> int:
    """Run the last schedule again: 1 if it made the same events and ended the same way."""
    steps = ctl[cb.STEPS]
    outcome = ctl[cb.OUTCOME]
    code = ctl[cb.CODE]
    events = ctl[cb.HASH]
    for k in range(traced(ctl)):
        ctl[ctl[cb.REPEAT_AT] + k] = ctl[ctl[cb.TRACE_AT] + k]
    follow(ctl, steps + 1)
    ctl[cb.REPEATS] += 1
    same = ctl[cb.OUTCOME] == outcome and ctl[cb.CODE] == code and ctl[cb.HASH] == events
    if same and ctl[cb.STEPS] == steps:
        return 1
    ctl[cb.OUTCOME] = cb.ERROR
    return 0


@scheduler
def finish(ctl: Control) -> int:
    """A schedule has ended: count it, keep it if it failed, check one in SELF_CHECK_EVERY.

    1 if the exploration has to stop.
    """
    failed = conclude(ctl)
    if failed == 1:
        keep_failure(ctl)
        if ctl[STOP_ON_FAILURE] == 1:
            return 1
    if ctl[cb.SCHEDULES] % SELF_CHECK_EVERY == 1 and repeats(ctl) == 0:
        return 1
    return 0
