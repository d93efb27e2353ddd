"""Check the deferred list of a zone, and that each block in state PCP is on some list.

A block on it is in state PCP, with the label of a life, in the zone of the list; its node is one of
a linked per-CPU list, whose two words tell each other's value.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.audit_pcp import audit_pcps, audit_sums, next_on_list
from shmalloc.kernels.bits import order_of
from shmalloc.kernels.deferred import is_deferred
from shmalloc.kernels.descriptor import in_range, page_state
from shmalloc.kernels.lists import node_of, pfn_of
from shmalloc.kernels.reporting import report
from shmalloc.kernels.zone import zone_at
from shmalloc.units import Claim, Memory, WordIndex, ZoneId
from shmalloc.words import fixed, load


@unit
def audit_kept(mem: Memory, claim: Claim, zone_id: ZoneId, tally: WordIndex) -> None:
    """Check the per-CPU lists and the deferred list against the pages that the walk has seen."""
    mem[tally + c.A_ON_LISTS] = 0
    mem[tally + c.A_LISTED_PFNS] = 0
    audit_pcps(mem, claim, zone_id, tally)
    audit_deferred(mem, claim, zone_id, tally)
    audit_sums(mem, claim, zone_id, tally)


@kernel
def audit_deferred(mem: Memory, claim: Claim, zone_id: ZoneId, tally: WordIndex) -> None:
    """Check the list block by block; its blocks are added to the tally."""
    zone = zone_at(mem, zone_id)
    list_tag = c.AT_ZONE | zone_id
    node = load(mem, zone + c.Z_DEFERRED)
    left = fixed(mem, zone + c.Z_END) - fixed(mem, zone + c.Z_START)
    while node > 0 and left > 0:
        pfn = pfn_of(mem, node)
        if not in_range(mem, pfn) or node != node_of(mem, pfn):
            report(mem, claim, c.I_LIST_LINKS, c.AT_WORD | (zone + c.Z_DEFERRED), list_tag, node)
            return
        w0 = page_state(mem, pfn)
        if not is_deferred(w0, zone_id):
            report(mem, claim, c.I_LIST_LINKS, pfn, list_tag, w0)
            return
        if fixed(mem, c.H_LINKS) < c.LINKS_DESCRIPTOR:
            if mem[node] ^ mem[node + 1] != c.LINK_MASK:
                report(mem, claim, c.I_LIST_LINKS, pfn, list_tag, w0)
        mem[tally + c.A_ON_LISTS] = mem[tally + c.A_ON_LISTS] + (1 << order_of(w0))
        mem[tally + c.A_LISTED_PFNS] = mem[tally + c.A_LISTED_PFNS] + pfn
        node = next_on_list(mem, claim, node, list_tag)
        left -= 1
    if node != 0:  # it leads on for longer than the zone has pages, or nowhere
        report(mem, claim, c.I_LIST_LINKS, c.AT_WORD | (zone + c.Z_DEFERRED), list_tag, node)
