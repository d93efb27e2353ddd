"""Zones of a round: how many, on which nodes, with which holes, and how much of each stays free.

Holes lie anywhere, of any size up to a sixteenth of their zone; a border between two pages that a
merge must not cross is worth more than a large hole.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from stress.geometry import PAGE_BYTES
from stress.quantities import exact_bytes
from stress.soak.features import Draw
from stress.soak.run_features import HOLES, SEVERAL_NODES
from stress.zones import Hole, Zone, parse_zones

MOST_HOLES = 3
LARGEST_HOLE = 16  # of its zone: one part in so many
WATERMARKS = (64, 16, 8)  # likewise, of the smallest zone


def draw_zones(seed: int, count: str, ram_bytes: int, on: Collection[str]) -> tuple[Zone, ...]:
    """``count`` zones of ``ram_bytes``; ``on``: the features of the round."""
    zones = parse_zones(count, ram_bytes, ram_bytes)
    if SEVERAL_NODES not in on:
        zones = tuple(replace(zone, node=0) for zone in zones)
    if HOLES in on:
        zones = tuple(
            replace(zone, holes=_holes(Draw(seed, f"holes of zone {i}"), zone.bytes))
            for i, zone in enumerate(zones)
        )
    return zones


def _holes(draw: Draw, zone_bytes: int) -> tuple[Hole, ...]:
    """Holes that do not touch: each has a stretch of the zone to itself."""
    pages = zone_bytes // PAGE_BYTES
    count = draw.between(1, MOST_HOLES)
    stretch = pages // count
    holes = []
    for i in range(count):
        size = draw.between(1, max(1, pages // (LARGEST_HOLE * count)))
        at = i * stretch + draw.between(0, stretch - size - 1)
        holes.append(Hole(at * PAGE_BYTES, size * PAGE_BYTES))
    return tuple(holes)


def draw_watermark(seed: int, zones: Collection[Zone]) -> str:
    """The text of ``min-free``."""
    smallest = min(zone.managed_bytes for zone in zones) // PAGE_BYTES
    pages = max(1, smallest // Draw(seed, "size of the watermark").one(WATERMARKS))
    return exact_bytes(pages * PAGE_BYTES)
