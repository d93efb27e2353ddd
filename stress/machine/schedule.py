"""The scheduler of the model memories: one source, compiled over fibers or run over greenlets.

Each virtual CPU stops before every access and posts it in the control block (block.py): op,
address, operands. One *step* performs the posted access of one CPU here, in the scheduler, leaves
its value in the block and lets the CPU run on to its next access; or it makes one entry of a store
buffer visible (buffers.py). So the scheduler always sees what every CPU is about to do, and what
an access means is written once. Both engines take the same decisions by construction; only the
seven primitives of primitives.py differ.

A driver chooses: ``begin``, then ``gather`` the actors that can make a step, ``perform`` one of
them, ``settle`` if there is none, until OUTCOME is set, then ``conclude``. The strategies of
stress/explorer are the drivers.

Rules:
- a CPU that relaxed is not chosen again before another actor made a step that is no relax; when
  all that are awake have relaxed, all of them are released (a bounded spin may yet give up).
  With PARKING (dfs, dpor; see parking.py) it waits for a change of a word it read instead
- when every CPU that is awake relaxed IDLE_LIMIT times, and came back to a state that it had, and
  no word changed meanwhile: livelock
- wait compares and sleeps in one step; with SPURIOUS it may return early instead, which stands for
  a sleeper that wakes without a wake; a wake of fewer CPUs than sleep wakes any of them; no CPU
  awake and at least one asleep: deadlock; at once if sleepers wait for locks in a cycle
- with ``follows`` (symmetry) a CPU makes its first step after the CPU that it follows
- a step outside memory is never performed; the schedule ends with the verdict "memory"
"""

from __future__ import annotations

from shmalloc.engine import ops
from shmalloc.engine.control import inlined, scheduler, shared
from shmalloc.units import Control
from stress.machine import block as cb
from stress.machine.access import access, fault
from stress.machine.buffers import flushed_entry, make_visible, owner_of
from stress.machine.choices import binomial, sleepers
from stress.machine.idle import step_back
from stress.machine.parking import begin_spin, start_watching
from stress.machine.primitives import launch, read_word, restore, resume, run_kernel
from stress.machine.races import check_flush, order_woken, require_untorn, start_clocks, tick

LCG_FACTOR = 6364136223846793005 & cb.MASK62
LCG_TERM = 1442695040888963407
MIX_TERM = 0x1E3779B97F4A7C15
MIX_FACTOR_0 = 0x3F58476D1CE4E5B9
MIX_FACTOR_1 = 0x14D049BB133111EB


# --- chance --------------------------------------------------------------------------------------
@scheduler
def mix(seed: int) -> int:
    """Spread the bits of a seed, so that consecutive ones give unrelated streams."""
    x = (seed + MIX_TERM) & cb.MASK62
    x = ((x ^ (x >> 30)) * MIX_FACTOR_0) & cb.MASK62
    x = ((x ^ (x >> 27)) * MIX_FACTOR_1) & cb.MASK62
    return x ^ (x >> 31)


@inlined
def draw(ctl: Control, count: int) -> int:
    """A random number in 0..count-1. 62 bits: what both engines multiply alike."""
    x = (ctl[cb.RANDOM] * LCG_FACTOR + LCG_TERM) & cb.MASK62
    ctl[cb.RANDOM] = x
    return ((x >> 30) * count) >> 32


# --- a step --------------------------------------------------------------------------------------
@inlined
def advance(ctl: Control, cpu: int) -> None:
    """Resume ``cpu`` up to its next posted access, and see whether its stack still holds."""
    ctl[cb.CURRENT] = cpu
    resume(ctl, cpu)
    if ctl[cb.SP + cpu] < ctl[cb.LIMIT + cpu]:
        fault(ctl, cpu, cb.STACK, ctl[cb.AT + cpu])
    elif ctl[cb.STATE + cpu] == cb.FINISHED and ctl[cb.CLOCKED] == 1:
        require_untorn(ctl, cpu, -1)


@inlined
def record(ctl: Control, actor: int, cpu: int, op: int, at: int, value: int, second: int) -> None:
    """One event: into the hash, and to the log if there is one."""
    step = ctl[cb.STEPS]
    ctl[cb.LOCALS + actor] += 1
    sign = actor | op << 10 | at << 16
    ctl[cb.HASH] = ((ctl[cb.HASH] ^ sign ^ value) * cb.HASH_FACTOR + 1) & cb.MASK62
    if ctl[cb.LOGGING] == 1:
        event = ctl[cb.LOG_AT] + cb.EVENT_WORDS * step
        ctl[event] = cpu
        ctl[event + 1] = op
        ctl[event + 2] = at
        ctl[event + 3] = value
        ctl[event + 4] = second


@scheduler
def release(ctl: Control) -> None:
    """A CPU made progress: all that relaxed may run again."""
    for cpu in range(ctl[cb.CPUS]):
        if ctl[cb.STATE + cpu] == cb.YIELDED:
            ctl[cb.STATE + cpu] = cb.READY
            begin_spin(ctl, cpu)
    ctl[cb.YIELDED_COUNT] = 0


@scheduler
def wake_sleepers(ctl: Control, cpu: int, at: int) -> None:
    """Wake the set of sleepers that was chosen (choices.py): VALUE of them."""
    left = ctl[cb.VALUE + cpu]
    asleep = sleepers(ctl, at)
    rank = ctl[cb.VALUE1 + cpu]
    for other in range(ctl[cb.CPUS]):
        if left > 0 and ctl[cb.STATE + other] == cb.ASLEEP and ctl[cb.AT + other] == at:
            asleep -= 1
            with_it = binomial(asleep, left - 1)
            if rank < with_it:
                wake_sleeper(ctl, cpu, other)
                left -= 1
            else:
                rank -= with_it
    if ctl[cb.CLOCKED] == 1:
        tick(ctl, cpu)


@scheduler
def wake_sleeper(ctl: Control, cpu: int, other: int) -> None:
    """``cpu`` wakes ``other``, which runs on to its next access at once."""
    ctl[cb.STATE + other] = cb.READY
    ctl[cb.ENABLED_BY + other] = ctl[cb.STEPS] + 1
    ctl[cb.CHANGES] += 1
    if ctl[cb.CLOCKED] == 1:
        order_woken(ctl, cpu, other)
    advance(ctl, other)


@scheduler
def holder_of(ctl: Control, at: int) -> int:
    """The CPU that holds the lock at word ``at``; -1 if it is free or no lock."""
    for k in range(ctl[cb.LOCK_COUNT]):
        if ctl[ctl[cb.LOCKS_AT] + k] == at:
            return (read_word(ctl, at) & cb.HOLDER_MASK) - 1
    return -1


@scheduler
def find_cycle(ctl: Control, cpu: int) -> None:
    """``cpu`` fell asleep: deadlock if the sleepers wait for locks of each other in a ring."""
    walker = cpu
    for _hop in range(ctl[cb.CPUS]):
        walker = holder_of(ctl, ctl[cb.AT + walker])
        if walker < 0 or walker >= ctl[cb.CPUS] or ctl[cb.STATE + walker] != cb.ASLEEP:
            return
        if walker == cpu:
            fault(ctl, cpu, cb.DEADLOCK, ctl[cb.AT + cpu])
            return


@inlined
def run_on(ctl: Control, cpu: int, op: int, at: int) -> None:
    """The access of ``cpu`` is done: let it, and the CPUs it woke, come to the next one."""
    if op == ops.OP_RELAX:
        advance(ctl, cpu)
        step_back(ctl, cpu)
        return
    if op == ops.OP_WAIT and ctl[cb.STATE + cpu] == cb.ASLEEP:
        find_cycle(ctl, cpu)
    else:
        advance(ctl, cpu)
        if op == ops.OP_WAKE:
            wake_sleepers(ctl, cpu, at)


@scheduler
def rouse(ctl: Control, cpu: int) -> None:
    """The CPU like ``cpu`` that follows it may make its first step now."""
    for other in range(ctl[cb.CPUS]):
        if ctl[cb.FOLLOWS + other] == cpu + 1 and ctl[cb.STATE + other] == cb.DORMANT:
            ctl[cb.STATE + other] = cb.READY
            ctl[cb.ENABLED_BY + other] = ctl[cb.STEPS] + 1
            ctl[cb.DORMANT_CPUS] -= 1


@scheduler
def flush(ctl: Control, actor: int) -> None:
    """One entry of a store buffer becomes visible."""
    cpu = owner_of(ctl, actor)
    entry = flushed_entry(ctl, actor)
    at = ctl[entry + cb.ENTRY_AT]
    value = ctl[entry + cb.ENTRY_VALUE]
    if ctl[cb.CLOCKED] == 1:
        check_flush(ctl, entry, at)
    make_visible(ctl, actor)
    record(ctl, actor, cpu, ops.OP_FLUSH, at, value, 0)


@inlined
def perform(ctl: Control, actor: int) -> None:
    """One step of ``actor``. A step that may not be made is in the trace but does not count."""
    ctl[ctl[cb.TRACE_AT] + ctl[cb.STEPS]] = actor
    ctl[cb.LAST_ACTOR] = actor
    if actor >= ctl[cb.CPUS]:
        op = ops.OP_FLUSH
        flush(ctl, actor)
    else:
        op = ctl[cb.OP + actor]
        at = ctl[cb.AT + actor]
        access(ctl, actor, op, at)
        if ctl[cb.OUTCOME] == cb.MEMORY or ctl[cb.OUTCOME] == cb.UNDEFINED:
            return
        second = ctl[cb.VALUE1 + actor] if op == ops.OP_LOAD2 else 0
        record(ctl, actor, actor, op, at, ctl[cb.VALUE + actor], second)
        run_on(ctl, actor, op, at)
        if ctl[cb.DORMANT_CPUS] > 0:
            rouse(ctl, actor)
    if ctl[cb.YIELDED_COUNT] > 0 and ctl[cb.PARKING] == 0 and op != ops.OP_RELAX:
        release(ctl)
    ctl[cb.STEPS] += 1
    if ctl[cb.INVARIANT_ENTRY] != 0 and ctl[cb.OUTCOME] == cb.RUNNING:
        require_invariant(ctl)


@shared
def perform_shared(ctl: Control, actor: int) -> None:
    """``perform`` compiled once, for drivers that do more in a step than choose."""
    perform(ctl, actor)


@scheduler
def require_invariant(ctl: Control) -> None:
    code = run_kernel(ctl, cb.INVARIANT_ENTRY)
    if code != 0 and ctl[cb.OUTCOME] == cb.RUNNING:
        ctl[cb.CODE] = code
        fault(ctl, ctl[cb.CURRENT], cb.INVARIANT, 0)


@shared
def settle(ctl: Control) -> None:
    """No actor can make a step: release those that relaxed, or end the schedule."""
    if ctl[cb.YIELDED_COUNT] > 0:
        release(ctl)
        ctl[cb.BARRIER] = ctl[cb.STEPS] + 1
        return
    ctl[cb.SETTLED] = 1
    for cpu in range(ctl[cb.CPUS]):
        if ctl[cb.STATE + cpu] == cb.ASLEEP:
            fault(ctl, cpu, cb.DEADLOCK, ctl[cb.AT + cpu])
            return
    ctl[cb.OUTCOME] = cb.PASSED
    if ctl[cb.CHECK_ENTRY] != 0:
        ctl[cb.CODE] = run_kernel(ctl, cb.CHECK_ENTRY)
        if ctl[cb.OUTCOME] == cb.PASSED and ctl[cb.CODE] != 0:
            ctl[cb.OUTCOME] = cb.FAILED


# --- a schedule ----------------------------------------------------------------------------------
@shared
def begin(ctl: Control) -> None:
    """Initial memory, every CPU at its first access."""
    restore(ctl)
    ctl[cb.OUTCOME] = cb.RUNNING
    ctl[cb.STEPS] = 0
    ctl[cb.CHANGES] = 0
    ctl[cb.CODE] = 0
    ctl[cb.HASH] = 0
    ctl[cb.YIELDED_COUNT] = 0
    ctl[cb.FAULT_CPU] = -1
    ctl[cb.OTHER_CPU] = -1
    ctl[cb.LAST_ACTOR] = -1
    ctl[cb.BARRIER] = 0
    ctl[cb.SETTLED] = 0
    if ctl[cb.CLOCKED] == 1:
        start_clocks(ctl)
    for actor in range(ctl[cb.ACTORS]):
        ctl[cb.LOCALS + actor] = 0
    for cpu in range(ctl[cb.CPUS]):
        ctl[cb.STATE + cpu] = cb.READY
        ctl[cb.RELAXES + cpu] = 0
        ctl[cb.RELAXED_AT + cpu] = 0
        ctl[cb.ENABLED_BY + cpu] = 0
        ctl[cb.BUFFERED + cpu] = 0
        ctl[cb.RETURN + cpu] = 0
        ctl[cb.CHOICE + cpu] = 0
        ctl[cb.SPURIOUS_LEFT + cpu] = ctl[cb.SPURIOUS]
        if ctl[cb.PARKING] == 1:
            start_watching(ctl, cpu)
    for cpu in range(ctl[cb.CPUS]):
        launch(ctl, cpu)
        advance(ctl, cpu)
    ctl[cb.DORMANT_CPUS] = 0
    for cpu in range(ctl[cb.CPUS]):
        if ctl[cb.FOLLOWS + cpu] != 0 and ctl[cb.STATE + cpu] == cb.READY:
            ctl[cb.STATE + cpu] = cb.DORMANT
            ctl[cb.DORMANT_CPUS] += 1


@shared
def conclude(ctl: Control) -> int:
    """Count the schedule that has just ended; 1 if it failed."""
    ctl[cb.SCHEDULES] += 1
    ctl[cb.TOTAL_STEPS] += ctl[cb.STEPS]
    ctl[cb.LONGEST] = max(ctl[cb.LONGEST], ctl[cb.STEPS])
    if ctl[cb.OUTCOME] == cb.ABANDONED:
        ctl[cb.ABANDONED_COUNT] += 1
        return 0
    if ctl[cb.OBSERVED] > 0 and (ctl[cb.OUTCOME] == cb.PASSED or ctl[cb.OUTCOME] == cb.FAILED):
        count_outcome(ctl)
    if ctl[cb.OUTCOME] == cb.PASSED:
        return 0
    ctl[cb.FAILURES] += 1
    ctl[cb.CUT_SHORT] += 1 - ctl[cb.SETTLED]
    return 1


@scheduler
def observed_value(ctl: Control, k: int) -> int:
    """The ``k``-th observed value: a word, or (-1 - cpu) what a CPU returned."""
    what = ctl[ctl[cb.OBSERVE_AT] + k]
    return read_word(ctl, what) if what >= 0 else ctl[cb.RETURN - 1 - what]


@scheduler
def count_outcome(ctl: Control) -> None:
    """Count the tuple of observed values in the table of outcomes (open addressing)."""
    count = ctl[cb.OBSERVED]
    key = 0
    for k in range(count):
        key = ((key ^ observed_value(ctl, k)) * cb.HASH_FACTOR + 1) & cb.MASK62
    slot = (key >> 20) % ctl[cb.TABLE_SLOTS]
    for _probe in range(ctl[cb.TABLE_SLOTS]):
        row = ctl[cb.TABLE_AT] + slot * (count + 1)
        if ctl[row] == 0:
            for k in range(count):
                ctl[row + 1 + k] = observed_value(ctl, k)
        if same_outcome(ctl, row) == 1:
            ctl[row] += 1
            return
        slot = (slot + 1) % ctl[cb.TABLE_SLOTS]
    ctl[cb.TABLE_FULL] += 1


@scheduler
def same_outcome(ctl: Control, row: int) -> int:
    for k in range(ctl[cb.OBSERVED]):
        if ctl[row + 1 + k] != observed_value(ctl, k):
            return 0
    return 1


@inlined
def step_or_settle(ctl: Control, actor: int) -> None:
    """Perform the step of ``actor``, unless the schedule is too long already."""
    if ctl[cb.STEPS] >= ctl[cb.STEP_LIMIT]:
        ctl[cb.OUTCOME] = cb.ABANDONED
    else:
        perform(ctl, actor)


@scheduler
def shared_step_or_settle(ctl: Control, actor: int) -> None:
    """As ``step_or_settle``, through ``perform_shared``."""
    if ctl[cb.STEPS] >= ctl[cb.STEP_LIMIT]:
        ctl[cb.OUTCOME] = cb.ABANDONED
    else:
        perform_shared(ctl, actor)
