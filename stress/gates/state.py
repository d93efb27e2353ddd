"""What holds a process at a gate: hooks around each access, and the words in which they count.

One block of words for each CPU, in memory that the process shares with the coordinator. The process
counts its accesses, exactly as the explorer counts the steps of a CPU, and stops before the access
that has the number in NEXT until GRANTED reaches that number. The coordinator alone writes NEXT,
GRANTED and START, and only while the process is held; the process alone writes the others.

``DOING`` says what it does: it may be between two accesses, held at a gate, in a ``wait``, or done.
OP, AT and OPERAND are the access at which it is held, or the wait.

``choose`` gives what the schedule says, and a ``wait`` that woke by itself in the schedule does not
sleep here: OUTCOMES pairs of a number of an access and its outcome. ``now`` counts accesses: a
kernel that discards what took long would else see that it was held.
"""

from __future__ import annotations

from typing import Any

from shmalloc.dialect import primitive
from shmalloc.engine import ops
from shmalloc.engine.control import inlined, shared
from shmalloc.words import relax

COUNT = 0  # accesses that were begun
NEXT = 1  # the access before which the process is held; 0: none
GRANTED = 2  # the access up to which it may go on
DOING = 3
OP = 4
AT = 5
OPERAND = 6
START = 8  # clock before which a granted access is not made; 0: at once
OUTCOMES = 7  # how many pairs there are
TIMESPEC = 12  # 2 words: of one nap (stress/jitter/native.py writes it there)
FIRST_OUTCOME = 16
MAX_OUTCOMES = 120
BLOCK_WORDS = FIRST_OUTCOME + 2 * MAX_OUTCOMES

STARTING = 0  # values of DOING
RUNNING = 1
HELD = 2
WAITING = 3
DONE = 4

POLL_NS = 20_000


# --- primitives ----------------------------------------------------------------------------------
@primitive("memory")
def gate_of(mem: Any) -> Any:
    """The block of this CPU."""
    return mem.gate


@primitive("none")
def nap(gate: Any, ns: int) -> None:
    gate.nap(ns)


@primitive("int")
def clock(gate: Any) -> int:
    value: int = gate.clock()
    return value


@primitive("none")
def sleep(mem: Any, i: int, old: int) -> None:
    """The bare ``wait``."""
    mem.sleep(i, old)


# --- around every access, for hooks.py -----------------------------------------------------------
@inlined
def before(mem: Any, op: int, i: int, a: int) -> None:
    gate = gate_of(mem)
    gate[COUNT] += 1
    if gate[COUNT] == gate[NEXT]:
        hold(gate, op, i, a)


@inlined
def after(mem: Any, op: int, i: int, value: int) -> None:
    """Nothing: a gate is before an access."""


@shared
def hold(gate: Any, op: int, i: int, a: int) -> None:
    """Stay here until the coordinator lets this access be made."""
    gate[OP] = op
    gate[AT] = i
    gate[OPERAND] = a
    gate[DOING] = HELD
    while gate[GRANTED] < gate[COUNT]:
        nap(gate, POLL_NS)
    while clock(gate) < gate[START]:
        relax(gate)
    gate[DOING] = RUNNING


@shared
def outcome_of(gate: Any) -> Any:
    """What the schedule says of the access at hand; 0 if nothing."""
    for k in range(gate[OUTCOMES]):
        if gate[FIRST_OUTCOME + 2 * k] == gate[COUNT]:
            return gate[FIRST_OUTCOME + 2 * k + 1]
    return 0


# --- words that mean something else here ---------------------------------------------------------
@inlined
def gated_wait(mem: Any, i: int, old: int) -> None:
    """A wait as in the model: it ends by a wake, however long that takes."""
    before(mem, ops.OP_WAIT, i, old)
    gate = gate_of(mem)
    if outcome_of(gate) == 0:
        gate[OP] = ops.OP_WAIT
        gate[AT] = i
        gate[OPERAND] = old
        gate[DOING] = WAITING
        sleep(mem, i, old)
        gate[DOING] = RUNNING


@inlined
def gated_choose(mem: Any, n: int) -> Any:
    before(mem, ops.OP_CHOOSE, 0, n)
    return outcome_of(gate_of(mem))


@inlined
def gated_now(mem: Any) -> Any:
    """Counts accesses, as in the model: to be held takes no time."""
    gate = gate_of(mem)
    return gate[COUNT]
