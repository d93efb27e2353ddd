"""The fields of a page descriptor as pure functions: no memory, no side effects.

Drawn in constants.py. Every new word 0 is made by ``next_word``, which bumps the version: a
compare-exchange that was prepared against an older life of the page then fails, even if the page
went through free and back to the very same state meanwhile (ABA).
"""

from __future__ import annotations

from shmalloc.constants import (
    E_STATE, LINK_BITS, LINK_SHIFT, MT_MASK, MT_SHIFT, NEXT_OF_ALLOCATED, NEXT_OF_FREE,
    NEXT_OF_ISOLATED, NEXT_OF_OFFLINE, NEXT_OF_PCP, NEXT_OF_POISONED, NEXT_OF_RESERVED,
    NEXT_OF_SLAB, NEXT_OF_TAIL, ORDER_MASK, ORDER_SHIFT, POISON_BIT, T_ALLOCATED, T_COUNT, T_FREE,
    T_ISOLATED, T_OFFLINE, T_PCP, T_POISONED, T_SLAB, T_TAIL, TYPE_MASK, VERSION_MASK,
    VERSION_SHIFT, ZONE_MASK, ZONE_SHIFT,
)  # fmt: skip
from shmalloc.dialect import kernel
from shmalloc.units import Int, Migratetype, Order, PageType, Pfn, Word0, ZoneId


@kernel
def type_of(w0: Word0) -> PageType:
    return w0 & TYPE_MASK


@kernel
def order_of(w0: Word0) -> Order:
    return (w0 >> ORDER_SHIFT) & ORDER_MASK


@kernel
def zone_of_word(w0: Word0) -> ZoneId:
    return (w0 >> ZONE_SHIFT) & ZONE_MASK


@kernel
def mt_of(w0: Word0) -> Migratetype:
    return (w0 >> MT_SHIFT) & MT_MASK


@kernel
def version_of(w0: Word0) -> int:
    return (w0 >> VERSION_SHIFT) & VERSION_MASK


@kernel
def detail_of(w0: Word0) -> int:
    """The link field's bits, which mean something else in each type that stores no link there."""
    return (w0 >> LINK_SHIFT) & ((1 << LINK_BITS) - 1)


@kernel
def pack(
    kind: PageType, order: Order, zone_id: ZoneId, mt: Migratetype, detail: Int, version: int
) -> Word0:
    """A word 0 from its fields; each must be in range (nothing is masked)."""
    return (
        kind
        | (detail << LINK_SHIFT)
        | (order << ORDER_SHIFT)
        | (zone_id << ZONE_SHIFT)
        | (mt << MT_SHIFT)
        | (version << VERSION_SHIFT)
    )


@kernel
def successors(kind: PageType) -> int:
    """Bit set of the types that may follow ``kind``."""
    if kind == T_TAIL:
        return NEXT_OF_TAIL
    if kind == T_FREE:
        return NEXT_OF_FREE
    if kind == T_PCP:
        return NEXT_OF_PCP
    if kind == T_ALLOCATED:
        return NEXT_OF_ALLOCATED
    if kind == T_SLAB:
        return NEXT_OF_SLAB
    if kind == T_ISOLATED:
        return NEXT_OF_ISOLATED
    if kind == T_OFFLINE:
        return NEXT_OF_OFFLINE
    if kind == T_POISONED:
        return NEXT_OF_POISONED
    return NEXT_OF_RESERVED


@kernel
def next_word(
    w0: Word0, kind: PageType, order: Order, zone_id: ZoneId, mt: Migratetype, detail: Int
) -> Word0:
    """The pure transition: word 0 of the page's next state, or E_STATE where it is not allowed."""
    if (successors(w0 & TYPE_MASK) >> kind) & 1 == 0:
        return E_STATE
    version = ((w0 >> VERSION_SHIFT) + 1) & VERSION_MASK
    return pack(kind, order, zone_id, mt, detail, version)


@kernel
def wants_poison(w0: Word0) -> bool:
    """Whether the page is to be taken out of service when it is freed."""
    return w0 & POISON_BIT != 0


@kernel
def legal_head(w0: Word0, pfn: Pfn, max_order: Order, zones: int) -> bool:
    """Whether ``w0`` can describe a block that starts at ``pfn`` (any type but TAIL)."""
    kind = w0 & TYPE_MASK
    order = order_of(w0)
    if kind == T_TAIL or kind >= T_COUNT or order > max_order:
        return False
    return pfn & ((1 << order) - 1) == 0 and zone_of_word(w0) < zones
