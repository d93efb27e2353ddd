"""DFS: every schedule, or every one within a bound on preemptions or on delays.

Iterative context bounding (Musuvathi and Qadeer, PLDI 2007): few preemptions find most bugs, and
"clean up to 2" is a statement. A preemption is a switch away from a CPU that could continue. Delay
bounding (Emmi, Qadeer, Rakamaric, POPL 2011) counts the actors skipped in round-robin order. The
flush of a store buffer is no preemption.

The stack has FRAME words a step: the option taken, the number of options, the number of those
without cost, the cost so far, and of a step that chooses a value the one it has and how many there
are; another value costs nothing. ``dfs`` continues where the last call ended; it stores only the
options and finds their order again by running the schedule.
"""

from __future__ import annotations

from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.explorer.strategies.loop import enabled, finish
from stress.machine import block as cb
from stress.machine.choices import decide, values_of
from stress.machine.schedule import begin, settle, shared_step_or_settle
from stress.machine.visibility import gather

BOUND_KIND = 92  # NO_BOUND, PREEMPTIONS_BOUND or DELAYS_BOUND
BOUND = 93
PREFIX = 94  # options that the next schedule takes from the stack
DONE = 95
CUT = 96  # 1: an option was left out because of the bound
LAST_CPU = 97
FRAMES = 98  # of the last schedule
NO_BOUND = 0
PREEMPTIONS_BOUND = 1
DELAYS_BOUND = 2
FRAME = 6
TAKEN = 0
COUNT = 1
FREE = 2
SPENT = 3
VALUE = 4
VALUES = 5


def dfs_words(step_limit: int) -> int:
    """Room in the block."""
    return FRAME * (step_limit + 1)


@scheduler
def order_options(ctl: Control, choices: int) -> int:
    """Reorder CHOICES: the last CPU, flushes, other CPUs; returns the number of free options."""
    cpus = ctl[cb.CPUS]
    last = ctl[LAST_CPU]
    goes_on = enabled(ctl, last, choices)
    if goes_on == 1:
        for k in range(choices):
            if ctl[cb.CHOICES + k] == last:
                ctl[cb.CHOICES + k] = ctl[cb.CHOICES]
                ctl[cb.CHOICES] = last
    free = goes_on
    if goes_on == 0:
        return choices
    for k in range(1, choices):
        actor = ctl[cb.CHOICES + k]
        if actor >= cpus:
            ctl[cb.CHOICES + k] = ctl[cb.CHOICES + free]
            ctl[cb.CHOICES + free] = actor
            free += 1
    return free


@scheduler
def cost(ctl: Control, option: int, free: int) -> int:
    """The cost of ``option``."""
    if ctl[BOUND_KIND] == DELAYS_BOUND:
        return option
    return 1 if option >= free else 0


@scheduler
def take_option(ctl: Control, choices: int) -> int:
    """The actor of this step, from the stack or as its first option; writes the frame."""
    step = ctl[cb.STEPS]
    frame = ctl[cb.TREE_AT] + step * FRAME
    free = order_options(ctl, choices)
    if step >= ctl[PREFIX]:
        ctl[frame + TAKEN] = 0
        ctl[frame + VALUE] = 0
    ctl[FRAMES] = step + 1
    ctl[frame + COUNT] = choices
    ctl[frame + FREE] = free
    ctl[frame + SPENT] = 0
    if step > 0:
        before = frame - FRAME
        spent = cost(ctl, ctl[before + TAKEN], ctl[before + FREE])
        ctl[frame + SPENT] = ctl[before + SPENT] + spent
    actor = ctl[cb.CHOICES + ctl[frame + TAKEN]]
    ctl[frame + VALUES] = values_of(ctl, actor)
    decide(ctl, actor, ctl[frame + VALUE])
    return actor


@scheduler
def affordable(ctl: Control, frame: int, option: int) -> int:
    if ctl[BOUND_KIND] == NO_BOUND:
        return 1
    return 1 if ctl[frame + SPENT] + cost(ctl, option, ctl[frame + FREE]) <= ctl[BOUND] else 0


@scheduler
def backtrack(ctl: Control) -> None:
    """Find the deepest step with an option left: the next prefix ends with it."""
    for back in range(ctl[FRAMES]):
        step = ctl[FRAMES] - 1 - back
        frame = ctl[cb.TREE_AT] + step * FRAME
        if ctl[frame + VALUE] + 1 < ctl[frame + VALUES]:
            ctl[frame + VALUE] += 1
            ctl[PREFIX] = step + 1
            return
        following = ctl[frame + TAKEN] + 1
        if following < ctl[frame + COUNT]:
            if affordable(ctl, frame, following) == 1:
                ctl[frame + TAKEN] = following
                ctl[frame + VALUE] = 0
                ctl[PREFIX] = step + 1
                return
            ctl[CUT] = 1
    ctl[DONE] = 1


@scheduler
def dfs(ctl: Control, seed: int, count: int) -> int:
    """Run ``count`` more schedules (``seed`` is unused); returns their number."""
    for k in range(count):
        if ctl[DONE] == 1:
            return k
        begin(ctl)
        ctl[LAST_CPU] = -1
        ctl[FRAMES] = 0
        while ctl[cb.OUTCOME] == cb.RUNNING:
            choices = gather(ctl)
            if choices == 0:
                settle(ctl)
            else:
                actor = take_option(ctl, choices)
                if actor < ctl[cb.CPUS]:
                    ctl[LAST_CPU] = actor
                shared_step_or_settle(ctl, actor)
        stop = finish(ctl)
        backtrack(ctl)
        if stop == 1:
            return k
    return count
