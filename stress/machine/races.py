"""What no value shows: data races, torn reads of pairs, reads of words that hold nothing.

Happens-before by vector clocks, after FastTrack (Flanagan and Freund, PLDI 2009) with the atomics
of C11. Each CPU has a clock C; each word a shadow, valid in the schedule whose epoch it carries::

    epoch | last plain write | last plain read | flags | L, plain reads, atomic writes, atomic reads
            clock * 64 + cpu   the same          SHARED    CPUS words each, zeroed at first use
                                                 and what of the four is in use

- a plain access races with every access of another CPU that it is not ordered after, unless both
  read; an atomic one with plain ones only
- ``load`` joins L of its word, ``store`` sets it to C, updates do both (and keep what L had: a
  release sequence); a relaxed load counts at the next ``fence``, a relaxed store publishes what was
  known at the last one; ``wake`` orders what it wakes
- the clock of a CPU ticks when it publishes

Torn: a CPU read the halves of an even pair one by one while another CPU swapped both with one
``cas2``. It is an error only if the CPU uses them: when it changes another word atomically, or
ends, before it swapped or read the pair again (what a seqlock or a retry loop does).
"""

from __future__ import annotations

from shmalloc.engine import ops
from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.machine import block as cb

WROTE = 1  # words of a shadow
READ = 2
FLAGS = 3
SWAPPED = 4  # at even words: 1 + the step of the last swap of both halves
RELEASED = 5  # L, then the other vectors
HAS_RELEASED = 1
SHARED = 2
HAS_ATOMIC_WRITES = 4
HAS_ATOMIC_READS = 8
CPU_BITS = 6
CPU_MASK = 63


# --- clocks --------------------------------------------------------------------------------------
@scheduler
def start_clocks(ctl: Control) -> None:
    cpus = ctl[cb.CPUS]
    for k in range(cpus * cpus):
        ctl[ctl[cb.CLOCKS_AT] + k] = 0
        ctl[ctl[cb.PENDING_AT] + k] = 0
        ctl[ctl[cb.FENCED_AT] + k] = 0
    for cpu in range(cpus):
        ctl[ctl[cb.CLOCKS_AT] + cpu * cpus + cpu] = 1
        ctl[cb.TORN_AT + cpu] = 0
        ctl[cb.READ_NEXT + cpu] = 0
        for k in range(cb.READS_KEPT):
            ctl[ctl[cb.READS_AT] + (cpu * cb.READS_KEPT + k) * 2] = 0


@scheduler
def clock_of(ctl: Control, cpu: int) -> int:
    return ctl[cb.CLOCKS_AT] + cpu * ctl[cb.CPUS]


@scheduler
def join(ctl: Control, to: int, other: int) -> None:
    """The clock at ``to`` learns what the one at ``other`` knows."""
    for u in range(ctl[cb.CPUS]):
        ctl[to + u] = max(ctl[to + u], ctl[other + u])


@scheduler
def copy(ctl: Control, to: int, other: int) -> None:
    for u in range(ctl[cb.CPUS]):
        ctl[to + u] = ctl[other + u]


@scheduler
def tick(ctl: Control, cpu: int) -> None:
    ctl[clock_of(ctl, cpu) + cpu] += 1


@scheduler
def shadow_of(ctl: Control, i: int) -> int:
    """The shadow of word ``i``, blank at its first access in this schedule."""
    shadow = ctl[cb.SHADOW_AT] + i * ctl[cb.SHADOW_WORDS]
    if ctl[shadow] != ctl[cb.EPOCH]:
        ctl[shadow] = ctl[cb.EPOCH]
        ctl[shadow + WROTE] = 0
        ctl[shadow + READ] = 0
        ctl[shadow + FLAGS] = 0
        ctl[shadow + SWAPPED] = 0
    return shadow


@scheduler
def vector_of(ctl: Control, shadow: int, flag: int, number: int) -> int:
    """The ``number``-th vector of a shadow, zeroed when ``flag`` says that it is not in use yet."""
    vector = shadow + RELEASED + number * ctl[cb.CPUS]
    if ctl[shadow + FLAGS] & flag == 0:
        ctl[shadow + FLAGS] |= flag
        for u in range(ctl[cb.CPUS]):
            ctl[vector + u] = 0
    return vector


@scheduler
def released_of(ctl: Control, shadow: int) -> int:
    return vector_of(ctl, shadow, HAS_RELEASED, 0)


# --- races ---------------------------------------------------------------------------------------
@scheduler
def blame(ctl: Control, cpu: int, i: int, other: int) -> None:
    if ctl[cb.OUTCOME] != cb.RACE:
        ctl[cb.OUTCOME] = cb.RACE
        ctl[cb.FAULT_CPU] = cpu
        ctl[cb.FAULT_AT] = i
        ctl[cb.OTHER_CPU] = other


@scheduler
def require_epoch(ctl: Control, cpu: int, i: int, epoch: int) -> None:
    """What happened at ``epoch`` must be known to ``cpu``."""
    other = epoch & CPU_MASK
    if epoch >> CPU_BITS > ctl[clock_of(ctl, cpu) + other]:
        blame(ctl, cpu, i, other)


@scheduler
def require_vector(ctl: Control, cpu: int, i: int, vector: int) -> None:
    mine = clock_of(ctl, cpu)
    for u in range(ctl[cb.CPUS]):
        if ctl[vector + u] > ctl[mine + u]:
            blame(ctl, cpu, i, u)


@scheduler
def require_plain_reads(ctl: Control, cpu: int, i: int, shadow: int) -> None:
    if ctl[shadow + FLAGS] & SHARED != 0:
        require_vector(ctl, cpu, i, shadow + RELEASED + ctl[cb.CPUS])
    else:
        require_epoch(ctl, cpu, i, ctl[shadow + READ])


@scheduler
def plain_read(ctl: Control, cpu: int, i: int) -> None:
    shadow = shadow_of(ctl, i)
    now = ctl[clock_of(ctl, cpu) + cpu] << CPU_BITS | cpu
    read = ctl[shadow + READ]
    flags = ctl[shadow + FLAGS]
    if read == now and flags & (SHARED | HAS_ATOMIC_WRITES) == 0:
        return
    require_epoch(ctl, cpu, i, ctl[shadow + WROTE])
    if flags & HAS_ATOMIC_WRITES != 0:
        require_vector(ctl, cpu, i, shadow + RELEASED + 2 * ctl[cb.CPUS])
    other = read & CPU_MASK
    if flags & SHARED == 0 and read >> CPU_BITS <= ctl[clock_of(ctl, cpu) + other]:
        ctl[shadow + READ] = now
        return
    vector = vector_of(ctl, shadow, SHARED, 1)
    if flags & SHARED == 0:
        ctl[vector + other] = read >> CPU_BITS
    ctl[vector + cpu] = now >> CPU_BITS


@scheduler
def plain_write(ctl: Control, cpu: int, i: int) -> None:
    shadow = shadow_of(ctl, i)
    require_epoch(ctl, cpu, i, ctl[shadow + WROTE])
    require_plain_reads(ctl, cpu, i, shadow)
    flags = ctl[shadow + FLAGS]
    if flags & HAS_ATOMIC_WRITES != 0:
        require_vector(ctl, cpu, i, shadow + RELEASED + 2 * ctl[cb.CPUS])
    if flags & HAS_ATOMIC_READS != 0:
        require_vector(ctl, cpu, i, shadow + RELEASED + 3 * ctl[cb.CPUS])
    ctl[shadow + WROTE] = ctl[clock_of(ctl, cpu) + cpu] << CPU_BITS | cpu
    ctl[shadow + READ] = 0
    ctl[shadow + FLAGS] = flags & ~SHARED


@scheduler
def atomic_read(ctl: Control, cpu: int, i: int, acquires: int) -> None:
    shadow = shadow_of(ctl, i)
    if ctl[shadow + FLAGS] & HAS_RELEASED != 0:
        to = clock_of(ctl, cpu) if acquires == 1 else ctl[cb.PENDING_AT] + cpu * ctl[cb.CPUS]
        join(ctl, to, shadow + RELEASED)
    require_epoch(ctl, cpu, i, ctl[shadow + WROTE])
    vector = vector_of(ctl, shadow, HAS_ATOMIC_READS, 3)
    ctl[vector + cpu] = ctl[clock_of(ctl, cpu) + cpu]


@scheduler
def atomic_write(ctl: Control, cpu: int, i: int) -> int:
    """The access alone; what it publishes is the caller's to say."""
    shadow = shadow_of(ctl, i)
    require_epoch(ctl, cpu, i, ctl[shadow + WROTE])
    require_plain_reads(ctl, cpu, i, shadow)
    vector = vector_of(ctl, shadow, HAS_ATOMIC_WRITES, 2)
    ctl[vector + cpu] = ctl[clock_of(ctl, cpu) + cpu]
    return shadow


@scheduler
def update(ctl: Control, cpu: int, i: int) -> None:
    """A read-modify-write: acquires, then publishes, and keeps what others published."""
    atomic_read(ctl, cpu, i, 1)
    shadow = atomic_write(ctl, cpu, i)
    join(ctl, released_of(ctl, shadow), clock_of(ctl, cpu))


@scheduler
def published(ctl: Control, cpu: int, releases: int) -> int:
    """The clock that a store of ``cpu`` publishes."""
    return clock_of(ctl, cpu) if releases == 1 else ctl[cb.FENCED_AT] + cpu * ctl[cb.CPUS]


@scheduler
def full_fence(ctl: Control, cpu: int) -> None:
    """Acquires what relaxed loads saw, lets relaxed stores release. Fences alone order nothing."""
    mine = clock_of(ctl, cpu)
    join(ctl, mine, ctl[cb.PENDING_AT] + cpu * ctl[cb.CPUS])
    copy(ctl, ctl[cb.FENCED_AT] + cpu * ctl[cb.CPUS], mine)
    tick(ctl, cpu)


@scheduler
def order_woken(ctl: Control, cpu: int, woken: int) -> None:
    join(ctl, clock_of(ctl, woken), clock_of(ctl, cpu))


@scheduler
def check_store(ctl: Control, cpu: int, op: int, i: int, entry: int) -> None:
    """A store: to memory (``entry`` 0), or into a buffer, which publishes at its flush."""
    if op == ops.OP_WRITE:
        plain_write(ctl, cpu, i)
        return
    require_untorn(ctl, cpu, i)
    shadow = atomic_write(ctl, cpu, i)
    clock = published(ctl, cpu, 1 if op == ops.OP_STORE else 0)
    if entry != 0:
        copy(ctl, entry + cb.ENTRY_CLOCK, clock)
    else:
        copy(ctl, released_of(ctl, shadow), clock)
    tick(ctl, cpu)


@scheduler
def check_flush(ctl: Control, entry: int, i: int) -> None:
    if ctl[entry + cb.ENTRY_OP] != ops.OP_WRITE:
        copy(ctl, released_of(ctl, shadow_of(ctl, i)), entry + cb.ENTRY_CLOCK)


@scheduler
def check_access(ctl: Control, cpu: int, op: int, i: int) -> None:
    """Every access but stores, flushes and wake: races and torn pairs."""
    if op == ops.OP_READ:
        plain_read(ctl, cpu, i)
        note_half(ctl, cpu, i)
    elif op <= ops.OP_LOAD_RELAXED:
        atomic_read(ctl, cpu, i, 1 if op == ops.OP_LOAD else 0)
        note_half(ctl, cpu, i)
    elif op == ops.OP_LOAD2:
        atomic_read(ctl, cpu, i, 1)
        atomic_read(ctl, cpu, i + 1, 1)
        forget_halves(ctl, cpu, i)
    elif op == ops.OP_WAIT:
        atomic_read(ctl, cpu, i, 0)
    elif op == ops.OP_FENCE or op == ops.OP_HEAVY_FENCE:
        full_fence(ctl, cpu)
    elif ops.LAST_STORE < op <= ops.LAST_WRITE:
        check_update(ctl, cpu, op, i)


@scheduler
def check_update(ctl: Control, cpu: int, op: int, i: int) -> None:
    success = 1
    if op == ops.OP_CAS or op == ops.OP_CAS2:
        success = ctl[cb.VALUE + cpu]
    if op == ops.OP_CAS2:
        forget_halves(ctl, cpu, i)
    elif success == 1:
        require_untorn(ctl, cpu, i)
    if success == 0:
        atomic_read(ctl, cpu, i, 1)
        if op == ops.OP_CAS2:
            atomic_read(ctl, cpu, i + 1, 1)
        return
    update(ctl, cpu, i)
    if op == ops.OP_CAS2:
        require_untorn(ctl, cpu, i)
        update(ctl, cpu, i + 1)
    tick(ctl, cpu)


# --- torn pairs ----------------------------------------------------------------------------------
@scheduler
def swapped_both(ctl: Control, i: int) -> None:
    """A ``cas2`` has just changed both words of the pair ``i``."""
    ctl[shadow_of(ctl, i) + SWAPPED] = ctl[cb.STEPS] + 1


@scheduler
def newest_read(ctl: Control, cpu: int, i: int) -> int:
    """1 + the step of the last single read of word ``i`` by ``cpu``; 0: none that is kept."""
    newest = 0
    first = ctl[cb.READS_AT] + cpu * cb.READS_KEPT * 2
    for k in range(cb.READS_KEPT):
        if ctl[first + 2 * k] == i + 1 and ctl[first + 2 * k + 1] > newest:
            newest = ctl[first + 2 * k + 1]
    return newest


@scheduler
def forget_halves(ctl: Control, cpu: int, i: int) -> None:
    """The pair of word ``i`` was read or swapped as one, or read again."""
    pair = i & ~1
    if ctl[cb.TORN_AT + cpu] == pair + 1:
        ctl[cb.TORN_AT + cpu] = 0
    first = ctl[cb.READS_AT] + cpu * cb.READS_KEPT * 2
    for k in range(cb.READS_KEPT):
        word = ctl[first + 2 * k]
        if word != 0 and (word - 1) & ~1 == pair:
            ctl[first + 2 * k] = 0


@scheduler
def note_half(ctl: Control, cpu: int, i: int) -> None:
    """``cpu`` read word ``i`` alone: is the other half it holds from before a swap of both?"""
    pair = i & ~1
    swapped = ctl[shadow_of(ctl, pair) + SWAPPED]
    if swapped != 0:
        other = newest_read(ctl, cpu, i ^ 1)
        mine = newest_read(ctl, cpu, i)
        if mine != 0 and mine < other:  # a half, the other, the first again: it validates
            forget_halves(ctl, cpu, i)
        elif other != 0 and other <= swapped:
            ctl[cb.TORN_AT + cpu] = pair + 1
        elif ctl[cb.TORN_AT + cpu] == pair + 1:
            ctl[cb.TORN_AT + cpu] = 0
    slot = ctl[cb.READS_AT] + (cpu * cb.READS_KEPT + ctl[cb.READ_NEXT + cpu]) * 2
    ctl[slot] = i + 1
    ctl[slot + 1] = ctl[cb.STEPS] + 1
    ctl[cb.READ_NEXT + cpu] = (ctl[cb.READ_NEXT + cpu] + 1) % cb.READS_KEPT


@scheduler
def require_untorn(ctl: Control, cpu: int, i: int) -> None:
    """``cpu`` changes word ``i`` atomically, or ends (-1): it must not hold a torn pair by now."""
    torn = ctl[cb.TORN_AT + cpu]
    if torn != 0 and torn - 1 != i & ~1:
        ctl[cb.OUTCOME] = cb.TORN
        ctl[cb.FAULT_CPU] = cpu
        ctl[cb.FAULT_AT] = torn - 1
