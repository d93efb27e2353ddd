"""Unaccepted memory: pages that must not be touched before they are accepted, which costs.

A guest with encrypted memory (TDX, SEV-SNP) starts with most of it unaccepted: a touch is fatal,
and accepting it takes long, so it is done when memory is needed (Linux: try_to_accept_memory,
cond_accept_memory). There such memory lies on a list of its own in the largest blocks. Here a free
block is on the ordinary free lists whether it is accepted or not, split and merged as any other: no
link store but ``page`` touches what it lists, and with that one it is refused. A pageblock is
accepted when a block of it gets an owner::

    BLOCK_UNACCEPTED    in the word of a pageblock: no page of it was ever taken, or touched

What accepting costs is modelled by clearing all of its memory, which is what the hardware leaves.
The zone lock is held; a pageblock that two zones share is accepted from the start. A claim that
dies before the bit is cleared has given out no page of the pageblock: it is done again.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.reporting import event
from shmalloc.kernels.zone import block_word, frame_at
from shmalloc.units import Claim, Memory, Order, PageType, Pfn
from shmalloc.words import fixed, load_relaxed, store_relaxed


@hot
def accept_for(mem: Memory, claim: Claim, pfn: Pfn, order: Order, kind: PageType) -> None:
    """Accept the pageblocks of a free block that is taken for an owner (PCP)."""
    if fixed(mem, c.H_INIT) & c.INIT_UNACCEPTED != 0 and kind == c.T_PCP:
        accept_block(mem, claim, pfn, order)


@unit
def accept_block(mem: Memory, claim: Claim, pfn: Pfn, order: Order) -> None:
    """Accept every pageblock that [pfn, pfn + 2^order) has a page of; zone lock held."""
    step = 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)
    for start in range(pfn & -step, pfn + (1 << order), step):
        if is_unaccepted(mem, start):
            accept_pageblock(mem, start)
            event(mem, claim, c.EV_ACCEPT)


@kernel
def is_unaccepted(mem: Memory, pfn: Pfn) -> bool:
    return load_relaxed(mem, block_word(mem, pfn)) & c.BLOCK_UNACCEPTED != 0


@kernel
def accept_pageblock(mem: Memory, start: Pfn) -> None:
    """Clear the memory of a pageblock, then its bit."""
    at = frame_at(mem, start)
    for i in range(at, frame_at(mem, start + (1 << fixed(mem, c.H_PAGEBLOCK_ORDER)))):
        mem[i] = 0
    at = block_word(mem, start)
    store_relaxed(mem, at, load_relaxed(mem, at) & ~c.BLOCK_UNACCEPTED)
