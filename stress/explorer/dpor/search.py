"""Optimal DPOR: source sets with wakeup trees and sleep sets (Abdulla et al., JACM 2017, alg. 2).

Two schedules are equivalent if one becomes the other by swapping adjacent steps that do not depend
on each other; checks, races and deadlocks see no difference. The search runs exactly one schedule
of each class. After each schedule it reverses every race (clocks.py): the steps of the whole
schedule that the earlier side does not precede, and the later side, go into the wakeup tree before
the earlier one (tree.py), unless an actor that was tried there, and has slept since, could begin
them.

The steps behind the later side only matter where they speak against such an actor, so they join the
sequence one by one and only as long as that is open. A race whose answer relied on the absence of a
step that speaks against it, or on a step behind the later side, stays in the list (RELIED_ON,
RELIED_INDEX), and is looked at again when a later schedule with the same two sides has such a step.
All other answers hold for every schedule with the same two sides. docs/bugs.md 24 has the program
of four CPUs that showed that the steps between the two sides are not enough.

The search re-runs each schedule from the start and keeps only the path and its trees. A
sleep-blocked run (REDUNDANT) would be an unnecessary one: there are none, and tests ensure it.
``dpor`` continues where the last call ended.
"""

from __future__ import annotations

from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.explorer.dpor.clocks import (
    EARLIER,
    EVENTS,
    LATER,
    MAX_RACES,
    OTHER,
    RACE,
    RACE_COUNT,
    RACES_AT,
    RACES_KEPT,
    RELIED_INDEX,
    RELIED_ON,
    before,
    enabler_of,
    lay_out,
    order_event,
    start_order,
)
from stress.explorer.dpor.fences import find_store_races
from stress.explorer.dpor.records import (
    ACTOR,
    BRANCHES_DONE,
    CLOCK,
    ELSEWHERE,
    ENABLER,
    OUTCOMES,
    RECORD,
    ROOT,
    SIBLINGS,
    SLEEPING,
    VALUES,
    copy_record,
    dependent,
    depth_at,
    describe_event,
    outcome_of,
    prepare_event,
    sleeper_at,
    touches,
    without,
)
from stress.explorer.dpor.spins import collect, needs_search
from stress.explorer.dpor.tree import (
    LATEST_RELIED,
    POOL_AT,
    POOL_EMPTY,
    POOL_END,
    RELIED,
    SCRATCH,
    add_to_sequence,
    covered_by_sleepers,
    free_tree,
    insert,
    lay_out_tree,
    left_to_others,
    start_sequence,
    take_first,
)
from stress.explorer.strategies.loop import enabled, finish
from stress.machine import block as cb
from stress.machine.choices import decide, values_of
from stress.machine.schedule import begin, perform_shared, settle
from stress.machine.visibility import gather

FLOOR = 91  # the search leaves the steps before this one as they are (parts.py)
PREFIX = 92  # steps that the next schedule takes from the path; the last of them is new
DONE = 93
READY_TO_RUN = 94  # the area is laid out
REDUNDANT = 95
TOO_SMALL = 97  # the area does not hold the program
BLOCKED = cb.FIRST_OWN  # OUTCOME: all actors that could continue are in the sleep set
MIN_POOL = 4096


def dpor_words(words: int, actors: int, cpus: int, step_limit: int, pool_words: int) -> int:
    """Room in the block."""
    depths = (step_limit + 2) * (CLOCK + actors * (2 + RECORD))
    objects = 3 * words * (3 + actors + cpus)
    small = 6 * actors + 8 + cpus * (2 * cb.TSO_DEPTH + 3 + actors) + RACE * MAX_RACES + RECORD
    return depths + objects + small + step_limit + 2 + max(pool_words, MIN_POOL)


@scheduler
def prepare(ctl: Control) -> None:
    """Lay out the area, once."""
    lay_out(ctl)
    lay_out_tree(ctl, ctl[cb.STEP_LIMIT], ctl[cb.TREE_AT] + ctl[cb.TREE_WORDS])
    ctl[READY_TO_RUN] = 1
    if ctl[POOL_AT] >= ctl[POOL_END]:
        ctl[TOO_SMALL] = 1
        ctl[DONE] = 1
    first = depth_at(ctl, 0)
    ctl[first + SLEEPING] = 0
    ctl[first + ELSEWHERE] = 0
    ctl[first + SIBLINGS] = 0
    ctl[first + ROOT] = 0
    ctl[first + BRANCHES_DONE] = 0


# --- one schedule --------------------------------------------------------------------------------
@scheduler
def pick(ctl: Control, depth: int, below: int, choices: int) -> int:
    """The actor of a new step: the first branch, else the last CPU, else any awake one; or -1."""
    while ctl[depth + ROOT] != 0:
        actor = take_first(ctl, depth, below)
        if enabled(ctl, actor, choices) == 1 and of_others(ctl, depth, actor) == 0:
            return actor
        free_tree(ctl, ctl[below + ROOT])
    ctl[below + ROOT] = 0
    last = ctl[cb.LAST_ACTOR]
    if last >= 0 and enabled(ctl, last, choices) == 1 and awake(ctl, depth, last) == 1:
        return last
    for k in range(choices):
        if awake(ctl, depth, ctl[cb.CHOICES + k]) == 1:
            return ctl[cb.CHOICES + k]
    return -1


@scheduler
def of_others(ctl: Control, depth: int, actor: int) -> int:
    """1 if a search of another part explores what begins with this outcome of ``actor``."""
    if ctl[depth + ELSEWHERE] >> actor & 1 == 0:
        return 0
    return 1 if ctl[sleeper_at(ctl, depth, actor) + VALUES] & ctl[depth + VALUES] != 0 else 0


@scheduler
def awake(ctl: Control, depth: int, actor: int) -> int:
    """1 if some outcome of the step of ``actor`` does not sleep: the first one is its event's."""
    tried = 0
    if ctl[depth + SLEEPING] >> actor & 1 == 1:
        tried = ctl[sleeper_at(ctl, depth, actor) + VALUES]
    for value in range(values_of(ctl, actor)):
        if tried >> value & 1 == 0:
            ctl[depth + VALUES] = 1 << value
            return 1
    return 0


@scheduler
def pass_sleep(ctl: Control, depth: int, below: int, event: int) -> None:
    """Actors that sleep before the event and do not depend on it stay asleep."""
    ctl[below + BRANCHES_DONE] = 0
    mask = 0
    for actor in range(ctl[cb.ACTORS]):
        if ctl[depth + SLEEPING] >> actor & 1 == 1:
            sleeper = sleeper_at(ctl, depth, actor)
            if dependent(ctl, sleeper, event) == 0:
                mask |= 1 << actor
                copy_record(ctl, sleeper_at(ctl, below, actor), sleeper)
    ctl[below + SLEEPING] = mask
    ctl[below + ELSEWHERE] = (ctl[depth + ELSEWHERE] | ctl[depth + SIBLINGS]) & mask
    ctl[below + SIBLINGS] = 0


@scheduler
def make_step(ctl: Control, index: int, choices: int) -> None:
    """Step ``index``: taken from the path, or new."""
    event = depth_at(ctl, index)
    below = depth_at(ctl, index + 1)
    if index < ctl[PREFIX]:
        actor = ctl[event + ACTOR]
    else:
        actor = pick(ctl, event, below, choices)
        if actor < 0:
            ctl[cb.OUTCOME] = BLOCKED
            return
    if enabled(ctl, actor, choices) == 0:
        ctl[cb.OUTCOME] = cb.ERROR
        return
    prepare_event(ctl, event, actor)
    ctl[event + ENABLER] = enabler_of(ctl, actor)
    resumed = ctl[cb.RESUMING + actor] if actor < ctl[cb.CPUS] else 0
    ctl[cb.DISTURBED] = 0
    if ctl[event + OUTCOMES] > 1:
        decide(ctl, actor, outcome_of(ctl, event))
    perform_shared(ctl, actor)
    describe_event(ctl, event)
    fresh = 1 if index + 1 >= ctl[PREFIX] else 0
    order_event(ctl, index, event, fresh, resumed)
    if fresh == 1:
        find_store_races(ctl, index, event, actor)
        pass_sleep(ctl, event, below, event)
    ctl[EVENTS] = index + 1


@scheduler
def run_schedule(ctl: Control) -> None:
    begin(ctl)
    start_order(ctl, ctl[PREFIX] - 1)
    keep_races(ctl)
    ctl[EVENTS] = 0
    while ctl[cb.OUTCOME] == cb.RUNNING:
        choices = gather(ctl)
        if choices == 0:
            settle(ctl)
        elif ctl[cb.STEPS] >= ctl[cb.STEP_LIMIT]:
            ctl[cb.OUTCOME] = cb.ABANDONED
        else:
            make_step(ctl, ctl[cb.STEPS], choices)


# --- what to try next ----------------------------------------------------------------------------
@scheduler
def reverse_race(ctl: Control, race: int) -> None:
    """Plan a sequence to the later side of a race without the earlier one."""
    earlier = ctl[race + EARLIER]
    later = ctl[race + LATER]
    depth = depth_at(ctl, earlier)
    start_sequence(ctl, earlier, later)
    without(ctl, ctl[SCRATCH], depth_at(ctl, later), depth)
    if ctl[race + OTHER] > 0:
        ctl[ctl[SCRATCH] + VALUES] = 1 << ctl[race + OTHER] - 1
    possible = 1
    if needs_search(ctl, earlier, later) == 1:
        possible = collect(ctl, earlier, later)
    else:
        for k in range(earlier + 1, later):
            if before(ctl, earlier, depth_at(ctl, k)) == 0:
                add_to_sequence(ctl, depth_at(ctl, k))
        add_to_sequence(ctl, ctl[SCRATCH])
    if possible == 1 and left_to_others(ctl, depth) == 0:
        if covered_by_sleepers(ctl, depth) == 0:
            insert(ctl, depth)
    ctl[race + RELIED_ON] = ctl[RELIED]
    ctl[race + RELIED_INDEX] = ctl[LATEST_RELIED]


@scheduler
def plan(ctl: Control) -> None:
    """Every new race of the last schedule, in the order in which it was met, and every older one
    of which the answer relied on steps that have changed. Those that may have to be looked at
    again stay in the list."""
    changed = ctl[PREFIX] - 1
    touched = 0
    for index in range(changed if ctl[RACES_KEPT] > 0 else ctl[EVENTS], ctl[EVENTS]):
        touched |= touches(ctl, depth_at(ctl, index))
    kept = 0
    for k in range(ctl[RACE_COUNT]):
        race = ctl[RACES_AT] + RACE * k
        again = ctl[race + RELIED_ON] & touched != 0 or ctl[race + RELIED_INDEX] >= changed
        if k >= ctl[RACES_KEPT] or again:
            reverse_race(ctl, race)
        if ctl[race + RELIED_ON] != 0 or ctl[race + RELIED_INDEX] >= 0:
            copy_race(ctl, ctl[RACES_AT] + RACE * kept, race)
            kept += 1
    ctl[RACE_COUNT] = kept


@scheduler
def copy_race(ctl: Control, to: int, race: int) -> None:
    for k in range(RACE):
        ctl[to + k] = ctl[race + k]


@scheduler
def keep_races(ctl: Control) -> None:
    """Of the races in the list, keep those whose later side is on the path of the next schedule."""
    kept = 0
    for k in range(ctl[RACE_COUNT]):
        race = ctl[RACES_AT] + RACE * k
        if ctl[race + LATER] < ctl[PREFIX] - 1:
            copy_race(ctl, ctl[RACES_AT] + RACE * kept, race)
            kept += 1
    ctl[RACE_COUNT] = kept
    ctl[RACES_KEPT] = kept


@scheduler
def put_to_sleep(ctl: Control, depth: int, actor: int) -> None:
    """The step of ``actor`` has been tried with the outcome that it has."""
    sleeper = sleeper_at(ctl, depth, actor)
    tried = ctl[sleeper + VALUES] if ctl[depth + SLEEPING] >> actor & 1 == 1 else 0
    copy_record(ctl, sleeper, depth)
    ctl[sleeper + VALUES] |= tried
    ctl[depth + SLEEPING] |= 1 << actor


@scheduler
def backtrack(ctl: Control) -> None:
    """Go back to the deepest step with a branch left, and take it."""
    for back in range(ctl[EVENTS] - ctl[FLOOR]):
        index = ctl[EVENTS] - 1 - back
        depth = depth_at(ctl, index)
        put_to_sleep(ctl, depth, ctl[depth + ACTOR])
        ctl[depth + BRANCHES_DONE] += 1
        while ctl[depth + ROOT] != 0:
            actor = take_first(ctl, depth, depth_at(ctl, index + 1))
            if of_others(ctl, depth, actor) == 0:
                ctl[depth + ACTOR] = actor
                ctl[PREFIX] = index + 1
                return
            free_tree(ctl, ctl[depth_at(ctl, index + 1) + ROOT])
    ctl[DONE] = 1


@scheduler
def meet_sibling(ctl: Control, index: int) -> int:
    """Make the step ``index`` that the path has, and put it to sleep before that step: a search of
    another part tries it. Returns 0 if it cannot be made."""
    ctl[PREFIX] = index + 1
    begin(ctl)
    start_order(ctl, index)
    ctl[RACE_COUNT] = 0
    ctl[EVENTS] = 0
    while ctl[cb.OUTCOME] == cb.RUNNING and ctl[EVENTS] <= index:
        choices = gather(ctl)
        if choices == 0:
            settle(ctl)
        else:
            make_step(ctl, ctl[cb.STEPS], choices)
    if ctl[EVENTS] <= index:
        return 0
    depth = depth_at(ctl, index)
    put_to_sleep(ctl, depth, ctl[depth + ACTOR])
    ctl[depth + SIBLINGS] |= 1 << ctl[depth + ACTOR]
    return 1


@scheduler
def dpor(ctl: Control, seed: int, count: int) -> int:
    """Run ``count`` more classes (``seed`` is unused); returns their number."""
    if ctl[READY_TO_RUN] == 0:
        prepare(ctl)
    for k in range(count):
        if ctl[DONE] == 1:
            return k
        run_schedule(ctl)
        if ctl[cb.OUTCOME] == cb.ERROR:
            return k
        plan(ctl)
        end = depth_at(ctl, ctl[EVENTS])
        free_tree(ctl, ctl[end + ROOT])
        ctl[end + ROOT] = 0
        stop = 0
        if ctl[cb.OUTCOME] == BLOCKED:
            ctl[REDUNDANT] += 1
        else:
            stop = finish(ctl)
        backtrack(ctl)
        if stop == 1 or ctl[POOL_EMPTY] == 1:
            return k
    return count
