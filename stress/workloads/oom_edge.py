"""oom-edge: takes all memory, waits for more, gives it back.

Imitates a machine at its limit. The worker allocates ever smaller blocks until not even a page is
left, waits for memory up to a bound, and then frees a random share. It keeps its blocks on a stack
that is chained through the blocks themselves, so that it can exhaust memory of any size::

    block: [stamp][next block, 0: none][owner id] ... [stamp]      a block is pfn << 4 | order

Hunts: lost wake-ups of waiters, an allocation that fails although memory is free, counters at zero
and at the watermarks, failure paths that leak what they had already taken.
Must reach: a failed allocation, a wait; a wake-up if two workers share a node.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.pages_wait import alloc_pages_wait
from shmalloc.units import Claim, Memory, Migratetype, WordIndex
from shmalloc.words import fixed
from stress.workloads.area import (
    BLOCK_ORDER_BITS,
    BLOCK_WORDS,
    W_CURSOR,
    W_DATA,
    W_HELD,
    draw,
    enter_block,
    fresh_id,
    give_from,
    stopping,
    take_into,
    work_at,
)
from stress.workloads.latency import L_ALLOC_PAGES_WAIT, clock_of, note

OOM_TOP = W_DATA  # the top block of the stack as a table entry: block, id
OOM_ENTRY = W_DATA + BLOCK_WORDS  # a block between allocator and stack
OOM_ORDER = W_DATA + 2 * BLOCK_WORDS  # the next order to try; -1 while giving back
OOM_LEFT = OOM_ORDER + 1  # blocks to give back before the next attack
OOM_WORDS = OOM_LEFT + 1
OOM_NEXT = 1
OOM_NEXT_ID = 2
OOM_WAIT_ROUNDS = 1


@kernel
def oom_edge(mem: Memory, claim: Claim, steps: int) -> int:
    """Allocate or free ``steps`` blocks; returns the operations done."""
    at = work_at(mem, claim)
    done = 0
    if mem[at + W_CURSOR] == 0:
        mem[at + W_CURSOR] = 1
        mem[at + OOM_ORDER] = fixed(mem, c.H_MAX_ORDER)
    for _ in range(steps):
        if stopping(mem):
            break
        if mem[at + OOM_ORDER] >= 0:
            oom_take(mem, claim, at)
        elif mem[at + OOM_LEFT] > 0 and mem[at + W_HELD] > 0:
            mem[at + OOM_LEFT] = mem[at + OOM_LEFT] - 1
            oom_pop(mem, claim, at)
        else:
            mem[at + OOM_ORDER] = draw(mem, at, fixed(mem, c.H_MAX_ORDER) + 1)
        done += 1
    return done


@kernel
def oom_take(mem: Memory, claim: Claim, at: WordIndex) -> None:
    """Push one block of the current order; if there is none, continue with the next smaller."""
    order = mem[at + OOM_ORDER]
    mt = draw(mem, at, c.MT_PCP_TYPES)
    if take_into(mem, claim, at, at + OOM_ENTRY, order, mt) == 0:
        oom_push(mem, at)
        return
    if order == 0:
        oom_wait(mem, claim, at, mt)
        mem[at + OOM_LEFT] = 1 + draw(mem, at, mem[at + W_HELD] + 1)
    mem[at + OOM_ORDER] = order - 1


@kernel
def oom_wait(mem: Memory, claim: Claim, at: WordIndex, mt: Migratetype) -> None:
    """With nothing left, wait for a page once: another worker may free one, or none does."""
    owner = fresh_id(mem, claim, at)
    began = clock_of(mem)
    pfn = alloc_pages_wait(mem, claim, 0, mt, owner, OOM_WAIT_ROUNDS)
    note(mem, claim, L_ALLOC_PAGES_WAIT, began, pfn)
    if pfn >= 0 and enter_block(mem, claim, at + OOM_ENTRY, pfn, 0, owner) == 0:
        oom_push(mem, at)


@kernel
def oom_push(mem: Memory, at: WordIndex) -> None:
    """Chain the block in OOM_ENTRY onto the stack, through its own memory."""
    frame = oom_frame(mem, mem[at + OOM_ENTRY])
    mem[frame + OOM_NEXT] = mem[at + OOM_TOP]
    mem[frame + OOM_NEXT_ID] = mem[at + OOM_TOP + 1]
    mem[at + OOM_TOP] = mem[at + OOM_ENTRY]
    mem[at + OOM_TOP + 1] = mem[at + OOM_ENTRY + 1]
    mem[at + OOM_ENTRY + 1] = 0
    mem[at + W_HELD] = mem[at + W_HELD] + 1


@kernel
def oom_pop(mem: Memory, claim: Claim, at: WordIndex) -> None:
    """Free the top block of the stack, if there is one."""
    if mem[at + OOM_TOP + 1] == 0:
        return
    frame = oom_frame(mem, mem[at + OOM_TOP])
    mem[at + OOM_ENTRY] = mem[at + OOM_TOP]
    mem[at + OOM_ENTRY + 1] = mem[at + OOM_TOP + 1]
    mem[at + OOM_TOP] = mem[frame + OOM_NEXT]
    mem[at + OOM_TOP + 1] = mem[frame + OOM_NEXT_ID]
    mem[at + W_HELD] = mem[at + W_HELD] - 1
    give_from(mem, claim, at + OOM_ENTRY)


@kernel
def oom_frame(mem: Memory, block: int) -> int:
    """First word of a block's memory."""
    return fixed(mem, c.H_AT_FRAMES) + ((block >> BLOCK_ORDER_BITS) << fixed(mem, c.H_PAGE_SHIFT))


@kernel
def oom_edge_finish(mem: Memory, claim: Claim) -> int:
    """Free everything that the CPU holds."""
    at = work_at(mem, claim)
    held = mem[at + W_HELD]
    for _ in range(held):
        oom_pop(mem, claim, at)
    return held
