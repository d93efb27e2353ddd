"""Page descriptors in words: what the two words of a descriptor say, for people.

Two styles. ``state_text`` is short and in the names of ``constants``, for traces and reports::

    FREE order 1 zone 0 MOVABLE v3

``block_text`` and ``owner_text`` are parts of a sentence about a page, for ``Arena.describe``.
All functions take words, read nothing, and accept any number, even a corrupt descriptor.
"""

from __future__ import annotations

from shmalloc import constants as c

TYPES = {
    c.T_TAIL: "tail",
    c.T_FREE: "free",
    c.T_PCP: "held by the allocator",
    c.T_ALLOCATED: "allocated",
    c.T_SLAB: "slab",
    c.T_ISOLATED: "isolated",
    c.T_OFFLINE: "offline",
    c.T_POISONED: "poisoned",
    c.T_RESERVED: "reserved",
}
MIGRATETYPES = {
    "unmovable": c.MT_UNMOVABLE,
    "movable": c.MT_MOVABLE,
    "reclaimable": c.MT_RECLAIMABLE,
}
MIGRATETYPE_NAMES = {number: name for name, number in MIGRATETYPES.items()}
MIGRATETYPE_NAMES[c.MT_ISOLATE] = "isolate"
_STATES = {
    value: name.removeprefix("T_")
    for name, value in vars(c).items()
    if name.startswith("T_") and name != "T_COUNT"
}
_HELD = (c.T_PCP, c.T_ALLOCATED, c.T_ISOLATED)  # whose detail is a label, the holder's


def kind_of(word0: int) -> int:
    return word0 & c.TYPE_MASK


def order_of(word0: int) -> int:
    return word0 >> c.ORDER_SHIFT & c.ORDER_MASK


def zone_of(word0: int) -> int:
    return word0 >> c.ZONE_SHIFT & c.ZONE_MASK


def version_of(word0: int) -> int:
    return word0 >> c.VERSION_SHIFT & c.VERSION_MASK


def migratetype_text(number: int) -> str:
    return MIGRATETYPE_NAMES.get(number, f"migratetype {number}")


def _detail_of(word0: int) -> int:
    return (word0 & c.LINK_MASK) >> c.LINK_SHIFT


def _holder_text(detail: int) -> str:
    """``claim 2``; ``list of cpu 2`` for a block on the lists of a CPU."""
    holder = "list of cpu" if detail & c.LABEL_ON_LIST else "claim"
    return f"{holder} {detail & c.CLAIM_MASK}"


def type_text(kind: int) -> str:
    """``FREE``: the name of a type."""
    return _STATES.get(kind, f"type {kind}")


def state_text(word0: int) -> str:
    """``FREE order 1 zone 0 MOVABLE v3``; ``ALLOCATED ... claim 2``, ``SLAB ... cache 1``."""
    kind, detail = kind_of(word0), _detail_of(word0)
    if word0 < 0 or kind not in _STATES:
        return f"corrupt word {word0:#x}"
    mt = migratetype_text(word0 >> c.MT_SHIFT & c.MT_MASK).upper()
    parts = [_STATES[kind]]
    if kind != c.T_TAIL:
        parts += [f"order {order_of(word0)}", f"zone {zone_of(word0)}", mt]
    if kind in _HELD:
        parts.append(_holder_text(detail))
    if kind == c.T_SLAB:
        parts.append(f"cache {detail & c.SLAB_CACHE_MASK}")
    if word0 & c.POISON_BIT:
        parts.append("POISON")
    return " ".join([*parts, f"v{version_of(word0)}"])


def slab_text(word1: int) -> str:
    """Word 1 of a slab: ``3 of 8 objects in use``."""
    inuse = word1 >> c.S_INUSE_SHIFT & c.S_INUSE_MASK
    objects = word1 >> c.S_OBJECTS_SHIFT & c.S_OBJECTS_MASK
    frozen = ", frozen" if word1 & c.S_FROZEN_BIT else ""
    return f"{inuse} of {objects} objects in use{frozen}"


def block_text(word0: int, pfn: int) -> str:
    """``order 2 (pfns 4-7), zone 0, movable, version 3``."""
    order = order_of(word0)
    mt = migratetype_text(word0 >> c.MT_SHIFT & c.MT_MASK)
    span = f"pfns {pfn}-{pfn + (1 << order) - 1}" if order else "one page"
    return f"order {order} ({span}), zone {zone_of(word0)}, {mt}, version {version_of(word0)}"


def owner_text(word0: int, word1: int) -> str:
    """What a block is and its owner: ``allocated to owner 7 by claim 2``."""
    kind, detail = kind_of(word0), _detail_of(word0)
    text = TYPES.get(kind, f"of unknown type {kind}")
    if kind == c.T_ALLOCATED:
        text = f"allocated to owner {word1} by {_holder_text(detail)}"
    elif kind == c.T_PCP:
        listed = detail & c.LABEL_ON_LIST
        text = "held by the allocator for a CPU" if listed else "freed, and not in its zone yet"
    elif kind == c.T_SLAB:
        text = f"a slab of cache {detail & c.SLAB_CACHE_MASK} with {slab_text(word1)}"
    elif kind in (c.T_OFFLINE, c.T_POISONED, c.T_RESERVED) and word1:
        text += f" (reason {word1})"
    return text + (", to be poisoned when freed" if word0 & c.POISON_BIT else "")
