"""frag: shatters memory into single pages, then lets it all merge again.

Imitates a page cache that fills, loses every other page, and is dropped. Three tides alternate:
fill the table with single pages; free those at odd pfns, so that nothing can merge, and ask for a
block of the largest order; free the rest, so that everything merges.
Hunts: missed merges, merges with a buddy that is being allocated, chains broken in the middle of a
list, counters per order.
Must reach: split, merge, drain.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.units import Claim, Memory, WordIndex
from shmalloc.words import fixed
from stress.workloads.area import (
    BLOCK_ORDER_BITS,
    BLOCK_WORDS,
    W_CURSOR,
    W_DATA,
    give_all,
    give_from,
    stopping,
    take_into,
    work_at,
)

FRAG_SLOTS = 4096
FRAG_TABLE = W_DATA + BLOCK_WORDS  # the first entry is the large block's
FRAG_WORDS = FRAG_TABLE + FRAG_SLOTS * BLOCK_WORDS
FRAG_TIDES = 3


@kernel
def frag(mem: Memory, claim: Claim, steps: int) -> int:
    """Continue through the tides for ``steps`` slots; returns the operations done."""
    at = work_at(mem, claim)
    done = 0
    for _ in range(steps):
        if stopping(mem):
            break
        cursor = mem[at + W_CURSOR]
        mem[at + W_CURSOR] = (cursor + 1) % (FRAG_TIDES * FRAG_SLOTS)
        tide = cursor // FRAG_SLOTS
        entry = at + FRAG_TABLE + (cursor % FRAG_SLOTS) * BLOCK_WORDS
        if cursor == 2 * FRAG_SLOTS:
            take_into(mem, claim, at, at + W_DATA, fixed(mem, c.H_MAX_ORDER), c.MT_MOVABLE)
        if tide == 0:
            done += frag_fill(mem, claim, at, entry)
        else:
            done += frag_free(mem, claim, entry, tide)
    return done


@kernel
def frag_fill(mem: Memory, claim: Claim, at: WordIndex, entry: WordIndex) -> int:
    """Free the large block, then allocate a page into the slot if it is empty."""
    large = at + W_DATA
    if mem[large + 1] != 0:
        give_from(mem, claim, large)
    if mem[entry + 1] == 0:
        take_into(mem, claim, at, entry, 0, c.MT_MOVABLE)
        return 1
    return 0


@kernel
def frag_free(mem: Memory, claim: Claim, entry: WordIndex, tide: int) -> int:
    """Free the slot's page: in tide 1 only at odd pfns, in tide 2 at all."""
    odd = (mem[entry] >> BLOCK_ORDER_BITS) & 1 != 0
    if mem[entry + 1] != 0 and (tide == 2 or odd):
        give_from(mem, claim, entry)
        return 1
    return 0


@kernel
def frag_finish(mem: Memory, claim: Claim) -> int:
    """Free everything that the CPU holds."""
    return give_all(mem, claim, work_at(mem, claim) + W_DATA, FRAG_SLOTS + 1)
