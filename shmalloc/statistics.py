"""``Statistics``: a snapshot of a segment's counters, which change while they are read.

Zone counters are exact at each moment, event counters those of each claim; sums
over several of them are consistent only while no process works.
"""

from __future__ import annotations

from dataclasses import dataclass

from shmalloc import constants as c
from shmalloc.layout import Layout
from shmalloc.report_text import Words
from shmalloc.segment import Segment

EVENTS: dict[str, int] = {
    name.removeprefix("EV_").lower(): value
    for name, value in vars(c).items()
    if name.startswith("EV_") and name != "EV_COUNT"
}


@dataclass(frozen=True)
class ZoneStatistics:
    """One zone in pages; ``free_blocks[order]`` counts blocks of all migratetypes."""

    zone: int
    node: int
    start_pfn: int
    end_pfn: int
    managed_pages: int
    free_pages: int
    isolated_pages: int
    free_blocks: tuple[int, ...]
    watermarks: tuple[int, int, int]


@dataclass(frozen=True)
class Statistics:
    """A segment at a moment; ``events`` counts since its creation, over all claims."""

    page_bytes: int
    zones: tuple[ZoneStatistics, ...]
    pcp_pages: int
    events: dict[str, int]
    violations: int

    @property
    def managed_pages(self) -> int:
        return sum(zone.managed_pages for zone in self.zones)

    @property
    def free_pages(self) -> int:
        """Pages that can be allocated: on the zones' lists and on the per-CPU lists."""
        return self.pcp_pages + sum(zone.free_pages for zone in self.zones)

    @property
    def used_pages(self) -> int:
        isolated = sum(zone.isolated_pages for zone in self.zones)
        return self.managed_pages - self.free_pages - isolated

    @property
    def free_bytes(self) -> int:
        return self.free_pages * self.page_bytes


@dataclass(frozen=True)
class CacheStatistics:
    """A snapshot of a cache. ``live_objects`` leaves out those that wait in sheaves."""

    name: str
    object_bytes: int
    stride_bytes: int
    slab_pages: int
    slabs: int
    objects: int
    live_objects: int
    sheaf_objects: int


def statistics(segment: Segment) -> Statistics:
    """Read all counters of ``segment``."""
    return statistics_of(segment.ram, segment.layout)


def statistics_of(words: Words, layout: Layout) -> Statistics:
    """The counters of a segment of which only the words up to its page descriptors are at hand."""
    geometry = layout.geometry
    zones = range(len(geometry.zones))
    cpus = range(geometry.cpus)
    claims = range(min(words[c.H_CLAIMS_USED], geometry.claims))
    return Statistics(
        page_bytes=geometry.page_bytes,
        zones=tuple(_zone(words, layout, z) for z in zones),
        pcp_pages=sum(listed_pages(words, layout, cpu, z) for cpu in cpus for z in zones),
        events={
            name: sum(words[layout.cpu(claim) + c.C_EVENTS + which] for claim in claims)
            for name, which in EVENTS.items()
        },
        violations=words[c.H_REPORT_COUNT],
    )


def listed_pages(words: Words, layout: Layout, cpu: int, z: int) -> int:
    """Pages on the lists of one CPU and zone; P_COUNT leaves out those of whole pageblocks."""
    at = layout.pcp(cpu, z)
    whole = at + c.P_LENGTH + c.PCP_ORDERS * c.MT_PCP_TYPES
    blocks = sum(words[whole + mt] for mt in range(c.MT_PCP_TYPES))
    return words[at + c.P_COUNT] + (blocks << layout.geometry.pageblock_order)


def _zone(words: Words, layout: Layout, z: int) -> ZoneStatistics:
    at = layout.zone(z)
    blocks = tuple(
        sum(words[at + c.Z_COUNTS + order * c.MT_COUNT + mt] for mt in range(c.MT_COUNT))
        for order in range(layout.geometry.max_order + 1)
    )
    return ZoneStatistics(
        zone=z,
        node=words[at + c.Z_NODE],
        start_pfn=words[at + c.Z_START],
        end_pfn=words[at + c.Z_END],
        managed_pages=words[at + c.Z_MANAGED],
        free_pages=words[at + c.Z_FREE],
        isolated_pages=words[at + c.Z_FREE_ISOLATED],
        free_blocks=blocks,
        watermarks=(words[at + c.Z_MIN], words[at + c.Z_LOW], words[at + c.Z_HIGH]),
    )
