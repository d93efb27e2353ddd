"""The audit: walk everything, recount everything, believe nothing (docs/invariants.md).

Runs while nobody else moves (a stutter point, a test, the end): then every invariant holds
exactly. It only reads, and reports each thing it finds wrong with the invariant's number. Work
words in the scratch area of the auditing CPU::

    [ type ][ free heads seen, by order and migratetype ]  pages by type, then ORDERS * MT_COUNT

A full audit of 262,144 pages takes a few milliseconds compiled.
"""

from __future__ import annotations

from shmalloc.constants import (
    AT_LIST, AT_PCP, AT_WORD, AT_ZONE, A_HEADS, A_TYPES, H_AT_OWNERS, H_AT_SCRATCH, H_CPUS,
    H_MAX_ORDER, H_OWNER_MAP, H_PAGEBLOCK_ORDER, H_PCP_CAPACITY, H_PCP_FORM, H_REPORT_COUNT,
    H_SCRATCH_WORDS, H_ZONES, IS_MT, I_CONSERVATION, I_FREE_HEAD, I_LIST_LINKS, I_PCP_COUNT, I_TAIL,
    I_TEARDOWN, I_UNMERGED, MT_COUNT, MT_ISOLATE, ORDERS, PCP_ARRAY, PCP_LISTS, P_ARRAYS, P_COUNT,
    P_HEAD, P_LENGTH, T_ALLOCATED, T_COUNT, T_FREE, T_ISOLATED, T_PCP, T_SLAB, T_TAIL, X_LOST_OWNER,
    Z_END, Z_FREE, Z_FREE_ISOLATED, Z_MANAGED, Z_START,
)  # fmt: skip
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import mt_of, order_of, type_of, zone_of_word
from shmalloc.kernels.buddy import area_count, area_list, mergeable
from shmalloc.kernels.fill import intact_on_alloc
from shmalloc.kernels.descriptor import is_free_head, legal_pair, page_state
from shmalloc.kernels.lists import get_link, next_of, node_of, pfn_of, prev_of
from shmalloc.kernels.reporting import report
from shmalloc.kernels.pcp import counted_pages, pcp_at, pcp_order
from shmalloc.kernels.zone import block_mt, descriptor_at, zone_at
from shmalloc.units import Cpu, Memory, Migratetype, Order, Pfn, Word0, WordIndex, ZoneId, ZoneWords
from shmalloc.words import fixed, load, load2, load_relaxed


@unit
def audit(mem: Memory, cpu: Cpu) -> int:
    """Check every page invariant of every zone; returns the number of violations reported."""
    before = load(mem, H_REPORT_COUNT)
    for zone_id in range(fixed(mem, H_ZONES)):
        audit_zone(mem, cpu, zone_id)
    return load(mem, H_REPORT_COUNT) - before


@unit
def audit_teardown(mem: Memory, cpu: Cpu) -> int:
    """After everything was freed and drained: all managed pages are free, and the audit is clean.

    Together with I_UNMERGED this means that every block has merged as far as it can.
    """
    before = load(mem, H_REPORT_COUNT)
    for zone_id in range(fixed(mem, H_ZONES)):
        zone = zone_at(mem, zone_id)
        free = load_relaxed(mem, zone + Z_FREE) + load_relaxed(mem, zone + Z_FREE_ISOLATED)
        if free != load_relaxed(mem, zone + Z_MANAGED):
            report(
                mem, cpu, I_TEARDOWN, AT_ZONE | zone_id, load_relaxed(mem, zone + Z_MANAGED), free
            )
    audit(mem, cpu)
    return load(mem, H_REPORT_COUNT) - before


@kernel
def tally_at(mem: Memory, cpu: Cpu) -> WordIndex:
    return fixed(mem, H_AT_SCRATCH) + cpu * fixed(mem, H_SCRATCH_WORDS)


@unit
def audit_zone(mem: Memory, cpu: Cpu, zone_id: ZoneId) -> None:
    """One zone: its blocks, its lists, its per-CPU lists, and that they add up."""
    tally = tally_at(mem, cpu)
    for i in range(tally, tally + A_HEADS + ORDERS * MT_COUNT):
        mem[i] = 0
    audit_blocks(mem, cpu, zone_id, tally)
    audit_lists(mem, cpu, zone_id, tally)
    on_lists = 0
    for victim in range(fixed(mem, H_CPUS)):
        on_lists += audit_pcp(mem, cpu, zone_id, victim)
    if mem[tally + A_TYPES + T_PCP] != on_lists:
        report(mem, cpu, I_PCP_COUNT, AT_ZONE | zone_id, on_lists, mem[tally + A_TYPES + T_PCP])
    audit_totals(mem, cpu, zone_id, tally)


@kernel
def audit_blocks(mem: Memory, cpu: Cpu, zone_id: ZoneId, tally: WordIndex) -> None:
    """Every page is covered by exactly one legal head of this zone."""
    zone = zone_at(mem, zone_id)
    pfn = fixed(mem, zone + Z_START)
    end = fixed(mem, zone + Z_END)
    while pfn < end:
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        kind = type_of(w0)
        span = 1 << order_of(w0)
        if kind == T_TAIL:
            report(mem, cpu, I_TAIL, pfn, 1, w0)
            span = 1
        elif not legal_pair(mem, w0, w1, pfn) or zone_of_word(w0) != zone_id or pfn + span > end:
            report(mem, cpu, I_FREE_HEAD, pfn, AT_ZONE | zone_id, w0)
            span = 1
        else:
            audit_inside(mem, cpu, pfn, span)
            at = tally + A_TYPES + kind
            mem[at] = mem[at] + span
            if kind == T_FREE:
                audit_free_head(mem, cpu, zone, zone_id, tally, pfn, w0)
            if kind == T_FREE or kind == T_PCP:
                audit_unowned(mem, cpu, pfn, span)
        pfn += span


@kernel
def audit_inside(mem: Memory, cpu: Cpu, pfn: Pfn, span: int) -> None:
    """No page inside a block has a head of its own."""
    first = descriptor_at(mem, pfn)
    for i in range(first + 2, first + 2 * span, 2):
        if load_relaxed(mem, i) & 0xF != T_TAIL:
            report(mem, cpu, I_TAIL, pfn + ((i - first) >> 1), pfn, load_relaxed(mem, i))


@kernel
def audit_free_head(
    mem: Memory, cpu: Cpu, zone: ZoneWords, zone_id: ZoneId, tally: WordIndex, pfn: Pfn, w0: Word0
) -> None:
    """A free block: the type of all its pageblocks, merged as far as it goes, bytes as left."""
    order = order_of(w0)
    mt = mt_of(w0)
    at = tally + A_HEADS + order * MT_COUNT + mt
    mem[at] = mem[at] + 1
    for inside in range(pfn, pfn + (1 << order), 1 << fixed(mem, H_PAGEBLOCK_ORDER)):
        if block_mt(mem, inside) != mt:
            report(mem, cpu, I_FREE_HEAD, inside, IS_MT | block_mt(mem, inside), IS_MT | mt)
    buddy = pfn ^ (1 << order)
    if pfn < buddy and order < fixed(mem, H_MAX_ORDER) and mergeable(mem, zone, buddy, order, mt):
        report(mem, cpu, I_UNMERGED, pfn, order, buddy)
    intact_on_alloc(mem, cpu, pfn, order)


@kernel
def audit_unowned(mem: Memory, cpu: Cpu, pfn: Pfn, span: int) -> None:
    """The independent owner map knows no owner of a page that nobody was given."""
    if fixed(mem, H_OWNER_MAP) != 0:
        at = fixed(mem, H_AT_OWNERS) + pfn
        for i in range(at, at + span):
            if load_relaxed(mem, i) != 0:
                report(mem, cpu, X_LOST_OWNER, pfn + i - at, 0, load_relaxed(mem, i))


@kernel
def audit_lists(mem: Memory, cpu: Cpu, zone_id: ZoneId, tally: WordIndex) -> None:
    """Each free list holds exactly the heads of its order and type, and as many as it says."""
    zone = zone_at(mem, zone_id)
    for order in range(fixed(mem, H_MAX_ORDER) + 1):
        for mt in range(MT_COUNT):
            length = audit_list(mem, cpu, zone, zone_id, order, mt)
            seen = mem[tally + A_HEADS + order * MT_COUNT + mt]
            if length != seen:
                report(
                    mem, cpu, I_FREE_HEAD, AT_LIST | zone_id << 16 | order << 8 | mt, seen, length
                )


@kernel
def audit_list(
    mem: Memory, cpu: Cpu, zone: ZoneWords, zone_id: ZoneId, order: Order, mt: Migratetype
) -> int:
    """Walk one list; returns its length. Stops where it is longer than its count (a cycle)."""
    head = area_list(zone, order, mt)
    list_tag = AT_LIST | zone_id << 16 | order << 8 | mt
    count = mem[area_count(zone, order, mt)]
    length = 0
    before = head
    node = next_of(mem, head)
    while node != head and length <= count:
        pfn = pfn_of(mem, node)
        inside = fixed(mem, zone + Z_START) <= pfn < fixed(mem, zone + Z_END)
        if not inside or node != node_of(mem, pfn) or prev_of(mem, node) != before:
            report(mem, cpu, I_LIST_LINKS, AT_WORD | node, AT_WORD | before, list_tag)
            return length
        w0 = page_state(mem, pfn)
        if not is_free_head(w0, zone_id, order) or mt_of(w0) != mt:
            report(mem, cpu, I_FREE_HEAD, pfn, list_tag, w0)
        length += 1
        before = node
        node = next_of(mem, node)
    if length != count:
        report(mem, cpu, I_LIST_LINKS, list_tag, count, length)
    return length


@kernel
def audit_pcp(mem: Memory, cpu: Cpu, zone_id: ZoneId, victim: Cpu) -> int:
    """One per-CPU structure: counts, and every block in state PCP. Returns its pages."""
    pcp = pcp_at(mem, victim, zone_id)
    counted = 0
    pages = 0
    for index in range(PCP_LISTS):
        length = mem[pcp + P_LENGTH + index]
        order = pcp_order(mem, index)
        counted += length * counted_pages(order)
        pages += length << order
        audit_pcp_list(mem, cpu, zone_id, victim, index, length)
    if counted != mem[pcp + P_COUNT]:
        report(
            mem, cpu, I_PCP_COUNT, AT_PCP | victim << 16 | zone_id << 8, counted, mem[pcp + P_COUNT]
        )
    return pages


@kernel
def audit_pcp_list(
    mem: Memory, cpu: Cpu, zone_id: ZoneId, victim: Cpu, index: int, length: int
) -> None:
    """One list: pages in state PCP, of its order, and of no pageblock that is isolated."""
    pcp = pcp_at(mem, victim, zone_id)
    list_tag = AT_PCP | victim << 16 | zone_id << 8 | (index + 1)
    node = mem[pcp + P_HEAD + index]
    for i in range(length):
        if fixed(mem, H_PCP_FORM) == PCP_ARRAY:
            pfn = mem[pcp + P_ARRAYS + index * fixed(mem, H_PCP_CAPACITY) + i]
        elif node == 0:
            report(mem, cpu, I_PCP_COUNT, list_tag, length, i)
            return
        else:
            pfn = pfn_of(mem, node)
            node = get_link(mem, node + 1)
        w0 = page_state(mem, pfn)
        right = type_of(w0) == T_PCP and order_of(w0) == pcp_order(mem, index)
        if not right or zone_of_word(w0) != zone_id:
            report(mem, cpu, I_PCP_COUNT, pfn, list_tag, w0)
        elif block_mt(mem, pfn) == MT_ISOLATE:
            report(mem, cpu, I_PCP_COUNT, pfn, list_tag, IS_MT | MT_ISOLATE)


@kernel
def bad_counter(mem: Memory, cpu: Cpu, at: WordIndex, counted: int) -> None:
    """Report a counter of a zone that does not say what was counted."""
    report(mem, cpu, I_CONSERVATION, AT_WORD | at, counted, load_relaxed(mem, at))


@kernel
def audit_totals(mem: Memory, cpu: Cpu, zone_id: ZoneId, tally: WordIndex) -> None:
    """The zone's counters equal what was counted, and every managed page is in one place."""
    zone = zone_at(mem, zone_id)
    isolated = 0
    for order in range(fixed(mem, H_MAX_ORDER) + 1):
        isolated += mem[tally + A_HEADS + order * MT_COUNT + MT_ISOLATE] << order
    free = mem[tally + A_TYPES + T_FREE] - isolated
    if free != load_relaxed(mem, zone + Z_FREE):
        bad_counter(mem, cpu, zone + Z_FREE, free)
    if isolated != load_relaxed(mem, zone + Z_FREE_ISOLATED):
        bad_counter(mem, cpu, zone + Z_FREE_ISOLATED, isolated)
    managed = 0
    for kind in range(T_COUNT):
        if kind == T_FREE or kind == T_PCP or kind == T_ALLOCATED or kind == T_SLAB:
            managed += mem[tally + A_TYPES + kind]
    managed += mem[tally + A_TYPES + T_ISOLATED]
    if managed != load_relaxed(mem, zone + Z_MANAGED):
        bad_counter(mem, cpu, zone + Z_MANAGED, managed)
