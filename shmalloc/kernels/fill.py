"""The bytes of a page when it is freed and allocated: poison, or zero.

The hazard of the mail thread: other code may claim the bytes of a free page. With the list node in
the page itself (link store ``page``) its first two words belong to the list, so poison starts after
them; a removed node leaves zeros there, as zero-on-free promises anyway.

Called by the exclusive owner of the block (state PCP, on no list), so accesses are plain.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.reporting import report
from shmalloc.kernels.zone import frame_at
from shmalloc.units import Claim, Memory, Order, Pfn
from shmalloc.words import fixed


@hot
def fill_on_free(mem: Memory, pfn: Pfn, order: Order) -> None:
    """Overwrite the block as the geometry's hazards require."""
    if fixed(mem, c.H_FILL) != c.FILL_NONE:
        fill(mem, pfn, order)


@kernel
def filling(mem: Memory) -> int:
    """What every word of a free page holds."""
    return c.POISON_WORD if fixed(mem, c.H_FILL) == c.FILL_POISON else 0


@unit
def fill(mem: Memory, pfn: Pfn, order: Order) -> None:
    value = filling(mem)
    start = frame_at(mem, pfn)
    for i in range(start, start + (1 << (order + fixed(mem, c.H_PAGE_SHIFT)))):
        mem[i] = value


@hot
def intact_on_alloc(mem: Memory, claim: Claim, pfn: Pfn, order: Order) -> bool:
    """Whether the block is as it was freed; reports the first word that changed."""
    return fixed(mem, c.H_FILL) == c.FILL_NONE or unchanged(mem, claim, pfn, order)


@unit
def unchanged(mem: Memory, claim: Claim, pfn: Pfn, order: Order) -> bool:
    value = filling(mem)
    page_words = 1 << fixed(mem, c.H_PAGE_SHIFT)
    skip = 0
    if fixed(mem, c.H_LINKS) == c.LINKS_PAGE:
        skip = c.NODE_WORDS  # in use on a list, zero afterwards
    for page in range(pfn, pfn + (1 << order)):
        start = frame_at(mem, page)
        for i in range(start + skip, start + page_words):
            if mem[i] != value:
                report(mem, claim, c.I_BYTES, i, value, mem[i])
                return False
    return True
