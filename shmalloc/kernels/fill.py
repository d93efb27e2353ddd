"""The bytes of a page when it is freed and allocated: poison, or zero.

Poison and zeroes of a geometry for finding bugs (FILL_POISON, FILL_ZERO) are checked when the page
is allocated, and by the audit. Linux's init_on_free and init_on_alloc (FILL_WIPE, FILL_CLEAR) only
see to it that nothing of one owner is there for the next; objects are object_init.py's.

The hazard of the mail thread: other code may claim the bytes of a free page. With the list node in
the page itself (link store ``page``) the first two words of a block on a list belong to the list;
a block that leaves its list has the poison, or the zeroes, there as well (lists.py).

Called by the exclusive owner of the block (state PCP, on no list), so accesses are plain; or by an
audit.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.bits import detail_of, order_of, type_of
from shmalloc.kernels.reporting import report
from shmalloc.kernels.zone import frame_at
from shmalloc.units import Claim, Memory, Order, Pfn, Word0, WordIndex
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
    if fixed(mem, c.H_FILL) != c.FILL_CLEAR:
        overwrite(mem, pfn, order)


@kernel
def overwrite(mem: Memory, pfn: Pfn, order: Order) -> None:
    value = filling(mem)
    start = frame_at(mem, pfn)
    for i in range(start, start + (1 << (order + fixed(mem, c.H_PAGE_SHIFT)))):
        mem[i] = value


@kernel
def is_checked(mem: Memory) -> bool:
    """Whether free pages must be as they were filled."""
    return c.FILL_NONE < fixed(mem, c.H_FILL) <= c.FILL_ZERO


@unit
def zero_on_alloc(mem: Memory, pfn: Pfn, order: Order) -> None:
    """Zero a block for its new owner, unless the geometry has it zeroed by now."""
    if fixed(mem, c.H_FILL) == c.FILL_NONE or fixed(mem, c.H_FILL) == c.FILL_POISON:
        start = frame_at(mem, pfn)
        for i in range(start, start + (1 << (order + fixed(mem, c.H_PAGE_SHIFT)))):
            mem[i] = 0


@hot
def intact_on_alloc(mem: Memory, claim: Claim, pfn: Pfn, order: Order) -> bool:
    """Whether a block that is on no list is as it was freed; reports each page that is not.

    With init_on_alloc it is zero afterwards.
    """
    return fixed(mem, c.H_FILL) == c.FILL_NONE or ready_on_alloc(mem, claim, pfn, order)


@unit
def ready_on_alloc(mem: Memory, claim: Claim, pfn: Pfn, order: Order) -> bool:
    if is_checked(mem):
        return changed_pages(mem, claim, pfn, order, 0) == 0
    clear_on_alloc(mem, pfn, order)
    return True


@kernel
def clear_on_alloc(mem: Memory, pfn: Pfn, order: Order) -> None:
    """Make a block zero that is about to be given out, if the geometry says init_on_alloc."""
    if fixed(mem, c.H_FILL) == c.FILL_CLEAR:
        overwrite(mem, pfn, order)


@kernel
def intact_on_list(mem: Memory, claim: Claim, pfn: Pfn, w0: Word0) -> bool:
    """The same for a block in state FREE or PCP; lists may run through its first two words."""
    if not is_checked(mem):
        return True
    listed = type_of(w0) == c.T_PCP and detail_of(w0) & c.LABEL_ON_LIST != 0
    linked = not listed or fixed(mem, c.H_PCP_FORM) == c.PCP_LIST
    links = c.NODE_WORDS if linked and fixed(mem, c.H_LINKS) == c.LINKS_PAGE else 0
    return changed_pages(mem, claim, pfn, order_of(w0), links) == 0


@kernel
def is_unchanged(mem: Memory, pfn: Pfn, order: Order) -> bool:
    """Whether a block that is on no list is as it was freed; reports nothing."""
    if not is_checked(mem):
        return True
    for page in range(pfn, pfn + (1 << order)):
        if changed_word(mem, page, 0) >= 0:
            return False
    return True


@unit
def changed_pages(mem: Memory, claim: Claim, pfn: Pfn, order: Order, links: int) -> int:
    """Pages of a free block that were written to; the first changed word of each is reported.

    The first ``links`` words of the block belong to a list.
    """
    changed = 0
    skip = links
    for page in range(pfn, pfn + (1 << order)):
        at = changed_word(mem, page, skip)
        if at >= 0:
            report(mem, claim, c.I_BYTES, at, filling(mem), mem[at])
            changed += 1
        skip = 0
    return changed


@kernel
def changed_word(mem: Memory, pfn: Pfn, skip: int) -> WordIndex:
    """The first word of a page, behind the first ``skip``, that is not as it was filled; or -1."""
    value = filling(mem)
    start = frame_at(mem, pfn)
    for at in range(start + skip, start + (1 << fixed(mem, c.H_PAGE_SHIFT))):
        if mem[at] != value:
            return at
    return -1
