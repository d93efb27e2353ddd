"""Zones: a range of pfns on one node, with its lock, free areas and counters.

::

    Z_LOCK | Z_FREE Z_FREE_ISOLATED Z_DAMAGED Z_BOOST Z_DEFERRED | Z_START Z_END Z_NODE Z_INDEX
    Z_MANAGED Z_MIN Z_LOW Z_HIGH | Z_STORE Z_ROOM | counts | lists

``account`` is the only place where a zone's page counters change; its caller holds Z_LOCK. They are
written atomically because hints and reports read them without the lock. A pageblock
(2^H_PAGEBLOCK_ORDER pages) has one word: its migratetype, above it the type to restore when an
isolation ends, and the label of its isolator::

    [ label + 1 of the isolator | 6 bits | saved type: 2 | unaccepted | 5 bits | type: 2 ]
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel
from shmalloc.kernels.reporting import claim_at, cpu_at, cpu_of
from shmalloc.kernels.watermark import set_watermarks
from shmalloc.units import (
    Claim,
    Cpu,
    Label,
    Memory,
    Migratetype,
    Order,
    PcpWords,
    Pfn,
    WordIndex,
    ZoneId,
    ZoneWords,
)
from shmalloc.words import fixed, load_relaxed, store_relaxed


@kernel
def zone_at(mem: Memory, zone_id: ZoneId) -> ZoneWords:
    """Word index of zone ``zone_id``."""
    return fixed(mem, c.H_AT_ZONES) + zone_id * c.Z_STRIDE


@kernel
def zone_of(mem: Memory, pfn: Pfn) -> ZoneId:
    """Index of the zone that spans ``pfn``, or E_INVAL."""
    for zone_id in range(fixed(mem, c.H_ZONES)):
        zone = zone_at(mem, zone_id)
        if fixed(mem, zone + c.Z_START) <= pfn < fixed(mem, zone + c.Z_END):
            return zone_id
    return c.E_INVAL


@kernel
def zonelist_length(mem: Memory, claim: Claim) -> int:
    """How many zones ``claim`` may allocate from."""
    return fixed(mem, zonelist_at(mem, claim))


@kernel
def zonelist_at(mem: Memory, claim: Claim) -> WordIndex:
    """The fallback order of the CPU that claim ``claim`` is on."""
    return zonelist_of_cpu(mem, cpu_of(mem, claim))


@kernel
def zonelist_of_cpu(mem: Memory, cpu: Cpu) -> WordIndex:
    """The fallback order of CPU ``cpu``: its length, then the zones."""
    node = fixed(mem, cpu_at(mem, cpu) + c.C_NODE)
    return fixed(mem, c.H_AT_ZONELISTS) + node * (fixed(mem, c.H_ZONES) + 1)


@kernel
def pcp_at(mem: Memory, cpu: Cpu, zone_id: ZoneId) -> PcpWords:
    """Word index of the per-CPU page lists of (CPU, zone) (pcp.py)."""
    stride = fixed(mem, c.H_PCP_STRIDE)
    return fixed(mem, c.H_AT_PCP) + (cpu * fixed(mem, c.H_ZONES) + zone_id) * stride


@hot
def own_pcp(mem: Memory, claim: Claim, zone_id: ZoneId) -> PcpWords:
    """The CPU's per-CPU structure of zone ``zone_id``: one load for the home zone."""
    slot = claim_at(mem, claim)
    if zone_id == fixed(mem, slot + c.C_HOME_ZONE):
        return fixed(mem, slot + c.C_HOME_PCP)
    return pcp_at(mem, cpu_of(mem, claim), zone_id)


@kernel
def zonelist_zone(mem: Memory, claim: Claim, index: int) -> ZoneId:
    """The ``index``-th zone in the fallback order of the CPU's home node: its own zones first."""
    return fixed(mem, zonelist_at(mem, claim) + 1 + index)


@kernel
def descriptor_at(mem: Memory, pfn: Pfn) -> WordIndex:
    """Word index of the two-word descriptor of ``pfn``."""
    return fixed(mem, c.H_AT_MEMMAP) + pfn * 2


@kernel
def frame_at(mem: Memory, pfn: Pfn) -> WordIndex:
    """Word index of the first word of page ``pfn``."""
    return fixed(mem, c.H_AT_FRAMES) + (pfn << fixed(mem, c.H_PAGE_SHIFT))


@kernel
def pfn_of_word(mem: Memory, i: WordIndex) -> Pfn:
    """The page that word ``i`` lies in."""
    return (i - fixed(mem, c.H_AT_FRAMES)) >> fixed(mem, c.H_PAGE_SHIFT)


@kernel
def area_list(zone: ZoneWords, order: Order, mt: Migratetype) -> WordIndex:
    """Word index of the list head of free blocks of ``order`` and ``mt``."""
    return zone + c.Z_LISTS + (order * c.MT_COUNT + mt) * 2


@kernel
def area_count(zone: ZoneWords, order: Order, mt: Migratetype) -> WordIndex:
    """Word index of nr_free for ``order`` and ``mt``."""
    return zone + c.Z_COUNTS + order * c.MT_COUNT + mt


@kernel
def account(mem: Memory, zone: ZoneWords, mt: Migratetype, pages: int) -> None:
    """Add ``pages`` (may be negative) to the zone's free pages; under the zone lock."""
    at = zone + c.Z_FREE
    if mt == c.MT_ISOLATE:
        at = zone + c.Z_FREE_ISOLATED
    store_relaxed(mem, at, load_relaxed(mem, at) + pages)


@kernel
def unmanage(mem: Memory, zone: ZoneWords, pages: int) -> None:
    """Take ``pages`` off the zone's managed count; zone lock held."""
    at = zone + c.Z_MANAGED
    store_relaxed(mem, at, load_relaxed(mem, at) - pages)
    set_watermarks(mem, zone)


@kernel
def block_word(mem: Memory, pfn: Pfn) -> WordIndex:
    return fixed(mem, c.H_AT_BLOCKS) + (pfn >> fixed(mem, c.H_PAGEBLOCK_ORDER))


@kernel
def block_mt(mem: Memory, pfn: Pfn) -> Migratetype:
    """Migratetype of the pageblock of ``pfn``: stable under the zone lock, a hint without it."""
    return load_relaxed(mem, block_word(mem, pfn)) & c.MT_MASK


@kernel
def set_block_mt(mem: Memory, pfn: Pfn, mt: Migratetype) -> None:
    """Retype the pageblock; under the zone lock, and the caller moves its free pages."""
    at = block_word(mem, pfn)
    store_relaxed(mem, at, (load_relaxed(mem, at) & ~c.MT_MASK) | mt)


@kernel
def isolate_block(mem: Memory, pfn: Pfn, holder: Label) -> None:
    """Retype the pageblock ISOLATE for label ``holder``; one write, with the type to restore."""
    at = block_word(mem, pfn)
    word = load_relaxed(mem, at)
    saved = (word & c.MT_MASK) << c.BLOCK_SAVED_SHIFT | (word & c.BLOCK_UNACCEPTED)
    store_relaxed(mem, at, (holder + 1) << c.BLOCK_ISOLATOR_SHIFT | saved | c.MT_ISOLATE)


@kernel
def isolator_of(mem: Memory, pfn: Pfn) -> Label:
    """Label of the pageblock's isolator; -1 if it has none, or is to stay isolated."""
    return (load_relaxed(mem, block_word(mem, pfn)) >> c.BLOCK_ISOLATOR_SHIFT) - 1


@kernel
def keep_isolated(mem: Memory, pfn: Pfn) -> None:
    """Let the isolation outlive its maker: the pageblock is offline."""
    at = block_word(mem, pfn)
    store_relaxed(mem, at, load_relaxed(mem, at) & ((1 << c.BLOCK_ISOLATOR_SHIFT) - 1))


@kernel
def restore_block(mem: Memory, pfn: Pfn) -> None:
    """Restore the type of an isolated pageblock, in one write."""
    at = block_word(mem, pfn)
    word = load_relaxed(mem, at)
    saved = (word >> c.BLOCK_SAVED_SHIFT) & c.MT_MASK
    store_relaxed(mem, at, saved | (word & c.BLOCK_UNACCEPTED))
