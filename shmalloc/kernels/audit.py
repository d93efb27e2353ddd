"""The audit: walk everything, recount everything, trust nothing (docs/invariants.md).

Runs while no other CPU does (a stutter point, a test, the end): then every invariant holds exactly.
It only reads, and reports each violation with the invariant's number. Work words in the scratch
area of the auditing CPU::

    [ type ][ free heads seen, by order and migratetype ]  pages by type, then ORDERS * MT_COUNT

A full audit of 262,144 pages takes a few milliseconds compiled.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.audit_deferred import audit_kept
from shmalloc.kernels.audit_header import audit_header
from shmalloc.kernels.audit_page import is_plain_tail, legal_words
from shmalloc.kernels.audit_pageblock import audit_pageblocks
from shmalloc.kernels.audit_pcp import audit_pcp_node
from shmalloc.kernels.audit_report import complain, is_link, outside, wrong_word
from shmalloc.kernels.audit_watermark import audit_watermarks
from shmalloc.kernels.bits import mt_of, order_of, type_of, zone_of_word
from shmalloc.kernels.buddy import mergeable
from shmalloc.kernels.descriptor import is_free_head, legal_pair, page_state
from shmalloc.kernels.fill import intact_on_list
from shmalloc.kernels.free_area import has_lists
from shmalloc.kernels.lists import next_of, node_of, pfn_of, prev_of
from shmalloc.kernels.rebuild import report_links
from shmalloc.kernels.repair import has_wrong_link
from shmalloc.kernels.reporting import cpu_of, report
from shmalloc.kernels.store_check import area_length, check_area
from shmalloc.kernels.zone import area_count, area_list, block_mt, descriptor_at, zone_at
from shmalloc.units import (
    Claim,
    Memory,
    Migratetype,
    Order,
    Pfn,
    Word0,
    WordIndex,
    ZoneId,
    ZoneWords,
)
from shmalloc.words import fixed, load, load2, load_relaxed


@unit
def audit(mem: Memory, claim: Claim) -> int:
    """Check every page invariant of every zone; returns the number of violations reported."""
    before = load(mem, c.H_REPORT_COUNT)
    bad = audit_header(mem, claim)
    if bad != 0:  # it leads everywhere else
        return bad
    for zone_id in range(fixed(mem, c.H_ZONES)):
        audit_zone(mem, claim, zone_id)
    return load(mem, c.H_REPORT_COUNT) - before


@unit
def audit_teardown(mem: Memory, claim: Claim) -> int:
    """After everything is freed and drained: check that all managed pages are free, and audit.

    Together with I_UNMERGED this means that every block has merged as far as it can.
    """
    before = load(mem, c.H_REPORT_COUNT)
    for zone_id in range(fixed(mem, c.H_ZONES)):
        zone = zone_at(mem, zone_id)
        free = load_relaxed(mem, zone + c.Z_FREE) + load_relaxed(mem, zone + c.Z_FREE_ISOLATED)
        if free != load_relaxed(mem, zone + c.Z_MANAGED):
            report(
                mem,
                claim,
                c.I_TEARDOWN,
                c.AT_ZONE | zone_id,
                load_relaxed(mem, zone + c.Z_MANAGED),
                free,
            )
    audit(mem, claim)
    return load(mem, c.H_REPORT_COUNT) - before


@kernel
def tally_at(mem: Memory, claim: Claim) -> WordIndex:
    return fixed(mem, c.H_AT_SCRATCH) + cpu_of(mem, claim) * fixed(mem, c.H_SCRATCH_WORDS)


@unit
def audit_zone(mem: Memory, claim: Claim, zone_id: ZoneId) -> None:
    """Check one zone: its blocks, its lists, its per-CPU lists, and that they add up."""
    if audit_place(mem, claim, zone_id) != 0:
        return
    tally = tally_at(mem, claim)
    for i in range(tally, tally + c.A_HEADS + c.ORDERS * c.MT_COUNT):
        mem[i] = 0
    audit_blocks(mem, claim, zone_id, tally)
    audit_lists(mem, claim, zone_id, tally)
    audit_kept(mem, claim, zone_id, tally)
    audit_pageblocks(mem, claim, zone_id)
    audit_totals(mem, claim, zone_id, tally)
    audit_watermarks(mem, claim, zone_at(mem, zone_id))
    wrong_word(mem, claim, c.I_FIXED, zone_at(mem, zone_id) + c.Z_DAMAGED, 0)


@kernel
def audit_place(mem: Memory, claim: Claim, zone_id: ZoneId) -> int:
    """Check that the zones divide the pfn space in order; walks rely on their ends."""
    zone = zone_at(mem, zone_id)
    end = fixed(mem, zone + c.Z_END)
    bad = outside(mem, claim, zone + c.Z_START, 0, end - 1)
    bad += outside(mem, claim, zone + c.Z_NODE, 0, fixed(mem, c.H_NODES) - 1)
    bad += wrong_word(mem, claim, c.I_FIXED, zone + c.Z_INDEX, zone_id)
    following = fixed(mem, c.H_PAGES)
    if zone_id + 1 < fixed(mem, c.H_ZONES):
        following = fixed(mem, zone + c.Z_STRIDE + c.Z_START)
    return bad + complain(mem, claim, c.I_FIXED, c.AT_WORD | (zone + c.Z_END), following, end)


@kernel
def audit_blocks(mem: Memory, claim: Claim, zone_id: ZoneId, tally: WordIndex) -> None:
    """Check that exactly one legal head of this zone covers every page."""
    zone = zone_at(mem, zone_id)
    pfn = fixed(mem, zone + c.Z_START)
    end = fixed(mem, zone + c.Z_END)
    while pfn < end:
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        kind = type_of(w0)
        span = 1 << order_of(w0)
        if kind == c.T_TAIL:
            report(mem, claim, c.I_TAIL, pfn, 1, w0)
            span = 1
        elif not legal_pair(mem, w0, w1, pfn) or zone_of_word(w0) != zone_id or pfn + span > end:
            report(mem, claim, c.I_FREE_HEAD, pfn, c.AT_ZONE | zone_id, w0)
            span = 1
        else:
            if not legal_words(mem, w0, w1):
                report(mem, claim, c.I_FREE_HEAD, pfn, c.AT_ZONE | zone_id, w0)
            audit_inside(mem, claim, pfn, span)
            at = tally + c.A_TYPES + kind
            mem[at] = mem[at] + span
            if kind == c.T_FREE:
                audit_free_head(mem, claim, zone, tally, pfn, w0)
            if kind == c.T_PCP:
                mem[tally + c.A_PCP_PFNS] = mem[tally + c.A_PCP_PFNS] + pfn
                audit_pcp_node(mem, claim, pfn, w0)
            if kind == c.T_FREE or kind == c.T_PCP:
                intact_on_list(mem, claim, pfn, w0)
            if kind != c.T_ALLOCATED:
                audit_unowned(mem, claim, pfn, span)
        pfn += span


@kernel
def audit_inside(mem: Memory, claim: Claim, pfn: Pfn, span: int) -> None:
    """Check that no page inside a block has a head of its own."""
    first = descriptor_at(mem, pfn)
    for i in range(first + 2, first + 2 * span, 2):
        if not is_plain_tail(load_relaxed(mem, i), load_relaxed(mem, i + 1)):
            report(mem, claim, c.I_TAIL, pfn + ((i - first) >> 1), pfn, load_relaxed(mem, i))


@kernel
def audit_free_head(
    mem: Memory, claim: Claim, zone: ZoneWords, tally: WordIndex, pfn: Pfn, w0: Word0
) -> None:
    """Check a free block: its pageblocks' type, and that it is merged as far as possible."""
    order = order_of(w0)
    mt = mt_of(w0)
    at = tally + c.A_HEADS + order * c.MT_COUNT + mt
    mem[at] = mem[at] + 1
    if has_wrong_link(mem, zone, pfn, w0):
        report_links(mem, claim, zone, pfn)
    for inside in range(pfn, pfn + (1 << order), 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)):
        if block_mt(mem, inside) != mt:
            report(mem, claim, c.I_FREE_HEAD, inside, c.IS_MT | block_mt(mem, inside), c.IS_MT | mt)
    buddy = pfn ^ (1 << order)
    if (
        pfn < buddy
        and order < fixed(mem, c.H_MAX_ORDER)
        and mergeable(mem, zone, buddy, order, mt) != 0
    ):
        report(mem, claim, c.I_UNMERGED, pfn, order, buddy)


@kernel
def audit_unowned(mem: Memory, claim: Claim, pfn: Pfn, span: int) -> None:
    """Check that the independent owner map names no owner of a page that is not allocated."""
    if fixed(mem, c.H_OWNER_MAP) != 0:
        at = fixed(mem, c.H_AT_OWNERS) + pfn
        for i in range(at, at + span):
            if load_relaxed(mem, i) != 0:
                report(mem, claim, c.X_LOST_OWNER, pfn + i - at, 0, load_relaxed(mem, i))


@kernel
def audit_lists(mem: Memory, claim: Claim, zone_id: ZoneId, tally: WordIndex) -> None:
    """Check that each free list holds the heads of its order and type, as many as it says."""
    zone = zone_at(mem, zone_id)
    for order in range(fixed(mem, c.H_MAX_ORDER) + 1):
        for mt in range(c.MT_COUNT):
            length = audit_area(mem, claim, zone, zone_id, order, mt)
            seen = mem[tally + c.A_HEADS + order * c.MT_COUNT + mt]
            if length != seen:
                report(
                    mem,
                    claim,
                    c.I_FREE_HEAD,
                    c.AT_LIST | zone_id << 16 | order << 8 | mt,
                    seen,
                    length,
                )


@kernel
def audit_area(
    mem: Memory, claim: Claim, zone: ZoneWords, zone_id: ZoneId, order: Order, mt: Migratetype
) -> int:
    """Check what lists the free blocks of an order and type; returns how many it lists."""
    if has_lists(mem):
        return audit_list(mem, claim, zone, zone_id, order, mt)
    check_area(mem, claim, zone, order, mt)
    length = area_length(mem, zone, order, mt)
    list_tag = c.AT_LIST | zone_id << 16 | order << 8 | mt
    complain(mem, claim, c.I_LIST_LINKS, list_tag, mem[area_count(zone, order, mt)], length)
    return length


@kernel
def audit_list(
    mem: Memory, claim: Claim, zone: ZoneWords, zone_id: ZoneId, order: Order, mt: Migratetype
) -> int:
    """Walk one list; returns its length. Stops if it is longer than the zone (a cycle)."""
    head = area_list(zone, order, mt)
    list_tag = c.AT_LIST | zone_id << 16 | order << 8 | mt
    count = mem[area_count(zone, order, mt)]
    most = fixed(mem, zone + c.Z_END) - fixed(mem, zone + c.Z_START)
    length = 0
    before = head
    node = next_of(mem, head)
    plain = is_link(mem[head]) and is_link(mem[head + 1])
    while node != head and length <= most:
        pfn = pfn_of(mem, node)
        inside = fixed(mem, zone + c.Z_START) <= pfn < fixed(mem, zone + c.Z_END)
        if not inside or node != node_of(mem, pfn) or prev_of(mem, node) != before:
            report(mem, claim, c.I_LIST_LINKS, c.AT_WORD | node, c.AT_WORD | before, list_tag)
            return length
        if fixed(mem, c.H_LINKS) != c.LINKS_DESCRIPTOR:
            plain = plain and is_link(mem[node]) and is_link(mem[node + 1])
        if not plain:
            report(mem, claim, c.I_LIST_LINKS, c.AT_WORD | node, list_tag, c.AT_WORD | before)
            return length
        w0 = page_state(mem, pfn)
        if not is_free_head(w0, zone_id, order) or mt_of(w0) != mt:
            report(mem, claim, c.I_FREE_HEAD, pfn, list_tag, w0)
        length += 1
        before = node
        node = next_of(mem, node)
    if length != count:
        report(mem, claim, c.I_LIST_LINKS, list_tag, count, length)
    elif not plain or prev_of(mem, head) != before:
        report(mem, claim, c.I_LIST_LINKS, c.AT_WORD | head, c.AT_WORD | before, list_tag)
    return length


@kernel
def audit_totals(mem: Memory, claim: Claim, zone_id: ZoneId, tally: WordIndex) -> None:
    """Check that the zone's counters are right and every managed page is in one place."""
    zone = zone_at(mem, zone_id)
    isolated = 0
    for order in range(fixed(mem, c.H_MAX_ORDER) + 1):
        isolated += mem[tally + c.A_HEADS + order * c.MT_COUNT + c.MT_ISOLATE] << order
    free = mem[tally + c.A_TYPES + c.T_FREE] - isolated
    wrong_word(mem, claim, c.I_CONSERVATION, zone + c.Z_FREE, free)
    wrong_word(mem, claim, c.I_CONSERVATION, zone + c.Z_FREE_ISOLATED, isolated)
    managed = 0
    for kind in range(c.T_COUNT):
        if kind == c.T_FREE or kind == c.T_PCP or kind == c.T_ALLOCATED or kind == c.T_SLAB:
            managed += mem[tally + c.A_TYPES + kind]
    managed += mem[tally + c.A_TYPES + c.T_ISOLATED]
    wrong_word(mem, claim, c.I_CONSERVATION, zone + c.Z_MANAGED, managed)
