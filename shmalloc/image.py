"""The first image of a segment: the header and every word that is geometry, written by Python.

Free lists are not built here: ``boot`` (a kernel) does that from the extents this file leaves in
the scratch area of CPU 0. Nothing is published yet; the segment's creator writes the magic word
when everything else is in place.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from shmalloc import constants as c
from shmalloc.errors import MisuseError
from shmalloc.layout import Layout
from shmalloc.memory import Ram
from shmalloc.sampled_layout import chance_of, stack_buckets

Extent = tuple[int, int, int]  # zone, first pfn, end pfn


def write_image(ram: Ram, layout: Layout, digest: int = 0) -> None:
    """Write header, geometry text, zones, zonelists, CPU slots, per-CPU marks, holes, and what is
    in front of the first zone, which is reserved like a hole.

    ``ram`` must be zero. Everything but the magic word is written; call ``boot`` next.
    """
    write_fixed(ram, layout)
    ram[c.H_DIGEST] = digest
    _write_first_values(ram, layout)
    blocks = layout.at["blocks"]
    ram.array[blocks : blocks + (layout.geometry.pages >> layout.geometry.pageblock_order) + 1] = (
        c.MT_MOVABLE
    )
    if layout.geometry.unaccepted:
        for index in range(len(layout.geometry.zones)):
            _write_unaccepted(ram, layout, index)
    if layout.geometry.poison:
        ram.array[layout.at["frames"] :] = c.POISON_WORD
    _write_extents(ram, layout)


def _write_unaccepted(ram: Ram, layout: Layout, index: int) -> None:
    """Mark the pageblocks that lie in one zone as a whole."""
    zone, shift = layout.zone(index), layout.geometry.pageblock_order
    first = -(-ram[zone + c.Z_START] // (1 << shift))
    for number in range(first, ram[zone + c.Z_END] >> shift):
        ram[layout.at["blocks"] + number] |= c.BLOCK_UNACCEPTED


class Writable(Protocol):
    """What words are written to: a ``Ram``, or a table of words."""

    def __setitem__(self, word: int, value: int, /) -> None: ...


def write_fixed(ram: Writable, layout: Layout) -> None:
    """Write every word that follows from the geometry and never changes, but the magic word."""
    for word, value in layout.header(digest=0).items():
        if word not in (c.H_MAGIC, c.H_DIGEST):
            ram[word] = value
    _write_geometry_text(ram, layout)
    first = layout.geometry.start_pfn
    for pfn in range(first):
        _write_reserved(ram, layout, pfn, 0)
    for index, zone in enumerate(layout.geometry.zones):
        _write_zone(ram, layout, index, first)
        first += zone.pages
    _write_zonelists(ram, layout)
    _write_cpus(ram, layout)
    if layout.geometry.page_owner:
        _write_page_owner(ram, layout)


def _write_reserved(ram: Writable, layout: Layout, pfn: int, zone: int) -> None:
    ram[layout.descriptor(pfn)] = c.T_RESERVED | zone << c.ZONE_SHIFT
    ram[layout.descriptor(pfn) + 1] = 0


def _write_first_values(ram: Ram, layout: Layout) -> None:
    """Write the words that change later, where they are not zero at first."""
    for index in range(len(layout.geometry.zones)):
        ram[layout.zone(index) + c.Z_MANAGED] = managed_pages(layout, index)
    ram[c.H_CLAIMS_USED] = layout.geometry.cpus
    if layout.geometry.page_owner:
        depot = layout.at["stacks"]
        ram[depot + c.SD_TOP] = c.SD_TABLE + stack_buckets(layout.geometry.stack_words)
    for cpu in range(layout.geometry.cpus):
        for word, value in placed_on(layout, cpu).items():
            ram[layout.cpu(cpu) + word] = value
        for zone in range(len(layout.geometry.zones)):
            ram[layout.pcp(cpu, zone) + c.P_HIGH] = ram[layout.pcp(cpu, zone) + c.P_HIGH_MIN]


def _write_geometry_text(ram: Writable, layout: Layout) -> None:
    text = layout.geometry.to_json().encode()
    at = layout.at["geometry"]
    ram[at] = len(text)
    padded = text + b"\0" * (-len(text) % 8)
    for i, word in enumerate(np.frombuffer(padded, dtype=np.int64)):
        ram[at + 1 + i] = int(word)


def managed_pages(layout: Layout, zone: int) -> int:
    """Pages of a zone that the allocator manages at first."""
    return sum(end - start for z, start, end in managed_extents(layout) if z == zone)


def managed_extents(layout: Layout) -> list[Extent]:
    """Runs of pages to manage: every zone minus its holes."""
    extents: list[Extent] = []
    first = layout.geometry.start_pfn
    for index, zone in enumerate(layout.geometry.zones):
        at = first
        for hole_first, hole_pages in sorted(zone.holes):
            if first + hole_first > at:
                extents.append((index, at, first + hole_first))
            at = max(at, first + hole_first + hole_pages)
        if at < first + zone.pages:
            extents.append((index, at, first + zone.pages))
        first += zone.pages
    return extents


def _write_zone(ram: Writable, layout: Layout, index: int, first: int) -> None:
    spec = layout.geometry.zones[index]
    zone = layout.zone(index)
    managed = managed_pages(layout, index)
    values = {
        c.Z_START: first,
        c.Z_END: first + spec.pages,
        c.Z_NODE: spec.node,
        c.Z_INDEX: index,
        c.Z_PRESENT: managed,
        c.Z_MIN_PRESENT: min(layout.geometry.min_free_pages, managed),
    }
    for word, value in values.items():
        ram[zone + word] = value
    for level, (store, room) in enumerate(layout.store(index)):
        ram[zone + c.Z_STORE + level] = store
        ram[zone + c.Z_ROOM + level] = room
    for hole_first, hole_pages in spec.holes:
        for pfn in range(first + hole_first, first + hole_first + hole_pages):
            _write_reserved(ram, layout, pfn, index)


def fallback_order(layout: Layout, node: int) -> list[int]:
    """Zones in the order in which CPUs of ``node`` try them: near nodes first, then as listed."""
    zones = list(enumerate(layout.geometry.zones))
    return [i for i, _ in sorted(zones, key=lambda z: (abs(z[1].node - node), z[0]))]


def _write_zonelists(ram: Writable, layout: Layout) -> None:
    for node in range(layout.geometry.nodes):
        at = layout.at["zonelists"] + node * (len(layout.geometry.zones) + 1)
        order = fallback_order(layout, node)
        ram[at] = len(order)
        for k, zone in enumerate(order):
            ram[at + 1 + k] = zone


def _write_cpus(ram: Writable, layout: Layout) -> None:
    geometry = layout.geometry
    for cpu in range(geometry.cpus):
        ram[layout.cpu(cpu) + c.C_NODE] = cpu % geometry.nodes
        for zone in range(len(geometry.zones)):
            p = layout.pcp(cpu, zone)
            low = max(geometry.pcp_batch, geometry.pcp_high // 4)
            ram[p + c.P_HIGH_MIN] = low
            ram[p + c.P_HIGH_MAX] = geometry.pcp_high
            ram[p + c.P_BATCH] = geometry.pcp_batch


def _write_page_owner(ram: Writable, layout: Layout) -> None:
    g = layout.geometry
    table, depot = layout.at["page_owner"], layout.at["stacks"]
    ram[table + c.PO_RATE] = g.page_owner
    ram[table + c.PO_ENTRIES] = g.page_owner_entries
    for order in range(c.ORDERS):
        ram[table + c.PO_CHANCES + order] = chance_of(order, g.page_owner)
    ram[depot + c.SD_BUCKETS] = stack_buckets(g.stack_words)
    ram[depot + c.SD_WORDS] = g.stack_words


def placed_on(layout: Layout, cpu: int) -> dict[int, int]:
    """What the record of a claim on CPU ``cpu`` says of it (``settle_on`` in kernels/slots.py)."""
    home = fallback_order(layout, cpu % layout.geometry.nodes)[0]
    return {c.C_CPU: cpu, c.C_HOME_ZONE: home, c.C_HOME_PCP: layout.pcp(cpu, home)}


def require_room(layout: Layout) -> list[Extent]:
    """The runs of pages to manage. Raises ``MisuseError`` if they do not fit in a scratch area."""
    extents = managed_extents(layout)
    if 1 + 3 * len(extents) > layout.geometry.scratch_words:
        raise MisuseError(
            f"zones: {len(extents)} runs of pages between holes; scratch_words="
            f"{layout.geometry.scratch_words} holds {layout.geometry.scratch_words // 3}; raise it"
        )
    return extents


def _write_extents(ram: Ram, layout: Layout) -> None:
    extents, at = require_room(layout), layout.scratch(0)
    ram[at] = len(extents)
    for k, extent in enumerate(extents):
        for field, value in enumerate(extent):
            ram[at + 1 + 3 * k + field] = value
