"""PCT: random priorities, and a few moments that lower the highest one.

Burckhardt, Kothari, Musuvathi, Nagarakatte: A randomized scheduler with probabilistic guarantees of
finding bugs (ASPLOS 2010). With n actors, at most k steps at which there was a choice, and depth d,
a schedule shows a bug of depth d with probability at least 1 / (n * k**(d - 1)).

Differences: steps without a choice do not count (their section 4.1); a CPU that relaxes gets the
lowest priority, otherwise a spinning CPU would starve the one that it waits for; after half of the
step limit the walk is a fair random one; k is the most steps counted in any schedule so far.
UNFAITHFUL counts the schedules to which the second or third applied, and K_SINCE says from which
one on k was as large as it is: guarantee.py makes a bound of them.
"""

from __future__ import annotations

from shmalloc.engine import ops
from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.explorer.strategies.priorities import highest
from stress.machine import block as cb
from stress.machine.schedule import draw

DEPTH = 92
LONGEST_COUNT = 93  # k
COUNTED = 94
LOWEST = 95
UNFAITHFUL = 96  # schedules that left the algorithm of the paper
K_SINCE = 97  # the number of the first schedule that was drawn with the present k
LEFT = 98  # 1: this schedule has left it
MAX_DEPTH = 16


def room(words: int, cpus: int) -> int:
    """Words of TREE: the change points."""
    return MAX_DEPTH


@scheduler
def start(ctl: Control) -> None:
    """Shuffled priorities DEPTH.. for all actors; DEPTH - 1 change points in 1..k."""
    actors = ctl[cb.ACTORS]
    for k in range(actors):
        ctl[cb.PRIORITIES + k] = ctl[DEPTH] + k
    for k in range(actors - 1):
        other = k + draw(ctl, actors - k)
        kept = ctl[cb.PRIORITIES + k]
        ctl[cb.PRIORITIES + k] = ctl[cb.PRIORITIES + other]
        ctl[cb.PRIORITIES + other] = kept
    if ctl[COUNTED] > ctl[LONGEST_COUNT]:
        ctl[LONGEST_COUNT] = ctl[COUNTED]
        ctl[K_SINCE] = ctl[cb.SCHEDULES]
    ctl[COUNTED] = 0
    ctl[LEFT] = 0
    ctl[LOWEST] = 0
    for k in range(ctl[DEPTH] - 1):
        ctl[ctl[cb.TREE_AT] + k] = 1 + draw(ctl, max(ctl[LONGEST_COUNT], 1))


@scheduler
def leave(ctl: Control) -> None:
    """From here on this schedule is not one of the paper's algorithm."""
    if ctl[LEFT] == 0:
        ctl[LEFT] = 1
        ctl[UNFAITHFUL] += 1


@scheduler
def choose(ctl: Control, choices: int) -> int:
    if choices == 1:
        return ctl[cb.CHOICES]
    if ctl[cb.STEPS] * 2 > ctl[cb.STEP_LIMIT]:
        leave(ctl)
        return ctl[cb.CHOICES + draw(ctl, choices)]
    ctl[COUNTED] += 1
    best = highest(ctl, choices)
    for k in range(ctl[DEPTH] - 1):
        if ctl[ctl[cb.TREE_AT] + k] == ctl[COUNTED]:
            ctl[cb.PRIORITIES + best] = k
            best = highest(ctl, choices)
    return best


@scheduler
def after(ctl: Control, actor: int, op: int, at: int, choices: int) -> None:
    if op == ops.OP_RELAX:
        leave(ctl)
        ctl[LOWEST] -= 1
        ctl[cb.PRIORITIES + actor] = ctl[LOWEST]
