"""``--zones``: the zones of a run's memory, their nodes and their holes, as text and as data.

::

    2                               two zones of equal size, a node each
    64MiB,192MiB@1                  sizes, and the node of each (0 by default)
    64MiB@1:4MiB+64KiB:32MiB+4KiB   a zone with holes: at which offset, and how large

A hole is memory that is not there: its pages are reserved for good. In a file, a zone may be a
table of ``size``, ``node`` and ``holes`` (a list of ``"4MiB+64KiB"``). Sizes are whole pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from shmalloc import constants as c
from shmalloc.errors import MisuseError
from shmalloc.geometry_rules import MOST_BYTES
from shmalloc.layout import ZoneSpec
from shmalloc.sizes import parse_bytes
from stress.geometry import PAGE_BYTES
from stress.quantities import exact_bytes

ODD_PAGES = 5
SHARED_NODES = 4  # to which a number of zones is dealt out, so that more than these share nodes


class Hole(Struct, frozen=True):
    """A part of a zone that is not there: where it begins in the zone, and its size."""

    at: int
    bytes: int

    def __str__(self) -> str:
        return f"{exact_bytes(self.at)}+{exact_bytes(self.bytes)}"


class Zone(Struct, frozen=True):
    """One zone of the run's memory: its size, its node and its holes."""

    bytes: int
    node: int = 0
    holes: tuple[Hole, ...] = ()

    def __str__(self) -> str:
        node = f"@{self.node}" if self.node else ""
        return exact_bytes(self.bytes) + node + "".join(f":{hole}" for hole in self.holes)

    @property
    def managed_bytes(self) -> int:
        return self.bytes - sum(hole.bytes for hole in self.holes)

    def spec(self) -> ZoneSpec:
        """The zone as a ``Geometry`` takes it, in pages."""
        holes = ((hole.at // PAGE_BYTES, hole.bytes // PAGE_BYTES) for hole in self.holes)
        return ZoneSpec(self.bytes // PAGE_BYTES, self.node, tuple(holes))


def parse_zones(text: str, ram_bytes: int | None, default_ram_bytes: int) -> tuple[Zone, ...]:
    """Zones of a count (shares of the RAM, a node each) or of ``SIZE[@NODE][:HOLE...],...``.

    Raises ``MisuseError`` with the part that is wrong, and the cure.
    """
    if ram_bytes is not None and ram_bytes > MOST_BYTES:
        raise MisuseError(f"ram: {exact_bytes(ram_bytes)}; use at most {exact_bytes(MOST_BYTES)}")
    if text.strip().isdigit():
        return _shared_zones(int(text), ram_bytes or default_ram_bytes)
    zones = tuple(_parse_zone(part) for part in text.split(","))
    total = sum(zone.bytes for zone in zones)
    if ram_bytes is not None and total != ram_bytes:
        raise MisuseError(
            f"zones: {text!r} are {exact_bytes(total)}, but ram is {exact_bytes(ram_bytes)};"
            " give one of the two, or make them agree"
        )
    if len(zones) > c.MAX_ZONES:
        raise MisuseError(f"zones: {len(zones)}; use 1 to {c.MAX_ZONES}")
    if total > MOST_BYTES:
        most = exact_bytes(MOST_BYTES)
        raise MisuseError(f"zones: {text!r} are {exact_bytes(total)}; use at most {most}")
    return zones


def _shared_zones(count: int, ram_bytes: int) -> tuple[Zone, ...]:
    if not 1 <= count <= c.MAX_ZONES:
        raise MisuseError(f"zones: {count}; use 1 to {c.MAX_ZONES}")
    pages = ram_bytes // PAGE_BYTES
    if ram_bytes % PAGE_BYTES or pages < count:
        raise MisuseError(
            f"ram: {exact_bytes(ram_bytes)}; use whole {PAGE_BYTES}-byte pages, at least one a zone"
        )
    # Odd borders on purpose: only there can a merge without a zone check do its damage.
    share = pages // count - (ODD_PAGES if pages > 1024 * count else 0)
    sizes = [share] * (count - 1) + [pages - share * (count - 1)]
    return tuple(Zone(size * PAGE_BYTES, i % SHARED_NODES) for i, size in enumerate(sizes))


def _parse_zone(text: str) -> Zone:
    zone_text, *holes = text.strip().split(":")
    size_text, _, node_text = zone_text.partition("@")
    node = int(node_text) if node_text.isdigit() else 0 if not node_text else -1
    if not 0 <= node < c.MAX_NODES:
        raise MisuseError(f"zones: node {node_text!r} of {text!r}; use 0 to {c.MAX_NODES - 1}")
    try:
        size = _pages(size_text)
    except MisuseError as error:
        if size_text.strip()[:1].isdigit():  # a size, but not one of pages
            raise
        raise MisuseError(
            f"zones: {text!r}; use how many there are, 1 to {c.MAX_ZONES}, or their sizes and"
            " nodes, such as 64MiB@0,192MiB@1"
        ) from error
    return Zone(size, node, _holes([_parse_hole(hole) for hole in holes], size, text))


def _pages(text: str) -> int:
    size = parse_bytes(text, "zones")
    if size % PAGE_BYTES:
        raise MisuseError(f"zones: {text!r}; use whole pages of {PAGE_BYTES} bytes")
    return size


def _parse_hole(text: str) -> Hole:
    at, plus, size = text.partition("+")
    if not plus:
        raise MisuseError(f"zones: hole {text!r}; use OFFSET+SIZE such as 4MiB+64KiB")
    return Hole(0 if at.strip() == "0" else _pages(at), _pages(size))


def _holes(holes: list[Hole], zone_bytes: int, text: str) -> tuple[Hole, ...]:
    """The holes of a zone, in order: apart from each other, inside, and not all of it."""
    holes = sorted(holes, key=lambda hole: hole.at)
    end = 0
    for hole in holes:
        if hole.at < end:
            raise MisuseError(f"zones: hole {hole} of {text!r} overlaps another; keep them apart")
        end = hole.at + hole.bytes
    if end > zone_bytes:
        raise MisuseError(f"zones: hole {holes[-1]} of {text!r} ends behind the zone")
    if sum(hole.bytes for hole in holes) == zone_bytes:
        raise MisuseError(f"zones: {text!r} is nothing but holes; leave a page")
    return tuple(holes)


def zone_text(table: Mapping[str, Any]) -> str:
    """A zone that stands as a table in a file, as its text."""
    given = dict(table)
    size, node, holes = given.pop("size", ""), given.pop("node", 0), given.pop("holes", [])
    if given:
        raise MisuseError(f"zones: {next(iter(given))!r} is unknown; known are size, node, holes")
    if not isinstance(holes, list):
        raise MisuseError(f"zones.holes: {holes!r}; use a list of OFFSET+SIZE")
    return "".join([f"{size}@{node}", *(f":{hole}" for hole in holes)])
