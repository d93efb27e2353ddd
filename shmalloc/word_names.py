"""What a word of a segment is called: ``zone 1 lock``, ``descriptor of pfn 17``, ``claim 2 beat``.

A name is the region, the instance in it, and the nearest name of ``constants``; a word without a
constant is called by its offset. Reports of runs, the flight recorder and the explorer's programs
take their names from here. What a word's value means is in word_values.py.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.descriptor_text import migratetype_text
from shmalloc.layout import Layout, cache_stride, first_node_part, flight_stride, pcp_stride


def _fields(module: ModuleType, prefix: str, size: int) -> tuple[str, ...]:
    """A name for each of ``size`` words: its constant's, or the one before it and a distance."""
    named = {
        value: name.removeprefix(prefix).lower().replace("_", "-")
        for name, value in vars(module).items()
        if name.startswith(prefix) and isinstance(value, int)
    }
    names, last = [], 0
    for word in range(size):
        last = word if word in named else last
        name = named.get(last, "word")
        names.append(name if word == last and word in named else f"{name}+{word - last}")
    return tuple(names)


_HEADER = _fields(c, "H_", c.HEADER_WORDS)
_CPU = _fields(c, "C_", c.C_STRIDE)
_ZONE = _fields(c, "Z_", c.Z_STRIDE)
_PCP = _fields(c, "P_", c.P_ARRAYS + 1)
_CACHE = _fields(cs, "K_", cs.K_CPUS)
_NODE = _fields(cs, "KN_", cs.KN_STRIDE)
_SHEAVES = _fields(cs, "KC_", cs.KC_STRIDE)


_OF_A_CPU = (c.C_STATE, c.C_NODE, c.C_HISTORY_NEXT)


def _record_word(number: int, at: int) -> str:
    """A word of record ``number``: of the claim of that number, or of the CPU."""
    return f"{'cpu' if at in _OF_A_CPU else 'claim'} {number} {_CPU[at]}"


def area_name(number: int) -> str:
    """``order 1 MOVABLE``: which free list of a zone has that number."""
    order, migratetype = divmod(number, c.MT_COUNT)
    return f"order {order} {migratetype_text(migratetype).upper()}"


class WordNames:
    """Names for the words of one layout."""

    def __init__(self, layout: Layout) -> None:
        g = layout.geometry
        self.layout = layout
        self._starts = [(0, "header"), *((start, name) for name, start in layout.at.items())]
        per_cpu = {"history": g.history * c.HI_STRIDE, "scratch": g.scratch_words}
        per_claim = {
            "work": g.work_words,
            "flight": flight_stride(g),
            "latency": g.latency_words,
        }
        self._names: dict[str, Callable[[int], str]] = {
            "header": lambda at: f"header {_HEADER[at]}",
            "cpus": lambda at: _record_word(*divmod(at, c.C_STRIDE)),
            "zones": lambda at: f"zone {at // c.Z_STRIDE} {_of_zone(at % c.Z_STRIDE)}",
            "blocks": lambda at: f"pageblock {at}",
            "pcp": self._pcp,
            "caches": self._cache,
            "reports": lambda at: f"report {at // c.R_STRIDE}",
            "seats": lambda at: f"seat {at} of a sleeper for memory",
            "memmap": lambda at: f"descriptor of pfn {at // c.D_WORDS}" + " word 1" * (at % 2),
            "table": self._table,
            "owners": lambda at: f"owner map of pfn {at}",
            "frames": lambda at: f"pfn {at // g.page_words} +{at % g.page_words}",
            **{name: _of(name, "cpu", stride) for name, stride in per_cpu.items() if stride},
            **{name: _of(name, "claim", stride) for name, stride in per_claim.items() if stride},
        }

    def region(self, word: int) -> str:
        return self.place(word)[0]

    def place(self, word: int) -> tuple[str, int]:
        """The region that ``word`` lies in, and how far from its start."""
        start, region = self._find(word)
        return region, word - start

    def name(self, word: int) -> str:
        if not 0 <= word < self.layout.words:
            return f"word {word:#x}, outside"
        start, region = self._find(word)
        known = self._names.get(region)
        return known(word - start) if known else f"{region} +{word - start}"

    def _find(self, word: int) -> tuple[int, str]:
        """The last region that starts at or before ``word``; empty ones share their start."""
        return next(entry for entry in reversed(self._starts) if entry[0] <= max(word, 0))

    def _pcp(self, at: int) -> str:
        g = self.layout.geometry
        number, offset = divmod(at, pcp_stride(g))
        cpu, zone = divmod(number, len(g.zones))
        last = len(_PCP) - 1
        field = _PCP[offset] if offset < last else f"{_PCP[last]}+{offset - last}"
        return f"page lists of cpu {cpu} zone {zone} {field}"

    def _table(self, at: int) -> str:
        g = self.layout.geometry
        if g.link_store == "table":
            return f"link of pfn {at // c.NODE_WORDS}"
        return self._array(at) or f"{g.link_store} +{at}"

    def _array(self, at: int) -> str:
        """Which array the word ``at`` of an index or a bitmap is in, and where in it."""
        g, start = self.layout.geometry, self.layout.at["table"]
        for zone in range(len(g.zones)):
            for level, (first, room) in enumerate(self.layout.store(zone)):
                offset = at + start - first
                for order in range(g.max_order + 1):
                    if 0 <= offset < (room >> order) * c.MT_COUNT:
                        mt, word = divmod(offset, room >> order)
                        area = area_name(order * c.MT_COUNT + mt)
                        summary = f" summary {level}" * (level > 0)
                        return f"zone {zone} {g.link_store} {area}{summary} +{word}"
                    offset -= (room >> order) * c.MT_COUNT
        return ""

    def _cache(self, at: int) -> str:
        number, offset = divmod(at, cache_stride(self.layout.geometry))
        if offset < cs.K_CPUS:
            return f"cache {number} {_CACHE[offset]}"
        nodes = first_node_part(self.layout.geometry)
        if offset < nodes:
            cpu, field = divmod(offset - cs.K_CPUS, cs.KC_STRIDE)
            return f"cache {number} cpu {cpu} {_SHEAVES[field]}"
        node, field = divmod(offset - nodes, cs.KN_STRIDE)
        return f"cache {number} node {node} {_NODE[field]}"


def _of_zone(offset: int) -> str:
    areas = c.ORDERS * c.MT_COUNT
    if c.Z_COUNTS <= offset < c.Z_COUNTS + areas:
        return f"nr_free {area_name(offset - c.Z_COUNTS)}"
    if c.Z_LISTS <= offset < c.Z_LISTS + 2 * areas:
        number, end = divmod(offset - c.Z_LISTS, 2)
        return f"list {area_name(number)} {'prev' if end else 'next'}"
    return _ZONE[offset]


def _of(name: str, of: str, stride: int) -> Callable[[int], str]:
    return lambda at: f"{name} of {of} {at // stride} +{at % stride}"
