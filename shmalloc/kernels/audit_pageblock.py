"""Check the words of pageblocks: a type, or an isolation with the type to restore.

::

    0, 1, 2                                    its type
    [ label + 1 of the isolator | saved | 3 ]  isolated, until the isolator ends it
    [ 0                         | saved | 3 ]  offline: only OFFLINE and POISONED pages

A pageblock that a zone's edge cuts is read through that edge; one that no zone has is not read.
Free blocks agree with their pageblock's type (audit.py); where no page is free, each of the three
types is right.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.audit_page import names_a_claim
from shmalloc.kernels.bits import order_of, type_of
from shmalloc.kernels.descriptor import head_of, page_state
from shmalloc.kernels.reporting import report
from shmalloc.kernels.zone import block_mt, block_word, isolator_of, zone_at
from shmalloc.units import Claim, Memory, Pfn, ZoneId
from shmalloc.words import fixed, load_relaxed


@unit
def audit_pageblocks(mem: Memory, claim: Claim, zone_id: ZoneId) -> None:
    """Check every pageblock of a zone, and that offline pages are in offline pageblocks."""
    zone = zone_at(mem, zone_id)
    step = 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)
    end = fixed(mem, zone + c.Z_END)
    pfn = fixed(mem, zone + c.Z_START)
    while pfn < end:
        border = (pfn & -step) + step
        if not legal_block(mem, accepted_word(mem, pfn, min(border, end))):
            word = block_word(mem, pfn)
            report(mem, claim, c.I_FREE_HEAD, pfn, c.AT_WORD | word, load_relaxed(mem, word))
        else:
            audit_offline(mem, claim, pfn, min(border, end))
        pfn = border


@kernel
def accepted_word(mem: Memory, start: Pfn, end: Pfn) -> int:
    """The word of a pageblock without its bit for unaccepted memory, where that may be set.

    It may be while no page of the pageblock, which has a word of its own, is in use.
    """
    word = load_relaxed(mem, block_word(mem, start))
    if fixed(mem, c.H_INIT) & c.INIT_UNACCEPTED == 0 or word & c.BLOCK_UNACCEPTED == 0:
        return word
    pfn = max(head_of(mem, start), 0)
    while pfn < end:
        w0 = page_state(mem, pfn)
        kind = type_of(w0)
        if kind == c.T_PCP or kind == c.T_ALLOCATED or kind == c.T_SLAB:
            return word
        pfn += 1 if kind == c.T_TAIL else 1 << order_of(w0)
    return word & ~c.BLOCK_UNACCEPTED


@kernel
def legal_block(mem: Memory, word: int) -> bool:
    """Whether the word of a pageblock has one of the three forms."""
    if word & c.MT_MASK != c.MT_ISOLATE:
        return 0 <= word < c.MT_PCP_TYPES
    saved = (word >> c.BLOCK_SAVED_SHIFT) & c.MT_MASK
    holder = word >> c.BLOCK_ISOLATOR_SHIFT
    rest = word & ((1 << c.BLOCK_ISOLATOR_SHIFT) - 1)
    if saved >= c.MT_PCP_TYPES or rest != saved << c.BLOCK_SAVED_SHIFT | c.MT_ISOLATE:
        return False
    if holder == 0:
        return True
    return names_a_claim(mem, holder - 1)


@kernel
def audit_offline(mem: Memory, claim: Claim, start: Pfn, end: Pfn) -> None:
    """Check that [start, end), in one pageblock, is offline as a whole or not at all."""
    offline = block_mt(mem, start) == c.MT_ISOLATE and isolator_of(mem, start) < 0
    pfn = max(head_of(mem, start), 0)  # it may begin inside a larger block
    while pfn < end:
        w0 = page_state(mem, pfn)
        kind = type_of(w0)
        span = 1
        if kind != c.T_TAIL:
            span = 1 << order_of(w0)
            wrong = offline and kind != c.T_OFFLINE and kind != c.T_POISONED
            if wrong or (not offline and kind == c.T_OFFLINE):
                report(mem, claim, c.I_FREE_HEAD, pfn, c.AT_WORD | block_word(mem, pfn), w0)
                return
        pfn += span
