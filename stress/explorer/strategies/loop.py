"""What every strategy's loop shares: following a given trace, keeping a failure, the self-check.

One schedule in SELF_CHECK_EVERY is run a second time by the trace of the first. Kernels have
nothing to be random with, so both must make the same events; where they do not, the explorer (or a
kernel that left the dialect) is broken and every verdict worthless: OUTCOME becomes ERROR.
"""

from shmalloc.engine.control import scheduler
from stress.machine.block import (
    CHOICES, CODE, ERROR, HASH, KEPT_AT, KEPT_CODE, KEPT_OUTCOME, KEPT_SCHEDULE, KEPT_STEPS,
    MEMORY, OUTCOME, REPEATS, REPEAT_AT, RUNNING, SCHEDULES, STEPS, STEP_LIMIT, TRACE_AT,
    UNDEFINED,
)  # fmt: skip
from stress.machine.schedule import begin, conclude, gather, settle, shared_step_or_settle

SELF_CHECK_EVERY = 100
STOP_ON_FAILURE = 90


@scheduler
def enabled(ctl, actor, choices):
    """1 if ``actor`` is among the gathered choices."""
    for k in range(choices):
        if ctl[CHOICES + k] == actor:
            return 1
    return 0


@scheduler
def follow(ctl, steps):
    """Run the schedule whose actors are in REPEAT; ERROR where one of them cannot make its step."""
    begin(ctl)
    while ctl[OUTCOME] == RUNNING:
        choices = gather(ctl)
        if choices == 0:
            settle(ctl)
        elif ctl[STEPS] >= steps:
            ctl[OUTCOME] = ERROR
        else:
            actor = ctl[ctl[REPEAT_AT] + ctl[STEPS]]
            if enabled(ctl, actor, choices) == 1:
                shared_step_or_settle(ctl, actor)
            else:
                ctl[OUTCOME] = ERROR


@scheduler
def traced(ctl):
    """Steps in the trace: those that were made, and one that may not be."""
    refused = ctl[OUTCOME] == MEMORY or ctl[OUTCOME] == UNDEFINED
    return min(ctl[STEPS] + 1, ctl[STEP_LIMIT]) if refused else ctl[STEPS]


@scheduler
def keep_failure(ctl):
    """Keep the trace of the first schedule that failed."""
    if ctl[KEPT_OUTCOME] == 0:
        ctl[KEPT_OUTCOME] = ctl[OUTCOME]
        ctl[KEPT_CODE] = ctl[CODE]
        ctl[KEPT_STEPS] = traced(ctl)
        ctl[KEPT_SCHEDULE] = ctl[SCHEDULES]
        for k in range(traced(ctl)):
            ctl[ctl[KEPT_AT] + k] = ctl[ctl[TRACE_AT] + k]


@scheduler
def repeats(ctl):
    """Run the last schedule again: 1 if it made the same events and ended the same way."""
    steps = ctl[STEPS]
    outcome = ctl[OUTCOME]
    code = ctl[CODE]
    events = ctl[HASH]
    for k in range(traced(ctl)):
        ctl[ctl[REPEAT_AT] + k] = ctl[ctl[TRACE_AT] + k]
    follow(ctl, steps + 1)
    ctl[REPEATS] += 1
    same = ctl[OUTCOME] == outcome and ctl[CODE] == code and ctl[HASH] == events
    if same and ctl[STEPS] == steps:
        return 1
    ctl[OUTCOME] = ERROR
    return 0


@scheduler
def finish(ctl):
    """A schedule has ended: count it, keep it if it failed, check one in SELF_CHECK_EVERY.

    1 if the exploration has to stop.
    """
    failed = conclude(ctl)
    if failed == 1:
        keep_failure(ctl)
        if ctl[STOP_ON_FAILURE] == 1:
            return 1
    if ctl[SCHEDULES] % SELF_CHECK_EVERY == 1 and repeats(ctl) == 0:
        return 1
    return 0
