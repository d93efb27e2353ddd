"""What a word's value means: ``FREE order 1 zone 0 MOVABLE v3``, ``held by claim 1``, ``pfn 2``.

The counterpart of word_names.py. It decodes the words that carry fields or that lead to another
word: descriptors, locks, list links, pageblocks, states. A counter is a number, and so is every
word of a page's own bytes: "" says that there is nothing to decode.

The fields come from constants.py, not from the kernels. descriptor_text.py puts descriptors into
words.
"""

from __future__ import annotations

from collections.abc import Callable

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.descriptor_text import migratetype_text, state_text
from shmalloc.layout import Layout, cache_stride, first_node_part, pcp_stride
from shmalloc.word_names import WordNames, area_name

CPU_STATES = {
    c.CPU_EMPTY: "EMPTY",
    c.CPU_ONLINE: "ONLINE",
    c.CPU_OFFLINE: "OFFLINE",
    c.CPU_CHANGING: "CHANGING",
}
CACHE_STATES = {cs.CACHE_NONE: "NONE", cs.CACHE_LIVE: "LIVE", cs.CACHE_DYING: "DYING"}


def lock_value(value: int) -> str:
    """A lock word (kernels/lock.py): ``free``, ``held by claim 1, contended``."""
    if value == c.LOCK_OFFLINE:
        return "closed: CPU unplugged"
    holder = value & c.LOCK_HOLDER_MASK
    text = f"held by claim {holder - 1}" if holder else "free"
    if value == c.LOCK_KEPT:
        return "free, kept for a sleeper"
    text += ", contended" * (value & c.LOCK_CONTENDED != 0)
    text += ", waits for the claim of the CPU" * (value & c.LOCK_WAITS != 0)
    text += ", open for the claim of the CPU" * (value & c.LOCK_OPEN != 0)
    text += ", common" * (value & c.LOCK_COMMON != 0)
    return text + ", asked for" * (value & c.LOCK_HANDOFF != 0)


def pair_value(word0: int, word1: int) -> str:
    """Both words of a page descriptor: ``ALLOCATED order 0 zone 0 MOVABLE claim 1 v4 owner 2``."""
    text, kind = state_text(word0), word0 & c.TYPE_MASK
    if word1 and kind == c.T_ALLOCATED:
        return f"{text} owner {word1}"
    if kind != c.T_SLAB:
        return text
    first = (word1 >> c.S_FREE_SHIFT) & c.S_FREE_MASK
    used = (word1 >> c.S_INUSE_SHIFT) & c.S_INUSE_MASK
    objects = (word1 >> c.S_OBJECTS_SHIFT) & c.S_OBJECTS_MASK
    version = (word1 >> c.S_VERSION_SHIFT) & c.S_VERSION_MASK
    free = f"first-free {first - 1}" if first else "no-free"
    frozen = " frozen" * (word1 & c.S_FROZEN_BIT != 0)
    return f"{text} inuse {used} objects {objects} {free} counters v{version}{frozen}"


class WordValues:
    """Meanings of the values of one layout's words."""

    def __init__(self, names: WordNames) -> None:
        self._names = names
        self._layout: Layout = names.layout
        self._meanings: dict[str, Callable[[int, int], str]] = {
            "header": _header,
            "cpus": _cpu,
            "zones": self._zone,
            "blocks": _pageblock,
            "pcp": self._pcp,
            "caches": self._cache,
            "memmap": _descriptor,
            "table": self._table,
            "frames": self._frame,
        }

    def value(self, word: int, value: int) -> str:
        """What ``value`` means in ``word``; "" for a number."""
        if not 0 <= word < self._layout.words:
            return ""
        region, offset = self._names.place(word)
        known = self._meanings.get(region)
        return known(offset, value) if known else ""

    def pair(self, word: int, low: int, high: int) -> str:
        """What the pair of values at ``word`` means together; "" for two numbers."""
        return pair_value(low, high) if self._names.region(word) == "memmap" else ""

    def _zone(self, offset: int, value: int) -> str:
        at = offset % c.Z_STRIDE
        if at == c.Z_LOCK:
            return lock_value(value)
        return self._link(at, value) if at >= c.Z_LISTS else ""

    def _pcp(self, offset: int, value: int) -> str:
        at = offset % pcp_stride(self._layout.geometry)
        if at == c.P_LOCK:
            return lock_value(value)
        if c.P_HEAD <= at < c.P_HEAD + c.PCP_LISTS:
            return self._node(value) if value else ""
        return f"pfn {value}" if at >= c.P_ARRAYS else ""

    def _cache(self, offset: int, value: int) -> str:
        at = offset % cache_stride(self._layout.geometry)
        if at < cs.K_CPUS:
            return CACHE_STATES.get(value, "") if at == cs.K_STATE else ""
        nodes = first_node_part(self._layout.geometry)
        if at < nodes:
            field = (at - cs.K_CPUS) % cs.KC_STRIDE
            return lock_value(value) if field == cs.KC_LOCK else ""
        field = (at - nodes) % cs.KN_STRIDE
        return lock_value(value) if field in (cs.KN_LOCK, cs.KN_BARN_LOCK) else ""

    def _frame(self, offset: int, value: int) -> str:
        """The first two words of a free page are its list node, in the link store of pages."""
        layout = self._layout
        first = offset % layout.geometry.page_words < c.NODE_WORDS
        return self._link(0, value) if first and layout.geometry.link_store == "page" else ""

    def _table(self, offset: int, value: int) -> str:
        store = self._layout.geometry.link_store
        if store in ("index", "bitmap"):
            return f"pfn {value}" if store == "index" else ""
        return self._link(offset, value)

    def _link(self, offset: int, value: int) -> str:
        """A list link (kernels/lists.py): the node that it leads to, if it is one."""
        node = value >> 3
        return self._node(node) if value > 0 and not value & ~c.LINK_MASK else ""

    def _node(self, node: int) -> str:
        layout, g = self._layout, self._layout.geometry
        if not 0 <= node < layout.words:
            return ""
        region, offset = self._names.place(node)
        width = {"frames": g.page_words, "memmap": c.D_WORDS, "table": c.NODE_WORDS}.get(region)
        if width is not None:
            return "" if offset % width else f"pfn {offset // width}"
        at = offset % c.Z_STRIDE - c.Z_LISTS
        if region == "zones" and 0 <= at < 2 * c.ORDERS * c.MT_COUNT:
            return f"list {area_name(at // 2)}"
        return ""


def _header(offset: int, value: int) -> str:
    return lock_value(value) if offset in (c.H_CACHES_LOCK, c.H_RECOVERY) else ""


def _cpu(offset: int, value: int) -> str:
    if offset % c.C_STRIDE != c.C_STATE:
        return ""
    return CPU_STATES.get(value & c.CPU_STATE_MASK, "")


def _pageblock(offset: int, value: int) -> str:
    text = migratetype_text(value & c.MT_MASK).upper()
    saved = migratetype_text((value >> c.BLOCK_SAVED_SHIFT) & c.MT_MASK).upper()
    return f"{text} (was {saved})" if value & c.MT_MASK == c.MT_ISOLATE else text


def _descriptor(offset: int, value: int) -> str:
    return "" if offset % c.D_WORDS else state_text(value)
