"""What each word of a segment means at a quiet moment: now, later or never.

::

    now     the next operation believes it, and every other value is wrong: an audit must notice
    later   no value is wrong at this moment: counters, hints, settings, records for people
    never   no kernel reads it before it writes it: rests, unused entries, the owners' own data

``RULES`` has a row for each kind of word, and ``Words`` finds the row of each word from the state
of the segment: an entry of an array counts only below the array's length, a link only while its
page or object is on a list. A word may say less than its 64 bits: ``meaning`` reduces a value to
what counts now, so a change of it that does not count (a version, one legal hint for another) is no
corruption.

Nothing here is shared with the audits, which this judges: offsets come from the layout, numbers
from the tables of constants, and the rest from what docs/architecture.md says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.layout import Layout, cache_stride, first_node_part, pcp_stride

Meaning = Callable[[int], object]


@dataclass(frozen=True)
class Rule:
    """A kind of word. ``why``: of ``later`` and ``never`` what makes it so, of ``now`` what checks
    it."""

    region: str
    words: str
    when: str
    why: str


def _rule(region: str, words: str, when: str, why: str) -> Rule:
    return Rule(region, words, when, why)


RULES = {
    # header
    "fixed": _rule(
        "header", "magic, counts, offsets, identity", "now", "follows from the geometry"
    ),
    "locks": _rule("header", "locks, waiters", "now", "free: no process is inside an operation"),
    "report-count": _rule("header", "count of reports", "now", "as many as the table has"),
    "kmalloc": _rule("header", "size classes", "now", "the cache was made for the class"),
    "switches": _rule("header", "stop, wake-up, sequence", "later", "each value is possible"),
    "arrays": _rule("header", "tables of references made", "later", "read for the next table"),
    "header-rest": _rule("header", "the rest", "never", "no name"),
    "text": _rule("geometry", "length, text", "now", "follows from the geometry"),
    # CPU slots
    "cpu-fixed": _rule(
        "cpu slots", "node, home zone and lists", "now", "follows from the geometry"
    ),
    "cpu-state": _rule(
        "cpu slots", "state", "now", "offline if, and only if, its lists are closed"
    ),
    "intent": _rule("cpu slots", "intent", "now", "none at a quiet moment"),
    "faults": _rule("cpu slots", "kinds of allocation that fail", "now", "a kind that exists"),
    "claim": _rule("cpu slots", "owner, epoch, death", "later", "only liveness asks"),
    "counters": _rule("cpu slots", "beat, events, settings of faults", "later", "for people"),
    "void-intent": _rule("cpu slots", "chain of an intent", "never", "void without an intent"),
    "cpu-rest": _rule("cpu slots", "the rest", "never", "no name"),
    # zones, fallback orders, pageblocks
    "zone-lock": _rule("zones", "lock", "now", "free at a quiet moment"),
    "zone-fixed": _rule("zones", "bounds, node, first size", "now", "follows from the geometry"),
    "watermarks": _rule("zones", "watermarks", "now", "follow from the pages managed"),
    "boost": _rule("zones", "boost of the watermarks", "now", "within its bounds"),
    "zone-counts": _rule("zones", "pages, counts of blocks", "now", "recounted"),
    "zone-lists": _rule("zones", "heads of lists", "now", "the list is walked both ways"),
    "zone-rest": _rule("zones", "the rest", "never", "no name, or of orders that do not exist"),
    "fallback": _rule("zonelists", "length, zones", "now", "follows from the geometry"),
    "type": _rule("pageblocks", "type, isolation", "now", "free and offline pages agree with it"),
    "no-block": _rule("pageblocks", "of no zone", "never", "no page of a zone is in it"),
    # per-CPU lists
    "pcp-lock": _rule("per-CPU lists", "lock", "now", "free, or closed while unplugged"),
    "pcp-fixed": _rule(
        "per-CPU lists", "bounds of the mark, batch", "now", "follows from geometry"
    ),
    "pcp-count": _rule("per-CPU lists", "count, lengths", "now", "recounted"),
    "pcp-tuned": _rule("per-CPU lists", "high mark, factor", "now", "within their bounds"),
    "pcp-run": _rule("per-CPU lists", "pages freed in a row", "later", "a hint"),
    "pcp-head": _rule("per-CPU lists", "first block (list form)", "now", "the list is walked"),
    "pcp-entry": _rule("per-CPU lists", "entry below the length", "now", "its page is on it"),
    "pcp-rest": _rule("per-CPU lists", "the rest", "never", "above the length, or no name"),
    # caches
    "cache-state": _rule("caches", "state", "now", "sealed if, and only if, the cache exists"),
    "cache-sealed": _rule("caches", "geometry, sheaves, seal", "now", "sealed"),
    "cache-name": _rule("caches", "name", "later", "any text is a name"),
    "cache-gone": _rule("caches", "of an id without a cache", "never", "written before it is read"),
    "cache-rest": _rule("caches", "the rest", "never", "no name"),
    "node-lock": _rule("caches", "locks", "now", "free, or closed while unplugged"),
    "node-counts": _rule("caches", "counts of slabs and sheaves", "now", "recounted"),
    "node-lists": _rule("caches", "heads of slab lists", "now", "the list is walked both ways"),
    "barn": _rule("caches", "heads of barns", "now", "every sheaf is in one place"),
    "sheaf-at-cpu": _rule("caches", "main and spare sheaf", "now", "every sheaf is in one place"),
    # descriptors and links
    "tail": _rule("descriptors", "of a page inside a block", "now", "says nothing but TAIL"),
    "free": _rule("descriptors", "of a free block", "now", "on the list of its order and type"),
    "held": _rule("descriptors", "of a block on a per-CPU list", "now", "on one list, of its CPU"),
    "allocated": _rule(
        "descriptors", "of an allocated block", "now", "covers its pages; recounted"
    ),
    "owner": _rule("descriptors", "owner that the map knows", "now", "as in the owner map"),
    "sheaves-owner": _rule("descriptors", "owner of sheaves", "now", "a cache names its sheaves"),
    "user-owner": _rule(
        "descriptors", "owner that only users know", "later", "compared at the free"
    ),
    "slab": _rule("descriptors", "of a slab", "now", "its objects are recounted"),
    "out": _rule(
        "descriptors", "of an offline or poisoned page", "now", "the type twice; recounted"
    ),
    "reserved": _rule("descriptors", "of a hole", "now", "follows from the geometry"),
    "index-entry": _rule("index", "entry below its count", "now", "as the descriptor says"),
    "index-rest": _rule("index", "the other entries", "never", "written before they are read"),
    "bitmap-entry": _rule("bitmap", "bits and summaries", "now", "as the descriptors say"),
    "bitmap-rest": _rule("bitmap", "behind the last block", "never", "not read"),
    "table-link": _rule("table", "link of a listed page", "now", "the list is walked"),
    "table-rest": _rule("table", "of other pages", "never", "written before it is read"),
    "map": _rule("owner map", "of the pages of zones", "now", "as in the descriptors"),
    "map-rest": _rule("owner map", "of no zone", "never", "no page"),
    # frames
    "link": _rule("frames", "link in a listed page", "now", "the list is walked"),
    "fill": _rule("frames", "free bytes under poison or zero", "now", "as they were filled"),
    "free-bytes": _rule("frames", "free bytes without", "never", "no kernel reads them"),
    "data": _rule("frames", "allocated, offline, poisoned, holes", "never", "the owners' data"),
    "sheaf": _rule("frames", "sheaf: size, place, next in a barn", "now", "recounted"),
    "entry": _rule("frames", "sheaf: entry below its size", "now", "an object that is free"),
    "sheaf-rest": _rule("frames", "sheaf: the rest", "never", "above the size, or no name"),
    "slab-node": _rule("frames", "slab: list node on a list", "now", "the list is walked"),
    "object-owner": _rule("frames", "slab: owner word", "now", "live, free and kept are recounted"),
    "free-link": _rule("frames", "slab: link of a free object", "now", "the free list is walked"),
    "debug": _rule("frames", "slab: red zones, poison", "now", "as they were painted"),
    "object-data": _rule("frames", "slab: objects, tracks, rests", "never", "the owners' data"),
    # for people
    "records": _rule("records", "reports, history, latency, flight", "later", "for people"),
    "array-entry": _rule("arrays", "counts, last changes", "later", "read at the next open"),
    "reference-table": _rule("references", "tables of claims", "later", "read at the next array"),
    "structures": _rule("structures", "all", "later", "a handle checks its state, users the rest"),
    "work": _rule("work areas", "of workloads and audits", "never", "not the allocator's"),
    "gap": _rule("gaps", "between two regions", "never", "no name"),
}

FIXED_HEADER = frozenset(
    value
    for name, value in vars(c).items()
    if name.startswith("H_")
    and value < c.H_STOP
    and value not in (c.H_HISTORY_STOPS, c.H_CLOCK_KHZ)
)


def exact(value: int) -> object:
    """The meaning of a word of which every bit counts."""
    return value


def _one_of(values: range | frozenset[int]) -> Meaning:
    """All of ``values`` mean the same."""
    return lambda value: "legal" if value in values else value


@dataclass(frozen=True)
class Block:
    """A block of pages, as its head says: first pfn, type, order, both words."""

    pfn: int
    kind: int
    order: int
    word0: int
    word1: int


class Words:
    """The rule and the meaning of every word of one segment, at the state it has now."""

    def __init__(self, words: np.ndarray, layout: Layout) -> None:
        self.layout, self.g = layout, layout.geometry
        self.words = words.tolist()
        self.nodes = first_node_part(self.g)  # in a cache descriptor
        self._starts = sorted((at, name) for name, at in layout.at.items())

    def of(self, word: int) -> tuple[str, Meaning]:
        """The name of the rule of ``word``, and what of its value counts."""
        if word < c.HEADER_WORDS:
            return self._header(word)
        region, at, size = self._region(word)
        offset = word - at
        if offset >= size:
            return "gap", exact
        found: tuple[str, Meaning] = getattr(self, f"_{region}")(offset)
        return found

    @cached_property
    def _sizes(self) -> dict[str, int]:
        g, at = self.g, self.layout.at
        sizes = {
            "cpus": g.claims * c.C_STRIDE,
            "geometry": 1 + -(-self.words[at["geometry"]] // 8),
            "zones": len(g.zones) * c.Z_STRIDE,
            "zonelists": g.nodes * (len(g.zones) + 1),
            "blocks": (g.pages >> g.pageblock_order) + 1,
            "pcp": g.cpus * len(g.zones) * pcp_stride(g),
            "caches": g.caches * cache_stride(g),
            "memmap": g.pages * c.D_WORDS,
            "table": self._table_size(),
            "owners": g.pages if g.owner_map else 0,
            "structures": g.structures * c.ST_STRIDE,
            "arrays": g.pages * c.AR_STRIDE,
            "references": g.claims,
            "seats": c.SEATS,
            "frames": g.pages * g.page_words,
        }
        return sizes

    def _region(self, word: int) -> tuple[str, int, int]:
        following = self.layout.words
        for at, name in reversed(self._starts):
            size = self._sizes.get(name, following - at)
            if at <= word and size:
                return name, at, size
            following = at
        raise AssertionError(word)

    # --- header, slots, zones ----------------------------------------------------------------

    def _header(self, word: int) -> tuple[str, Meaning]:
        if word in FIXED_HEADER:
            return "fixed", exact
        if word in (c.H_CACHES_LOCK, c.H_RECOVERY, c.H_WAITERS):
            return "locks", exact
        if word == c.H_CLAIMS_USED:
            return "fixed", _one_of(range(self.g.cpus, self.g.claims + 1))
        if word == c.H_REPORT_COUNT:
            return "report-count", exact
        if cs.H_KMALLOC <= word < cs.H_KMALLOC + cs.KMALLOC_CLASSES:
            return "kmalloc", exact
        if word in (
            c.H_HISTORY_STOPS,
            c.H_STOP,
            c.H_SEQUENCE,
            c.H_WAKE,
            c.H_CLOCK_KHZ,
            c.H_RECLAIM,
        ):
            return "switches", exact
        return ("arrays" if word == c.H_ARRAYS else "header-rest"), exact

    def _seats(self, offset: int) -> tuple[str, Meaning]:
        return "locks", exact

    def _geometry(self, offset: int) -> tuple[str, Meaning]:
        return "text", exact

    def _cpus(self, offset: int) -> tuple[str, Meaning]:
        number, field = divmod(offset, c.C_STRIDE)
        if number >= self.g.cpus:
            return "cpu-rest", exact
        if field in (c.C_NODE, c.C_CPU, c.C_HOME_ZONE, c.C_HOME_PCP):
            return "cpu-fixed", exact
        if field == c.C_STATE:
            return "cpu-state", _one_of(frozenset((c.CPU_EMPTY, c.CPU_ONLINE)))
        if field == c.C_FAULTS:
            return "faults", _one_of(range(4))
        if field == c.C_INTENT:
            return "intent", exact
        if c.C_INTENT < field <= c.C_INTENT_SIZE:
            return "void-intent", exact
        if field in (c.C_EPOCH, c.C_PID, c.C_START, c.C_DEAD):
            return "claim", exact
        counted = c.C_EVENTS <= field < c.C_EVENTS + c.EV_COUNT
        if counted or field <= c.C_FAULT_COUNT:
            return "counters", exact
        return "cpu-rest", exact

    def _zones(self, offset: int) -> tuple[str, Meaning]:
        field = offset % c.Z_STRIDE
        orders = self.g.max_order + 1
        if field == c.Z_LOCK:
            return "zone-lock", exact
        fixed = (c.Z_START, c.Z_END, c.Z_NODE, c.Z_INDEX, c.Z_PRESENT, c.Z_MIN_PRESENT)
        levels = {"index": 1, "bitmap": 3}.get(self.g.link_store, 0)
        if field - c.Z_STORE in range(levels) or field - c.Z_ROOM in range(levels):
            return "zone-fixed", exact
        if field in fixed:
            return "zone-fixed", exact
        if field in (c.Z_MIN, c.Z_LOW, c.Z_HIGH):
            return "watermarks", exact
        if field == c.Z_BOOST:
            return "boost", self._boost(offset - field)
        if field in (c.Z_FREE, c.Z_FREE_ISOLATED, c.Z_MANAGED):
            return "zone-counts", exact
        if c.Z_COUNTS <= field < c.Z_COUNTS + orders * c.MT_COUNT:
            return "zone-counts", exact
        if c.Z_LISTS <= field < c.Z_LISTS + 2 * orders * c.MT_COUNT:
            return ("zone-rest" if levels else "zone-lists"), exact
        return "zone-rest", exact

    def _boost(self, zone: int) -> Meaning:
        """Every boost is legal up to a pageblock, or half as much again as the high mark."""
        at = self.layout.at["zones"] + zone
        pageblock, high = 1 << self.g.pageblock_order, self.words[at + c.Z_HIGH]
        small = self.words[at + c.Z_MANAGED] < 4 * pageblock or high == 0
        return _one_of(range(1 if small else max(pageblock, high * 3 // 2) + 1))

    def _zonelists(self, offset: int) -> tuple[str, Meaning]:
        return "fallback", exact

    def _blocks(self, offset: int) -> tuple[str, Meaning]:
        first = offset << self.g.pageblock_order
        pages = range(max(first, self.g.start_pfn), first + (1 << self.g.pageblock_order))
        kinds = {self.blocks[pfn].kind for pfn in pages if pfn < self.g.pages}
        if not kinds or kinds == {c.T_RESERVED}:
            return "no-block", exact
        word = self.words[self.layout.at["blocks"] + offset]
        if word & c.MT_MASK == c.MT_ISOLATE and (c.T_FREE in kinds or c.T_OFFLINE in kinds):
            return "type", self._isolation
        return "type", exact if c.T_FREE in kinds else self._unused_type

    def _unused_type(self, value: int) -> object:
        """Where no page is free, each type is right, and so is an isolation by a life."""
        if value in range(c.MT_PCP_TYPES) or self._isolation(value) == (c.MT_ISOLATE, True):
            return "legal"
        return value

    def _isolation(self, value: int) -> object:
        """The type to restore and the life of the isolator matter when the isolation ends."""
        saved, holder = value >> c.BLOCK_SAVED_SHIFT & c.MT_MASK, value >> c.BLOCK_ISOLATOR_SHIFT
        rest = value & ((1 << c.BLOCK_ISOLATOR_SHIFT) - 1) & ~(c.MT_MASK << c.BLOCK_SAVED_SHIFT)
        legal = saved < c.MT_PCP_TYPES and 0 <= holder <= c.LABEL_ON_LIST
        if legal and (holder == 0 or (holder - 1) & c.CLAIM_MASK < self.g.cpus):
            return rest, holder > 0
        return value

    def _pcp(self, offset: int) -> tuple[str, Meaning]:
        number, field = divmod(offset, pcp_stride(self.g))
        at = self.layout.at["pcp"] + number * pcp_stride(self.g)
        if field == c.P_LOCK:
            return "pcp-lock", exact
        if field in (c.P_HIGH_MIN, c.P_HIGH_MAX, c.P_BATCH):
            return "pcp-fixed", exact
        if field == c.P_COUNT or c.P_LENGTH <= field < c.P_LENGTH + c.PCP_LISTS:
            return "pcp-count", exact
        if field == c.P_HIGH:
            low, high = self.words[at + c.P_HIGH_MIN], self.words[at + c.P_HIGH_MAX]
            return "pcp-tuned", _one_of(range(low, high + 1))
        if field == c.P_FACTOR:
            return "pcp-tuned", _one_of(range(c.PCP_FACTOR_MAX + 1))
        if field == c.P_FREE_RUN:
            return "pcp-run", exact
        if self.g.pcp_form == "list":
            head = c.P_HEAD <= field < c.P_HEAD + c.PCP_LISTS
            return ("pcp-head" if head else "pcp-rest"), exact
        return ("pcp-entry" if self._is_entry(at, field) else "pcp-rest"), exact

    def _is_entry(self, at: int, field: int) -> bool:
        capacity = self.words[c.H_PCP_CAPACITY]
        index, place = divmod(field - c.P_ARRAYS, capacity)
        return 0 <= index < c.PCP_LISTS and place < self.words[at + c.P_LENGTH + index]

    # --- caches ------------------------------------------------------------------------------

    def _caches(self, offset: int) -> tuple[str, Meaning]:
        number, field = divmod(offset, cache_stride(self.g))
        at = self.layout.at["caches"] + number * cache_stride(self.g)
        if field == cs.K_STATE:
            return "cache-state", exact
        if self.words[at] == cs.CACHE_NONE:
            return self._gone(at, field)
        if field <= cs.K_SEAL:
            return "cache-sealed", exact
        if field < cs.K_NAME + cs.NAME_WORDS:
            return "cache-name", exact
        if field < cs.K_CPUS:
            return "cache-rest", exact
        if field >= self.nodes:
            return self._node_field((field - self.nodes) % cs.KN_STRIDE)
        cpu, field = divmod(field - cs.K_CPUS, cs.KC_STRIDE)
        if field == cs.KC_LOCK:
            state = self.words[self.layout.cpu(cpu) + c.C_STATE]
            closed = _one_of(frozenset((0, c.LOCK_OFFLINE)))
            return "node-lock", closed if state == c.CPU_OFFLINE else exact
        return ("sheaf-at-cpu" if field <= cs.KC_SPARE else "cache-rest"), exact

    def _gone(self, at: int, field: int) -> tuple[str, Meaning]:
        """An id without a cache: it is gone because it was destroyed, or it never was there."""
        destroyed, seal = self.words[at + cs.K_DESTROYER], self.words[at + cs.K_SEAL]
        if field == cs.K_SEAL and destroyed == 0:
            return "cache-sealed", exact
        if field == cs.K_DESTROYER and seal != 0:
            return "cache-sealed", lambda value: value != 0
        return "cache-gone", exact

    def _node_field(self, field: int) -> tuple[str, Meaning]:
        if field in (cs.KN_LOCK, cs.KN_BARN_LOCK):
            return "node-lock", exact
        if field in (cs.KN_PARTIAL, cs.KN_PARTIAL + 1, cs.KN_FULL, cs.KN_FULL + 1):
            return "node-lists", exact
        if field in (cs.KN_BARN_FULL, cs.KN_BARN_EMPTY):
            return "barn", exact
        counts = (cs.KN_NR_PARTIAL, cs.KN_NR_FULL, cs.KN_NR_SLABS, cs.KN_NR_FROZEN,
                  cs.KN_NR_BARN_FULL, cs.KN_NR_BARN_EMPTY)  # fmt: skip
        return ("node-counts" if field in counts else "cache-rest"), exact

    # --- pages -------------------------------------------------------------------------------

    @cached_property
    def blocks(self) -> list[Block]:
        """The block that covers each page."""
        found: list[Block] = []
        while len(found) < self.g.pages:
            pfn = len(found)
            word0, word1 = self.pair(pfn)
            order = word0 >> c.ORDER_SHIFT & c.ORDER_MASK
            found += [Block(pfn, word0 & c.TYPE_MASK, order, word0, word1)] * (1 << order)
        return found

    def pair(self, pfn: int) -> tuple[int, int]:
        at = self.layout.descriptor(pfn)
        return self.words[at], self.words[at + 1]

    def _memmap(self, offset: int) -> tuple[str, Meaning]:
        pfn, second = divmod(offset, c.D_WORDS)
        block = self.blocks[pfn]
        rule = {
            c.T_FREE: "free", c.T_PCP: "held", c.T_ALLOCATED: "allocated", c.T_SLAB: "slab",
            c.T_OFFLINE: "out", c.T_POISONED: "out", c.T_RESERVED: "reserved",
        }[block.kind]  # fmt: skip
        if pfn != block.pfn:
            return "tail", exact if second else _without(c.VERSION_MASK << c.VERSION_SHIFT)
        if second and block.kind == c.T_ALLOCATED:
            return self._owner_rule(block), exact
        if second:
            slab = block.kind == c.T_SLAB
            return rule, _without(c.S_VERSION_MASK << c.S_VERSION_SHIFT) if slab else exact
        return rule, exact if block.kind == c.T_RESERVED else self._state_of(block)

    def _owner_rule(self, block: Block) -> str:
        if block.word1 == cs.OWNER_SHEAVES:
            return "sheaves-owner"
        return "owner" if self.entered(block) else "user-owner"

    def entered(self, block: Block) -> bool:
        """Whether the owner map knows an allocated block."""
        at = self.layout.at["owners"] + block.pfn
        return self.g.owner_map and any(self.words[at : at + (1 << block.order)])

    def _state_of(self, block: Block) -> Meaning:
        """Word 0 of a head: the version counts never; of a page in use, neither does its type of
        memory, nor which life of a CPU has it; a single page may be marked for poison."""
        hidden = c.VERSION_MASK << c.VERSION_SHIFT
        if block.kind != c.T_FREE:
            hidden |= 3 << c.MT_SHIFT
        if block.kind in (c.T_ALLOCATED, c.T_SLAB) and block.order == 0:
            hidden |= c.POISON_BIT
        if block.kind == c.T_ALLOCATED:
            hidden |= c.LABEL_EPOCH_MASK << c.LABEL_EPOCH_SHIFT + c.LINK_SHIFT

        def meaning(value: int) -> object:
            cpu = value >> c.LINK_SHIFT & c.CLAIM_MASK
            known = block.kind == c.T_ALLOCATED and cpu < self.g.cpus
            return value & ~hidden & ~(c.CLAIM_MASK << c.LINK_SHIFT if known else 0)

        return meaning

    def _is_listed(self, pfn: int, second: int) -> bool:
        """Whether a list runs through this word of the page's node."""
        block = self.blocks[pfn]
        if block.kind == c.T_PCP and self.g.pcp_form == "list":
            return pfn == block.pfn and second == 1
        return block.kind == c.T_FREE and pfn == block.pfn

    def _table_size(self) -> int:
        if self.g.link_store in ("index", "bitmap"):
            return sum(room for *_, room in self.store_arrays())
        return self.g.pages * c.D_WORDS if self.g.link_store == "table" else 0

    def store_arrays(self) -> Iterator[tuple[int, int, int, int, int]]:
        """(zone, level, order, migratetype, words) of each array of an index or a bitmap."""
        start, largest = self.g.start_pfn, 1 << self.g.max_order
        for number, zone in enumerate(self.g.zones):
            room = -(-(start + zone.pages) // largest) * largest - start // largest * largest
            start += zone.pages
            for level in range(3 if self.g.link_store == "bitmap" else 1):
                if self.g.link_store == "bitmap":
                    room = -(-room // 32 // largest) * largest
                for order, mt in product(range(self.g.max_order + 1), range(c.MT_COUNT)):
                    yield number, level, order, mt, room >> order

    def _entry(self, offset: int) -> str:
        for zone, level, order, mt, room in self.store_arrays():
            if offset < room and self.g.link_store == "bitmap":
                last = self._last_block(zone, order) >> 5 * (level + 1)
                return "entry" if offset <= last else "rest"
            if offset < room:
                counts = self.layout.zone(zone) + c.Z_COUNTS
                return "entry" if offset < self.words[counts + order * c.MT_COUNT + mt] else "rest"
            offset -= room
        return "rest"

    def _last_block(self, zone: int, order: int) -> int:
        """Number of the last block of an order that has a page of a zone."""
        start = self.g.start_pfn + sum(spec.pages for spec in self.g.zones[:zone])
        border = start >> self.g.max_order << self.g.max_order
        return (start + self.g.zones[zone].pages - 1 - border) >> order

    def _table(self, offset: int) -> tuple[str, Meaning]:
        if self.g.link_store in ("index", "bitmap"):
            return f"{self.g.link_store}-{self._entry(offset)}", exact
        return ("table-link" if self._is_listed(*divmod(offset, 2)) else "table-rest"), exact

    def _arrays(self, offset: int) -> tuple[str, Meaning]:
        return "array-entry", exact

    def _references(self, offset: int) -> tuple[str, Meaning]:
        return "reference-table", exact

    def _owners(self, offset: int) -> tuple[str, Meaning]:
        block = self.blocks[offset]
        if offset < self.g.start_pfn or block.kind == c.T_RESERVED:
            return "map-rest", exact
        return "map", exact

    def _frames(self, offset: int) -> tuple[str, Meaning]:
        pfn, place = divmod(offset, self.g.page_words)
        block = self.blocks[pfn]
        if block.kind in (c.T_FREE, c.T_PCP):
            node = self.g.link_store == "page" and place < c.NODE_WORDS
            if node and self._is_listed(pfn, place):
                return "link", exact
            filled = (self.g.poison or self.g.zero) and not node
            return ("fill" if filled else "free-bytes"), exact
        if block.kind == c.T_SLAB:
            return self.slabs[block.pfn].of(self.layout.at["frames"] + offset)
        if block.kind == c.T_ALLOCATED and block.word1 == cs.OWNER_SHEAVES:
            return self._sheaf_word(self.layout.at["frames"] + offset)
        return "data", exact

    # --- sheaves and slabs -------------------------------------------------------------------

    def caches(self) -> Iterator[int]:
        """Descriptors of the caches that exist."""
        for number in range(self.g.caches):
            at = self.layout.at["caches"] + number * cache_stride(self.g)
            if self.words[at + cs.K_STATE] != cs.CACHE_NONE:
                yield at

    @cached_property
    def sheaves(self) -> dict[int, int]:
        """First word of each sheaf -> descriptor of its cache."""
        return {
            self.words[at + cs.K_SHEAVES] + i * self.words[at + cs.K_SHEAF_STRIDE]: at
            for at in self.caches()
            for i in range(self.words[at + cs.K_SHEAF_COUNT])
        }

    @cached_property
    def kept(self) -> set[int]:
        """Addresses of the objects in sheaves."""
        return {
            self.words[sheaf + cs.SF_OBJECTS + i] >> cs.EN_ADDRESS_SHIFT
            for sheaf in self.sheaves
            for i in range(self.words[sheaf + cs.SF_SIZE])
        }

    def _sheaf_word(self, word: int) -> tuple[str, Meaning]:
        sheaf = max((at for at in self.sheaves if at <= word), default=0)
        at = self.sheaves.get(sheaf, 0)
        field = word - sheaf
        if field in (cs.SF_SIZE, cs.SF_WHERE):
            return "sheaf", exact
        if field == cs.SF_NEXT:
            where = self.words[sheaf + cs.SF_WHERE]
            return ("sheaf" if where >= at + self.nodes else "sheaf-rest"), exact
        used = field < cs.SF_OBJECTS + self.words[sheaf + cs.SF_SIZE]
        return ("entry" if used else "sheaf-rest"), exact

    @cached_property
    def slabs(self) -> dict[int, Slab]:
        return {b.pfn: Slab(self, b) for b in self.blocks if b.kind == c.T_SLAB}


def _without(bits: int) -> Meaning:
    return lambda value: value & ~bits


class Slab:
    """The words of one slab."""

    def __init__(self, words: Words, block: Block) -> None:
        self._words, self._block = words.words, block
        self._cpus, self._kept = words.g.cpus, words.kept
        detail = block.word0 >> c.LINK_SHIFT
        at = words.layout.at["caches"] + (detail & c.SLAB_CACHE_MASK) * cache_stride(words.g)
        self._k = words.words[at : at + cs.K_CPUS]
        self.state = detail >> c.SLAB_LIST_SHIFT & c.SLAB_LIST_MASK
        self.base = words.layout.frame(block.pfn)
        self.size = words.g.page_words << block.order
        self.objects = block.word1 >> c.S_OBJECTS_SHIFT & c.S_OBJECTS_MASK
        self.listed = self._free_list()

    def _address(self, index: int) -> int:
        return self.base + self._k[cs.K_FIRST] + index * self._k[cs.K_STRIDE]

    def _free_list(self) -> set[int]:
        """Indexes of the objects on the free list."""
        found: set[int] = set()
        following = self._block.word1 >> c.S_FREE_SHIFT & c.S_FREE_MASK
        while following:
            found.add(following - 1)
            address = self._address(following - 1)
            secret = int(self._k[cs.K_SECRET])
            swabbed = int.from_bytes(int(address).to_bytes(5, "little"), "big") << 22
            key = secret ^ swabbed if secret else 0
            following = self._words[address + self._k[cs.K_LINK]] ^ key
        return found

    def of(self, word: int) -> tuple[str, Meaning]:
        from_end = self.base + self.size - 1 - word
        if from_end < cs.SLAB_NODE_WORDS:
            listed = self.state in (c.SLAB_ON_PARTIAL, c.SLAB_ON_FULL)
            return ("slab-node" if listed else "object-data"), exact
        if self.state == cs.SLAB_FROZEN:
            return "object-data", exact
        if from_end < cs.SLAB_NODE_WORDS + self.objects:
            return "object-owner", self._owner_meaning(from_end - cs.SLAB_NODE_WORDS)
        index, place = divmod(word - self.base, self._k[cs.K_STRIDE])
        if index >= self.objects:
            poisoned = self._k[cs.K_FLAGS] & cs.CF_POISON
            return ("debug" if poisoned else "object-data"), exact
        return self._object_word(index, place - self._k[cs.K_FIRST])

    def _owner_meaning(self, index: int) -> Meaning:
        free = index in self.listed or self._address(index) in self._kept
        return lambda value: self._standing(value, free)

    def _standing(self, value: int, free: bool) -> object:
        """Live, or free: which life has an object, or put it back, matters when that life ends."""
        marks = cs.GIVEN | cs.KEPT
        life = value & ~marks if value >= cs.GIVEN else value
        holder = life & c.LOCK_HOLDER_MASK
        legal = life > 0 and holder == life & (1 << c.LIFE_EPOCH_SHIFT) - 1
        if value == 0 and free:
            return "free"
        if legal and 0 < holder <= self._cpus:
            return "free" if value >= cs.GIVEN else "live"
        return value

    def _object_word(self, index: int, place: int) -> tuple[str, Meaning]:
        """A word of an object's stride; ``place`` counts from the object, red zones are before."""
        flags, words = self._k[cs.K_FLAGS], self._k[cs.K_OBJECT_WORDS]
        free = index in self.listed
        red, poison = bool(flags & cs.CF_RED_ZONE), bool(flags & cs.CF_POISON)
        if free and place == self._k[cs.K_LINK]:
            return "free-link", exact
        if place < 0 or (place == self._k[cs.K_RED] and red):
            return ("debug" if red else "object-data"), exact
        if place < words and free and poison:
            pad = place == words - 1 and not red
            return "debug", _without(~self._own_bits()) if pad else exact
        if place == words - 1 and red:
            return "debug", _without(self._own_bits())
        return "object-data", exact

    def _own_bits(self) -> int:
        """The bits of an object's last word that are its own."""
        tail = self._k[cs.K_OBJECT_BYTES] - 8 * (self._k[cs.K_OBJECT_WORDS] - 1)
        return -1 if tail == 8 else (1 << 8 * tail) - 1


for _name in ("reports", "history", "flight", "latency"):
    setattr(Words, f"_{_name}", lambda self, offset: ("records", exact))
for _name in ("scratch", "work"):
    setattr(Words, f"_{_name}", lambda self, offset: ("work", exact))
Words._structures = lambda self, offset: ("structures", exact)
