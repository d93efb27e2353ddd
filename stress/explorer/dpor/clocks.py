"""Happens-before of the running schedule, and the races that have to be tried the other way round.

The clock of an event has, for each actor, index + 1 of that actor's latest event that is ordered
before it. Each object records, for the schedule of its epoch::

    epoch | last write | mask of readers since | last read of each CPU, last write of each buffer
    | last read of each CPU that its own buffer served                         (all index + 1)

A *race* is a pair of events of different actors that depend on each other, with nothing ordered in
between, of which the later one could have come first. This module collects races in a list;
search.py turns them into branches when the schedule has ended.

Edges that cannot be reversed, and are no races: the event that woke or released a CPU; a store and
its flush; a flush and the drained step of its CPU; everything before all CPUs stopped (BARRIER); a
flush and the heavy fence that waited for it (AWAITED, fences.py).
"""

from __future__ import annotations

from shmalloc.engine import ops
from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.explorer.dpor.records import (
    ACTOR,
    CHANGES,
    CLOCK,
    DISTURBS,
    DRAINS,
    EMPTY,
    ENABLER,
    ENTERS,
    EVENT_OP,
    FLAGS,
    FLUSHED,
    KIND0,
    OBJECT0,
    OUTCOMES,
    OWN,
    READ,
    RESUMED,
    RESUMED_ALONE,
    VALUES,
    depth_at,
    depth_words,
)
from stress.machine import block as cb
from stress.machine.visibility import at_once

# --- where things lie in the area, behind the depths ---------------------------------------------
EVENTS = 96  # of the last schedule
FIRST_ALONE = 99  # the first step with RESUMED_ALONE; before it the two clocks are one
LAST_EVENT_AT = 100  # by actor, index + 1 (header words of this strategy: 100..127)
BARRIER_AT = 101  # clock of everything before the last barrier
OBJECTS_AT = 102
STORES_AT = 103  # DEPTH words a CPU: the events of its last stores
FLUSHES_AT = 104  # ... and of its last flushes
STORED_AT = 105  # how many stores, flushes by CPU
FLUSHED_COUNT_AT = 106
PREDECESSORS_AT = 107
PREDECESSORS = 108  # how many
RACES_AT = 109
RACE_COUNT = 110
RACES_LOST = 111  # races that did not fit: the exploration is not exhaustive
LAST_CHANGE = 112  # index + 1 of the last event with CHANGES
BARRIER_SEEN = 113
AREA_END = 114

RACES_KEPT = 124  # the first of the list: older ones, which may have to be looked at again

MAX_RACES = 16_384
EARLIER = 0  # of a race: the steps of its two sides
LATER = 1
RELIED_ON = 2  # what must not be touched for its answer to stay right (tree.py)
RELIED_INDEX = 3  # and the last step behind the later side that it used; -1: none
OTHER = 4  # 1 + the outcome to try in place of a choice, which is both sides; 0: two steps race
RACE = 5
NEVER = 1 << 40  # more than any step
CANDIDATE = 1 << 40  # a predecessor that may be the earlier side of a race
AWAITED = 1 << 41  # the flush that a heavy fence waited for
INDEX_MASK = CANDIDATE - 1


@scheduler
def object_words(ctl: Control) -> int:
    return 3 + ctl[cb.ACTORS] + ctl[cb.CPUS]


@scheduler
def lay_out(ctl: Control) -> None:
    """Divide the area; 0 if it is too small."""
    actors = ctl[cb.ACTORS]
    at = ctl[cb.TREE_AT] + (ctl[cb.STEP_LIMIT] + 2) * depth_words(ctl)
    ctl[LAST_EVENT_AT] = at
    ctl[BARRIER_AT] = at + actors
    ctl[STORES_AT] = at + 2 * actors
    ctl[FLUSHES_AT] = ctl[STORES_AT] + ctl[cb.CPUS] * ctl[cb.DEPTH]
    ctl[STORED_AT] = ctl[FLUSHES_AT] + ctl[cb.CPUS] * ctl[cb.DEPTH]
    ctl[FLUSHED_COUNT_AT] = ctl[STORED_AT] + ctl[cb.CPUS]
    ctl[PREDECESSORS_AT] = ctl[FLUSHED_COUNT_AT] + ctl[cb.CPUS]
    ctl[RACES_AT] = ctl[PREDECESSORS_AT] + 4 * actors + 8
    ctl[OBJECTS_AT] = meet_at(ctl, ctl[cb.CPUS])
    ctl[AREA_END] = ctl[OBJECTS_AT] + 3 * ctl[cb.WORDS] * object_words(ctl)


@scheduler
def start_order(ctl: Control, first_new: int) -> None:
    """Reset: no event has happened. Those before ``first_new`` are those of the last schedule."""
    for actor in range(ctl[cb.ACTORS]):
        ctl[ctl[LAST_EVENT_AT] + actor] = 0
        ctl[ctl[BARRIER_AT] + actor] = 0
    for cpu in range(ctl[cb.CPUS]):
        ctl[ctl[STORED_AT] + cpu] = 0
        ctl[ctl[FLUSHED_COUNT_AT] + cpu] = 0
        ctl[meet_at(ctl, cpu)] = 0
    ctl[LAST_CHANGE] = 0
    ctl[BARRIER_SEEN] = 0
    if ctl[FIRST_ALONE] >= first_new:
        ctl[FIRST_ALONE] = NEVER


@scheduler
def meet_at(ctl: Control, cpu: int) -> int:
    """Behind the races, for each CPU: is there a clock; what all changes that its spin waits for
    have behind them."""
    return ctl[RACES_AT] + RACE * MAX_RACES + cpu * (1 + ctl[cb.ACTORS])


@scheduler
def object_at(ctl: Control, number: int) -> int:
    at = ctl[OBJECTS_AT] + number * object_words(ctl)
    if ctl[at] != ctl[cb.EPOCH]:
        ctl[at] = ctl[cb.EPOCH]
        ctl[at + 1] = 0
        ctl[at + 2] = 0
        for k in range(ctl[cb.ACTORS] + ctl[cb.CPUS]):
            ctl[at + 3 + k] = 0
    return at


@scheduler
def precede(ctl: Control, index_and_one: int, candidate: int) -> None:
    """Event ``index_and_one - 1`` comes before the new one; 0: there is none."""
    if index_and_one != 0:
        ctl[ctl[PREDECESSORS_AT] + ctl[PREDECESSORS]] = index_and_one - 1 + candidate
        ctl[PREDECESSORS] += 1


@scheduler
def order_event(ctl: Control, index: int, event: int, fresh: int, resumed: int) -> None:
    """Analyse the event of step ``index``: its predecessors, clock (if ``fresh``) and races.

    ``resumed``: it is the first step after a relax that needed a change of what was read.
    """
    ctl[PREDECESSORS] = 0
    actor = ctl[event + ACTOR]
    meet = meet_at(ctl, actor) if resumed == 1 and ctl[meet_at(ctl, actor)] == 1 else 0
    precede(ctl, ctl[ctl[LAST_EVENT_AT] + actor], 0)
    precede(ctl, ctl[event + ENABLER], 0)
    note_barrier(ctl)
    if at_once(ctl) == 0:
        order_buffers(ctl, index, event, actor)
    for k in range(2):
        if ctl[event + KIND0 + 2 * k] != 0:
            order_object(ctl, event, k, actor, index)
    if ctl[event + FLAGS] & CHANGES != 0:
        precede(ctl, ctl[LAST_CHANGE], CANDIDATE)
        ctl[LAST_CHANGE] = index + 1
    if fresh == 1:
        set_clock(ctl, index, event, actor)
        ctl[event + DISTURBS] = ctl[cb.DISTURBED]
        ctl[event + RESUMED] = 0
        if meet != 0:
            add_meet(ctl, index, event, meet)
        if index >= ctl[FIRST_ALONE]:
            set_data_clock(ctl, index, actor)
        find_races(ctl, index, actor)
        if ctl[event + OUTCOMES] > 1:
            find_outcomes(ctl, index, event)
    ctl[ctl[LAST_EVENT_AT] + actor] = index + 1
    if meet != 0 or (actor < ctl[cb.CPUS] and begins_spin(ctl, event, actor) == 1):
        ctl[meet_at(ctl, actor)] = 0
    if ctl[cb.DISTURBED] != 0:
        meet_clocks(ctl, event)


@scheduler
def begins_spin(ctl: Control, event: int, cpu: int) -> int:
    """1 if the event is a relax behind which the CPU goes on whatever others change."""
    return 1 if ctl[event + EVENT_OP] == ops.OP_RELAX and ctl[cb.RESUMING + cpu] == 0 else 0


@scheduler
def meet_clocks(ctl: Control, event: int) -> None:
    """The event changed what some CPUs' spins had read.

    Each of these changes lets the CPU go on, so only what comes before all of them has to come
    before its next step: with one alone the change itself, with two that are not ordered neither.
    """
    for cpu in range(ctl[cb.CPUS]):
        if ctl[cb.DISTURBED] >> cpu & 1 == 1:
            meet = meet_at(ctl, cpu)
            for u in range(ctl[cb.ACTORS]):
                clock = ctl[event + CLOCK + u]
                ctl[meet + 1 + u] = clock if ctl[meet] == 0 else min(clock, ctl[meet + 1 + u])
            ctl[meet] = 1


@scheduler
def note_barrier(ctl: Control) -> None:
    """All CPUs have stopped: all events so far come before all later ones."""
    if ctl[cb.BARRIER] != ctl[BARRIER_SEEN]:
        ctl[BARRIER_SEEN] = ctl[cb.BARRIER]
        for actor in range(ctl[cb.ACTORS]):
            ctl[ctl[BARRIER_AT] + actor] = ctl[ctl[LAST_EVENT_AT] + actor]
        for cpu in range(ctl[cb.CPUS]):
            ctl[meet_at(ctl, cpu)] = 0


@scheduler
def order_object(ctl: Control, event: int, k: int, actor: int, index: int) -> None:
    """Order access ``k`` of the event among those of its object."""
    kind = ctl[event + KIND0 + 2 * k]
    place = object_at(ctl, ctl[event + OBJECT0 + 2 * k])
    last = place + 3
    own = last + ctl[cb.ACTORS]
    if kind == OWN:  # only flushes of its own buffer matter
        precede(ctl, ctl[last + ctl[cb.CPUS] + actor], CANDIDATE)
        ctl[own + actor] = index + 1
    elif kind == READ:
        precede(ctl, ctl[place + 1], CANDIDATE)
        ctl[last + actor] = index + 1
        ctl[place + 2] |= 1 << actor
    elif kind >= ENTERS:
        order_fence(ctl, kind, actor, index, last, own)
    else:
        precede(ctl, ctl[place + 1], CANDIDATE)
        for reader in range(ctl[cb.CPUS]):
            if ctl[place + 2] >> reader & 1 == 1 and reader != actor:
                precede(ctl, ctl[last + reader], CANDIDATE)
        ctl[place + 1] = index + 1
        ctl[place + 2] = 0
        if actor >= ctl[cb.CPUS]:
            precede(ctl, ctl[own + actor - ctl[cb.CPUS]], CANDIDATE)
            ctl[own + actor - ctl[cb.CPUS]] = 0
            ctl[last + actor] = index + 1


@scheduler
def order_fence(ctl: Control, kind: int, actor: int, index: int, last: int, own: int) -> None:
    """Order heavy fences (``own``: the last of each CPU) and what they wait for (fences.py)."""
    for cpu in range(ctl[cb.CPUS]):
        if kind == FLUSHED:
            precede(ctl, ctl[last + ctl[cb.CPUS] + cpu], AWAITED)
        elif kind == ENTERS and cpu != actor:
            precede(ctl, ctl[own + cpu], CANDIDATE)
    if kind == EMPTY:
        ctl[own + actor] = index + 1


@scheduler
def order_buffers(ctl: Control, index: int, event: int, actor: int) -> None:
    """Order the two queues of a CPU, stores and flushes; drained steps follow both."""
    cpus = ctl[cb.CPUS]
    if actor >= cpus:
        cpu = actor - cpus
        count = ctl[ctl[FLUSHED_COUNT_AT] + cpu]
        slot = cpu * ctl[cb.DEPTH] + count % ctl[cb.DEPTH]
        precede(ctl, ctl[ctl[STORES_AT] + slot], 0)
        ctl[ctl[FLUSHES_AT] + slot] = index + 1
        ctl[ctl[FLUSHED_COUNT_AT] + cpu] = count + 1
    elif ops.FIRST_WRITE <= ctl[event + EVENT_OP] <= ops.LAST_STORE:
        count = ctl[ctl[STORED_AT] + actor]
        slot = actor * ctl[cb.DEPTH] + count % ctl[cb.DEPTH]
        if count >= ctl[cb.DEPTH]:
            precede(ctl, ctl[ctl[FLUSHES_AT] + slot], 0)
        ctl[ctl[STORES_AT] + slot] = index + 1
        ctl[ctl[STORED_AT] + actor] = count + 1
    elif ctl[event + FLAGS] & DRAINS != 0:
        precede(ctl, ctl[ctl[LAST_EVENT_AT] + cpus + actor], 0)


@scheduler
def before(ctl: Control, index: int, event: int) -> int:
    """1 if the event of step ``index`` is ordered before ``event``."""
    actor = ctl[depth_at(ctl, index) + ACTOR]
    return 1 if ctl[event + CLOCK + actor] >= index + 1 else 0


@scheduler
def data_clock(ctl: Control, index: int) -> int:
    """The clock of step ``index`` that has the order of accesses only."""
    clock = depth_at(ctl, index) + CLOCK
    return clock if index < ctl[FIRST_ALONE] else clock + ctl[cb.ACTORS]


@scheduler
def data_before(ctl: Control, index: int, later: int) -> int:
    """1 if the order of accesses has step ``index`` before step ``later``."""
    actor = ctl[depth_at(ctl, index) + ACTOR]
    return 1 if ctl[data_clock(ctl, later) + actor] >= index + 1 else 0


@scheduler
def set_clock(ctl: Control, index: int, event: int, actor: int) -> None:
    clock = event + CLOCK
    for u in range(ctl[cb.ACTORS]):
        ctl[clock + u] = ctl[ctl[BARRIER_AT] + u]
    for k in range(ctl[PREDECESSORS]):
        other = depth_at(ctl, ctl[ctl[PREDECESSORS_AT] + k] & INDEX_MASK) + CLOCK
        for u in range(ctl[cb.ACTORS]):
            ctl[clock + u] = max(ctl[clock + u], ctl[other + u])
    ctl[clock + actor] = index + 1


@scheduler
def set_data_clock(ctl: Control, index: int, actor: int) -> None:
    clock = data_clock(ctl, index)
    for u in range(ctl[cb.ACTORS]):
        ctl[clock + u] = ctl[ctl[BARRIER_AT] + u]
    for k in range(ctl[PREDECESSORS]):
        other = data_clock(ctl, ctl[ctl[PREDECESSORS_AT] + k] & INDEX_MASK)
        for u in range(ctl[cb.ACTORS]):
            ctl[clock + u] = max(ctl[clock + u], ctl[other + u])
    ctl[clock + actor] = index + 1


@scheduler
def add_meet(ctl: Control, index: int, event: int, meet: int) -> None:
    """Order the resumed ``event`` behind what all changes have behind them."""
    ctl[event + RESUMED] = 1
    for u in range(ctl[cb.ACTORS]):
        if ctl[meet + 1 + u] > ctl[event + CLOCK + u]:
            ctl[event + CLOCK + u] = ctl[meet + 1 + u]
            ctl[event + RESUMED] = RESUMED_ALONE
    if ctl[event + RESUMED] == RESUMED_ALONE:
        ctl[FIRST_ALONE] = min(ctl[FIRST_ALONE], index)


@scheduler
def add_race(ctl: Control, earlier: int, later: int, other: int) -> None:
    at = ctl[RACES_AT] + RACE * ctl[RACE_COUNT]
    ctl[at + EARLIER] = earlier
    ctl[at + LATER] = later
    ctl[at + OTHER] = other
    ctl[RACE_COUNT] += 1


@scheduler
def find_outcomes(ctl: Control, index: int, event: int) -> None:
    """Add the outcomes that the step ``index`` does not have: each excludes the one it has."""
    for value in range(ctl[event + OUTCOMES]):
        if ctl[event + VALUES] >> value & 1 == 0:
            if ctl[RACE_COUNT] == MAX_RACES:
                ctl[RACES_LOST] += 1
                return
            add_race(ctl, index, index, 1 + value)


@scheduler
def find_races(ctl: Control, index: int, actor: int) -> None:
    """Add the predecessors that could have come after the new event to the list of races."""
    for k in range(ctl[PREDECESSORS]):
        entry = ctl[ctl[PREDECESSORS_AT] + k]
        if entry & CANDIDATE != 0 and races(ctl, entry - CANDIDATE, actor) == 1:
            if ctl[RACE_COUNT] == MAX_RACES:
                ctl[RACES_LOST] += 1
                return
            add_race(ctl, entry - CANDIDATE, index, 0)


@scheduler
def races(ctl: Control, earlier: int, actor: int) -> int:
    """1 if event ``earlier`` is ordered before the new one of ``actor`` by their conflict alone.

    Not for a flush of its own CPU, either, if the new event is a heavy fence that awaited it.
    """
    other = ctl[depth_at(ctl, earlier) + ACTOR]
    if other == actor or ctl[ctl[BARRIER_AT] + other] >= earlier + 1:
        return 0
    for k in range(ctl[PREDECESSORS]):
        entry = ctl[ctl[PREDECESSORS_AT] + k]
        between = entry & INDEX_MASK
        if between == earlier:
            if entry & CANDIDATE == 0:
                return 0
        elif data_before(ctl, earlier, between) == 1:
            flusher = ctl[cb.CPUS] + other
            if entry & AWAITED == 0 or ctl[depth_at(ctl, between) + ACTOR] != flusher:
                return 0
    return 1


@scheduler
def enabler_of(ctl: Control, actor: int) -> int:
    """1 + the step that woke the CPU since its last step; 0: none."""
    if actor >= ctl[cb.CPUS] or ctl[cb.ENABLED_BY + actor] == 0:
        return 0
    enabler = ctl[cb.ENABLED_BY + actor]
    return enabler if enabler > ctl[ctl[LAST_EVENT_AT] + actor] else 0
