"""What a step touched, as DPOR sees it, and when the order of two steps matters.

The format of an access record (of an event, a sleeping actor, a branch of a wakeup tree)::

    actor | object 0, kind 0 | object 1, kind 1 | flags | values

Objects are the words of memory and, after them, the sleepers of each word: ``wake`` changes them,
``wait`` only reads them (a ``wait`` that comes first wakes no CPU). A failed ``cas`` only reads.
Kinds: 0 nothing, READ, WRITE, and OWN: a read from the CPU's own store buffer, which only the flush
of that buffer can affect.

The third set of objects is for heavy fences: the stores to each word that wait in buffers. A fence
does not change them (EMPTY), but it cannot be made while there is one; a store enters them
(ENTERS). So the two depend on each other, and two fences or two stores do not. The fence comes
behind the flush of such a store (FLUSHED, of the word itself): an edge that cannot be reversed,
since without the flush the fence waits; but the fence can come before store *and* flush, which is
the race of store and fence.

The kind of an access may depend on the value of its own object, never on that of another: whatever
turned a READ into a WRITE must be a race of every step that depends on the WRITE alone, or the
search would not know that there is something to try. So a ``wait`` reads the sleepers even if it
continues at once, and ``cas2`` is a WRITE of each half that it found as expected, even if it
failed.

Flags: DRAINS (needs an empty buffer, so it cannot pass the flushes of its CPU); if the program has
an invariant, CHANGES: an invariant sees the order of all changes, so they all depend on each other;
and CHOICE: the step has several outcomes (choices.py).

Each outcome of a choice is a step of its own: they exclude each other, as if a process for each
value had taken a lock that is never released. A ``choose`` touches nothing, so no CPU sees which it
was; a ``wait`` that may return early touches what it would touch if it slept, and a ``wake``
touches its sleepers, whichever it wakes.
``values`` is a set of outcomes, as a mask: one of an event or a branch, those that were tried of a
sleeping actor. A step without a choice has the outcome 0.

An event is a record with more data for the analysis; a depth is an event and the state of the
search before it::

    record | op, operands | values found, values left | number of outcomes | its enabler
    | two clocks of ACTORS words
    | sleeping actors: masks, then a record for each actor | first branch | branches done
"""

from __future__ import annotations

from shmalloc.engine import ops
from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.machine import block as cb
from stress.machine.access import outside
from stress.machine.buffers import drains, flushed_entry
from stress.machine.choices import sets_of, sleepers, values_of
from stress.machine.primitives import read_word
from stress.machine.visibility import at_once

READ = 1
WRITE = 2
OWN = 4
ENTERS = 8
EMPTY = 16
FLUSHED = 32
DRAINS = 1
CHANGES = 2
CHOICE = 4

RECORD = 7
ACTOR = 0
OBJECT0 = 1
KIND0 = 2
OBJECT1 = 3
KIND1 = 4
FLAGS = 5
VALUES = 6

EVENT_OP = 7
EVENT_ARG = 8
EVENT_ARG1 = 9
FOUND0 = 10  # of a wake: how many slept
FOUND1 = 11
OUTCOMES = 12  # how many the step has
ENABLER = 13  # 1 + the event that woke or released the actor
ROOT = 14  # the first branch of the wakeup tree before this event; 0: none
BRANCHES_DONE = 15
SLEEPING = 16  # mask of actors
RESUMED = 17  # the first step after a spin that needed a change of what it had read (spins.py)
DISTURBS = 18  # mask of CPUs: it changed what their spins had read
TAKEN = 19  # a mark of spins.py
CHANGED = 20  # bit k: the word of object k has another value since
ELSEWHERE = 21  # mask of sleepers that a search of another part explores (parts.py)
SIBLINGS = 22  # ... of those that sleep before this event, and are such ones behind it
CLOCK = 23  # ACTORS words, then DATA, ACTORS words, then ACTORS records

RESUMED_ALONE = 2  # as RESUMED: the order of accesses demands none of the changes

OBJECT_BITS = 58  # of a mask of objects
CHOICE_BIT = 58
CHANGE_BIT = 59
FLUSH_BIT = 60
DRAIN_BIT = 61
MAX_ACTORS = 62  # a mask is one word


@scheduler
def depth_words(ctl: Control) -> int:
    """Size of one depth."""
    return CLOCK + ctl[cb.ACTORS] * (2 + RECORD)


@scheduler
def depth_at(ctl: Control, index: int) -> int:
    """Where the event of step ``index`` is kept; index -1 is scratch room."""
    return ctl[cb.TREE_AT] + (index + 1) * depth_words(ctl)


@scheduler
def sleeper_at(ctl: Control, depth: int, actor: int) -> int:
    """The record of the sleeping ``actor`` before the event at ``depth``."""
    return depth + CLOCK + 2 * ctl[cb.ACTORS] + actor * RECORD


@scheduler
def copy_record(ctl: Control, to: int, record: int) -> None:
    for k in range(RECORD):
        ctl[to + k] = ctl[record + k]


@scheduler
def prepare_event(ctl: Control, event: int, actor: int) -> None:
    """Before the step of ``actor``: record its pending access and the contents of its words."""
    ctl[event + ACTOR] = actor
    op = ops.OP_FLUSH
    at = 0
    if actor < ctl[cb.CPUS]:
        op = ctl[cb.OP + actor]
        at = ctl[cb.AT + actor]
        ctl[event + EVENT_ARG] = ctl[cb.ARG + actor]
        ctl[event + EVENT_ARG1] = ctl[cb.ARG1 + actor]
    else:
        at = ctl[flushed_entry(ctl, actor)]
    ctl[event + EVENT_OP] = op
    ctl[event + OBJECT0] = at
    ctl[event + OBJECT1] = at + 1
    ctl[event + KIND0] = 0
    ctl[event + KIND1] = 0
    ctl[event + OUTCOMES] = values_of(ctl, actor)
    ctl[event + FLAGS] = CHOICE if ctl[event + OUTCOMES] > 1 else 0
    ctl[event + FOUND0] = 0
    ctl[event + FOUND1] = 0
    inside = 0 <= at < ctl[cb.WORDS]
    if inside and (op <= ops.LAST_WRITE or op == ops.OP_WAIT or op == ops.OP_FLUSH):
        ctl[event + FOUND0] = read_word(ctl, at)
        if at + 1 < ctl[cb.WORDS]:
            ctl[event + FOUND1] = read_word(ctl, at + 1)
    elif op == ops.OP_WAKE:
        ctl[event + FOUND0] = sleepers(ctl, at)


@scheduler
def describe_event(ctl: Control, event: int) -> None:
    """After the step: record what it touched; nothing if it was refused (outside memory)."""
    op = ctl[event + EVENT_OP]
    ctl[event + CHANGED] = 0
    if outside(ctl, op, ctl[event + OBJECT0]) == 1:
        return
    if op <= ops.LAST_WRITE or op == ops.OP_FLUSH:
        note_change(ctl, event)
    if op == ops.OP_FLUSH:
        ctl[event + KIND0] = WRITE
    elif op <= ops.LAST_READ:
        describe_read(ctl, event, op)
    elif op <= ops.LAST_STORE:
        describe_store(ctl, event)
    elif op <= ops.LAST_WRITE:
        describe_update(ctl, event, event, ctl[event + FOUND0], ctl[event + FOUND1])
    elif op == ops.OP_WAIT:
        describe_wait(ctl, event)
    elif op == ops.OP_WAKE:
        ctl[event + OBJECT0] += ctl[cb.WORDS]
        ctl[event + KIND0] = WRITE
    elif op == ops.OP_HEAVY_FENCE and at_once(ctl) == 0:
        ctl[event + KIND0] = FLUSHED
        ctl[event + OBJECT1] = ctl[event + OBJECT0] + 2 * ctl[cb.WORDS]
        ctl[event + KIND1] = EMPTY
    if op != ops.OP_FLUSH and drains(op) == 1:
        ctl[event + FLAGS] |= DRAINS
    if ctl[cb.INVARIANT_ENTRY] != 0 and writes_memory(ctl, event) == 1:
        ctl[event + FLAGS] |= CHANGES


@scheduler
def note_change(ctl: Control, event: int) -> None:
    """Whether the words of the event have other values than it found."""
    at = ctl[event + OBJECT0]
    if read_word(ctl, at) != ctl[event + FOUND0]:
        ctl[event + CHANGED] = 1
    if at + 1 < ctl[cb.WORDS] and read_word(ctl, at + 1) != ctl[event + FOUND1]:
        ctl[event + CHANGED] |= 2


@scheduler
def writes_memory(ctl: Control, record: int) -> int:
    first = ctl[record + KIND0] == WRITE and ctl[record + OBJECT0] < ctl[cb.WORDS]
    second = ctl[record + KIND1] == WRITE and ctl[record + OBJECT1] < ctl[cb.WORDS]
    return 1 if first or second else 0


@scheduler
def describe_read(ctl: Control, event: int, op: int) -> None:
    forwarded = 0 if at_once(ctl) == 1 else ctl[cb.FORWARDED]
    ctl[event + KIND0] = OWN if forwarded & 1 != 0 else READ
    if op == ops.OP_LOAD2:
        ctl[event + KIND1] = OWN if forwarded & 2 != 0 else READ


@scheduler
def describe_store(ctl: Control, event: int) -> None:
    if at_once(ctl) == 1:
        ctl[event + KIND0] = WRITE
    elif ctl[cb.HEAVY_FENCES] == 1:
        ctl[event + OBJECT1] = ctl[event + OBJECT0] + 2 * ctl[cb.WORDS]
        ctl[event + KIND1] = ENTERS


@scheduler
def describe_update(ctl: Control, to: int, event: int, low: int, high: int) -> None:
    """Kinds of the update ``event``, had it found ``low`` and ``high``: to the record ``to``."""
    op = ctl[event + EVENT_OP]
    ctl[to + KIND0] = WRITE
    if op == ops.OP_CAS or op == ops.OP_CAS2:
        ctl[to + KIND0] = WRITE if low == ctl[event + EVENT_ARG] else READ
    if op == ops.OP_CAS2:
        ctl[to + KIND1] = WRITE if high == ctl[event + EVENT_ARG1] else READ


@scheduler
def describe_wait(ctl: Control, event: int) -> None:
    ctl[event + KIND0] = READ
    ctl[event + OBJECT1] = ctl[event + OBJECT0] + ctl[cb.WORDS]
    ctl[event + KIND1] = READ


@scheduler
def clash(ctl: Control, kind: int, actor: int, other_kind: int, other: int) -> int:
    """1 if two accesses of one object depend on each other."""
    if kind >= ENTERS or other_kind >= ENTERS:
        return clash_of_fence(ctl, kind, actor, other_kind, other)
    if kind == WRITE:
        if other_kind == OWN:
            return 1 if actor == ctl[cb.CPUS] + other else 0
        return 1 if other_kind != 0 else 0
    if other_kind != WRITE:
        return 0
    if kind == OWN:
        return 1 if other == ctl[cb.CPUS] + actor else 0
    return 1 if kind == READ else 0


@scheduler
def clash_of_fence(ctl: Control, kind: int, actor: int, other_kind: int, other: int) -> int:
    if kind == ENTERS or kind == EMPTY:
        return 1 if kind + other_kind == ENTERS + EMPTY else 0
    if kind == FLUSHED:
        return 1 if other_kind == WRITE and other >= ctl[cb.CPUS] else 0
    return 1 if kind == WRITE and other_kind == FLUSHED and actor >= ctl[cb.CPUS] else 0


@scheduler
def dependent(ctl: Control, record: int, other: int) -> int:
    """1 if the order of two steps matters."""
    actor = ctl[record + ACTOR]
    second = ctl[other + ACTOR]
    if actor == second:
        return 1
    flags = ctl[record + FLAGS]
    other_flags = ctl[other + FLAGS]
    if flags & other_flags & CHANGES != 0:
        return 1
    if flags & DRAINS != 0 and second == ctl[cb.CPUS] + actor:
        return 1
    if other_flags & DRAINS != 0 and actor == ctl[cb.CPUS] + second:
        return 1
    for k in range(2):
        kind = ctl[record + KIND0 + 2 * k]
        for j in range(2):
            if kind != 0 and ctl[record + OBJECT0 + 2 * k] == ctl[other + OBJECT0 + 2 * j]:
                if clash(ctl, kind, actor, ctl[other + KIND0 + 2 * j], second) == 1:
                    return 1
    return 0


@scheduler
def touches(ctl: Control, event: int) -> int:
    """What ``event`` touches, as a mask: if it has no bit of ``breaks(record)``, the two do not
    depend on each other. Objects share bits, so the reverse does not hold."""
    mask = objects_of(ctl, event)
    if ctl[event + ACTOR] >= ctl[cb.CPUS]:
        mask |= 1 << FLUSH_BIT
    if ctl[event + FLAGS] & DRAINS != 0:
        mask |= 1 << DRAIN_BIT
    return mask


@scheduler
def breaks(ctl: Control, record: int) -> int:
    """What an event must not touch if it is to be independent of ``record``."""
    mask = objects_of(ctl, record)
    if ctl[record + ACTOR] >= ctl[cb.CPUS]:
        mask |= 1 << DRAIN_BIT
    if ctl[record + FLAGS] & DRAINS != 0:
        mask |= 1 << FLUSH_BIT
    return mask


@scheduler
def objects_of(ctl: Control, record: int) -> int:
    mask = 0
    for k in range(2):
        if ctl[record + KIND0 + 2 * k] != 0:
            mask |= 1 << ctl[record + OBJECT0 + 2 * k] % OBJECT_BITS
    if ctl[record + FLAGS] & CHANGES != 0:
        mask |= 1 << CHANGE_BIT
    if ctl[record + FLAGS] & CHOICE != 0:
        mask |= 1 << CHOICE_BIT
    return mask


@scheduler
def found_without(ctl: Control, event: int, which: int, found: int, earlier: int) -> int:
    """What ``event`` would find in its word if ``earlier`` had not been made.

    ``earlier`` races with ``event``, so nothing between them changed a word of both.
    """
    for k in range(2):
        kind = ctl[earlier + KIND0 + 2 * k]
        if kind == WRITE and ctl[earlier + OBJECT0 + 2 * k] == ctl[event + which]:
            return ctl[earlier + FOUND0 + k]
    return ctl[event + found]


@scheduler
def without(ctl: Control, to: int, event: int, earlier: int) -> None:
    """The record of ``event`` as it would be if ``earlier`` had not been made."""
    copy_record(ctl, to, event)
    op = ctl[event + EVENT_OP]
    if op == ops.OP_CAS or op == ops.OP_CAS2:
        low = found_without(ctl, event, OBJECT0, FOUND0, earlier)
        high = found_without(ctl, event, OBJECT1, FOUND1, earlier)
        describe_update(ctl, to, event, low, high)
    elif op <= ops.LAST_READ and ctl[earlier + ACTOR] == ctl[cb.CPUS] + ctl[event + ACTOR]:
        for k in range(2):
            if ctl[to + KIND0 + 2 * k] == READ and flushes(ctl, earlier, ctl[to + OBJECT0 + 2 * k]):
                ctl[to + KIND0 + 2 * k] = OWN
    if op == ops.OP_WAIT and ctl[event + OUTCOMES] > 1:
        found = found_without(ctl, event, OBJECT0, FOUND0, earlier)
        if (found ^ ctl[event + EVENT_ARG]) & cb.LOW_HALF != 0:
            ctl[to + VALUES] = 1  # it would not sleep: there is nothing to choose
            ctl[to + FLAGS] &= ~CHOICE
    if op == ops.OP_WAKE and earlier != event:
        wake_without(ctl, to, event, earlier)
    if ctl[cb.INVARIANT_ENTRY] != 0:
        ctl[to + FLAGS] = ctl[to + FLAGS] & ~CHANGES
        if writes_memory(ctl, to) == 1:
            ctl[to + FLAGS] |= CHANGES


@scheduler
def wake_without(ctl: Control, to: int, event: int, earlier: int) -> None:
    """A wake that raced with another step at its sleepers: their number was another one before,
    and it begins with the first of its outcomes; the others follow when it is made."""
    asleep = ctl[event + FOUND0]
    if ctl[earlier + EVENT_OP] == ops.OP_WAKE:
        asleep += max(0, min(ctl[earlier + FOUND0], ctl[earlier + EVENT_ARG]))
    elif slept(ctl, earlier) == 1:
        asleep -= 1
    ctl[to + VALUES] = 1
    ctl[to + FLAGS] &= ~CHOICE
    if sets_of(ctl, asleep, ctl[event + EVENT_ARG]) > 1:
        ctl[to + FLAGS] |= CHOICE


@scheduler
def slept(ctl: Control, event: int) -> int:
    """1 if the event is a wait that fell asleep."""
    if ctl[event + EVENT_OP] != ops.OP_WAIT or ctl[event + VALUES] != 1:
        return 0
    return 1 if (ctl[event + FOUND0] ^ ctl[event + EVENT_ARG]) & cb.LOW_HALF == 0 else 0


@scheduler
def outcome_of(ctl: Control, record: int) -> int:
    """The outcome of an event or a branch."""
    value = 0
    while ctl[record + VALUES] >> value > 1:
        value += 1
    return value


@scheduler
def flushes(ctl: Control, event: int, word: int) -> int:
    return 1 if ctl[event + EVENT_OP] == ops.OP_FLUSH and ctl[event + OBJECT0] == word else 0
