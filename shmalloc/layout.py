"""``Geometry`` -> ``Layout``: where everything lies in a segment, decided once, with checks.

::

    header | claims and CPUs | geometry | zones | zonelists | pageblocks | pcp | caches | seats
      | reports | history | scratch | work | memmap: 16 bytes a page | [table] | [owner map]
      | [flight] | [latency] | [page_owner] | [stacks] | structures | arrays | references | frames

The page size is a parameter: 4096 bytes to run, 8 words to explore, so that the same kernels run
in a world small enough to exhaust. Every region starts on a 128-byte line, the frames on a page.
This file computes offsets and the first image of the header; it maps no memory.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.errors import MisuseError
from shmalloc.geometry_rules import LINK_STORES as LINK_STORES
from shmalloc.geometry_rules import MOST_BYTES, plain_fields, problems
from shmalloc.geometry_rules import PCP_FORMS as PCP_FORMS
from shmalloc.geometry_rules import ZoneSpec as ZoneSpec
from shmalloc.sampled_layout import STACK_WORDS, page_owner_words, sampled_entries
from shmalloc.store_layout import level_words, store_rooms


@dataclass(frozen=True)
class Geometry:
    """Everything that is decided when a segment is created. Names give the unit of sizes.

    Raises ``MisuseError`` for a value that a field cannot have, and for a combination that cannot
    work, with the reason and the cure (geometry_rules.py).
    """

    zones: tuple[ZoneSpec, ...]
    page_bytes: int = 4096
    cpus: int = 4
    claims: int = 0
    max_order: int = 10
    pageblock_order: int = 9
    link_store: str = "page"
    pcp_form: str = "array"
    pcp_batch: int = 63
    pcp_high: int = 378
    poison: bool = False
    zero: bool = False
    init_on_alloc: bool = False
    init_on_free: bool = False
    reporting: bool = False
    debug_pagealloc: bool = False
    unaccepted: bool = False
    harden: int = 0
    caches: int = 32
    structures: int = 128
    spins: int = 40
    biased_locks: bool = False
    min_free_pages: int = 0
    history: int = 0
    scratch_words: int = 1024
    work_words: int = 0
    owner_map: bool = False
    start_pfn: int = 0
    flight: int = 0
    latency_words: int = 0
    page_owner: int = 0
    page_owner_entries: int = 0
    stack_words: int = 0

    def __post_init__(self) -> None:
        for name, value in plain_fields(self).items():
            object.__setattr__(self, name, value)
        for problem in problems(self):
            raise MisuseError(problem)
        # One for each 4 KiB of pages if none were asked for, and at least one for each CPU.
        wanted = self.claims or min(c.MAX_CLAIMS, self.pages * self.page_bytes >> 12)
        object.__setattr__(self, "claims", max(wanted, self.cpus))
        if self.page_owner:
            wanted = self.page_owner_entries or sampled_entries(self.pages, self.page_owner)
            object.__setattr__(self, "page_owner_entries", wanted)
            object.__setattr__(self, "stack_words", self.stack_words or STACK_WORDS)

    @property
    def pages(self) -> int:
        """Pages of pfn space, holes included."""
        return self.start_pfn + sum(zone.pages for zone in self.zones)

    @property
    def page_words(self) -> int:
        return self.page_bytes // 8

    @property
    def nodes(self) -> int:
        return 1 + max(zone.node for zone in self.zones)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Geometry:
        """What ``to_json`` wrote. Raises ``MisuseError`` for any other text."""
        try:
            values: dict[str, Any] = json.loads(text, parse_float=_refuse_float)
            unknown = set(values) - {f.name for f in fields(cls)}
            if unknown:
                raise MisuseError(f"geometry: unknown fields {sorted(unknown)}; of a newer build")
            values["zones"] = tuple(
                ZoneSpec(z["pages"], z["node"], tuple(tuple(h) for h in z["holes"]))
                for z in values["zones"]
            )
            return cls(**values)
        except (json.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
            raise MisuseError(f"geometry: no text of a geometry ({error!r})") from error


def _refuse_float(text: str) -> int:
    raise MisuseError(f"geometry: {text} is no whole number")


@dataclass(frozen=True)
class Layout:
    """Offsets of every region, in words, and the total. Made by ``Layout.of(geometry)``."""

    geometry: Geometry
    at: dict[str, int] = field(default_factory=dict)
    words: int = 0

    @classmethod
    def of(cls, geometry: Geometry) -> Layout:
        at: dict[str, int] = {}
        end = c.HEADER_WORDS
        for name, size in _regions(geometry).items():
            align = max(geometry.page_words, c.LINE) if name == "frames" else c.LINE
            at[name] = -(-end // align) * align
            end = at[name] + size
        words = -(-end // c.LINE) * c.LINE
        layout = cls(geometry, at, words)
        layout._check()
        return layout

    def _check(self) -> None:
        starts = list(self.at.values())
        assert starts == sorted(starts), "regions overlap"
        assert self.at["cpus"] == c.CPUS_AT
        assert all(start % c.LINE == 0 or start % self.geometry.page_words == 0 for start in starts)
        if self.bytes > MOST_BYTES:
            raise MisuseError(f"size: {self.bytes:,} bytes in all; use at most {MOST_BYTES:,}")

    @property
    def bytes(self) -> int:
        return self.words * 8

    def cpu(self, number: int) -> int:
        """The record of claim ``number``, and of the CPU of that number if there is one."""
        return self.at["cpus"] + number * c.C_STRIDE

    def zone(self, zone: int) -> int:
        return self.at["zones"] + zone * c.Z_STRIDE

    def pcp(self, cpu: int, zone: int) -> int:
        return self.at["pcp"] + (cpu * len(self.geometry.zones) + zone) * pcp_stride(self.geometry)

    def descriptor(self, pfn: int) -> int:
        return self.at["memmap"] + pfn * c.D_WORDS

    def frame(self, pfn: int) -> int:
        return self.at["frames"] + pfn * self.geometry.page_words

    def scratch(self, cpu: int) -> int:
        return self.at["scratch"] + cpu * self.geometry.scratch_words

    def flight(self, claim: int) -> int:
        """The ring of the flight recorder of a claim."""
        return self.at["flight"] + claim * flight_stride(self.geometry)

    def latency(self, claim: int) -> int:
        """Where the worker with a claim counts how long its calls take."""
        return self.at["latency"] + claim * self.geometry.latency_words

    def work(self, claim: int) -> int:
        """What a claim's worker remembers between two calls of its workload."""
        return self.at["work"] + claim * self.geometry.work_words

    def link_base(self) -> tuple[int, int]:
        """(base, log2 of the stride) of list nodes, in words: all that defines a link store."""
        if self.geometry.link_store == "page":
            return self.at["frames"], self.geometry.page_words.bit_length() - 1
        return self.at["table" if self.geometry.link_store == "table" else "memmap"], 1

    def store(self, zone: int) -> list[tuple[int, int]]:
        """(first word, room) of the levels of a zone's part of an index or a bitmap."""
        g = self.geometry
        at = self.at["table"] + sum(_store_words(g, before) for before in range(zone))
        levels = []
        for room in _rooms(g, zone):
            levels.append((at, room))
            at += level_words(room, g.max_order)
        return levels

    def header(self, digest: int) -> dict[int, int]:
        """The fixed words of the header: index -> value."""
        g = self.geometry
        base, stride = self.link_base()
        values = {
            c.H_MAGIC: c.MAGIC, c.H_VERSION: c.LAYOUT_VERSION, c.H_DIGEST: digest,
            c.H_WORDS: self.words, c.H_GEOMETRY: self.at["geometry"],
            c.H_PAGE_SHIFT: g.page_words.bit_length() - 1, c.H_MAX_ORDER: g.max_order,
            c.H_PAGEBLOCK_ORDER: g.pageblock_order, c.H_PAGES: g.pages, c.H_ZONES: len(g.zones),
            c.H_NODES: g.nodes, c.H_CPUS: g.cpus, c.H_CLAIMS: g.claims,
            c.H_LINKS: LINK_STORES[g.link_store],
            c.H_LINK_BASE: base, c.H_LINK_STRIDE: stride, c.H_PCP_FORM: PCP_FORMS[g.pcp_form],
            c.H_PCP_CAPACITY: pcp_capacity(g), c.H_FILL: _fill(g),
            c.H_INIT: _init(g),
            c.H_SPINS: g.spins, c.H_HISTORY: g.history, c.H_CACHES: g.caches,
            c.H_HARDEN: g.harden, c.H_BIASED: int(g.biased_locks),
            c.H_PCP_STRIDE: pcp_stride(g), c.H_CACHE_STRIDE: cache_stride(g),
            c.H_SCRATCH_WORDS: g.scratch_words, c.H_WORK_WORDS: g.work_words,
            c.H_OWNER_MAP: int(g.owner_map),
            c.H_AT_LATENCY: self.at["latency"] if g.latency_words else 0,
            c.H_STRUCTURES: g.structures,
            c.H_WATCHED: int(g.history > 0 or g.page_owner > 0),
            c.H_AT_PAGE_OWNER: self.at["page_owner"] * (g.page_owner > 0),
        }  # fmt: skip
        return values | {word: self.at[name] for name, word in _REGION_WORDS.items()}


_REGION_WORDS = {
    "cpus": c.H_AT_CPUS, "zones": c.H_AT_ZONES, "zonelists": c.H_AT_ZONELISTS,
    "blocks": c.H_AT_BLOCKS, "pcp": c.H_AT_PCP, "caches": c.H_AT_CACHES,
    "reports": c.H_AT_REPORTS, "seats": c.H_AT_SEATS, "history": c.H_AT_HISTORY,
    "scratch": c.H_AT_SCRATCH, "work": c.H_AT_WORK, "memmap": c.H_AT_MEMMAP,
    "table": c.H_AT_TABLE, "owners": c.H_AT_OWNERS, "frames": c.H_AT_FRAMES,
    "structures": c.H_AT_STRUCTURES, "arrays": c.H_AT_ARRAYS,
    "references": c.H_AT_REFERENCES, "stacks": c.H_AT_STACKS,
}  # fmt: skip


def _fill(g: Geometry) -> int:
    if g.poison:
        return c.FILL_POISON
    if g.zero:
        return c.FILL_ZERO
    # A page that is wiped when it is freed is zero when it is allocated.
    return c.FILL_WIPE if g.init_on_free else c.FILL_CLEAR if g.init_on_alloc else c.FILL_NONE


def _init(g: Geometry) -> int:
    flags = c.INIT_ALLOC * g.init_on_alloc | c.INIT_FREE * g.init_on_free
    return flags | c.INIT_UNACCEPTED * g.unaccepted


def pcp_capacity(g: Geometry) -> int:
    """Words of one per-CPU array: room for ``high`` pages plus one batch."""
    return 0 if g.pcp_form == "list" else -(-(g.pcp_high + g.pcp_batch + 1) // c.LINE) * c.LINE


def pcp_stride(g: Geometry) -> int:
    return -(-(c.P_ARRAYS + c.PCP_LISTS * pcp_capacity(g)) // c.LINE) * c.LINE


def flight_stride(g: Geometry) -> int:
    return c.FLIGHT_FIRST + g.flight * c.FLIGHT_ITEM_WORDS if g.flight else 0


def cache_stride(g: Geometry) -> int:
    """Words of one cache descriptor with its per-node and per-CPU parts."""
    return first_node_part(g) + g.nodes * cs.KN_STRIDE


def first_node_part(g: Geometry) -> int:
    """Offset of the node parts in a cache descriptor: behind those of all CPUs."""
    return cs.K_CPUS + g.cpus * cs.KC_STRIDE


def _rooms(g: Geometry, zone: int) -> list[int]:
    first = g.start_pfn + sum(spec.pages for spec in g.zones[:zone])
    return store_rooms(g.link_store, first, g.zones[zone].pages, g.max_order)


def _store_words(g: Geometry, zone: int) -> int:
    """Words of a zone's part of an index or a bitmap."""
    return sum(level_words(room, g.max_order) for room in _rooms(g, zone))


def _table_words(g: Geometry) -> int:
    """Words of a link store that lies neither in pages nor in descriptors."""
    if g.link_store == "table":
        return g.pages * c.D_WORDS
    return sum(_store_words(g, zone) for zone in range(len(g.zones)))


def _regions(g: Geometry) -> dict[str, int]:
    """Region -> size in words, in segment order."""
    return {
        "cpus": g.claims * c.C_STRIDE,
        "geometry": 1 + -(-len(g.to_json()) // 8),
        "zones": len(g.zones) * c.Z_STRIDE,
        "zonelists": g.nodes * (len(g.zones) + 1),
        "blocks": (g.pages >> g.pageblock_order) + 1,
        "pcp": g.cpus * len(g.zones) * pcp_stride(g),
        "caches": g.caches * cache_stride(g),
        "seats": c.SEATS,
        "reports": c.REPORTS * c.R_STRIDE,
        "history": g.cpus * g.history * c.HI_STRIDE,
        "scratch": g.cpus * g.scratch_words,
        "work": g.claims * g.work_words,
        "memmap": g.pages * c.D_WORDS,
        "table": _table_words(g),
        "owners": g.pages if g.owner_map else 0,
        "flight": g.claims * flight_stride(g),
        "latency": g.claims * g.latency_words,
        "page_owner": page_owner_words(g.page_owner_entries) if g.page_owner else 0,
        "stacks": g.stack_words if g.page_owner else 0,
        "structures": g.structures * c.ST_STRIDE,
        "arrays": g.pages * c.AR_STRIDE,
        "references": g.claims,
        "frames": g.pages * g.page_words,
    }
