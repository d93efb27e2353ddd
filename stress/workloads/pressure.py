"""Pressure: the controller takes a share of the memory, holds it, and gives it back, in waves.

Imitates a neighbour that grows. The controller runs it on its own CPU slot, a bounded number of
blocks at a time, while the workers continue. A stack chained through the blocks holds them::

    block: [next block, 0: none][owner id] ...        a block is (pfn << 4 | order) + 1, so never 0
    work area of the controller: [ random | sequence | ... | top of the stack | pages held ]

It hunts nothing itself: it drives the workers into their failure paths. The owner map has its
blocks, like those of every worker.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.pages import alloc_pages, free_pages
from shmalloc.units import Claim, Memory, Order, Pfn, WordIndex
from shmalloc.words import fixed
from stress.oracles.owners import disown, own
from stress.workloads.area import (
    BLOCK_ORDER_BITS,
    BLOCK_ORDER_MASK,
    W_DATA,
    draw,
    fresh_id,
    work_at,
)

PRESSURE_TOP = W_DATA
PRESSURE_PAGES = W_DATA + 1
PRESSURE_WORDS = W_DATA + 2
PRESSURE_ID = 1


@kernel
def pressure_take(mem: Memory, claim: Claim, blocks: int, most_pages: int) -> int:
    """Take up to ``blocks`` blocks, ``most_pages`` in all; the pages held now, -1: none was left.

    Orders are random; if there is no block of an order, try the next smaller one.
    """
    at = work_at(mem, claim)
    order = fixed(mem, c.H_MAX_ORDER)
    for _ in range(blocks):
        if mem[at + PRESSURE_PAGES] >= most_pages:
            break
        order = min(order, draw(mem, at, fixed(mem, c.H_MAX_ORDER) + 1))
        while order >= 0 and not pressure_push(mem, claim, at, order):
            order -= 1
        if order < 0:
            return -1
    return mem[at + PRESSURE_PAGES]


@kernel
def pressure_push(mem: Memory, claim: Claim, at: WordIndex, order: Order) -> bool:
    """Push one block onto the stack; returns whether there was one."""
    owner = fresh_id(mem, claim, at)
    pfn = alloc_pages(mem, claim, order, draw(mem, at, c.MT_PCP_TYPES), owner)
    if pfn < 0:
        return False
    if own(mem, claim, pfn, order, owner) == 0:  # else reported, and left to its owner
        frame = pressure_frame(mem, pfn)
        mem[frame] = mem[at + PRESSURE_TOP]
        mem[frame + PRESSURE_ID] = owner
        mem[at + PRESSURE_TOP] = (pfn << BLOCK_ORDER_BITS | order) + 1
        mem[at + PRESSURE_PAGES] = mem[at + PRESSURE_PAGES] + (1 << order)
    return True


@kernel
def pressure_give(mem: Memory, claim: Claim, blocks: int) -> int:
    """Free up to ``blocks`` blocks of the stack; returns the pages still held."""
    at = work_at(mem, claim)
    for _ in range(blocks):
        if mem[at + PRESSURE_TOP] == 0:
            break
        block = mem[at + PRESSURE_TOP] - 1
        pfn = block >> BLOCK_ORDER_BITS
        order = block & BLOCK_ORDER_MASK
        frame = pressure_frame(mem, pfn)
        owner = mem[frame + PRESSURE_ID]
        mem[at + PRESSURE_TOP] = mem[frame]
        mem[at + PRESSURE_PAGES] = mem[at + PRESSURE_PAGES] - (1 << order)
        if disown(mem, claim, pfn, order, owner) == 0:
            free_pages(mem, claim, pfn, order)
    return mem[at + PRESSURE_PAGES]


@kernel
def pressure_frame(mem: Memory, pfn: Pfn) -> int:
    """First word of a block's memory."""
    return fixed(mem, c.H_AT_FRAMES) + (pfn << fixed(mem, c.H_PAGE_SHIFT))
