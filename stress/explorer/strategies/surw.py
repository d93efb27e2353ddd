"""SURW: uniform over the interleavings of the accesses to one word, which changes each schedule.

Zhao, Wolff, Mathur, Roychoudhury: Selectively uniform concurrency testing (ASPLOS 2025). A first
schedule counts how often each CPU touches each word. Then every schedule picks one word that
several CPUs touch, and interleaves its accesses uniformly: it draws the next CPU with the weight of
its remaining accesses, and sets the others aside when they come to the word. Random priorities
order all other steps.

The CPU that was drawn may never come: it finishes, or waits for one that was set aside. When all
CPUs that can make a step have been set aside, one of them is drawn. A CPU that waits may spin for
ever instead, so each relax draws anew, the priorities, too, and a CPU that would only read again
what it has read is drawn rarely. Programs without relax stay uniform.

Area (TREE)::

    64  remaining accesses of each CPU | whether each CPU has relaxed since its last access
    | the word of that access | what it held | whether each actor is set aside
    | number of shared words, then the words | counts: CPUS words a word of memory
"""

from __future__ import annotations

from shmalloc.engine import ops
from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.explorer.strategies.pending import pending_at, pending_op, touches
from stress.explorer.strategies.priorities import PRIORITY_RANGE, draw_all, highest
from stress.machine import block as cb
from stress.machine.primitives import read_word
from stress.machine.schedule import draw

PROFILED = 96
INTEREST = 97  # the word of this schedule
INTENDED = 98  # the CPU that makes the next access to it; -1: not drawn yet
WEIGHTS = 64
SPIN = WEIGHTS + cb.MAX_CPUS
SEEN_AT = cb.MAX_CPUS  # behind the SPIN word of a CPU
SEEN = 2 * cb.MAX_CPUS
ASIDE = SPIN + 3 * cb.MAX_CPUS
SHARED_COUNT = ASIDE + cb.MAX_ACTORS
SHARED = SHARED_COUNT + 1
KEEN = 16


def room(words: int, cpus: int) -> int:
    """Room in the block for a program of that size."""
    return SHARED + words * (1 + cpus)


@scheduler
def count_of(ctl: Control, word: int, cpu: int) -> int:
    """The word that counts the accesses of ``cpu`` to ``word``."""
    return ctl[cb.TREE_AT] + SHARED + ctl[cb.WORDS] + word * ctl[cb.CPUS] + cpu


@scheduler
def profile(ctl: Control, cpu: int, op: int, at: int) -> None:
    """Count one step of the first schedule. Spins that repeat do not count."""
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
    draw_all(ctl)
    ctl[INTENDED] = -1
    ctl[INTEREST] = -1
    for cpu in range(ctl[cb.CPUS]):
        ctl[area + SPIN + cpu] = 0
        ctl[area + SPIN + SEEN_AT + cpu] = -1
    if ctl[PROFILED] == 1 and ctl[area + SHARED_COUNT] > 0:
        word = ctl[area + SHARED + draw(ctl, ctl[area + SHARED_COUNT])]
        ctl[INTEREST] = word
        for cpu in range(ctl[cb.CPUS]):
            ctl[area + WEIGHTS + cpu] = max(ctl[count_of(ctl, word, cpu)], 1)


@scheduler
def interesting(ctl: Control, actor: int) -> int:
    """1 if ``actor`` is a CPU about to touch the word of interest."""
    if actor >= ctl[cb.CPUS] or ctl[INTEREST] < 0:
        return 0
    at = pending_at(ctl, actor)
    return 1 if at <= ctl[INTEREST] < at + touches(pending_op(ctl, actor)) else 0


@scheduler
def still_spins(ctl: Control, actor: int) -> int:
    """1 if ``actor`` is a CPU that has relaxed and will read what it has read before."""
    spin = ctl[cb.TREE_AT] + SPIN + actor
    if actor >= ctl[cb.CPUS] or ctl[spin] == 0:
        return 0
    return 1 if read_word(ctl, ctl[spin + SEEN_AT]) == ctl[spin + SEEN] else 0


@scheduler
def note_spin(ctl: Control, cpu: int, op: int, at: int) -> int:
    """``cpu`` made a step: remember its last access, and whether it has relaxed since; 1 if it has
    read again, after a relax, what it had read."""
    spin = ctl[cb.TREE_AT] + SPIN + cpu
    if op == ops.OP_RELAX:
        ctl[spin] = ctl[spin + SEEN_AT] >= 0
        return 0
    if touches(op) == 0:
        return 0
    if ctl[spin + SEEN_AT] != at or ctl[spin + SEEN] != read_word(ctl, at):
        ctl[spin] = 0
    ctl[spin + SEEN_AT] = at
    ctl[spin + SEEN] = read_word(ctl, at)
    return ctl[spin]


@scheduler
def weigh(ctl: Control, cpu: int) -> int:
    """The chance of ``cpu`` in a draw: KEEN times its accesses left; 1 if it still spins."""
    if ctl[cb.STATE + cpu] == cb.FINISHED:
        return 0
    if still_spins(ctl, cpu) == 1:
        return 1
    return KEEN * ctl[ctl[cb.TREE_AT] + WEIGHTS + cpu]


@scheduler
def draw_intended(ctl: Control) -> int:
    """A CPU that has not finished, weighted by its remaining accesses."""
    total = 0
    for cpu in range(ctl[cb.CPUS]):
        total += weigh(ctl, cpu)
    ticket = draw(ctl, total)
    for cpu in range(ctl[cb.CPUS]):
        ticket -= weigh(ctl, cpu)
        if ticket < 0:
            return cpu
    return -1


@scheduler
def draw_waiting(ctl: Control, choices: int) -> int:
    """One of the choices, which all come to the word, weighted in the same way."""
    total = 0
    for k in range(choices):
        total += weigh(ctl, ctl[cb.CHOICES + k])
    ticket = draw(ctl, total)
    for k in range(choices):
        ticket -= weigh(ctl, ctl[cb.CHOICES + k])
        if ticket < 0:
            return ctl[cb.CHOICES + k]
    return -1


@scheduler
def all_spin(ctl: Control, choices: int) -> int:
    """1 if every choice still spins: the order of accesses does not matter then, but that all
    of them go on spinning, so that a livelock is seen as one."""
    for k in range(choices):
        if still_spins(ctl, ctl[cb.CHOICES + k]) == 0:
            return 0
    return 1


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
    if all_spin(ctl, choices) == 1:
        return highest(ctl, choices)
    for _attempt in range(choices):
        best = best_left(ctl, choices)
        if interesting(ctl, best) == 0:
            return best
        if ctl[INTENDED] < 0:
            ctl[INTENDED] = draw_intended(ctl)
        if best == ctl[INTENDED]:
            return take(ctl, best)
        ctl[aside + best] = 1
    return take(ctl, draw_waiting(ctl, choices))  # the one that was drawn does not come


@scheduler
def after(ctl: Control, actor: int, op: int, at: int, choices: int) -> None:
    ctl[cb.PRIORITIES + actor] = draw(ctl, PRIORITY_RANGE)
    if op == ops.OP_RELAX:
        ctl[INTENDED] = -1
        draw_all(ctl)
    if actor < ctl[cb.CPUS] and note_spin(ctl, actor, op, at) == 0 and ctl[PROFILED] == 0:
        profile(ctl, actor, op, at)
