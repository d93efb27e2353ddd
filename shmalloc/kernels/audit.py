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
from shmalloc.kernels.bits import detail_of, mt_of, order_of, type_of, zone_of_word
from shmalloc.kernels.buddy import area_count, area_list, mergeable
from shmalloc.kernels.descriptor import is_free_head, legal_pair, page_state
from shmalloc.kernels.fill import intact_on_alloc
from shmalloc.kernels.lists import get_link, next_of, node_of, pfn_of, prev_of
from shmalloc.kernels.pcp import counted_pages, pcp_at, pcp_order
from shmalloc.kernels.reporting import report
from shmalloc.kernels.slots import list_label
from shmalloc.kernels.zone import block_mt, descriptor_at, zone_at
from shmalloc.units import Cpu, Memory, Migratetype, Order, Pfn, Word0, WordIndex, ZoneId, ZoneWords
from shmalloc.words import fixed, load, load2, load_relaxed


@unit
def audit(mem: Memory, cpu: Cpu) -> int:
    """Check every page invariant of every zone; returns the number of violations reported."""
    before = load(mem, c.H_REPORT_COUNT)
    for zone_id in range(fixed(mem, c.H_ZONES)):
        audit_zone(mem, cpu, zone_id)
    return load(mem, c.H_REPORT_COUNT) - before


@unit
def audit_teardown(mem: Memory, cpu: Cpu) -> int:
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
                cpu,
                c.I_TEARDOWN,
                c.AT_ZONE | zone_id,
                load_relaxed(mem, zone + c.Z_MANAGED),
                free,
            )
    audit(mem, cpu)
    return load(mem, c.H_REPORT_COUNT) - before


@kernel
def tally_at(mem: Memory, cpu: Cpu) -> WordIndex:
    return fixed(mem, c.H_AT_SCRATCH) + cpu * fixed(mem, c.H_SCRATCH_WORDS)


@unit
def audit_zone(mem: Memory, cpu: Cpu, zone_id: ZoneId) -> None:
    """Check one zone: its blocks, its lists, its per-CPU lists, and that they add up."""
    tally = tally_at(mem, cpu)
    for i in range(tally, tally + c.A_HEADS + c.ORDERS * c.MT_COUNT):
        mem[i] = 0
    audit_blocks(mem, cpu, zone_id, tally)
    audit_lists(mem, cpu, zone_id, tally)
    on_lists = 0
    for victim in range(fixed(mem, c.H_CPUS)):
        on_lists += audit_pcp(mem, cpu, zone_id, victim)
    if mem[tally + c.A_TYPES + c.T_PCP] != on_lists:
        report(
            mem, cpu, c.I_PCP_COUNT, c.AT_ZONE | zone_id, on_lists, mem[tally + c.A_TYPES + c.T_PCP]
        )
    audit_totals(mem, cpu, zone_id, tally)


@kernel
def audit_blocks(mem: Memory, cpu: Cpu, zone_id: ZoneId, tally: WordIndex) -> None:
    """Check that exactly one legal head of this zone covers every page."""
    zone = zone_at(mem, zone_id)
    pfn = fixed(mem, zone + c.Z_START)
    end = fixed(mem, zone + c.Z_END)
    while pfn < end:
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        kind = type_of(w0)
        span = 1 << order_of(w0)
        if kind == c.T_TAIL:
            report(mem, cpu, c.I_TAIL, pfn, 1, w0)
            span = 1
        elif not legal_pair(mem, w0, w1, pfn) or zone_of_word(w0) != zone_id or pfn + span > end:
            report(mem, cpu, c.I_FREE_HEAD, pfn, c.AT_ZONE | zone_id, w0)
            span = 1
        else:
            audit_inside(mem, cpu, pfn, span)
            at = tally + c.A_TYPES + kind
            mem[at] = mem[at] + span
            if kind == c.T_FREE:
                audit_free_head(mem, cpu, zone, tally, pfn, w0)
            if kind == c.T_FREE or kind == c.T_PCP:
                audit_unowned(mem, cpu, pfn, span)
        pfn += span


@kernel
def audit_inside(mem: Memory, cpu: Cpu, pfn: Pfn, span: int) -> None:
    """Check that no page inside a block has a head of its own."""
    first = descriptor_at(mem, pfn)
    for i in range(first + 2, first + 2 * span, 2):
        if load_relaxed(mem, i) & 0xF != c.T_TAIL:
            report(mem, cpu, c.I_TAIL, pfn + ((i - first) >> 1), pfn, load_relaxed(mem, i))


@kernel
def audit_free_head(
    mem: Memory, cpu: Cpu, zone: ZoneWords, tally: WordIndex, pfn: Pfn, w0: Word0
) -> None:
    """Check a free block: its pageblocks' type, merged as far as possible, its bytes unchanged."""
    order = order_of(w0)
    mt = mt_of(w0)
    at = tally + c.A_HEADS + order * c.MT_COUNT + mt
    mem[at] = mem[at] + 1
    for inside in range(pfn, pfn + (1 << order), 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)):
        if block_mt(mem, inside) != mt:
            report(mem, cpu, c.I_FREE_HEAD, inside, c.IS_MT | block_mt(mem, inside), c.IS_MT | mt)
    buddy = pfn ^ (1 << order)
    if (
        pfn < buddy
        and order < fixed(mem, c.H_MAX_ORDER)
        and mergeable(mem, zone, buddy, order, mt) != 0
    ):
        report(mem, cpu, c.I_UNMERGED, pfn, order, buddy)
    intact_on_alloc(mem, cpu, pfn, order)


@kernel
def audit_unowned(mem: Memory, cpu: Cpu, pfn: Pfn, span: int) -> None:
    """Check that the independent owner map names no owner of a page that is not allocated."""
    if fixed(mem, c.H_OWNER_MAP) != 0:
        at = fixed(mem, c.H_AT_OWNERS) + pfn
        for i in range(at, at + span):
            if load_relaxed(mem, i) != 0:
                report(mem, cpu, c.X_LOST_OWNER, pfn + i - at, 0, load_relaxed(mem, i))


@kernel
def audit_lists(mem: Memory, cpu: Cpu, zone_id: ZoneId, tally: WordIndex) -> None:
    """Check that each free list holds the heads of its order and type, as many as it says."""
    zone = zone_at(mem, zone_id)
    for order in range(fixed(mem, c.H_MAX_ORDER) + 1):
        for mt in range(c.MT_COUNT):
            length = audit_list(mem, cpu, zone, zone_id, order, mt)
            seen = mem[tally + c.A_HEADS + order * c.MT_COUNT + mt]
            if length != seen:
                report(
                    mem,
                    cpu,
                    c.I_FREE_HEAD,
                    c.AT_LIST | zone_id << 16 | order << 8 | mt,
                    seen,
                    length,
                )


@kernel
def audit_list(
    mem: Memory, cpu: Cpu, zone: ZoneWords, zone_id: ZoneId, order: Order, mt: Migratetype
) -> int:
    """Walk one list; returns its length. Stops if it is longer than its count (a cycle)."""
    head = area_list(zone, order, mt)
    list_tag = c.AT_LIST | zone_id << 16 | order << 8 | mt
    count = mem[area_count(zone, order, mt)]
    length = 0
    before = head
    node = next_of(mem, head)
    while node != head and length <= count:
        pfn = pfn_of(mem, node)
        inside = fixed(mem, zone + c.Z_START) <= pfn < fixed(mem, zone + c.Z_END)
        if not inside or node != node_of(mem, pfn) or prev_of(mem, node) != before:
            report(mem, cpu, c.I_LIST_LINKS, c.AT_WORD | node, c.AT_WORD | before, list_tag)
            return length
        w0 = page_state(mem, pfn)
        if not is_free_head(w0, zone_id, order) or mt_of(w0) != mt:
            report(mem, cpu, c.I_FREE_HEAD, pfn, list_tag, w0)
        length += 1
        before = node
        node = next_of(mem, node)
    if length != count:
        report(mem, cpu, c.I_LIST_LINKS, list_tag, count, length)
    return length


@kernel
def audit_pcp(mem: Memory, cpu: Cpu, zone_id: ZoneId, victim: Cpu) -> int:
    """Check one per-CPU structure: counts, and every block in state PCP. Returns its pages."""
    pcp = pcp_at(mem, victim, zone_id)
    counted = 0
    pages = 0
    for index in range(c.PCP_LISTS):
        length = mem[pcp + c.P_LENGTH + index]
        order = pcp_order(mem, index)
        counted += length * counted_pages(order)
        pages += length << order
        audit_pcp_list(mem, cpu, zone_id, victim, index, length)
    if counted != mem[pcp + c.P_COUNT]:
        report(
            mem,
            cpu,
            c.I_PCP_COUNT,
            c.AT_PCP | victim << 16 | zone_id << 8,
            counted,
            mem[pcp + c.P_COUNT],
        )
    return pages


@kernel
def audit_pcp_list(
    mem: Memory, cpu: Cpu, zone_id: ZoneId, victim: Cpu, index: int, length: int
) -> None:
    """Check one list: pages in state PCP with its label, of its order, in no isolated pageblock."""
    pcp = pcp_at(mem, victim, zone_id)
    list_tag = c.AT_PCP | victim << 16 | zone_id << 8 | (index + 1)
    node = mem[pcp + c.P_HEAD + index]
    for i in range(length):
        if fixed(mem, c.H_PCP_FORM) == c.PCP_ARRAY:
            pfn = mem[pcp + c.P_ARRAYS + index * fixed(mem, c.H_PCP_CAPACITY) + i]
        elif node == 0:
            report(mem, cpu, c.I_PCP_COUNT, list_tag, length, i)
            return
        else:
            pfn = pfn_of(mem, node)
            node = get_link(mem, node + 1)
        w0 = page_state(mem, pfn)
        right = type_of(w0) == c.T_PCP and detail_of(w0) == list_label(victim)
        if not right or order_of(w0) != pcp_order(mem, index) or zone_of_word(w0) != zone_id:
            report(mem, cpu, c.I_PCP_COUNT, pfn, list_tag, w0)
        elif block_mt(mem, pfn) == c.MT_ISOLATE:
            report(mem, cpu, c.I_PCP_COUNT, pfn, list_tag, c.IS_MT | c.MT_ISOLATE)


@kernel
def bad_counter(mem: Memory, cpu: Cpu, at: WordIndex, counted: int) -> None:
    """Report a counter of a zone that differs from the count."""
    report(mem, cpu, c.I_CONSERVATION, c.AT_WORD | at, counted, load_relaxed(mem, at))


@kernel
def audit_totals(mem: Memory, cpu: Cpu, zone_id: ZoneId, tally: WordIndex) -> None:
    """Check that the zone's counters are right and every managed page is in one place."""
    zone = zone_at(mem, zone_id)
    isolated = 0
    for order in range(fixed(mem, c.H_MAX_ORDER) + 1):
        isolated += mem[tally + c.A_HEADS + order * c.MT_COUNT + c.MT_ISOLATE] << order
    free = mem[tally + c.A_TYPES + c.T_FREE] - isolated
    if free != load_relaxed(mem, zone + c.Z_FREE):
        bad_counter(mem, cpu, zone + c.Z_FREE, free)
    if isolated != load_relaxed(mem, zone + c.Z_FREE_ISOLATED):
        bad_counter(mem, cpu, zone + c.Z_FREE_ISOLATED, isolated)
    managed = 0
    for kind in range(c.T_COUNT):
        if kind == c.T_FREE or kind == c.T_PCP or kind == c.T_ALLOCATED or kind == c.T_SLAB:
            managed += mem[tally + c.A_TYPES + kind]
    managed += mem[tally + c.A_TYPES + c.T_ISOLATED]
    if managed != load_relaxed(mem, zone + c.Z_MANAGED):
        bad_counter(mem, cpu, zone + c.Z_MANAGED, managed)
