"""SURW: uniform over the interleavings of the accesses to one word, which changes each schedule.

Zhao, Wolff, Mathur, Roychoudhury: Selectively uniform concurrency testing (ASPLOS 2025). A first
schedule counts how often each CPU touches each word. Then every schedule picks one word that
several CPUs touch, and interleaves its accesses uniformly: it draws the next CPU with the weight of
its remaining accesses. Random priorities order all other steps.

Area (TREE)::

    64  remaining accesses of each CPU | 128  whether each actor is set aside
    ... number of shared words, then the words | counts: CPUS words a word of memory
"""

from __future__ import annotations

from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.explorer.strategies.pending import pending_at, pending_op, touches
from stress.explorer.strategies.pos import start as start_pos
from stress.explorer.strategies.priorities import PRIORITY_RANGE
from stress.machine import block as cb
from stress.machine.schedule import draw

PROFILED = 96
INTEREST = 97  # the word of this schedule
INTENDED = 98  # the CPU that makes the next access to it; -1: not drawn yet
WEIGHTS = 64
ASIDE = WEIGHTS + cb.MAX_CPUS
SHARED_COUNT = ASIDE + cb.MAX_ACTORS
SHARED = SHARED_COUNT + 1


def room(words: int, cpus: int) -> int:
    """Room in the block for a program of that size."""
    return SHARED + words * (1 + cpus)


@scheduler
def count_of(ctl: Control, word: int, cpu: int) -> int:
    """The word that counts the accesses of ``cpu`` to ``word``."""
    return ctl[cb.TREE_AT] + SHARED + ctl[cb.WORDS] + word * ctl[cb.CPUS] + cpu


@scheduler
def profile(ctl: Control, cpu: int, op: int, at: int) -> None:
    """Count one step of the first schedule."""
    if cpu < ctl[cb.CPUS]:
        for k in range(touches(op)):
            ctl[count_of(ctl, at + k, cpu)] += 1


@scheduler
def end_profile(ctl: Control) -> None:
    """List the words that more than one CPU touched."""
    area = ctl[cb.TREE_AT]
    found = 0
    for word in range(ctl[cb.WORDS]):
        users = 0
        for cpu in range(ctl[cb.CPUS]):
            users += 1 if ctl[count_of(ctl, word, cpu)] > 0 else 0
        if users > 1:
            ctl[area + SHARED + found] = word
            found += 1
    ctl[area + SHARED_COUNT] = found
    ctl[PROFILED] = 1


@scheduler
def start(ctl: Control) -> None:
    area = ctl[cb.TREE_AT]
    if ctl[PROFILED] == 0 and ctl[cb.SCHEDULES] > 0:
        end_profile(ctl)
    start_pos(ctl)
    ctl[INTENDED] = -1
    ctl[INTEREST] = -1
    if ctl[PROFILED] == 1 and ctl[area + SHARED_COUNT] > 0:
        word = ctl[area + SHARED + draw(ctl, ctl[area + SHARED_COUNT])]
        ctl[INTEREST] = word
        for cpu in range(ctl[cb.CPUS]):
            ctl[area + WEIGHTS + cpu] = max(ctl[count_of(ctl, word, cpu)], 1)


@scheduler
def interesting(ctl: Control, actor: int) -> int:
    """1 if ``actor`` is a CPU about to touch the word of interest."""
    if actor >= ctl[cb.CPUS]:
        return 0
    at = pending_at(ctl, actor)
    return 1 if at <= ctl[INTEREST] < at + touches(pending_op(ctl, actor)) else 0


@scheduler
def draw_intended(ctl: Control) -> int:
    """A CPU that has not finished, weighted by its remaining accesses."""
    weights = ctl[cb.TREE_AT] + WEIGHTS
    total = 0
    for cpu in range(ctl[cb.CPUS]):
        if ctl[cb.STATE + cpu] != cb.FINISHED:
            total += ctl[weights + cpu]
    ticket = draw(ctl, max(total, 1))
    for cpu in range(ctl[cb.CPUS]):
        if ctl[cb.STATE + cpu] != cb.FINISHED:
            ticket -= ctl[weights + cpu]
            if ticket < 0:
                return cpu
    return -1


@scheduler
def best_left(ctl: Control, choices: int) -> int:
    """The choice of highest priority that is not set aside; -1: all are."""
    best = -1
    for k in range(choices):
        actor = ctl[cb.CHOICES + k]
        if ctl[ctl[cb.TREE_AT] + ASIDE + actor] == 0:
            if best < 0 or ctl[cb.PRIORITIES + actor] > ctl[cb.PRIORITIES + best]:
                best = actor
    return best


@scheduler
def take(ctl: Control, cpu: int) -> int:
    """Let ``cpu`` make the next access to the word of interest."""
    weight = ctl[cb.TREE_AT] + WEIGHTS + cpu
    ctl[weight] = max(ctl[weight] - 1, 1)
    ctl[INTENDED] = -1
    return cpu


@scheduler
def choose(ctl: Control, choices: int) -> int:
    aside = ctl[cb.TREE_AT] + ASIDE
    for actor in range(ctl[cb.ACTORS]):
        ctl[aside + actor] = 0
    for _attempt in range(choices):
        best = best_left(ctl, choices)
        if interesting(ctl, best) == 0:
            return best
        if ctl[INTENDED] < 0:
            ctl[INTENDED] = draw_intended(ctl)
        if best == ctl[INTENDED]:
            return take(ctl, best)
        ctl[aside + best] = 1
    return take(ctl, ctl[cb.CHOICES + draw(ctl, choices)])  # the intended one is held up elsewhere


@scheduler
def after(ctl: Control, actor: int, op: int, at: int, choices: int) -> None:
    ctl[cb.PRIORITIES + actor] = draw(ctl, PRIORITY_RANGE)
    if ctl[PROFILED] == 0:
        profile(ctl, actor, op, at)
