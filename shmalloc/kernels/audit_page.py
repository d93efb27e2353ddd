"""What the two words of a page's descriptor may say, bit by bit, at a quiet moment.

::

    type       order, zone   migratetype  poison mark   detail              word 1
    TAIL       0, 0          0            0             0                   0
    FREE       checked       of its list  0             0, or a link        0, or a link
    PCP        checked       any          0             label of its lists  0, or a link
               on a zone's deferred list, any mark      a label             0, or a link
    ALLOCATED  checked       any          order 0 only  a label             owner, not negative
    SLAB       checked       any          order 0 only  cache, list         counters
    ISOLATED   never seen at a quiet moment: only the holder of the zone lock may see one
    OFFLINE, POISONED        any          0             the type once more  0
    RESERVED   0, its zone   0            0             0                   0

"checked" is what audit.py does with the block as a whole. The version, and the migratetype of a
page that is not free, may be anything: no kernel believes them. Links are of the link store
"descriptor". An allocated page's label names a claim; which life of it only its recovery asks.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.bits import detail_of, mt_of, order_of, out_of_service, type_of, wants_poison
from shmalloc.kernels.slots import label_claim, list_label
from shmalloc.units import Memory, Word0, Word1
from shmalloc.words import fixed, load_relaxed

VERSION_FIELD = c.VERSION_MASK << c.VERSION_SHIFT


@kernel
def without_version(w0: Word0) -> int:
    return w0 & ~VERSION_FIELD


@kernel
def is_plain_tail(w0: Word0, w1: Word1) -> bool:
    """Whether a page inside a block says nothing but TAIL."""
    return without_version(w0) == c.T_TAIL and w1 == 0


@kernel
def links_in_descriptor(mem: Memory) -> bool:
    return fixed(mem, c.H_LINKS) == c.LINKS_DESCRIPTOR


@kernel
def is_link_or_none(w1: Word1, linked: bool) -> bool:
    """Whether word 1 of a page without an owner is 0; or a link, if ``linked``."""
    return w1 & c.LINK_MASK == w1 if linked else w1 == 0


@kernel
def free_word1_links(mem: Memory) -> bool:
    """Whether word 1 of a free block says where it is listed: a link, or its entry of an index."""
    return links_in_descriptor(mem) or fixed(mem, c.H_LINKS) == c.LINKS_INDEX


@kernel
def pcp_word1_links(mem: Memory) -> bool:
    """Whether word 1 of a block on a per-CPU list links it to the next one."""
    in_descriptor = fixed(mem, c.H_LINKS) >= c.LINKS_DESCRIPTOR
    return in_descriptor and fixed(mem, c.H_PCP_FORM) == c.PCP_LIST


@kernel
def legal_words(mem: Memory, w0: Word0, w1: Word1) -> bool:
    """Whether the words of a head are legal apart from its place: order, zone, pageblock, list."""
    kind = type_of(w0)
    if w0 < 0 or w1 < 0 or mt_of(w0) >= c.MT_COUNT:
        return False
    if kind == c.T_ALLOCATED or kind == c.T_SLAB:
        return legal_used(mem, w0)
    if kind == c.T_PCP and detail_of(w0) & c.LABEL_ON_LIST == 0:  # deferred: audit_deferred.py
        linked = fixed(mem, c.H_LINKS) >= c.LINKS_DESCRIPTOR
        return names_a_claim(mem, detail_of(w0)) and is_link_or_none(w1, linked)
    if wants_poison(w0):
        return False
    if kind == c.T_FREE:
        plain = detail_of(w0) == 0 or links_in_descriptor(mem)
        return plain and is_link_or_none(w1, free_word1_links(mem))
    if kind == c.T_PCP:
        cpu = detail_of(w0) & c.CLAIM_MASK
        known = cpu < fixed(mem, c.H_CPUS) and detail_of(w0) == list_label(cpu)
        return known and is_link_or_none(w1, pcp_word1_links(mem))
    if kind == c.T_OFFLINE or kind == c.T_POISONED:
        return detail_of(w0) == out_of_service(kind) and w1 == 0
    return w0 & ~(c.TYPE_MASK | c.ZONE_MASK << c.ZONE_SHIFT) == 0 and w1 == 0  # RESERVED


@kernel
def legal_used(mem: Memory, w0: Word0) -> bool:
    """The same for word 0 of a block that has an owner."""
    if wants_poison(w0) and order_of(w0) != 0:
        return False
    if type_of(w0) == c.T_SLAB:
        return detail_of(w0) >> (c.SLAB_LIST_SHIFT + 2) == 0
    return names_a_claim(mem, detail_of(w0))


@kernel
def names_a_claim(mem: Memory, holder: int) -> bool:
    """Whether a label is that of a life of a claim that was ever taken."""
    return 0 <= holder < c.LABEL_ON_LIST and label_claim(holder) < load_relaxed(
        mem, c.H_CLAIMS_USED
    )
