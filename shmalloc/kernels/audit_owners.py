"""Compare the owners in page descriptors with the independent owner map, where there is one.

A run's workloads write an owner's id into the map for each page that they allocated, and remove it
before they free it. So a page whose map has an owner is allocated to him. A worker that dies
between an allocation and its entry leaves pages that the map does not know, and so does user code
that enters nothing; in a run without either, the map is complete: every page of every block is in
it, except the allocator's own.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.audit_header import audit_header
from shmalloc.kernels.bits import legal_head, order_of, type_of
from shmalloc.kernels.reporting import report
from shmalloc.kernels.zone import descriptor_at
from shmalloc.units import Claim, Memory, Owner, Pfn
from shmalloc.words import fixed, load2, load_relaxed


@unit
def audit_owners(mem: Memory, claim: Claim, complete: int) -> int:
    """Check the owner of every allocated page; ``complete`` is 1 if the map has all of them."""
    bad = audit_header(mem, claim)
    if bad != 0 or fixed(mem, c.H_OWNER_MAP) == 0:
        return bad
    pages = fixed(mem, c.H_PAGES)
    pfn = 0
    while pfn < pages:
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        span = 1
        if legal_head(w0, pfn, fixed(mem, c.H_MAX_ORDER), fixed(mem, c.H_ZONES)):
            span = min(1 << order_of(w0), pages - pfn)
            if type_of(w0) == c.T_ALLOCATED:
                needed = int(complete != 0 and not is_own(w1))
                bad += audit_block_owner(mem, claim, pfn, span, w1, needed)
        pfn += span
    return bad


@kernel
def is_own(owner: Owner) -> bool:
    """Whether an owner word is the allocator's own: the map has no entries for such pages."""
    if owner >> c.OWNER_STRUCTURE_SHIFT == c.OWNER_STRUCTURE >> c.OWNER_STRUCTURE_SHIFT:
        return True
    if owner & c.OWNER_ARRAY != 0:
        return True
    if owner >> c.OWNER_CLAIM_BITS == c.OWNER_ARRAYS >> c.OWNER_CLAIM_BITS:
        return True
    if owner == c.OWNER_SHARED or owner == cs.OWNER_LARGE:
        return True
    return owner == cs.OWNER_SLAB or owner == cs.OWNER_SHEAVES or owner == cs.OWNER_FROZEN


@kernel
def audit_block_owner(
    mem: Memory, claim: Claim, pfn: Pfn, span: int, owner: Owner, needed: int
) -> int:
    """Check the map's words of one block; 1 if one of them has another owner, or ``needed`` and
    none."""
    at = fixed(mem, c.H_AT_OWNERS) + pfn
    for i in range(span):
        entered = load_relaxed(mem, at + i)
        if entered != owner and (entered != 0 or needed != 0):
            report(mem, claim, c.X_LOST_OWNER, pfn + i, entered, owner)
            return 1
    return 0
