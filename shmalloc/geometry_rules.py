"""What the fields of a geometry may be: each alone, by a table, and all together, by rules.

``plain_fields`` checks every field of a ``Geometry`` by its row here, before any rule looks at it
and before memory is taken. A field without a row is found by a test.

What this does not do: compute where things lie, or how much room they take (layout.py).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shmalloc import constants as c
from shmalloc.checked import checked_bool, checked_choice, checked_int, shown
from shmalloc.errors import MisuseError
from shmalloc.sampled_layout import MOST_RATE, sampling_rules

if TYPE_CHECKING:
    from shmalloc.layout import Geometry

LINK_STORES = {
    "page": c.LINKS_PAGE,
    "descriptor": c.LINKS_DESCRIPTOR,
    "table": c.LINKS_TABLE,
    "index": c.LINKS_INDEX,
    "bitmap": c.LINKS_BITMAP,
}
PCP_FORMS = {"array": c.PCP_ARRAY, "list": c.PCP_LIST}
MOST_BYTES = 1 << c.LINK_BITS + c.LINK_SHIFT  # docs/geometry.md, limits
MOST_PAGES = 1 << 31
MOST_LISTED = 1 << 16  # pages on a per-CPU list
MOST_ENTRIES = 1 << 20  # of a ring
MOST_WORDS = 1 << 24  # of what each CPU or claim has

CHOICES = {"link_store": LINK_STORES, "pcp_form": PCP_FORMS}
FILLS = ("poison", "zero", "init_on_alloc", "init_on_free")
SWITCHES = (*FILLS, "reporting", "debug_pagealloc", "unaccepted", "owner_map", "biased_locks")
RANGES: dict[str, tuple[int, int, str]] = {  # least, most, and what a special value means
    "page_bytes": (64, 1 << 30, "a power of two"),
    "cpus": (1, c.MAX_CPUS, ""),
    "claims": (0, c.MAX_CLAIMS, "0: chosen by the size"),
    "max_order": (0, c.ORDERS - 1, ""),
    "pageblock_order": (0, c.ORDERS - 1, "at most max_order"),
    "pcp_batch": (1, MOST_LISTED, ""),
    "pcp_high": (1, MOST_LISTED, "at least pcp_batch"),
    "harden": (0, (1 << 62) - 1, "a secret; 0: off"),
    "caches": (0, c.SLAB_CACHE_MASK + 1, ""),
    "structures": (0, 1 << 20, ""),
    "spins": (0, 1 << 20, ""),
    "min_free_pages": (0, MOST_PAGES, "less than the largest zone has"),
    "history": (0, MOST_ENTRIES, "a power of two; 0: off"),
    "scratch_words": (4, MOST_WORDS, ""),
    "work_words": (0, MOST_WORDS, ""),
    "start_pfn": (0, MOST_PAGES - 1, ""),
    "flight": (0, MOST_ENTRIES, "a power of two of at least 64; 0: off"),
    "latency_words": (0, MOST_WORDS, ""),
    "page_owner": (0, MOST_RATE, "0: off"),
    "page_owner_entries": (0, MOST_WORDS, "a power of two of at least 16; 0: chosen by the size"),
    "stack_words": (0, 1 << 30, "at least 1024; 0: chosen"),
}


@dataclass(frozen=True)
class ZoneSpec:
    """One zone: ``pages`` of pfn space on a node, minus ``holes`` (first, count) in it."""

    pages: int
    node: int = 0
    holes: tuple[tuple[int, int], ...] = ()


def plain_fields(given: Geometry) -> dict[str, Any]:
    """Every field of a geometry as a plain value. Raises ``MisuseError`` for one that cannot be."""
    values: dict[str, Any] = {"zones": plain_zones(given.zones)}
    for name, choices in CHOICES.items():
        values[name] = checked_choice(name, getattr(given, name), choices)
    for name in SWITCHES:
        values[name] = checked_bool(name, getattr(given, name))
    for name, (least, most, note) in RANGES.items():
        values[name] = checked_int(name, getattr(given, name), least, most, note)
    return values


def plain_zones(given: Any) -> tuple[ZoneSpec, ...]:
    """The zones as a tuple, with plain ints."""
    zones = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else ()
    if not zones or not all(isinstance(zone, ZoneSpec) for zone in zones):
        raise MisuseError(f"zones: {shown(given)}; use a list of 1 to {c.MAX_ZONES} ZoneSpec")
    if len(zones) > c.MAX_ZONES:
        raise MisuseError(f"zones: {len(zones)}; use 1 to {c.MAX_ZONES}")
    return tuple(
        ZoneSpec(
            checked_int(f"zones[{index}].pages", zone.pages, 1, MOST_PAGES),
            checked_int(f"zones[{index}].node", zone.node, 0, c.MAX_NODES - 1),
            _plain_holes(f"zones[{index}].holes", zone),
        )
        for index, zone in enumerate(zones)
    )


def _plain_holes(argument: str, zone: ZoneSpec) -> tuple[tuple[int, int], ...]:
    holes = []
    for hole in zone.holes if isinstance(zone.holes, Iterable) else (zone.holes,):
        pair = tuple(hole) if isinstance(hole, Iterable) else ()
        if len(pair) != 2:
            raise MisuseError(
                f"{argument}: {shown(hole)}; use pairs: the first page in the zone, and how many"
            )
        first = checked_int(argument, pair[0], 0, MOST_PAGES)
        count = checked_int(argument, pair[1], 1, MOST_PAGES)
        if first + count > zone.pages:
            raise MisuseError(f"{argument}: ({first}, {count}) is not inside the zone")
        holes.append((first, count))
    return tuple(holes)


def _power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def largest_zone(g: Geometry) -> int:
    """Pages that the zone with most of them has, without its holes."""
    return max(zone.pages - sum(count for _, count in zone.holes) for zone in g.zones)


def few_enough(g: Geometry) -> str:
    """What is said of a minimum that leaves nothing to allocate."""
    return (
        f"min_free_pages: {g.min_free_pages}; so many pages of each zone stay free, and the largest"
        f" zone has {largest_zone(g)}: use less, or nothing could be allocated"
    )


def problems(g: Geometry) -> list[str]:
    """Why ``g`` cannot work, each with argument, value and cure; empty if it can.

    Its fields have been checked one by one.
    """
    rules = (
        (_power_of_two(g.page_bytes),
         f"page_bytes: {g.page_bytes}; use a power of two of at least 64"),
        (g.pageblock_order <= g.max_order,
         f"pageblock_order: {g.pageblock_order}; use 0 to max_order ({g.max_order})"),
        (g.pcp_high >= g.pcp_batch,
         f"pcp_high: {g.pcp_high}; use at least pcp_batch ({g.pcp_batch})"),
        (g.min_free_pages <= largest_zone(g), few_enough(g)),
        (g.history == 0 or _power_of_two(g.history),
         f"history: {g.history}; use 0 or a power of two of entries"),
        *sampling_rules(g.page_owner, g.page_owner_entries, g.stack_words),
        (g.flight == 0 or (_power_of_two(g.flight) and g.flight >= 64),
         f"flight: {g.flight}; use 0 or a power of two of entries, at least 64"),
        (not (g.reporting and g.link_store == "page"),
         "reporting with link_store='page': a reported page loses its bytes, and with them the "
         "list that runs through it; use another link store, such as 'descriptor'"),
        (not (g.reporting and g.poison),
         "reporting with poison: a reported page reads as zero, the poison check would call it "
         "corrupted; use one of the two"),
        (not (g.poison and (g.init_on_alloc or g.init_on_free)),
         "poison with init_on_alloc or init_on_free: both claim the bytes of a free page; use one "
         "of the two"),
        (not (g.debug_pagealloc and g.link_store == "page"),
         "debug_pagealloc with link_store='page': a free page may not be touched, and the list "
         "runs through it; use another link store, such as 'descriptor'"),
        (not (g.debug_pagealloc and (g.poison or g.zero or g.init_on_alloc or g.init_on_free)),
         "debug_pagealloc with poison, zero, init_on_alloc or init_on_free: these touch pages that "
         "have no owner; use one of the two"),
        (not (g.unaccepted and g.link_store == "page"),
         "unaccepted with link_store='page': memory that is not accepted may not be touched, and a "
         "list would run through it; use another link store, such as 'descriptor'"),
        (not (g.unaccepted and (g.poison or g.zero or g.init_on_free)),
         "unaccepted with poison, zero or init_on_free: free pages that are not accepted cannot be "
         "filled, nor compared; use one of the two"),
        (not (g.poison and g.zero),
         "poison with zero: both claim the bytes of a free page; use one of the two"),
        (not (g.reporting and g.page_bytes << g.pageblock_order < mmap.PAGESIZE),
         f"reporting with page_bytes={g.page_bytes}: a pageblock is less than a page of the "
         f"system, {mmap.PAGESIZE} bytes, which takes back whole ones; use larger pageblocks"),
    )  # fmt: skip
    return [text for ok, text in rules if not ok]
