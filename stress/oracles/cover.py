"""The oracle of cover: at every moment every page lies in a block whose head says so (I_TAIL).

A page has few possible heads: its own number with the low bits cleared, one for each order. The
oracle reads them twice. If no word has changed in between, all had these values at one moment
between the two readings, since a word carries a version; and if none of these blocks covers the
page, no block did. A head inside a block that is being merged or carved does no harm: the page has
another head.

Takes no lock and needs no stop. The caller says where to keep the words of the first reading.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.bits import order_of, type_of
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.reporting import report
from shmalloc.units import Claim, Memory, Order, Pfn, WordIndex
from shmalloc.words import fixed, now
from stress.oracles.clock import took_longer

COVER_WORDS = c.ORDERS
COVER_READ_NS = 25_000  # a CPU preempted between the readings may miss 4096 versions


@kernel
def head_at(pfn: Pfn, level: Order) -> Pfn:
    """The page that would be the head of ``pfn`` in a block of that order."""
    return pfn & ~((1 << level) - 1)


@kernel
def check_covered(mem: Memory, claim: Claim, at: WordIndex, pfn: Pfn) -> bool:
    """Whether page ``pfn`` lies in a block; reports it if not. Writes to ``at``."""
    start = now(mem)
    levels = fixed(mem, c.H_MAX_ORDER) + 1
    for level in range(levels):
        head = head_at(pfn, level)
        w0 = page_state(mem, head)
        if type_of(w0) != c.T_TAIL and head + (1 << order_of(w0)) > pfn:
            return True
        mem[at + level] = w0
    for level in range(levels):
        if page_state(mem, head_at(pfn, level)) != mem[at + level]:
            return True
    if took_longer(mem, start, COVER_READ_NS):
        return True
    report(mem, claim, c.I_TAIL, pfn, 1, mem[at])
    return False
