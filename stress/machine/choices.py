"""Steps with several outcomes: the value of a ``choose``, whether a ``wait`` sleeps or returns at
once, and which of more sleepers a ``wake`` wakes. A driver decides, as it does whose step is next.

A driver that wants more than the first value says so before the step (``decide``); CHOICE of the
CPU holds the value until then. The trace has the value with the actor, so that a schedule can be
followed: an *entry* of a trace is ``actor | value << VALUE_SHIFT``.

``values_of`` says how many outcomes the pending step of an actor has. That depends on nothing but
the CPU's own past and, for a wait, the word that it compares, which it reads, and for a wake the
CPUs that sleep on its word, which it changes. Its outcomes are the sets of so many sleepers in
lexical order: the first one is that of the lowest CPUs.

A sleeper that wakes without a wake and runs only later is not told apart, by any CPU, from one that
never slept and was slow: so an early return of ``wait`` is all that there is to try.
"""

from __future__ import annotations

from shmalloc.engine import ops
from shmalloc.engine.control import inlined, scheduler
from shmalloc.units import Control
from stress.machine import block as cb
from stress.machine.primitives import read_word

VALUE_SHIFT = 10
ACTOR_MASK = (1 << VALUE_SHIFT) - 1  # of an entry of a trace; MAX_ACTORS is less


@inlined
def values_of(ctl: Control, actor: int) -> int:
    """How many outcomes the step has that ``actor`` posted."""
    if actor >= ctl[cb.CPUS]:
        return 1
    if ctl[cb.OP + actor] == ops.OP_CHOOSE:
        return ctl[cb.ARG + actor]
    if ctl[cb.OP + actor] == ops.OP_WAKE:
        return sets_of(ctl, sleepers(ctl, ctl[cb.AT + actor]), ctl[cb.ARG + actor])
    return 2 if ctl[cb.OP + actor] == ops.OP_WAIT and may_return(ctl, actor) == 1 else 1


@scheduler
def sleepers(ctl: Control, at: int) -> int:
    """How many CPUs sleep on word ``at``."""
    count = 0
    for cpu in range(ctl[cb.CPUS]):
        if ctl[cb.STATE + cpu] == cb.ASLEEP and ctl[cb.AT + cpu] == at:
            count += 1
    return count


@scheduler
def binomial(n: int, k: int) -> int:
    """The number of sets of ``k`` of ``n``, at most MAX_VALUES + 1."""
    if k <= 0 or k >= n:
        return 1
    count = 1
    for taken in range(min(k, n - k)):
        count = count * (n - taken) // (taken + 1)
        if count > cb.MAX_VALUES:
            return cb.MAX_VALUES + 1
    return count


@scheduler
def sets_of(ctl: Control, n: int, k: int) -> int:
    """The number of sets of ``k`` of ``n`` sleepers that are tried; SETS_LEFT_OUT: not all are."""
    count = binomial(n, k)
    if count > cb.MAX_VALUES:
        ctl[cb.SETS_LEFT_OUT] = 1
    return min(count, cb.MAX_VALUES)


@scheduler
def may_return(ctl: Control, cpu: int) -> int:
    """1 if the wait that ``cpu`` posted would sleep, and may return early."""
    at = ctl[cb.AT + cpu]
    if ctl[cb.SPURIOUS_LEFT + cpu] == 0 or at < 0 or at >= ctl[cb.WORDS]:
        return 0
    return unchanged(ctl, cpu, read_word(ctl, at))


@scheduler
def unchanged(ctl: Control, cpu: int, found: int) -> int:
    """1 if the wait that ``cpu`` posted sleeps when it finds ``found``."""
    return 1 if (found ^ ctl[cb.ARG + cpu]) & cb.LOW_HALF == 0 else 0


@inlined
def decide(ctl: Control, actor: int, value: int) -> None:
    """The next step of ``actor`` has the outcome ``value``, if it has that one."""
    if value > 0 and value < values_of(ctl, actor):
        ctl[cb.CHOICE + actor] = value


@scheduler
def follow_entry(ctl: Control, entry: int) -> int:
    """The actor of an entry of a trace, whose step will have the outcome that the entry says."""
    actor = entry & ACTOR_MASK
    decide(ctl, actor, entry >> VALUE_SHIFT)
    return actor


@scheduler
def take(ctl: Control, cpu: int) -> int:
    """The outcome that was decided for the step of ``cpu``; it is in the trace from now on."""
    value = ctl[cb.CHOICE + cpu]
    ctl[cb.CHOICE + cpu] = 0
    ctl[ctl[cb.TRACE_AT] + ctl[cb.STEPS]] = cpu | value << VALUE_SHIFT
    return value


@scheduler
def do_wait(ctl: Control, cpu: int, at: int) -> None:
    """Compare and sleep in one step, so that a lost wake-up is always the caller's bug."""
    if unchanged(ctl, cpu, read_word(ctl, at)) == 0:
        ctl[cb.VALUE + cpu] = 0
    elif take(ctl, cpu) == 1:
        ctl[cb.VALUE + cpu] = ops.RETURNED_EARLY
        ctl[cb.SPURIOUS_LEFT + cpu] -= 1
    else:
        ctl[cb.STATE + cpu] = cb.ASLEEP
        ctl[cb.VALUE + cpu] = 1
    if ctl[cb.PARKING] == 1:
        ctl[cb.DIRTY + cpu] = 1


@scheduler
def do_wake(ctl: Control, cpu: int, at: int) -> None:
    """How many CPUs it wakes, and which set of them (VALUE1)."""
    ctl[cb.VALUE + cpu] = max(0, min(sleepers(ctl, at), ctl[cb.ARG + cpu]))
    ctl[cb.VALUE1 + cpu] = take(ctl, cpu)
    if ctl[cb.PARKING] == 1:
        ctl[cb.DIRTY + cpu] = 1


@scheduler
def do_choose(ctl: Control, cpu: int) -> None:
    """Give the value that was decided.

    A CPU that chooses makes progress, so it is no livelock, and a spin that chooses is not parked:
    its next round may end it.
    """
    ctl[cb.VALUE + cpu] = take(ctl, cpu)
    ctl[cb.CHANGES] += 1
    if ctl[cb.PARKING] == 1:
        ctl[cb.DIRTY + cpu] = 1
