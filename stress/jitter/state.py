"""What a ``JitterRam`` does before and after an access, and the words in which it remembers.

One source for both engines, in the dialect of kernels, as the scheduler of the model is. What the
engines do differently is in the primitives: interpreted they are methods of the memory or of its
state, compiled they are emitters (native.py).

The state is private to the process. An access with nothing armed reads ACTIVE and nothing else.
"""

from __future__ import annotations

from typing import Any

from shmalloc import constants as c
from shmalloc.dialect import primitive
from shmalloc.engine import ops
from shmalloc.engine.control import inlined, scheduler, shared
from stress.jitter.recorder import AT_SHIFT, CLOCK, CLOCK_EVERY, DIED, FIRST, MASK, NEXT, OPERAND

ACTIVE = 0  # what is armed: DELAYS | FUSE | FLIGHT
WRITES = 1  # attempts to write since the fuse was lit
LAST = 2  # the one before which the process dies
RANDOM = 3  # of the delays: 31 bits
RING = 4  # native: address of the ring of this CPU (recorder.py)
FREEZE_AT = 5  # recording ends for good when this word of the segment is not zero
CLOCKED = 6  # how many items the ring had at its last clock
OPERANDS = 8  # 4 words: what the access at hand was given
TIMESPEC = 12  # 2 words: of one nap
DELAYED = 16  # by kind: how often a site waited
PLANS = 32  # PLAN_WORDS for each of SITES: how many accesses until it waits (0: never), its habit
SITES = 1024
PLAN_WORDS = 2
STATE_WORDS = PLANS + SITES * PLAN_WORDS
SITE_MASK = SITES - 1
SITE_FACTOR = 29  # odd, so that neighbouring places and the operations of one use other slots
GAP_SHIFT = 8  # of a habit: kind | mean gap in accesses << GAP_SHIFT
KIND_MASK = (1 << GAP_SHIFT) - 1
MAX_GAP = 1 << 20

DELAYS = 1  # bits of ACTIVE
FUSE = 2
FLIGHT = 4

KIND_SHORT = 0
KIND_LONG = 1
KIND_YIELD = 2
KIND_SLEEP = 3
SHORT_SPINS = 32  # at most; a spin is one pause instruction, 5 to 50 ns
LONG_SPINS = 2048
SLEEP_NS = 200_000  # at most
RANDOM_MASK = 0x7FFFFFFF


# --- primitives ----------------------------------------------------------------------------------
@primitive("memory")
def state_of(mem: Any) -> Any:
    return mem.state


@primitive("int")
def place(mem: Any) -> int:
    """Number of the access at hand among the places of the code, see jitter.py."""
    return mem.place()


@primitive("int")
def peeked(mem: Any, i: int) -> int:
    """Word ``i``, read without a hook and without order; always inside."""
    return mem.peeked(i)


@primitive("none")
def die(jitter: Any) -> None:
    """End this process by SIGKILL; does not return."""
    jitter.die()


@primitive("none")
def spin(jitter: Any, count: int) -> None:
    jitter.spin(count)


@primitive("none")
def yield_core(jitter: Any) -> None:
    jitter.yield_core()


@primitive("none")
def nap(jitter: Any, ns: int) -> None:
    jitter.nap(ns)


@primitive("int")
def clock(jitter: Any) -> int:
    return jitter.clock()


@primitive("memory")
def ring_of(jitter: Any) -> Any:
    """The words of the ring."""
    return jitter.ring


# --- around every access, for hooks.py -----------------------------------------------------------
@inlined
def before(mem: Any, op: int, i: int, a: int) -> None:
    """Wait, then burn down the fuse: between that and a write there is nothing."""
    jitter = state_of(mem)
    if jitter[ACTIVE] & (DELAYS | FUSE) != 0:
        if jitter[ACTIVE] & DELAYS != 0:
            plan = PLANS + PLAN_WORDS * ((place(mem) * SITE_FACTOR + op) & SITE_MASK)
            left = jitter[plan]
            if left != 0:
                jitter[plan] = left - 1
                if left == 1:
                    delay(jitter, plan)
        if op >= ops.FIRST_WRITE and op <= ops.LAST_WRITE and jitter[ACTIVE] & FUSE != 0:
            jitter[WRITES] += 1
            if jitter[WRITES] == jitter[LAST]:
                burn_out(jitter, op, i, a)
    if op > ops.LAST_STORE:
        jitter[OPERANDS] = a


@inlined
def after(mem: Any, op: int, i: int, value: int) -> None:
    jitter = state_of(mem)
    if jitter[ACTIVE] & FLIGHT != 0:
        if op <= ops.LAST_STORE and op != ops.OP_LOAD2:
            put(ring_of(jitter), op, i, value)
        elif op != ops.OP_RELAX:  # a spin would flush out what came before
            record(jitter, op, i, value, peeked(mem, jitter[FREEZE_AT]))


# --- where something is armed --------------------------------------------------------------------
@shared
def burn_out(jitter: Any, op: int, i: int, a: int) -> None:
    """The last entry of the flight recorder is the write that was not made."""
    if jitter[ACTIVE] & FLIGHT != 0:
        put(ring_of(jitter), CLOCK, 0, clock(jitter))
        put(ring_of(jitter), op | DIED, i, a)
    die(jitter)


@scheduler
def draw(jitter: Any, limit: int) -> int:
    """A number from 1 to ``limit``."""
    jitter[RANDOM] = (jitter[RANDOM] * 1103515245 + 12345) & RANDOM_MASK
    return 1 + (jitter[RANDOM] >> 8) % limit


@shared
def delay(jitter: Any, plan: int) -> None:
    """Wait as the site does, and draw when it will wait next."""
    kind = jitter[plan + 1] & KIND_MASK
    mean_gap = jitter[plan + 1] >> GAP_SHIFT
    jitter[plan] = draw(jitter, 2 * mean_gap - 1)
    jitter[DELAYED + kind] += 1
    if kind == KIND_SHORT:
        spin(jitter, draw(jitter, SHORT_SPINS))
    elif kind == KIND_LONG:
        spin(jitter, draw(jitter, LONG_SPINS))
    elif kind == KIND_YIELD:
        yield_core(jitter)
    else:
        nap(jitter, draw(jitter, SLEEP_NS))


@inlined
def put(ring: Any, kind: int, about: int, value: int) -> None:
    """Append an item to a ring (recorder.py)."""
    number = ring[NEXT]
    item = FIRST + (number & ring[MASK]) * c.FLIGHT_ITEM_WORDS
    ring[item] = kind | about << AT_SHIFT
    ring[item + 1] = value
    ring[NEXT] = number + 1


@inlined
def operands_of(op: int) -> int:
    """How many OPERAND items stand before an access that is not a simple read or write."""
    if op == ops.OP_CAS2:
        return 4
    if op == ops.OP_CAS:
        return 2
    return 1 if op <= ops.LAST_WRITE else 0


@shared
def record(jitter: Any, op: int, i: int, value: int, frozen: int) -> None:
    """An access that is more than a word and a value: the time, once in a while, and its operands.

    Each CPU comes here within a few accesses, so this is where it notices that a violation was
    reported, and then leaves its ring as it is, as evidence of how it came about.
    """
    if frozen != 0:
        jitter[ACTIVE] = jitter[ACTIVE] & ~FLIGHT
        return
    ring = ring_of(jitter)
    if ring[NEXT] - jitter[CLOCKED] >= CLOCK_EVERY:
        jitter[CLOCKED] = ring[NEXT]
        put(ring, CLOCK, 0, clock(jitter))
    for k in range(operands_of(op)):
        put(ring, OPERAND, k, jitter[OPERANDS + k])
    put(ring, op, i, value)
