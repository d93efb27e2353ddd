"""The oracle of bounds: what a per-CPU list counts is on it, it is not too long, and all is local.

Recounted from the words themselves, by formulas of its own: a kernel and an audit that ask one
function for "the pages of a block" agree with each other also when it is wrong.

::

    per-CPU lists   length <= capacity of the array; P_COUNT = pages on the small lists
                    pages of order 0 <= P_HIGH; all pages <= P_HIGH_MAX and a batch for each list
                    whole pageblocks of one type <= PCP_HUGE_KEEP; every page lies in the zone
    partial slabs   every slab lies on the node whose list it is on
                    empty ones <= K_MIN_PARTIAL, unless a process died between making and taking

A refill asks for a batch of the wanted order, whatever lies on the other lists: so pages of higher
orders may go beyond the high mark, single pages never do.

For a quiet moment: no process is inside an operation. Takes no lock and changes nothing but the
report table. What a list or its links say is believed only as far as the segment reaches; the audit
has more to say about a broken one.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.lists import get_link, next_of, pfn_of
from shmalloc.kernels.objects import node_part
from shmalloc.kernels.reporting import report
from shmalloc.units import CacheWords, Claim, Cpu, Memory, NodeId, PcpWords, Pfn, ZoneId
from shmalloc.words import fixed

SINGLE_LISTS = c.MT_PCP_TYPES  # the first lists: pages of order 0
SMALL_LISTS = c.PCP_ORDERS * c.MT_PCP_TYPES  # behind them the lists of whole pageblocks


@unit
def check_bounds(mem: Memory, claim: Claim, deaths: int) -> int:
    """Check all lists; the number of violations, each of them reported.

    ``deaths``: how many processes died, each of whom may have left an empty slab.
    """
    bad = 0
    for cpu in range(fixed(mem, c.H_CPUS)):
        for zone_id in range(fixed(mem, c.H_ZONES)):
            bad += check_cpu_lists(mem, claim, cpu, zone_id)
    for cache_id in range(fixed(mem, c.H_CACHES)):
        cache: CacheWords = fixed(mem, c.H_AT_CACHES) + cache_id * fixed(mem, c.H_CACHE_STRIDE)
        if mem[cache + cs.K_STATE] != cs.CACHE_NONE:
            for node_id in range(fixed(mem, c.H_NODES)):
                bad += check_slabs(mem, claim, cache, node_id, deaths)
    return bad


# --- per-CPU lists -------------------------------------------------------------------------------
@kernel
def check_cpu_lists(mem: Memory, claim: Claim, cpu: Cpu, zone_id: ZoneId) -> int:
    """Recount the lists of one CPU in one zone."""
    number = cpu * fixed(mem, c.H_ZONES) + zone_id
    pcp: PcpWords = fixed(mem, c.H_AT_PCP) + number * fixed(mem, c.H_PCP_STRIDE)
    where = c.AT_PCP | cpu << 16 | zone_id << 8
    single = 0
    small = 0
    bad = 0
    for index in range(c.PCP_LISTS):
        length = mem[pcp + c.P_LENGTH + index]
        most = c.PCP_HUGE_KEEP
        if index < SMALL_LISTS:
            most = fixed(mem, c.H_PAGES)
            small += length << (index // c.MT_PCP_TYPES)
        if index < SINGLE_LISTS:
            single += length
        if fixed(mem, c.H_PCP_FORM) == c.PCP_ARRAY:
            most = min(most, fixed(mem, c.H_PCP_CAPACITY))
        wrong = at_most(mem, claim, where | (index + 1), most, length)
        if wrong == 0:
            wrong = check_places(mem, claim, pcp, index, zone_id)
        bad += wrong
    if mem[pcp + c.P_COUNT] != small:
        report(mem, claim, c.I_PCP_COUNT, where, small, mem[pcp + c.P_COUNT])
        bad += 1
    bad += at_most(mem, claim, where, mem[pcp + c.P_HIGH], single)
    return bad + at_most(mem, claim, where, most_pages(mem, pcp), small)


@kernel
def most_pages(mem: Memory, pcp: PcpWords) -> int:
    """Pages that all small lists together may hold: refills of higher orders ignore the mark."""
    most = mem[pcp + c.P_HIGH_MAX]
    for order in range(1, c.PCP_ORDERS):
        most += c.MT_PCP_TYPES * max(mem[pcp + c.P_BATCH], 1 << order)
    return most


@kernel
def at_most(mem: Memory, claim: Claim, where: int, most: int, found: int) -> int:
    """1 and one report unless ``found`` is from 0 to ``most``."""
    if 0 <= found <= most:
        return 0
    report(mem, claim, c.I_PCP_COUNT, where, most, found)
    return 1


@kernel
def check_places(mem: Memory, claim: Claim, pcp: PcpWords, index: int, zone_id: ZoneId) -> int:
    """Check that every block of a list lies in the list's zone, and so on its node."""
    zone = fixed(mem, c.H_AT_ZONES) + zone_id * c.Z_STRIDE
    array = pcp + c.P_ARRAYS + index * fixed(mem, c.H_PCP_CAPACITY)
    node = mem[pcp + c.P_HEAD + index]
    for i in range(mem[pcp + c.P_LENGTH + index]):
        if fixed(mem, c.H_PCP_FORM) == c.PCP_ARRAY:
            pfn: Pfn = mem[array + i]
        else:
            if not 0 < node < fixed(mem, c.H_WORDS) - 1:
                return 0  # a broken chain
            pfn = pfn_of(mem, node)
            node = get_link(mem, node + 1)
        if not fixed(mem, zone + c.Z_START) <= pfn < fixed(mem, zone + c.Z_END):
            report(mem, claim, c.I_PCP_COUNT, pfn, c.AT_ZONE | zone_id, index)
            return 1
    return 0


# --- slabs ---------------------------------------------------------------------------------------
@kernel
def check_slabs(mem: Memory, claim: Claim, cache: CacheWords, node_id: NodeId, deaths: int) -> int:
    """Check the partial slabs of a cache on one node: their place, and how many are empty."""
    lists = node_part(mem, cache, node_id)
    head = lists + cs.KN_PARTIAL
    at = next_of(mem, head)
    empty = 0
    bad = 0
    for _ in range(fixed(mem, c.H_PAGES)):
        if at == head or not fixed(mem, c.H_AT_FRAMES) <= at < fixed(mem, c.H_WORDS) - 1:
            break
        pfn = head_below(mem, (at - fixed(mem, c.H_AT_FRAMES)) >> fixed(mem, c.H_PAGE_SHIFT))
        if node_of_page(mem, pfn) != node_id:
            report(mem, claim, c.I_SLAB, pfn, node_id, node_of_page(mem, pfn))
            bad += 1
        counters = mem[fixed(mem, c.H_AT_MEMMAP) + pfn * c.D_WORDS + 1]
        if counters >> c.S_INUSE_SHIFT & c.S_INUSE_MASK == 0:
            empty += 1
        at = next_of(mem, at)
    if mem[cache + cs.K_STATE] == cs.CACHE_LIVE and empty > mem[cache + cs.K_MIN_PARTIAL] + deaths:
        where = c.AT_WORD | (lists + cs.KN_NR_PARTIAL)
        report(mem, claim, c.I_SLAB, where, mem[cache + cs.K_MIN_PARTIAL], empty)
        bad += 1
    return bad


@kernel
def head_below(mem: Memory, pfn: Pfn) -> Pfn:
    """The first page at or below ``pfn`` that is no tail."""
    at = pfn
    while at > 0 and mem[fixed(mem, c.H_AT_MEMMAP) + at * c.D_WORDS] & c.TYPE_MASK == c.T_TAIL:
        at -= 1
    return at


@kernel
def node_of_page(mem: Memory, pfn: Pfn) -> int:
    """The node of the zone whose pages ``pfn`` is one of; -1: of none."""
    for zone_id in range(fixed(mem, c.H_ZONES)):
        zone = fixed(mem, c.H_AT_ZONES) + zone_id * c.Z_STRIDE
        if fixed(mem, zone + c.Z_START) <= pfn < fixed(mem, zone + c.Z_END):
            return fixed(mem, zone + c.Z_NODE)
    return -1
