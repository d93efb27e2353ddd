"""The fixture ``arena``: an arena of one test, audited at its end, with nothing left allocated.

A test chooses another one by ``@pytest.mark.parametrize("arena", [{"size": "1MiB"}],
indirect=True)``: arguments of ``Arena.create``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.arena import Arena
from shmalloc.cachenames import descriptor_of, name_of
from shmalloc.descriptor_text import order_of
from shmalloc.kernels.cache_set import cache_shrink
from stress.quantities import counted

SIZE = "16MiB"
MOST_SHOWN = 8
# Owners that are parts of the allocator: what they hold belongs to caches.
INTERNAL = (cs.OWNER_SLAB, cs.OWNER_SHEAVES, cs.OWNER_FROZEN)
HOLDERS = {c.OWNER_SHARED: "an image of objects: ", cs.OWNER_LARGE: "kmalloc of whole pages: "}


def arguments_of(given: Mapping[str, Any], engine: str | None, usual_engine: str) -> dict[str, Any]:
    """Arguments of ``Arena.create``: the test's; the command line's engine wins."""
    chosen = {"engine": usual_engine, **given}
    if engine is not None:
        chosen["engine"] = engine
    if "zones" not in chosen or isinstance(chosen["zones"], int):
        chosen.setdefault("size", SIZE)
    return chosen


def findings(arena: Arena, leaks: bool) -> list[str]:
    """What is wrong with the arena of a test that ended: violations, and what it did not free.

    ``leaks``: whether to look for the latter; a test that failed may have been about to free.
    """
    if arena.closed:
        return []
    found = [str(violation) for violation in arena.validate()]
    if leaks and not found:
        found = [f"leaked: {text}" for text in left_allocated(arena)]
    return found


def left_allocated(arena: Arena) -> list[str]:
    """Blocks, objects and arrays that are still allocated, in words; at most a few of each."""
    geometry, ram = arena.geometry, arena.segment.ram
    arena.collect()
    arena._free_buffer()
    numbers = range(geometry.caches)
    live = [n for n in numbers if ram[descriptor_of(arena.segment, n)] == cs.CACHE_LIVE]
    for number in live:
        arena.run(cache_shrink, number)
    found = [*_objects(arena, live), *_blocks(arena, live)]
    return [*found, *(_call_sites(arena) if found else ())]


def _call_sites(arena: Arena) -> Iterator[str]:
    """Which calls allocated it, if the test's arena samples its allocations (page_owner)."""
    if arena.geometry.page_owner:
        for site in arena.leak_report().sites[:MOST_SHOWN]:
            yield site.line


def _pairs(arena: Arena) -> Any:
    """Both words of every descriptor, one row for each pfn."""
    words, pages = arena.segment.ram.array, arena.geometry.pages
    at = arena.segment.layout.at["memmap"]
    return words[at : at + pages * c.D_WORDS].reshape(pages, c.D_WORDS)


def _objects(arena: Arena, caches: list[int]) -> Iterator[str]:
    pairs = _pairs(arena)
    mask = c.TYPE_MASK | c.SLAB_CACHE_MASK << c.LINK_SHIFT
    for number in caches:
        slabs = pairs[(pairs[:, 0] & mask) == (c.T_SLAB | number << c.LINK_SHIFT)]
        inuse = int(((slabs[:, 1] >> c.S_INUSE_SHIFT) & c.S_INUSE_MASK).sum())
        if inuse:
            at = descriptor_of(arena.segment, number)
            size = arena.segment.ram[at + cs.K_OBJECT_BYTES]
            name = name_of(arena.segment, number) or f"kmalloc of {size} bytes"
            yield f"{counted(inuse, 'object')} of cache {name!r}"


def _blocks(arena: Arena, caches: list[int]) -> Iterator[str]:
    pairs = _pairs(arena)
    heads = np.flatnonzero((pairs[:, 0] & c.TYPE_MASK) == c.T_ALLOCATED)
    own = _templates(arena, caches)
    left = [int(pfn) for pfn in heads if not _is_internal(pairs[pfn, 1]) and int(pfn) not in own]
    for pfn in left[:MOST_SHOWN]:
        owner = int(pairs[pfn, 1])
        what = "a shared array: " if owner & c.OWNER_ARRAY else HOLDERS.get(owner, "")
        yield what + arena.describe(pfn)
    if len(left) > MOST_SHOWN:
        pages = sum(1 << order_of(int(pairs[pfn, 0])) for pfn in left)
        yield f"and {counted(len(left) - MOST_SHOWN, 'more block')}: {pages:,} pages in all"


def _is_internal(owner: int) -> bool:
    of_table = owner >> c.OWNER_CLAIM_BITS == c.OWNER_ARRAYS >> c.OWNER_CLAIM_BITS
    return owner in INTERNAL or of_table


def _templates(arena: Arena, caches: list[int]) -> set[int]:
    """Blocks with the images of constructors, which belong to their caches."""
    layout, ram = arena.segment.layout, arena.segment.ram
    words = [ram[descriptor_of(arena.segment, n) + cs.K_TEMPLATE] for n in caches]
    size = arena.geometry.page_words
    return {(word - layout.at["frames"]) // size for word in words if word}
