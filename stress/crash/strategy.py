"""Crash: one CPU stops for ever before one of its writes, and the others recover.

The segment survives the death of a process, and its stores drain; so a crash is a schedule and the
point at which one CPU makes no further step. Points are the steps that others can see: writes,
sleeps and wake-ups. Two deaths between the same two points leave the same state, so it suffices to
try the points of a CPU and its end.

The first LIVING CPUs run the program; the others are *supervisors*, absent until a CPU dies. A
death sets word DIED_AT + cpu of the memory and lets the next supervisor begin: at once and before
all others, beside them, or when no other CPU can continue. If a supervisor dies as well, the next
one begins.

``sweep`` repeats one schedule, with the victim stopped before its first point, its second and so
on; ``sweep_again`` keeps that point and does the same to the first supervisor. The outcome of each
run goes to the area (TREE)::

    points made by each CPU | one word a run: outcome, deaths, code
"""

from __future__ import annotations

from shmalloc.engine import ops
from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.explorer.strategies.loop import enabled
from stress.machine import block as cb
from stress.machine.choices import follow_entry
from stress.machine.primitives import put
from stress.machine.races import order_woken, tick
from stress.machine.schedule import begin, conclude, draw, mix, settle, shared_step_or_settle
from stress.machine.visibility import gather

LIVING = 92
DIED_AT = 93
WAY = 94  # how the living are scheduled: IN_ORDER, AT_RANDOM, BY_TRACE
START = 95  # when a supervisor begins: AT_ONCE, BESIDE, AFTER
SEED = 96
PREFIX = 97  # BY_TRACE: how many steps of REPEAT to take
VICTIM = 98
POINT = 99  # before which the victim dies; 0: it lives
THEN = 100  # the same for the first supervisor
DEATHS = 101
WAITING = 102  # the supervisor that knows of a death and has not begun; -1: none
LAST_CPU = 103  # the CPU that ran last
CURSOR = 104
DIED_STEP = 105  # steps before the first death and, behind it, before the second
ENDED = 107  # bit k: the k-th death was at the end of that CPU
CHANGES_SEEN = 108  # CHANGES, and the step that first saw this value
QUIET_SINCE = 109

IN_ORDER = 0
AT_RANDOM = 1
BY_TRACE = 2
AT_ONCE = 0
BESIDE = 1
AFTER = 2

QUIET_STEPS = 100  # steps without a change: all CPUs spin and wait for recovery

RESULTS = cb.MAX_CPUS  # behind the counts
RESULTS_KEPT = 4096
CRASH_WORDS = RESULTS + RESULTS_KEPT
DEATHS_SHIFT = 8
ENDED_SHIFT = 12
CODE_SHIFT = 16


@scheduler
def is_point(op: int) -> int:
    """1 if other CPUs can see ``op``: a write, a sleep, a wake-up."""
    return 1 if ops.FIRST_WRITE <= op <= ops.OP_WAKE else 0


@scheduler
def doom_of(ctl: Control, cpu: int) -> int:
    """The point before which ``cpu`` dies; 0: it lives."""
    if cpu == ctl[VICTIM]:
        return ctl[POINT]
    return ctl[THEN] if cpu == ctl[LIVING] else 0


@scheduler
def die(ctl: Control, cpu: int) -> None:
    """Stop ``cpu``; the next supervisor learns of it, and its clock joins that of the dead."""
    death = ctl[DEATHS]
    supervisor = ctl[LIVING] + death
    if ctl[cb.STATE + cpu] == cb.FINISHED:
        ctl[ENDED] = ctl[ENDED] | 1 << death
    ctl[cb.STATE + cpu] = cb.DEAD
    ctl[DIED_STEP + death] = ctl[cb.STEPS]
    ctl[DEATHS] = death + 1
    put(ctl, ctl[DIED_AT] + cpu, 1)
    if ctl[cb.CLOCKED] == 1:
        order_woken(ctl, cpu, supervisor)
        tick(ctl, cpu)
    ctl[WAITING] = supervisor
    if ctl[START] != AFTER:
        start_waiting(ctl)


@scheduler
def start_waiting(ctl: Control) -> None:
    """Let the waiting supervisor begin."""
    if ctl[cb.STATE + ctl[WAITING]] == cb.DEAD:  # otherwise its kernel returned without an access
        ctl[cb.STATE + ctl[WAITING]] = cb.READY
    ctl[WAITING] = -1


@scheduler
def die_at_end(ctl: Control, cpu: int) -> None:
    """Let ``cpu`` die after its last point, if its kernel has returned and the run asks for it."""
    doom = doom_of(ctl, cpu)
    if doom > 0 and ctl[cb.STATE + cpu] == cb.FINISHED and ctl[ctl[cb.TREE_AT] + cpu] == doom - 1:
        die(ctl, cpu)


@scheduler
def step_or_die(ctl: Control, cpu: int) -> None:
    """Make the step of ``cpu``, unless it dies before it."""
    if is_point(ctl[cb.OP + cpu]) == 1:
        made = ctl[cb.TREE_AT] + cpu
        if ctl[made] + 1 == doom_of(ctl, cpu):
            die(ctl, cpu)
            return
        ctl[made] += 1
    ctl[LAST_CPU] = cpu
    shared_step_or_settle(ctl, cpu)
    if ctl[cb.OUTCOME] == cb.RUNNING:
        die_at_end(ctl, ctl[VICTIM])  # may have returned because ``cpu`` woke it
        if ctl[DEATHS] == 1:
            die_at_end(ctl, ctl[LIVING])


@scheduler
def first_in_order(ctl: Control, living: int) -> int:
    """The CPU that ran last if it can continue, else the first in the order that can."""
    if ctl[LAST_CPU] >= 0 and enabled(ctl, ctl[LAST_CPU], living) == 1:
        return ctl[LAST_CPU]
    best = ctl[cb.CHOICES]
    for i in range(1, living):
        if ctl[cb.PRIORITIES + ctl[cb.CHOICES + i]] < ctl[cb.PRIORITIES + best]:
            best = ctl[cb.CHOICES + i]
    return best


@scheduler
def next_of_trace(ctl: Control, living: int) -> int:
    """The next CPU of the trace that can make a step; after the trace, as ``in_order``."""
    while ctl[CURSOR] < ctl[PREFIX]:
        actor = follow_entry(ctl, ctl[ctl[cb.REPEAT_AT] + ctl[CURSOR]])
        ctl[CURSOR] += 1
        if enabled(ctl, actor, living) == 1:
            return actor
    return first_in_order(ctl, living)


@scheduler
def among_living(ctl: Control, living: int) -> int:
    """The CPU that makes the next step, among the first ``living`` choices."""
    if ctl[WAY] == BY_TRACE:
        return next_of_trace(ctl, living)
    if ctl[WAY] == IN_ORDER:
        return first_in_order(ctl, living)
    # odd seeds switch rarely: long stretches of one CPU against long stretches of another
    if ctl[SEED] & 1 == 1 and draw(ctl, 8) != 0:
        return first_in_order(ctl, living)
    return ctl[cb.CHOICES + draw(ctl, living)]


@scheduler
def choose(ctl: Control, choices: int) -> int:
    """The CPU that makes the next step. Before the first death it does not depend on the victim.

    A supervisor that waited for all others goes first once it has begun, since they only spin.
    """
    last = ctl[cb.CHOICES + choices - 1]
    if last < ctl[LIVING]:
        return among_living(ctl, choices)
    living = 0
    while ctl[cb.CHOICES + living] < ctl[LIVING]:
        living += 1
    if living == 0 or ctl[START] != BESIDE:
        return last
    if draw(ctl, 2) == 0:
        return ctl[cb.CHOICES + living + draw(ctl, choices - living)]
    return among_living(ctl, living)


@scheduler
def start_crash(ctl: Control) -> None:
    """Reset: the living are at their first access, the supervisors are absent."""
    ctl[cb.RANDOM] = mix(ctl[SEED])
    begin(ctl)
    ctl[DEATHS] = 0
    ctl[ENDED] = 0
    ctl[WAITING] = -1
    ctl[LAST_CPU] = -1
    ctl[CURSOR] = 0
    for cpu in range(ctl[cb.CPUS]):
        ctl[ctl[cb.TREE_AT] + cpu] = 0
        if cpu >= ctl[LIVING] and ctl[cb.STATE + cpu] == cb.READY:
            ctl[cb.STATE + cpu] = cb.DEAD
    die_at_end(ctl, ctl[VICTIM])  # a kernel without an access has returned already


@scheduler
def is_quiet(ctl: Control) -> int:
    """1 if memory has not changed for a while: two spinning CPUs always leave a choice."""
    if ctl[CHANGES_SEEN] != ctl[cb.CHANGES]:
        ctl[CHANGES_SEEN] = ctl[cb.CHANGES]
        ctl[QUIET_SINCE] = ctl[cb.STEPS]
    return 1 if ctl[cb.STEPS] - ctl[QUIET_SINCE] > QUIET_STEPS else 0


@scheduler
def crash_once(ctl: Control) -> int:
    """Make one run as the header says; return its outcome."""
    start_crash(ctl)
    while ctl[cb.OUTCOME] == cb.RUNNING:
        choices = gather(ctl)
        if ctl[WAITING] >= 0 and is_quiet(ctl) == 1:
            start_waiting(ctl)
        elif choices > 0:
            step_or_die(ctl, choose(ctl, choices))
        elif ctl[WAITING] >= 0:
            start_waiting(ctl)
        else:
            settle(ctl)
    conclude(ctl)
    return ctl[cb.OUTCOME]


@scheduler
def keep_result(ctl: Control, run: int) -> None:
    deaths = ctl[DEATHS] << DEATHS_SHIFT | ctl[ENDED] << ENDED_SHIFT
    word = ctl[cb.OUTCOME] | deaths | ctl[cb.CODE] << CODE_SHIFT
    ctl[ctl[cb.TREE_AT] + RESULTS + run] = word


@scheduler
def sweep(ctl: Control, first: int, count: int) -> int:
    """Kill the victim before point ``first``, ``first`` + 1, ...; return the number of runs.

    In the last run it dies at its end, or does not get that far.
    """
    ctl[THEN] = 0
    for i in range(count):
        ctl[POINT] = first + i
        crash_once(ctl)
        keep_result(ctl, i)
        if ctl[DEATHS] == 0 or ctl[ENDED] & 1 == 1:
            return i + 1
    return count


@scheduler
def sweep_again(ctl: Control, first: int, count: int, stride: int) -> int:
    """As ``sweep``, for the first supervisor, after the death of the victim before POINT.

    Every ``stride``-th point.
    """
    for i in range(count):
        ctl[THEN] = first + i * stride
        crash_once(ctl)
        keep_result(ctl, i)
        if ctl[DEATHS] < 2 or ctl[ENDED] & 2 == 2:
            return i + 1
    return count
