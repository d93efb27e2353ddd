"""Check the per-CPU page lists of one zone: counts, blocks, links, marks.

A block on a list is in state PCP, of the list's order and zone, labelled with the list's CPU, and
in no isolated pageblock. Each block in state PCP is on one list, of a CPU or the deferred one
(audit_deferred.py): there are as many pages, and their pfns add up to the same sum (a list that
names one block twice, and so another not at all, differs in the sum alone).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.audit_report import complain, outside
from shmalloc.kernels.bits import detail_of, order_of, type_of, zone_of_word
from shmalloc.kernels.descriptor import in_range, page_state
from shmalloc.kernels.lists import get_link, node_of, pfn_of
from shmalloc.kernels.pcp_lists import counted_pages, pcp_order
from shmalloc.kernels.reporting import report
from shmalloc.kernels.slots import list_label
from shmalloc.kernels.zone import block_mt, pcp_at, zone_at
from shmalloc.units import Claim, Cpu, Memory, Pfn, Word0, WordIndex, ZoneId
from shmalloc.words import fixed, load_relaxed


@unit
def audit_pcps(mem: Memory, claim: Claim, zone_id: ZoneId, tally: WordIndex) -> None:
    """Check the lists of every CPU; their blocks are added to the tally."""
    for victim in range(fixed(mem, c.H_CPUS)):
        audit_pcp(mem, claim, zone_id, victim, tally)


@unit
def audit_sums(mem: Memory, claim: Claim, zone_id: ZoneId, tally: WordIndex) -> None:
    """Check that the lists hold the blocks in state PCP that the walk has seen, each once."""
    where = c.AT_ZONE | zone_id
    seen = mem[tally + c.A_TYPES + c.T_PCP]
    bad = complain(mem, claim, c.I_PCP_COUNT, where, mem[tally + c.A_ON_LISTS], seen)
    if bad == 0:
        complain(
            mem,
            claim,
            c.I_PCP_COUNT,
            where,
            mem[tally + c.A_PCP_PFNS],
            mem[tally + c.A_LISTED_PFNS],
        )


@kernel
def audit_pcp(mem: Memory, claim: Claim, zone_id: ZoneId, victim: Cpu, tally: WordIndex) -> None:
    """Check one structure; its blocks are added to the tally."""
    pcp = pcp_at(mem, victim, zone_id)
    counted = 0
    for index in range(c.PCP_LISTS):
        length = mem[pcp + c.P_LENGTH + index]
        order = pcp_order(mem, index)
        counted += length * counted_pages(order)
        most = list_capacity(mem, zone_id)
        if outside(mem, claim, pcp + c.P_LENGTH + index, 0, most) == 0:
            audit_pcp_list(mem, claim, zone_id, victim, index, tally)
    complain(
        mem,
        claim,
        c.I_PCP_COUNT,
        c.AT_PCP | victim << 16 | zone_id << 8,
        counted,
        mem[pcp + c.P_COUNT],
    )
    outside(mem, claim, pcp + c.P_HIGH, mem[pcp + c.P_HIGH_MIN], mem[pcp + c.P_HIGH_MAX])
    outside(mem, claim, pcp + c.P_FACTOR, 0, c.PCP_FACTOR_MAX)


@kernel
def audit_pcp_node(mem: Memory, claim: Claim, pfn: Pfn, w0: Word0) -> None:
    """Check the two words of the node of a block on a list, which tell each other's value."""
    in_descriptor = fixed(mem, c.H_LINKS) >= c.LINKS_DESCRIPTOR
    if fixed(mem, c.H_PCP_FORM) == c.PCP_LIST and not in_descriptor:
        node = node_of(mem, pfn)
        if mem[node] ^ mem[node + 1] != c.LINK_MASK:
            place = (detail_of(w0) & c.CLAIM_MASK) << 16 | zone_of_word(w0) << 8
            report(mem, claim, c.I_LIST_LINKS, pfn, c.AT_PCP | place, w0)


@kernel
def list_capacity(mem: Memory, zone_id: ZoneId) -> int:
    """The most blocks that a list can hold."""
    if fixed(mem, c.H_PCP_FORM) == c.PCP_ARRAY:
        return fixed(mem, c.H_PCP_CAPACITY)
    zone = zone_at(mem, zone_id)
    return fixed(mem, zone + c.Z_END) - fixed(mem, zone + c.Z_START)


@kernel
def audit_pcp_list(
    mem: Memory, claim: Claim, zone_id: ZoneId, victim: Cpu, index: int, tally: WordIndex
) -> None:
    """Check one list block by block; its length is in range."""
    pcp = pcp_at(mem, victim, zone_id)
    list_tag = c.AT_PCP | victim << 16 | zone_id << 8 | (index + 1)
    length = mem[pcp + c.P_LENGTH + index]
    linked = fixed(mem, c.H_PCP_FORM) == c.PCP_LIST
    node = mem[pcp + c.P_HEAD + index]
    for i in range(length):
        if linked:
            pfn = pfn_of(mem, node)
            if node <= 0 or not in_range(mem, pfn) or node != node_of(mem, pfn):
                report(mem, claim, c.I_PCP_COUNT, list_tag, length, i)
                return
            node = next_on_list(mem, claim, node, list_tag)
        else:
            pfn = mem[pcp + c.P_ARRAYS + index * fixed(mem, c.H_PCP_CAPACITY) + i]
            if not in_range(mem, pfn):
                report(mem, claim, c.I_PCP_COUNT, list_tag, length, pfn)
                return
        audit_pcp_block(mem, claim, zone_id, pfn, list_tag)
        mem[tally + c.A_ON_LISTS] = mem[tally + c.A_ON_LISTS] + (1 << pcp_order(mem, index))
        mem[tally + c.A_LISTED_PFNS] = mem[tally + c.A_LISTED_PFNS] + pfn
    if linked:
        complain(mem, claim, c.I_PCP_COUNT, list_tag, 0, node)


@kernel
def next_on_list(mem: Memory, claim: Claim, node: WordIndex, list_tag: int) -> WordIndex:
    """The node behind ``node`` on a per-CPU list in list form; -1, reported, for a bad link."""
    following = get_link(mem, node + 1)
    word = load_relaxed(mem, node + 1)
    if fixed(mem, c.H_LINKS) >= c.LINKS_DESCRIPTOR:
        word = word & c.LINK_MASK
    if word != following << 3:
        report(mem, claim, c.I_PCP_COUNT, c.AT_WORD | (node + 1), list_tag, 0)
        return -1
    return following


@kernel
def audit_pcp_block(mem: Memory, claim: Claim, zone_id: ZoneId, pfn: Pfn, list_tag: int) -> None:
    """Check one block of a list."""
    w0 = page_state(mem, pfn)
    index = (list_tag & 0xFF) - 1
    victim = (list_tag >> 16) & 0xFFFF
    right = type_of(w0) == c.T_PCP and order_of(w0) == pcp_order(mem, index)
    if not right or zone_of_word(w0) != zone_id or detail_of(w0) != list_label(victim):
        report(mem, claim, c.I_PCP_COUNT, pfn, list_tag, w0)
    elif block_mt(mem, pfn) == c.MT_ISOLATE:
        report(mem, claim, c.I_PCP_COUNT, pfn, list_tag, c.IS_MT | c.MT_ISOLATE)
