"""The loop of the random strategies: random walk, PCT, POS, SURW.

``walk(ctl, seed, count)`` runs the schedules of ``count`` consecutive seeds. A schedule depends on
its seed, on what earlier ones measured (pct, surw), and on nothing else.
"""

from shmalloc.engine.control import scheduler
from stress.machine.block import CHOICES, OUTCOME, RANDOM, RUNNING
from stress.machine.schedule import begin, draw, gather, mix, settle, step_or_settle
from stress.explorer.strategies.loop import STRATEGY, finish
from stress.explorer.strategies.pct import after_pct, choose_pct, highest, start_pct
from stress.explorer.strategies.pos import after_pos, pending_at, pending_op, start_pos
from stress.explorer.strategies.surw import (
    PROFILED, after_surw, choose_surw, end_profile, start_surw,
)  # fmt: skip

WALK_RANDOM = 0
WALK_PCT = 1
WALK_POS = 2
WALK_SURW = 3


@scheduler
def start(ctl):
    strategy = ctl[STRATEGY]
    if strategy == WALK_PCT:
        start_pct(ctl)
    elif strategy == WALK_POS:
        start_pos(ctl)
    elif strategy == WALK_SURW:
        start_surw(ctl)


@scheduler
def step_by_priority(ctl, choices):
    """One step of PCT, POS or SURW."""
    strategy = ctl[STRATEGY]
    if strategy == WALK_PCT:
        actor = choose_pct(ctl, choices)
    elif strategy == WALK_POS:
        actor = highest(ctl, choices)
    else:
        actor = choose_surw(ctl, choices)
    op = pending_op(ctl, actor)
    at = pending_at(ctl, actor)
    step_or_settle(ctl, actor)
    if ctl[OUTCOME] != RUNNING:
        return
    if strategy == WALK_PCT:
        after_pct(ctl, actor, op)
    elif strategy == WALK_POS:
        after_pos(ctl, actor, op, at, choices)
    else:
        after_surw(ctl, actor, op, at)


@scheduler
def walk(ctl, seed, count):
    """Run ``count`` schedules from ``seed`` on; how many before the exploration has to stop."""
    for k in range(count):
        ctl[RANDOM] = mix(seed + k)
        begin(ctl)
        start(ctl)
        while ctl[OUTCOME] == RUNNING:
            choices = gather(ctl)
            if choices == 0:
                settle(ctl)
            elif ctl[STRATEGY] == WALK_RANDOM:
                step_or_settle(ctl, ctl[CHOICES + draw(ctl, choices)])
            else:
                step_by_priority(ctl, choices)
        if ctl[STRATEGY] == WALK_SURW and ctl[PROFILED] == 0:
            end_profile(ctl)
        if finish(ctl) == 1:
            return k
    return count
