"""The fields of a page descriptor as pure functions: no memory, no side effects.

Drawn in constants.py. Every new word 0 is made by ``next_word``, which bumps the version: a
compare-exchange that was prepared against an older life of the page then fails, even if the page
meanwhile went through free and back to the same state (ABA).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.units import Int, Migratetype, Order, PageType, Pfn, Word0, ZoneId


@kernel
def type_of(w0: Word0) -> PageType:
    return w0 & c.TYPE_MASK


@kernel
def order_of(w0: Word0) -> Order:
    return (w0 >> c.ORDER_SHIFT) & c.ORDER_MASK


@kernel
def zone_of_word(w0: Word0) -> ZoneId:
    return (w0 >> c.ZONE_SHIFT) & c.ZONE_MASK


@kernel
def mt_of(w0: Word0) -> Migratetype:
    return (w0 >> c.MT_SHIFT) & c.MT_MASK


@kernel
def version_of(w0: Word0) -> int:
    return (w0 >> c.VERSION_SHIFT) & c.VERSION_MASK


@kernel
def detail_of(w0: Word0) -> int:
    """The link field's bits, whose meaning differs for each type that stores no link there."""
    return (w0 >> c.LINK_SHIFT) & ((1 << c.LINK_BITS) - 1)


@kernel
def pack(
    kind: PageType, order: Order, zone_id: ZoneId, mt: Migratetype, detail: Int, version: int
) -> Word0:
    """A word 0 from its fields; each must be in range (nothing is masked)."""
    return (
        kind
        | (detail << c.LINK_SHIFT)
        | (order << c.ORDER_SHIFT)
        | (zone_id << c.ZONE_SHIFT)
        | (mt << c.MT_SHIFT)
        | (version << c.VERSION_SHIFT)
    )


@kernel
def successors(kind: PageType) -> int:
    """Bit set of the types that may follow ``kind``."""
    if kind == c.T_TAIL:
        return c.NEXT_OF_TAIL
    if kind == c.T_FREE:
        return c.NEXT_OF_FREE
    if kind == c.T_PCP:
        return c.NEXT_OF_PCP
    if kind == c.T_ALLOCATED:
        return c.NEXT_OF_ALLOCATED
    if kind == c.T_SLAB:
        return c.NEXT_OF_SLAB
    if kind == c.T_ISOLATED:
        return c.NEXT_OF_ISOLATED
    if kind == c.T_OFFLINE:
        return c.NEXT_OF_OFFLINE
    if kind == c.T_POISONED:
        return c.NEXT_OF_POISONED
    return c.NEXT_OF_RESERVED


@kernel
def next_word(
    w0: Word0, kind: PageType, order: Order, zone_id: ZoneId, mt: Migratetype, detail: Int
) -> Word0:
    """The pure transition: word 0 of the page's next state, or E_STATE if it is not allowed."""
    if (successors(w0 & c.TYPE_MASK) >> kind) & 1 == 0:
        return c.E_STATE
    version = ((w0 >> c.VERSION_SHIFT) + 1) & c.VERSION_MASK
    return pack(kind, order, zone_id, mt, detail, version)


@kernel
def wants_poison(w0: Word0) -> bool:
    """Whether the page is to be taken out of service when it is freed."""
    return w0 & c.POISON_BIT != 0


@kernel
def out_of_service(kind: PageType) -> int:
    """Detail of OFFLINE and POISONED: the type once more, or one flipped bit would turn one into
    the other."""
    return (1 << c.LINK_BITS) - 1 - kind


@kernel
def legal_head(w0: Word0, pfn: Pfn, max_order: Order, zones: int) -> bool:
    """Whether ``w0`` can describe a block that starts at ``pfn`` (any type but TAIL)."""
    kind = w0 & c.TYPE_MASK
    order = order_of(w0)
    if kind == c.T_TAIL or kind >= c.T_COUNT or order > max_order:
        return False
    return pfn & ((1 << order) - 1) == 0 and zone_of_word(w0) < zones
