"""pfn-walker: reads descriptors without any lock while blocks split and merge concurrently.

Imitates compaction, page_owner and crash dumpers. It walks from random pfns, jumping from head to
head, and sometimes allocates or frees a block of a random order, so that memory always changes.
Hunts: torn two-word reads, descriptors that are illegal for a moment, an order that is read twice
and has changed in between, a state that changed without its version, a page that is in no block,
and a page of its own that is looked up as another's, or as free, while its neighbours change.
Must reach: walk, split, merge; tails met on the way if two workers share a node.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.reporting import event, report
from shmalloc.kernels.walk import owner_at, walk
from shmalloc.units import Claim, Memory, WordIndex
from shmalloc.words import fixed
from stress.oracles.cover import COVER_WORDS, check_covered
from stress.oracles.versions import check_version
from stress.workloads.area import (
    BLOCK_ORDER_BITS,
    BLOCK_ORDER_MASK,
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
from stress.workloads.latency import L_WALK, clock_of, note

WALKER_SLOTS = 32
WALKER_COVER = W_DATA + WALKER_SLOTS * BLOCK_WORDS
WALKER_WORDS = WALKER_COVER + COVER_WORDS
WALKER_COVER_PAGES = 16  # of each stretch
WALKER_LIMIT = 64
WALKER_MOVE_ODDS = 8


@kernel
def pfn_walker(mem: Memory, claim: Claim, steps: int) -> int:
    """Walk ``steps`` stretches; returns the number walked."""
    at = work_at(mem, claim)
    done = 0
    for _ in range(steps):
        if stopping(mem):
            break
        if draw(mem, at, WALKER_MOVE_ODDS) == 0:
            walker_move(mem, claim, at)
            mem[at + W_CURSOR] = draw(mem, at, fixed(mem, c.H_PAGES))
        check_version(mem, claim, mem[at + W_CURSOR])
        for page in range(WALKER_COVER_PAGES):
            pfn = (mem[at + W_CURSOR] + page) % fixed(mem, c.H_PAGES)
            check_covered(mem, claim, at + WALKER_COVER, pfn)
        began = clock_of(mem)
        mem[at + W_CURSOR] = walk(mem, claim, mem[at + W_CURSOR], WALKER_LIMIT)
        note(mem, claim, L_WALK, began, 0)
        check_own(mem, claim, at)
        event(mem, claim, c.EV_WALK)
        done += 1
    return done


@kernel
def walker_move(mem: Memory, claim: Claim, at: WordIndex) -> None:
    """Allocate or free one block of a random order."""
    entry = at + W_DATA + draw(mem, at, WALKER_SLOTS) * BLOCK_WORDS
    if mem[entry + 1] != 0:
        give_from(mem, claim, entry)
    else:
        take_into(mem, claim, at, entry, draw(mem, at, fixed(mem, c.H_MAX_ORDER) + 1), c.MT_MOVABLE)


@kernel
def check_own(mem: Memory, claim: Claim, at: WordIndex) -> None:
    """Look up a page of one held block: it is ours until we free it, whatever happens beside it."""
    entry = at + W_DATA + draw(mem, at, WALKER_SLOTS) * BLOCK_WORDS
    owner = mem[entry + 1]
    if owner == 0:
        return
    order = mem[entry] & BLOCK_ORDER_MASK
    pfn = (mem[entry] >> BLOCK_ORDER_BITS) + draw(mem, at, 1 << order)
    found = owner_at(mem, pfn)
    if found != owner:
        report(mem, claim, c.X_WALKER, pfn, owner, found)


@kernel
def pfn_walker_finish(mem: Memory, claim: Claim) -> int:
    """Free everything that the CPU holds."""
    return give_all(mem, claim, work_at(mem, claim) + W_DATA, WALKER_SLOTS)
