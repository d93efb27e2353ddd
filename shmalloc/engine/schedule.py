"""The scheduler of the model memories: one source, compiled over fibers or run over greenlets.

Each virtual CPU stops before every access and posts it here: op, address, operand. One *step* lets
one CPU perform its posted access and run on to its next one. So the scheduler always sees what
every CPU is about to do. It is written over a control block of integers ``ctl`` in the dialect of
kernels, hence both engines take the same decisions by construction; only the five primitives at
the top differ. What a strategy needs is in the block; ``choose`` is where others plug in.

Control block, in words (arrays have one word for each CPU)::

    0   header                  64  OP       128 AT        192 ARG      256 VALUE    320 STATE
    384 RETURN   448 SP         512 LIMIT    576 ENTRY     640 RELAXES  704 RELAXED_AT
    768 log: 4 words a step     then stamps: 1 word a word of memory    then undo: 2 words a word

Rules:
- a CPU that relaxed is not chosen again before another CPU made a step that is no relax; when all
  that are awake have relaxed, all of them are released (a bounded spin may yet give up)
- when every CPU that is awake relaxed IDLE_LIMIT times and no word changed meanwhile: livelock
- wait compares and sleeps in one step and never wakes early; wake moves the lowest CPUs first;
  nobody awake and somebody asleep: deadlock
- a step outside of memory is never performed; the schedule ends with the verdict "memory"
- a word changed by a schedule is remembered once (stamp = epoch) and put back before the next one

Not here: store buffers, race detection, other strategies (they extend ``step`` and ``choose``).
"""

from shmalloc.engine.ops import (
    FIRST_WRITE, LAST_ADDRESSED, LAST_WRITE, OP_CAS2, OP_LOAD2, OP_RELAX, OP_WAIT, OP_WAKE,
)  # fmt: skip

MAX_CPUS = 64
HUB_SP = 0  # stack pointer of the scheduler itself
CURRENT = 1
CPUS = 2
STEPS = 3  # of this schedule; also the model's clock
STEP_LIMIT = 4
RANDOM = 5
YIELDED_COUNT = 6
CHANGES = 7  # steps that changed a word
IDLE_LIMIT = 8
LOGGING = 9
LOG_AT = 10
STAMPS_AT = 11
UNDO_AT = 12
UNDO_COUNT = 13
EPOCH = 14
BASE = 15  # address of the memory
WORDS = 16
SIDE = 17
CHECK_ENTRY = 18
OUTCOME = 19
CODE = 20  # what the check kernel returned
SCHEDULES = 21
TOTAL_STEPS = 22
ABANDONED_COUNT = 23
FAULT_CPU = 24
STACKS = 25  # addresses that only the native engine has: stacks, where fibers start
FIBER_MAIN = 26

OP = 64
AT = 128
ARG = 192
VALUE = 256
STATE = 320
RETURN = 384
SP = 448
LIMIT = 512
ENTRY = 576
RELAXES = 640
RELAXED_AT = 704  # CHANGES at the last relax
VARIABLE = 768
EVENT_WORDS = 4

READY = 0
YIELDED = 1
ASLEEP = 2
FINISHED = 3

RUNNING = 0
PASSED = 1
FAILED = 2
DEADLOCK = 3
LIVELOCK = 4
MEMORY = 5
STACK = 6
ABANDONED = 7
ERROR = 8

LOW_HALF = 0xFFFFFFFF
MASK62 = (1 << 62) - 1
LCG_FACTOR = 6364136223846793005 & MASK62
LCG_TERM = 1442695040888963407
MIX_TERM = 0x1E3779B97F4A7C15
MIX_FACTOR_0 = 0x3F58476D1CE4E5B9
MIX_FACTOR_1 = 0x14D049BB133111EB


# --- primitives: methods of the interpreted block, overloads for the compiled one ----------------
def launch(ctl, cpu):
    """Prepare ``cpu`` to run its kernel from the start at the next ``resume``."""
    ctl.launch(cpu)


def resume(ctl, cpu):
    """Let ``cpu`` perform its posted access and run until it posts the next one, or finishes."""
    ctl.resume(cpu)


def run_check(ctl):
    """Run the check kernel unscheduled; its code. May set OUTCOME to MEMORY."""
    return ctl.run_check()


def read_word(ctl, i):
    return ctl.read_word(i)


def write_word(ctl, i, value):
    ctl.write_word(i, value)


# --- the scheduler -------------------------------------------------------------------------------
def remember(ctl, i, old):
    """Word ``i`` held ``old`` and is about to change, or just has: put it back afterwards."""
    stamp = ctl[STAMPS_AT] + i
    if ctl[stamp] != ctl[EPOCH]:
        ctl[stamp] = ctl[EPOCH]
        at = ctl[UNDO_AT] + 2 * ctl[UNDO_COUNT]
        ctl[at] = i
        ctl[at + 1] = old
        ctl[UNDO_COUNT] += 1


def restore(ctl):
    """Put back every word that the last schedule changed."""
    at = ctl[UNDO_AT]
    for k in range(ctl[UNDO_COUNT]):
        write_word(ctl, ctl[at + 2 * k], ctl[at + 2 * k + 1])
    ctl[UNDO_COUNT] = 0
    ctl[EPOCH] += 1


def mix(seed):
    """Spread the bits of a seed, so that consecutive ones give unrelated streams."""
    x = (seed + MIX_TERM) & MASK62
    x = ((x ^ (x >> 30)) * MIX_FACTOR_0) & MASK62
    x = ((x ^ (x >> 27)) * MIX_FACTOR_1) & MASK62
    return x ^ (x >> 31)


def draw(ctl, count):
    """A random number in 0..count-1. 62 bits: what both engines multiply alike."""
    x = (ctl[RANDOM] * LCG_FACTOR + LCG_TERM) & MASK62
    ctl[RANDOM] = x
    return ((x >> 30) * count) >> 32


def choose(ctl):
    """Random walk: any ready CPU with the same chance, -1 where none is ready."""
    cpus = ctl[CPUS]
    ready = 0
    last = -1
    for cpu in range(cpus):
        if ctl[STATE + cpu] == READY:
            ready += 1
            last = cpu
    if ready <= 1:
        return last
    skip = draw(ctl, ready)
    for cpu in range(last):
        if ctl[STATE + cpu] == READY:
            if skip == 0:
                return cpu
            skip -= 1
    return last


def advance(ctl, cpu):
    """Resume ``cpu`` up to its next posted access, and see whether its stack still holds."""
    ctl[CURRENT] = cpu
    resume(ctl, cpu)
    if ctl[SP + cpu] < ctl[LIMIT + cpu]:
        ctl[OUTCOME] = STACK
        ctl[FAULT_CPU] = cpu


def release(ctl):
    """Somebody made progress: all that relaxed may run again."""
    for cpu in range(ctl[CPUS]):
        if ctl[STATE + cpu] == YIELDED:
            ctl[STATE + cpu] = READY
    ctl[YIELDED_COUNT] = 0


def outside(ctl, op, at):
    """1 if word ``at`` may not be accessed: out of range, or a pair at an odd word."""
    if at < 0 or at >= ctl[WORDS]:
        return 1
    if op != OP_CAS2 and op != OP_LOAD2:
        return 0
    return at & 1


def do_write(ctl, cpu, op, at):
    """A step that may change words: remember their old values if it did."""
    old = read_word(ctl, at)
    second = 0
    if op == OP_CAS2:
        second = read_word(ctl, at + 1)
    advance(ctl, cpu)
    changed = 0
    if read_word(ctl, at) != old:
        remember(ctl, at, old)
        changed = 1
    if op == OP_CAS2 and read_word(ctl, at + 1) != second:
        remember(ctl, at + 1, second)
        changed = 1
    ctl[CHANGES] += changed


def do_wait(ctl, cpu, at):
    """Compare and sleep in one step; the lost wake-up is the caller's to lose, not ours."""
    if (read_word(ctl, at) ^ ctl[ARG + cpu]) & LOW_HALF == 0:
        ctl[STATE + cpu] = ASLEEP
        ctl[VALUE + cpu] = 1
    else:
        advance(ctl, cpu)
        ctl[VALUE + cpu] = 0


def do_wake(ctl, cpu, at):
    """Wake the lowest sleepers on the word; each runs on to its next access at once."""
    count = ctl[ARG + cpu]
    advance(ctl, cpu)
    woken = 0
    for other in range(ctl[CPUS]):
        if woken < count and ctl[STATE + other] == ASLEEP and ctl[AT + other] == at:
            ctl[STATE + other] = READY
            advance(ctl, other)
            woken += 1
    ctl[VALUE + cpu] = woken


def do_relax(ctl, cpu):
    """Step back until somebody else made progress."""
    if ctl[RELAXED_AT + cpu] != ctl[CHANGES]:
        ctl[RELAXED_AT + cpu] = ctl[CHANGES]
        ctl[RELAXES + cpu] = 0
    ctl[RELAXES + cpu] += 1
    advance(ctl, cpu)
    if ctl[STATE + cpu] == READY:
        ctl[STATE + cpu] = YIELDED
        ctl[YIELDED_COUNT] += 1
        if ctl[RELAXES + cpu] >= ctl[IDLE_LIMIT] and all_idle(ctl) == 1:
            ctl[OUTCOME] = LIVELOCK


def all_idle(ctl):
    """1 if every CPU that is awake has relaxed IDLE_LIMIT times since a word last changed."""
    for cpu in range(ctl[CPUS]):
        awake = ctl[STATE + cpu] == READY or ctl[STATE + cpu] == YIELDED
        fresh = ctl[RELAXED_AT + cpu] != ctl[CHANGES] or ctl[RELAXES + cpu] < ctl[IDLE_LIMIT]
        if awake and fresh:
            return 0
    return 1


def perform(ctl, cpu):
    """One step of ``cpu``: its posted access, and an event."""
    op = ctl[OP + cpu]
    at = ctl[AT + cpu]
    if op <= LAST_ADDRESSED and outside(ctl, op, at) == 1:
        ctl[OUTCOME] = MEMORY
        ctl[FAULT_CPU] = cpu
        return 0
    if op < FIRST_WRITE:
        advance(ctl, cpu)
    elif op <= LAST_WRITE:
        do_write(ctl, cpu, op, at)
    elif op == OP_WAIT:
        do_wait(ctl, cpu, at)
    elif op == OP_WAKE:
        do_wake(ctl, cpu, at)
    elif op == OP_RELAX:
        do_relax(ctl, cpu)
    else:
        advance(ctl, cpu)
    if op != OP_RELAX and ctl[YIELDED_COUNT] > 0:
        release(ctl)
    if ctl[LOGGING] == 1:
        event = ctl[LOG_AT] + EVENT_WORDS * ctl[STEPS]
        ctl[event] = cpu
        ctl[event + 1] = op
        ctl[event + 2] = at
        ctl[event + 3] = ctl[VALUE + cpu]
    ctl[STEPS] += 1
    return 0


def settle(ctl):
    """Nobody is ready: release those that relaxed, or the schedule has come to its end."""
    if ctl[YIELDED_COUNT] > 0:
        release(ctl)
        return 0
    for cpu in range(ctl[CPUS]):
        if ctl[STATE + cpu] == ASLEEP:
            ctl[OUTCOME] = DEADLOCK
            return 0
    ctl[OUTCOME] = PASSED
    ctl[CODE] = run_check(ctl)
    if ctl[OUTCOME] == PASSED and ctl[CODE] != 0:
        ctl[OUTCOME] = FAILED
    return 0


def step(ctl):
    """Choose and perform one step; OUTCOME tells whether the schedule goes on."""
    cpu = choose(ctl)
    if cpu < 0:
        settle(ctl)
    elif ctl[STEPS] >= ctl[STEP_LIMIT]:
        ctl[OUTCOME] = ABANDONED
    else:
        perform(ctl, cpu)


def begin(ctl, seed):
    """Initial memory, every CPU at its first access."""
    restore(ctl)
    ctl[RANDOM] = mix(seed)
    ctl[OUTCOME] = RUNNING
    ctl[STEPS] = 0
    ctl[CHANGES] = 0
    ctl[CODE] = 0
    ctl[YIELDED_COUNT] = 0
    ctl[FAULT_CPU] = -1
    for cpu in range(ctl[CPUS]):
        ctl[STATE + cpu] = READY
        ctl[RELAXES + cpu] = 0
        ctl[RELAXED_AT + cpu] = 0
        ctl[RETURN + cpu] = 0
        launch(ctl, cpu)
        advance(ctl, cpu)


def explore(ctl, seed, count):
    """Run the schedules of ``count`` seeds from ``seed`` on; how many passed before a failure.

    The memory is left as the last schedule left it.
    """
    for k in range(count):
        begin(ctl, seed + k)
        while ctl[OUTCOME] == RUNNING:
            step(ctl)
        ctl[SCHEDULES] += 1
        ctl[TOTAL_STEPS] += ctl[STEPS]
        if ctl[OUTCOME] == ABANDONED:
            ctl[ABANDONED_COUNT] += 1
        elif ctl[OUTCOME] != PASSED:
            return k
    return count


PRIMITIVES = (launch, resume, run_check, read_word, write_word)
FUNCTIONS = (
    remember, restore, mix, draw, choose, advance, release, outside, do_write, do_wait, do_wake,
    do_relax, all_idle, perform, settle, step, begin,
)  # fmt: skip
