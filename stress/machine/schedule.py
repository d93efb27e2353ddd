"""The scheduler of the model memories: one source, compiled over fibers or run over greenlets.

Each virtual CPU stops before every access and posts it in the control block (block.py): op,
address, operands. One *step* performs the posted access of one CPU here, in the scheduler, leaves
its value in the block and lets the CPU run on to its next access; or it makes one entry of a store
buffer visible (buffers.py). So the scheduler always sees what every CPU is about to do, and what
an access means is written once. Both engines take the same decisions by construction; only the
six primitives of primitives.py differ.

A driver chooses: ``begin``, then ``gather`` the actors that can make a step, ``perform`` one of
them, ``settle`` where there is none, until OUTCOME is set, then ``conclude``. The strategies of
stress/explorer are the drivers.

Rules:
- a CPU that relaxed is not chosen again before another actor made a step that is no relax; when
  all that are awake have relaxed, all of them are released (a bounded spin may yet give up).
  With PARKING (dfs, dpor; see parking.py) it waits for a change of a word it read instead
- when every CPU that is awake relaxed IDLE_LIMIT times and no word changed meanwhile: livelock
- wait compares and sleeps in one step and never wakes early; wake moves the lowest CPUs first;
  nobody awake and somebody asleep: deadlock; at once where sleepers wait for locks in a cycle
- a step outside of memory is never performed; the schedule ends with the verdict "memory"
"""

from stress.machine.access import access, fault
from shmalloc.engine.control import inlined, scheduler, shared
from stress.machine.block import (
    ABANDONED, ABANDONED_COUNT, ACTORS, ASLEEP, AT, BARRIER, BUFFERED, CHANGES, CHECK_ENTRY,
    CHOICES, CLOCKED, CODE, CPUS, CURRENT, DEADLOCK, ENABLED_BY, ENTRY_AT, ENTRY_VALUE,
    EVENT_WORDS, FAILED, FAILURES, FAULT_CPU, FINISHED, HASH, HASH_FACTOR, HOLDER_MASK, IDLE_LIMIT,
    INVARIANT, INVARIANT_ENTRY, LAST_ACTOR, LIMIT, LIVELOCK, LOCALS, LOCKS_AT, LOCK_COUNT, LOGGING,
    LOG_AT, LONGEST, MASK62, MEMORY, MODEL, OBSERVED, OBSERVE_AT, OP, OTHER_CPU, OUTCOME, PARKING,
    PASSED, RANDOM, READY, RELAXED_AT, RELAXES, RETURN, RUNNING, SC, SCHEDULES, SP, STACK, STATE,
    STEPS, STEP_LIMIT, TABLE_AT, TABLE_FULL, TABLE_SLOTS, TOTAL_STEPS, TRACE_AT, UNDEFINED, VALUE,
    VALUE1, WATCHED, YIELDED, YIELDED_COUNT,
)  # fmt: skip
from stress.machine.buffers import flushed_entry, gather_buffered, make_visible, owner_of
from stress.machine.primitives import launch, read_word, restore, resume, run_kernel
from shmalloc.engine.ops import (
    OP_FLUSH, OP_LOAD2, OP_RELAX, OP_WAIT, OP_WAKE,
)  # fmt: skip
from stress.machine.parking import park, start_watching
from stress.machine.races import check_flush, order_woken, require_untorn, start_clocks, tick

LCG_FACTOR = 6364136223846793005 & MASK62
LCG_TERM = 1442695040888963407
MIX_TERM = 0x1E3779B97F4A7C15
MIX_FACTOR_0 = 0x3F58476D1CE4E5B9
MIX_FACTOR_1 = 0x14D049BB133111EB


# --- chance --------------------------------------------------------------------------------------
@scheduler
def mix(seed):
    """Spread the bits of a seed, so that consecutive ones give unrelated streams."""
    x = (seed + MIX_TERM) & MASK62
    x = ((x ^ (x >> 30)) * MIX_FACTOR_0) & MASK62
    x = ((x ^ (x >> 27)) * MIX_FACTOR_1) & MASK62
    return x ^ (x >> 31)


@inlined
def draw(ctl, count):
    """A random number in 0..count-1. 62 bits: what both engines multiply alike."""
    x = (ctl[RANDOM] * LCG_FACTOR + LCG_TERM) & MASK62
    ctl[RANDOM] = x
    return ((x >> 30) * count) >> 32


# --- a step --------------------------------------------------------------------------------------
@inlined
def gather(ctl):
    """The actors that can make a step, in order, to CHOICES; how many."""
    if ctl[MODEL] != SC:
        return gather_buffered(ctl)
    count = 0
    for cpu in range(ctl[CPUS]):
        if ctl[STATE + cpu] == READY:
            ctl[CHOICES + count] = cpu
            count += 1
    return count


@inlined
def advance(ctl, cpu):
    """Resume ``cpu`` up to its next posted access, and see whether its stack still holds."""
    ctl[CURRENT] = cpu
    resume(ctl, cpu)
    if ctl[SP + cpu] < ctl[LIMIT + cpu]:
        fault(ctl, cpu, STACK, ctl[AT + cpu])
    elif ctl[STATE + cpu] == FINISHED and ctl[CLOCKED] == 1:
        require_untorn(ctl, cpu, -1)


@inlined
def record(ctl, actor, cpu, op, at, value, second):
    """One event: into the hash, and to the log if there is one."""
    step = ctl[STEPS]
    ctl[LOCALS + actor] += 1
    sign = actor | op << 10 | at << 16
    ctl[HASH] = ((ctl[HASH] ^ sign ^ value) * HASH_FACTOR + 1) & MASK62
    if ctl[LOGGING] == 1:
        event = ctl[LOG_AT] + EVENT_WORDS * step
        ctl[event] = cpu
        ctl[event + 1] = op
        ctl[event + 2] = at
        ctl[event + 3] = value
        ctl[event + 4] = second


@scheduler
def release(ctl):
    """Somebody made progress: all that relaxed may run again."""
    for cpu in range(ctl[CPUS]):
        if ctl[STATE + cpu] == YIELDED:
            ctl[STATE + cpu] = READY
            ctl[WATCHED + cpu] = 0
    ctl[YIELDED_COUNT] = 0


@scheduler
def wake_sleepers(ctl, cpu, at):
    """Wake the lowest sleepers on the word; each runs on to its next access at once."""
    left = ctl[VALUE + cpu]
    for other in range(ctl[CPUS]):
        if left > 0 and ctl[STATE + other] == ASLEEP and ctl[AT + other] == at:
            ctl[STATE + other] = READY
            ctl[ENABLED_BY + other] = ctl[STEPS] + 1
            if ctl[CLOCKED] == 1:
                order_woken(ctl, cpu, other)
            advance(ctl, other)
            left -= 1
    if ctl[CLOCKED] == 1:
        tick(ctl, cpu)


@scheduler
def holder_of(ctl, at):
    """The CPU that holds the lock at word ``at``; -1 where it is free or no lock."""
    for k in range(ctl[LOCK_COUNT]):
        if ctl[ctl[LOCKS_AT] + k] == at:
            return (read_word(ctl, at) & HOLDER_MASK) - 1
    return -1


@scheduler
def find_cycle(ctl, cpu):
    """``cpu`` fell asleep: deadlock if the sleepers wait for locks of each other in a ring."""
    walker = cpu
    for _hop in range(ctl[CPUS]):
        walker = holder_of(ctl, ctl[AT + walker])
        if walker < 0 or walker >= ctl[CPUS] or ctl[STATE + walker] != ASLEEP:
            return
        if walker == cpu:
            fault(ctl, cpu, DEADLOCK, ctl[AT + cpu])
            return


@scheduler
def step_back(ctl, cpu):
    """``cpu`` relaxed and stands at its next access: it waits until others made progress."""
    if ctl[RELAXED_AT + cpu] != ctl[CHANGES]:
        ctl[RELAXED_AT + cpu] = ctl[CHANGES]
        ctl[RELAXES + cpu] = 0
    ctl[RELAXES + cpu] += 1
    waits = 1
    if ctl[PARKING] == 1:
        waits = park(ctl, cpu)
    if waits == 1 and ctl[STATE + cpu] == READY:
        ctl[STATE + cpu] = YIELDED
        ctl[YIELDED_COUNT] += 1
    if ctl[RELAXES + cpu] >= ctl[IDLE_LIMIT] and all_idle(ctl) == 1:
        fault(ctl, cpu, LIVELOCK, 0)


@scheduler
def all_idle(ctl):
    """1 if every CPU that is awake has relaxed IDLE_LIMIT times since a word last changed."""
    for cpu in range(ctl[CPUS]):
        awake = ctl[STATE + cpu] == READY or ctl[STATE + cpu] == YIELDED
        fresh = ctl[RELAXED_AT + cpu] != ctl[CHANGES] or ctl[RELAXES + cpu] < ctl[IDLE_LIMIT]
        if (awake and fresh) or ctl[BUFFERED + cpu] > 0:
            return 0
    return 1


@inlined
def run_on(ctl, cpu, op, at):
    """The access of ``cpu`` is done: let it, and whom it woke, come to the next one."""
    if op == OP_RELAX:
        advance(ctl, cpu)
        step_back(ctl, cpu)
        return
    if op == OP_WAIT and ctl[STATE + cpu] == ASLEEP:
        find_cycle(ctl, cpu)
    else:
        advance(ctl, cpu)
        if op == OP_WAKE:
            wake_sleepers(ctl, cpu, at)


@scheduler
def flush(ctl, actor):
    """One entry of a store buffer becomes visible."""
    cpu = owner_of(ctl, actor)
    entry = flushed_entry(ctl, actor)
    at = ctl[entry + ENTRY_AT]
    value = ctl[entry + ENTRY_VALUE]
    if ctl[CLOCKED] == 1:
        check_flush(ctl, entry, at)
    make_visible(ctl, actor)
    record(ctl, actor, cpu, OP_FLUSH, at, value, 0)


@inlined
def perform(ctl, actor):
    """One step of ``actor``. A step that may not be made is in the trace but does not count."""
    ctl[ctl[TRACE_AT] + ctl[STEPS]] = actor
    ctl[LAST_ACTOR] = actor
    if actor >= ctl[CPUS]:
        op = OP_FLUSH
        flush(ctl, actor)
    else:
        op = ctl[OP + actor]
        at = ctl[AT + actor]
        access(ctl, actor, op, at)
        if ctl[OUTCOME] == MEMORY or ctl[OUTCOME] == UNDEFINED:
            return
        second = ctl[VALUE1 + actor] if op == OP_LOAD2 else 0
        record(ctl, actor, actor, op, at, ctl[VALUE + actor], second)
        run_on(ctl, actor, op, at)
    if ctl[YIELDED_COUNT] > 0 and ctl[PARKING] == 0 and op != OP_RELAX:
        release(ctl)
    ctl[STEPS] += 1
    if ctl[INVARIANT_ENTRY] != 0 and ctl[OUTCOME] == RUNNING:
        require_invariant(ctl)


@shared
def perform_shared(ctl, actor):
    """``perform`` compiled once, for drivers that do more in a step than choose."""
    perform(ctl, actor)


@scheduler
def require_invariant(ctl):
    code = run_kernel(ctl, INVARIANT_ENTRY)
    if code != 0 and ctl[OUTCOME] == RUNNING:
        ctl[CODE] = code
        fault(ctl, ctl[CURRENT], INVARIANT, 0)


@shared
def settle(ctl):
    """Nobody can make a step: release those that relaxed, or the schedule has come to its end."""
    if ctl[YIELDED_COUNT] > 0:
        release(ctl)
        ctl[BARRIER] = ctl[STEPS] + 1
        return
    for cpu in range(ctl[CPUS]):
        if ctl[STATE + cpu] == ASLEEP:
            fault(ctl, cpu, DEADLOCK, ctl[AT + cpu])
            return
    ctl[OUTCOME] = PASSED
    if ctl[CHECK_ENTRY] != 0:
        ctl[CODE] = run_kernel(ctl, CHECK_ENTRY)
        if ctl[OUTCOME] == PASSED and ctl[CODE] != 0:
            ctl[OUTCOME] = FAILED


# --- a schedule ----------------------------------------------------------------------------------
@shared
def begin(ctl):
    """Initial memory, every CPU at its first access."""
    restore(ctl)
    ctl[OUTCOME] = RUNNING
    ctl[STEPS] = 0
    ctl[CHANGES] = 0
    ctl[CODE] = 0
    ctl[HASH] = 0
    ctl[YIELDED_COUNT] = 0
    ctl[FAULT_CPU] = -1
    ctl[OTHER_CPU] = -1
    ctl[LAST_ACTOR] = -1
    ctl[BARRIER] = 0
    if ctl[CLOCKED] == 1:
        start_clocks(ctl)
    for actor in range(ctl[ACTORS]):
        ctl[LOCALS + actor] = 0
    for cpu in range(ctl[CPUS]):
        ctl[STATE + cpu] = READY
        ctl[RELAXES + cpu] = 0
        ctl[RELAXED_AT + cpu] = 0
        ctl[ENABLED_BY + cpu] = 0
        ctl[BUFFERED + cpu] = 0
        ctl[RETURN + cpu] = 0
        if ctl[PARKING] == 1:
            start_watching(ctl, cpu)
    for cpu in range(ctl[CPUS]):
        launch(ctl, cpu)
        advance(ctl, cpu)


@shared
def conclude(ctl):
    """Count the schedule that has just ended; 1 if it failed."""
    ctl[SCHEDULES] += 1
    ctl[TOTAL_STEPS] += ctl[STEPS]
    ctl[LONGEST] = max(ctl[LONGEST], ctl[STEPS])
    if ctl[OUTCOME] == ABANDONED:
        ctl[ABANDONED_COUNT] += 1
        return 0
    if ctl[OBSERVED] > 0 and (ctl[OUTCOME] == PASSED or ctl[OUTCOME] == FAILED):
        count_outcome(ctl)
    if ctl[OUTCOME] == PASSED:
        return 0
    ctl[FAILURES] += 1
    return 1


@scheduler
def observed_value(ctl, k):
    """The ``k``-th observed value: a word, or (-1 - cpu) what a CPU returned."""
    what = ctl[ctl[OBSERVE_AT] + k]
    return read_word(ctl, what) if what >= 0 else ctl[RETURN - 1 - what]


@scheduler
def count_outcome(ctl):
    """Count the tuple of observed values in the table of outcomes (open addressing)."""
    count = ctl[OBSERVED]
    key = 0
    for k in range(count):
        key = ((key ^ observed_value(ctl, k)) * HASH_FACTOR + 1) & MASK62
    slot = (key >> 20) % ctl[TABLE_SLOTS]
    for _probe in range(ctl[TABLE_SLOTS]):
        row = ctl[TABLE_AT] + slot * (count + 1)
        if ctl[row] == 0:
            for k in range(count):
                ctl[row + 1 + k] = observed_value(ctl, k)
        if same_outcome(ctl, row) == 1:
            ctl[row] += 1
            return
        slot = (slot + 1) % ctl[TABLE_SLOTS]
    ctl[TABLE_FULL] += 1


@scheduler
def same_outcome(ctl, row):
    for k in range(ctl[OBSERVED]):
        if ctl[row + 1 + k] != observed_value(ctl, k):
            return 0
    return 1


@inlined
def step_or_settle(ctl, actor):
    """Perform the step of ``actor``, unless the schedule is too long already."""
    if ctl[STEPS] >= ctl[STEP_LIMIT]:
        ctl[OUTCOME] = ABANDONED
    else:
        perform(ctl, actor)


@scheduler
def shared_step_or_settle(ctl, actor):
    """As ``step_or_settle``, through ``perform_shared``."""
    if ctl[STEPS] >= ctl[STEP_LIMIT]:
        ctl[OUTCOME] = ABANDONED
    else:
        perform_shared(ctl, actor)
