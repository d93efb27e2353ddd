"""The oracle of filling: a block that is given out holds what the geometry fills free pages with.

Who receives a block asks this before he writes to it. It knows neither who was to fill the
block nor who was to look at it: a free, a recovery or a refill that forgets to fill, and an
allocation that forgets to look, end in a page with other words in it at its next owner.

With ``fill=none`` there is nothing to ask. Plain reads: the caller owns the memory.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.reporting import report
from shmalloc.units import Claim, Memory, Order, Pfn, WordIndex
from shmalloc.words import fixed


@kernel
def check_filled(mem: Memory, claim: Claim, pfn: Pfn, order: Order) -> int:
    """Check every word of a block that was just received; 1 and one report if one differs."""
    if fixed(mem, c.H_FILL) == c.FILL_NONE:
        return 0
    first = fixed(mem, c.H_AT_FRAMES) + (pfn << fixed(mem, c.H_PAGE_SHIFT))
    for at in range(first, first + (1 << (order + fixed(mem, c.H_PAGE_SHIFT)))):
        if check_word(mem, claim, pfn, at) != 0:
            return 1
    return 0


@kernel
def check_ends(mem: Memory, claim: Claim, pfn: Pfn, order: Order) -> int:
    """The same for the first and the last word, where workloads sign their blocks."""
    if fixed(mem, c.H_FILL) == c.FILL_NONE:
        return 0
    first = fixed(mem, c.H_AT_FRAMES) + (pfn << fixed(mem, c.H_PAGE_SHIFT))
    last = first + (1 << (order + fixed(mem, c.H_PAGE_SHIFT))) - 1
    return check_word(mem, claim, pfn, first) or check_word(mem, claim, pfn, last)


@kernel
def check_word(mem: Memory, claim: Claim, pfn: Pfn, at: WordIndex) -> int:
    """1 and one report unless the word at ``at`` is as it was filled."""
    value = 0
    if fixed(mem, c.H_FILL) == c.FILL_POISON:
        value = c.POISON_WORD
    if mem[at] == value:
        return 0
    report(mem, claim, c.X_FILLING, pfn, value, mem[at])
    return 1
