"""Probes: the beginning of one schedule, run to find out what can come next.

``sampling.py`` counts classes without running one schedule of each. It needs the tree of the orders
that matter, so a probe makes only those choices. A word is *raced for* if two steps at it were a
race in some schedule. A step at another word is *quiet*: its order follows from that of the steps
at words that are raced for. All quiet steps that can be made are made at once, lowest actor first,
and only then does the probe take its next actor, from the list in REPEAT, with the outcome of its
step if that has several (choices.py). What it has run by then is a *beginning*, and depends on the
order of the other steps alone.

Two beginnings are equivalent if they order the same steps alike: KEY is a sum over their steps, in
any order, of what comes before each. ENDS is the number of taken steps of a beginning that no other
taken one has to follow: with each of them left out, it is a shorter beginning.

``learn`` runs a random schedule and marks the words that are raced for; a probe that finds another
one marks it, too, and LEARNED has their number. In the words of an event that DPOR has for other
ends, a probe keeps::

    FOUND0  1: a taken step follows it | FOUND1  1 + the last taken step of its actor, up to it
    EVENT_ARG  its number among the steps of its actor
"""

from __future__ import annotations

from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.explorer.dpor.clocks import (
    AREA_END,
    EARLIER,
    EVENTS,
    LAST_EVENT_AT,
    LATER,
    RACE,
    RACE_COUNT,
    RACES_AT,
    enabler_of,
    lay_out,
    order_event,
    start_order,
)
from stress.explorer.dpor.fences import find_store_races
from stress.explorer.dpor.records import (
    CLOCK,
    ENABLER,
    EVENT_ARG,
    FOUND0,
    FOUND1,
    KIND0,
    OBJECT0,
    VALUES,
    depth_at,
    describe_event,
    prepare_event,
)
from stress.explorer.strategies.loop import enabled
from stress.explorer.strategies.pending import pending_at, pending_op, touches
from stress.machine import block as cb
from stress.machine.access import outside
from stress.machine.choices import VALUE_SHIFT, decide, follow_entry, values_of
from stress.machine.schedule import begin, draw, mix, perform_shared, settle
from stress.machine.visibility import gather

KEY_SHIFT = 6  # actors are less than 62
LEARNED = 92  # words that are raced for
KEY = 93
ENDS = 94
FOLLOWED = FOUND0
TAKEN_STEP = FOUND1
NUMBER = EVENT_ARG


# --- the words that are raced for -----------------------------------------------------------------
@scheduler
def raced_for(ctl: Control, word: int) -> int:
    """Behind the area of DPOR, one word for each word of memory."""
    return ctl[AREA_END] + word


@scheduler
def is_quiet(ctl: Control, actor: int) -> int:
    """1 if the pending step of ``actor`` has one outcome, and touches no word that is raced for."""
    if values_of(ctl, actor) > 1:
        return 0
    op = pending_op(ctl, actor)
    size = touches(op)
    if size == 0:
        return 1
    at = pending_at(ctl, actor)
    if outside(ctl, op, at) == 1:
        return 0
    for k in range(size):
        if ctl[raced_for(ctl, at + k)] == 1:
            return 0
    return 1


@scheduler
def mark(ctl: Control, event: int) -> None:
    for k in range(2):
        if ctl[event + KIND0 + 2 * k] != 0:
            word = raced_for(ctl, ctl[event + OBJECT0 + 2 * k] % ctl[cb.WORDS])
            if ctl[word] == 0:
                ctl[word] = 1
                ctl[LEARNED] += 1


@scheduler
def mark_races(ctl: Control) -> None:
    for k in range(ctl[RACE_COUNT]):
        race = ctl[RACES_AT] + RACE * k
        mark(ctl, depth_at(ctl, ctl[race + EARLIER]))
        mark(ctl, depth_at(ctl, ctl[race + LATER]))


# --- steps ----------------------------------------------------------------------------------------
@scheduler
def start(ctl: Control) -> None:
    if ctl[LAST_EVENT_AT] == 0:
        lay_out(ctl)
    begin(ctl)
    start_order(ctl, 0)
    ctl[RACE_COUNT] = 0
    ctl[EVENTS] = 0
    ctl[KEY] = 0
    ctl[ENDS] = 1


@scheduler
def make_step(ctl: Control, actor: int) -> None:
    """One step of ``actor``, ordered among the others."""
    index = ctl[EVENTS]
    event = depth_at(ctl, index)
    before = ctl[ctl[LAST_EVENT_AT] + actor]
    prepare_event(ctl, event, actor)
    ctl[event + ENABLER] = enabler_of(ctl, actor)
    resumed = ctl[cb.RESUMING + actor] if actor < ctl[cb.CPUS] else 0
    ctl[cb.DISTURBED] = 0
    ctl[event + VALUES] = 1 << ctl[cb.CHOICE + actor] if actor < ctl[cb.CPUS] else 1
    perform_shared(ctl, actor)
    describe_event(ctl, event)
    order_event(ctl, index, event, 1, resumed)
    find_store_races(ctl, index, event, actor)
    ctl[EVENTS] = index + 1
    ctl[event + NUMBER] = ctl[cb.LOCALS + actor]
    ctl[event + TAKEN_STEP] = ctl[depth_at(ctl, before - 1) + TAKEN_STEP] if before > 0 else 0
    add_to_key(ctl, event, actor)


@scheduler
def add_to_key(ctl: Control, event: int, actor: int) -> None:
    key = actor ^ ctl[event + VALUES] << KEY_SHIFT
    for u in range(ctl[cb.ACTORS]):
        clock = ctl[event + CLOCK + u]
        number = ctl[depth_at(ctl, clock - 1) + NUMBER] if clock > 0 else 0
        key = ((key ^ number) * cb.HASH_FACTOR + 1) & cb.MASK62
    ctl[KEY] = (ctl[KEY] + mix(key)) & cb.MASK62


@scheduler
def count_ends(ctl: Control, actor: int) -> None:
    """The last step of ``actor`` was taken: which taken steps does none follow now?"""
    index = ctl[EVENTS] - 1
    event = depth_at(ctl, index)
    follow(ctl, ctl[event + TAKEN_STEP])
    for u in range(ctl[cb.ACTORS]):
        clock = ctl[event + CLOCK + u]
        if 0 < clock <= index:
            follow(ctl, ctl[depth_at(ctl, clock - 1) + TAKEN_STEP])
    ctl[event + TAKEN_STEP] = index + 1
    ctl[event + FOLLOWED] = 0
    ctl[ENDS] = 0
    for u in range(ctl[cb.ACTORS]):
        last = ctl[ctl[LAST_EVENT_AT] + u]
        taken = ctl[depth_at(ctl, last - 1) + TAKEN_STEP] if last > 0 else 0
        if taken > 0 and ctl[depth_at(ctl, taken - 1) + FOLLOWED] == 0:
            ctl[ENDS] += 1


@scheduler
def follow(ctl: Control, taken: int) -> None:
    if taken > 0:
        ctl[depth_at(ctl, taken - 1) + FOLLOWED] = 1


@scheduler
def quiet_actor(ctl: Control, choices: int) -> int:
    for k in range(choices):
        if is_quiet(ctl, ctl[cb.CHOICES + k]) == 1:
            return ctl[cb.CHOICES + k]
    return -1


@scheduler
def choices_of(ctl: Control) -> int:
    """The actors that can make a step; 0 if the schedule, or its settling, has to go on first."""
    choices = gather(ctl)
    if choices == 0:
        settle(ctl)
    elif ctl[cb.STEPS] >= ctl[cb.STEP_LIMIT]:
        ctl[cb.OUTCOME] = cb.ABANDONED
        return 0
    return choices


@scheduler
def with_outcomes(ctl: Control, choices: int) -> int:
    """Make entries of the actors in CHOICES, one for each outcome of their steps; how many."""
    count = choices
    for k in range(choices):
        actor = ctl[cb.CHOICES + k]
        for value in range(1, values_of(ctl, actor)):
            if count == cb.MAX_ACTORS:
                return count
            ctl[cb.CHOICES + count] = actor | value << VALUE_SHIFT
            count += 1
    return count


# --- the two drivers ------------------------------------------------------------------------------
@scheduler
def learn(ctl: Control, seed: int, count: int) -> int:
    """Run ``count`` random schedules; returns the number of words that are raced for."""
    for k in range(count):
        ctl[cb.RANDOM] = mix(seed + k)
        start(ctl)
        while ctl[cb.OUTCOME] == cb.RUNNING:
            choices = choices_of(ctl)
            if choices > 0:
                actor = ctl[cb.CHOICES + draw(ctl, choices)]
                decide(ctl, actor, draw(ctl, values_of(ctl, actor)))
                make_step(ctl, actor)
        mark_races(ctl)
    return ctl[LEARNED]


@scheduler
def probe(ctl: Control, count: int) -> int:
    """Run the beginning of the first ``count`` entries in REPEAT; returns the number of those that
    can come next, which are in CHOICES, and 0 if the schedule has ended."""
    start(ctl)
    taken = 0
    while ctl[cb.OUTCOME] == cb.RUNNING:
        choices = choices_of(ctl)
        if choices > 0:
            actor = quiet_actor(ctl, choices)
            if actor >= 0:
                make_step(ctl, actor)
            elif taken == count:
                mark_races(ctl)
                return with_outcomes(ctl, choices)
            else:
                actor = follow_entry(ctl, ctl[ctl[cb.REPEAT_AT] + taken])
                taken += 1
                if enabled(ctl, actor, choices) == 0:
                    ctl[cb.OUTCOME] = cb.ERROR  # never: a step that cannot be made ends the process
                    return 0
                make_step(ctl, actor)
                count_ends(ctl, actor)
    mark_races(ctl)
    return 0
