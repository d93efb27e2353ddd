"""Steering by directives: a schedule as the few places at which it leaves the default.

Default: the CPU that ran continues, its stores become visible at once, and if it cannot continue,
the lowest one that can does. A directive ``(actor, count, next)`` says: when ``actor`` has made
``count`` steps, ``next`` makes the next one; (ACTORS, 0, next) names the first CPU. A directive is
ignored if its ``next`` cannot make a step at that moment. Steps are counted per actor, never
globally, so directives keep their meaning when others are left out.

A *choice* ``(actor, count, value)`` says: the step that ``actor`` makes after ``count`` steps has
the outcome ``value``. Default: 0.

Area (TREE)::

    number of directives | directives, sorted | cursor of each actor | flags of each step
    | number of choices | choices

``steer`` runs the schedule of the directives in the area; ``extract`` turns the trace in REPEAT
into directives.
"""

from __future__ import annotations

from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.explorer.strategies.loop import enabled
from stress.machine import block as cb
from stress.machine.buffers import flusher_of
from stress.machine.choices import ACTOR_MASK, VALUE_SHIFT, decide, values_of
from stress.machine.schedule import begin, settle, shared_step_or_settle
from stress.machine.visibility import gather, has_unseen_stores

LAST_CPU = 92  # the CPU that ran last
DIRECTIVE = 3
PREEMPTED = 1


def steer_words(step_limit: int, actors: int) -> int:
    """Room in the block."""
    directives = DIRECTIVE * (step_limit + 2)
    return 1 + directives + actors + 1 + step_limit + 1 + 1 + directives


@scheduler
def directive_at(ctl: Control, k: int) -> int:
    return ctl[cb.TREE_AT] + 1 + DIRECTIVE * k


@scheduler
def cursor_at(ctl: Control, actor: int) -> int:
    return directive_at(ctl, ctl[cb.STEP_LIMIT] + 2) + actor


@scheduler
def flag_at(ctl: Control, step: int) -> int:
    return cursor_at(ctl, ctl[cb.ACTORS] + 1) + step


@scheduler
def choices_at(ctl: Control) -> int:
    """Where the number of choices lies; the choices are behind it."""
    return flag_at(ctl, ctl[cb.STEP_LIMIT] + 1)


@scheduler
def chosen(ctl: Control, actor: int) -> int:
    """The outcome of the step that ``actor`` makes next."""
    at = choices_at(ctl)
    for k in range(ctl[at]):
        choice = at + 1 + DIRECTIVE * k
        if ctl[choice] == actor and ctl[choice + 1] == ctl[cb.LOCALS + actor]:
            return ctl[choice + 2]
    return 0


@scheduler
def add_choice(ctl: Control, actor: int, value: int) -> None:
    at = choices_at(ctl)
    choice = at + 1 + DIRECTIVE * ctl[at]
    ctl[choice] = actor
    ctl[choice + 1] = ctl[cb.LOCALS + actor]
    ctl[choice + 2] = value
    ctl[at] += 1


@scheduler
def rewind(ctl: Control) -> None:
    """Set every cursor to the first directive of its actor."""
    ctl[LAST_CPU] = -1
    ctl[cb.PREEMPTIONS] = 0
    for actor in range(ctl[cb.ACTORS] + 1):
        ctl[cursor_at(ctl, actor)] = -1
    for back in range(ctl[ctl[cb.TREE_AT]]):
        k = ctl[ctl[cb.TREE_AT]] - 1 - back
        ctl[cursor_at(ctl, ctl[directive_at(ctl, k)])] = k


@scheduler
def default_choice(ctl: Control, choices: int) -> int:
    last_cpu = ctl[LAST_CPU]
    if last_cpu >= 0:
        if has_unseen_stores(ctl, last_cpu) == 1:
            return flusher_of(ctl, last_cpu)
        if enabled(ctl, last_cpu, choices) == 1:
            return last_cpu
    return ctl[cb.CHOICES]


@scheduler
def directed(ctl: Control) -> int:
    """The actor that the directives name after the last step; -1: none."""
    actor = ctl[cb.LAST_ACTOR]
    count = 0
    if actor < 0:
        actor = ctl[cb.ACTORS]
    else:
        count = ctl[cb.LOCALS + actor]
    cursor = cursor_at(ctl, actor)
    while ctl[cursor] >= 0:
        at = directive_at(ctl, ctl[cursor])
        if ctl[at + 1] > count:
            return -1
        following = ctl[cursor] + 1
        last = following == ctl[ctl[cb.TREE_AT]] or ctl[directive_at(ctl, following)] != actor
        ctl[cursor] = -1 if last else following
        if ctl[at + 1] == count:
            return ctl[at + 2]
    return -1


@scheduler
def make_step(ctl: Control, actor: int, choices: int) -> None:
    """Make the step of ``actor``, and record whether it preempts the CPU that ran."""
    if ctl[cb.STEPS] < ctl[cb.STEP_LIMIT]:
        ctl[flag_at(ctl, ctl[cb.STEPS])] = 0
        last_cpu = ctl[LAST_CPU]
        if actor < ctl[cb.CPUS]:
            if last_cpu >= 0 and actor != last_cpu and enabled(ctl, last_cpu, choices) == 1:
                ctl[flag_at(ctl, ctl[cb.STEPS])] = PREEMPTED
                ctl[cb.PREEMPTIONS] += 1
            ctl[LAST_CPU] = actor
        if values_of(ctl, actor) > 1:
            decide(ctl, actor, chosen(ctl, actor))
    shared_step_or_settle(ctl, actor)


@scheduler
def steer(ctl: Control) -> int:
    """Run the schedule of the directives; its outcome."""
    begin(ctl)
    rewind(ctl)
    while ctl[cb.OUTCOME] == cb.RUNNING:
        choices = gather(ctl)
        if choices == 0:
            settle(ctl)
        else:
            actor = directed(ctl)
            if actor < 0 or enabled(ctl, actor, choices) == 0:
                actor = default_choice(ctl, choices)
            make_step(ctl, actor, choices)
    return ctl[cb.OUTCOME]


@scheduler
def extract(ctl: Control, steps: int) -> int:
    """Run the trace in REPEAT and write its directives to the area; returns their number.

    They are in the order of the trace; ERROR if the trace cannot be run.
    """
    begin(ctl)
    ctl[ctl[cb.TREE_AT]] = 0
    ctl[choices_at(ctl)] = 0
    rewind(ctl)
    found = 0
    while ctl[cb.OUTCOME] == cb.RUNNING:
        choices = gather(ctl)
        if choices == 0:
            settle(ctl)
        elif ctl[cb.STEPS] >= steps:
            ctl[cb.OUTCOME] = cb.ERROR
        else:
            entry = ctl[ctl[cb.REPEAT_AT] + ctl[cb.STEPS]]
            actor = entry & ACTOR_MASK
            if enabled(ctl, actor, choices) == 0:
                ctl[cb.OUTCOME] = cb.ERROR
                return found
            if actor != default_choice(ctl, choices):
                at = directive_at(ctl, found)
                before = ctl[cb.LAST_ACTOR]
                ctl[at] = before if before >= 0 else ctl[cb.ACTORS]
                ctl[at + 1] = ctl[cb.LOCALS + before] if before >= 0 else 0
                ctl[at + 2] = actor
                found += 1
            if entry >> VALUE_SHIFT > 0:
                add_choice(ctl, actor, entry >> VALUE_SHIFT)
            make_step(ctl, actor, choices)
    return found
