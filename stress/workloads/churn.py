"""churn: single pages come and go at random, in waves.

Imitates page faults and exits: holds up to a few thousand order-0 pages of all migratetypes; their
number swings far enough that the per-CPU lists overflow and run dry.
Hunts: pages lost or duplicated between per-CPU list and zone; a batch spliced wrongly; a counter
that forgets a refill or a drain.
Must reach: alloc, free, refill, drain, split, merge; a contended lock if two workers share a node.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.units import Claim, Memory, WordIndex
from stress.workloads.area import (
    BLOCK_WORDS,
    W_CURSOR,
    W_DATA,
    draw,
    give_all,
    give_from,
    stopping,
    take_into,
    work_at,
)

CHURN_SLOTS = 2048
CHURN_WORDS = W_DATA + CHURN_SLOTS * BLOCK_WORDS
CHURN_WAVE_SHIFT = 14  # steps until the tide turns, as a power of two
CHURN_EIGHTHS_HIGH = 7
CHURN_EIGHTHS_LOW = 1


@kernel
def churn(mem: Memory, claim: Claim, steps: int) -> int:
    """Run ``steps`` steps; returns the operations done."""
    at = work_at(mem, claim)
    done = 0
    for _ in range(steps):
        if stopping(mem):
            break
        done += churn_step(mem, claim, at)
    return done


@kernel
def churn_step(mem: Memory, claim: Claim, at: WordIndex) -> int:
    """Pick a random slot: fill it while the tide is high, empty it while it is low."""
    mem[at + W_CURSOR] = mem[at + W_CURSOR] + 1
    fill_eighths = CHURN_EIGHTHS_HIGH
    if (mem[at + W_CURSOR] >> CHURN_WAVE_SHIFT) & 1 != 0:
        fill_eighths = CHURN_EIGHTHS_LOW
    fill = draw(mem, at, 8) < fill_eighths
    slot = draw(mem, at, CHURN_SLOTS)
    entry = at + W_DATA + slot * BLOCK_WORDS
    held = mem[entry + 1] != 0
    if fill and not held:
        take_into(mem, claim, at, entry, 0, slot % c.MT_PCP_TYPES)
        return 1
    if held and not fill:
        give_from(mem, claim, entry)
        return 1
    return 0


@kernel
def churn_finish(mem: Memory, claim: Claim) -> int:
    """Free everything that the CPU holds."""
    return give_all(mem, claim, work_at(mem, claim) + W_DATA, CHURN_SLOTS)
