"""orders: blocks of every order at once, mostly small ones.

Imitates mixed kernel traffic: stacks, ring buffers, huge pages, of all migratetypes.
Hunts: a split that loses a half; a merge across a zone or pageblock border; an order read twice;
a fallback that takes a block of another migratetype and forgets to retype it.
Must reach: alloc, free, split, merge.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.units import Claim, Memory, WordIndex
from shmalloc.words import fixed
from stress.workloads.area import (
    BLOCK_WORDS,
    W_DATA,
    draw,
    give_all,
    give_from,
    stopping,
    take_into,
    work_at,
)

ORDERS_SLOTS = 128
ORDERS_WORDS = W_DATA + ORDERS_SLOTS * BLOCK_WORDS


@kernel
def orders(mem: Memory, claim: Claim, steps: int) -> int:
    """Run ``steps`` allocations or frees; returns the operations done."""
    at = work_at(mem, claim)
    done = 0
    for _ in range(steps):
        if stopping(mem):
            break
        slot = draw(mem, at, ORDERS_SLOTS)
        entry = at + W_DATA + slot * BLOCK_WORDS
        if mem[entry + 1] != 0:
            give_from(mem, claim, entry)
        else:
            order = orders_pick(mem, at)
            take_into(mem, claim, at, entry, order, draw(mem, at, c.MT_PCP_TYPES))
        done += 1
    return done


@kernel
def orders_pick(mem: Memory, at: WordIndex) -> int:
    """An order from 0 to the largest; each is drawn about half as often as the one below."""
    largest = fixed(mem, c.H_MAX_ORDER)
    bits = draw(mem, at, 1 << (largest + 1))
    order = 0
    while order < largest and (bits >> order) & 1 != 0:
        order += 1
    return order


@kernel
def orders_finish(mem: Memory, claim: Claim) -> int:
    """Free everything that the CPU holds."""
    return give_all(mem, claim, work_at(mem, claim) + W_DATA, ORDERS_SLOTS)
