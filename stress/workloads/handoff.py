"""handoff: one CPU allocates, its neighbour checks and frees.

Imitates network receive and pipes: one CPU frees what another allocated. Each worker pushes blocks
into the ring of its peer and empties its own ring::

    work area: W_DATA [head: producer writes] | +16 [tail: consumer writes] | +32 ring

The ring has one producer (the controller gives every worker a different peer) and one consumer.
Hunts: remote frees that go to the wrong CPU's list, lost updates of counters that two CPUs write,
drains of lists that were not counted.
Must reach: remote free, drain, refill. Needs two workers.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.units import Claim, Memory, WordIndex
from shmalloc.words import fixed, load, load_relaxed, store
from stress.workloads.area import (
    BLOCK_WORDS,
    W_DATA,
    W_PEER,
    draw,
    give_from,
    stopping,
    take_into,
    work_at,
)

RING_HEAD = W_DATA
RING_TAIL = W_DATA + 16
RING_ENTRIES = W_DATA + 32
RING_SLOTS = 1024
RING_STAGE = RING_ENTRIES + RING_SLOTS * BLOCK_WORDS  # holds a block before the push
HANDOFF_WORDS = RING_STAGE + BLOCK_WORDS
HANDOFF_ORDERS = 4
HANDOFF_BURST = 8


@kernel
def handoff(mem: Memory, claim: Claim, steps: int) -> int:
    """Produce and consume ``steps`` times; returns the operations done."""
    at = work_at(mem, claim)
    peer = work_at(mem, mem[at + W_PEER])
    done = 0
    for _ in range(steps):
        if stopping(mem):
            break
        for _ in range(1 + draw(mem, at, HANDOFF_BURST)):
            done += ring_push(mem, claim, at, peer)
        for _ in range(1 + draw(mem, at, HANDOFF_BURST)):
            done += ring_pop(mem, claim, at)
    return done


@kernel
def ring_push(mem: Memory, claim: Claim, at: WordIndex, peer: WordIndex) -> int:
    """Allocate a block and hand it to the peer unless its ring is full; returns operations done."""
    head = load_relaxed(mem, peer + RING_HEAD)
    if head - load(mem, peer + RING_TAIL) >= RING_SLOTS:
        return 0
    stage = at + RING_STAGE
    order = min(draw(mem, at, HANDOFF_ORDERS) * draw(mem, at, 2), fixed(mem, c.H_MAX_ORDER))
    if take_into(mem, claim, at, stage, order, draw(mem, at, 2)) != 0:
        return 1
    entry = peer + RING_ENTRIES + (head % RING_SLOTS) * BLOCK_WORDS
    mem[entry] = mem[stage]
    mem[entry + 1] = mem[stage + 1]
    mem[stage + 1] = 0
    store(mem, peer + RING_HEAD, head + 1)  # publishes the entry and the block's stamps
    return 1


@kernel
def ring_pop(mem: Memory, claim: Claim, at: WordIndex) -> int:
    """Check and free the oldest block of this CPU's ring; returns the operations done."""
    tail = load_relaxed(mem, at + RING_TAIL)
    if load(mem, at + RING_HEAD) == tail:
        return 0
    give_from(mem, claim, at + RING_ENTRIES + (tail % RING_SLOTS) * BLOCK_WORDS)
    store(mem, at + RING_TAIL, tail + 1)  # gives the entry back to the producer
    return 1


@kernel
def handoff_finish(mem: Memory, claim: Claim) -> int:
    """Empty this CPU's ring; every producer is parked by now."""
    at = work_at(mem, claim)
    given = 0
    for _ in range(RING_SLOTS):
        given += ring_pop(mem, claim, at)
    return given
