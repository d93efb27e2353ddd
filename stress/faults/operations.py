"""The callers that a sweep goes through: every way to get memory from an arena.

An operation prepares an arena, acts on it (this part is swept) and undoes the act. An act that
cannot get its memory returns a negative code (``refusals``) or raises ``OutOfMemoryError``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.arena import Arena
from shmalloc.caches import Cache
from shmalloc.kernels.cache_bulk import cache_alloc_bulk, cache_free_bulk
from shmalloc.kernels.contig import alloc_contig_range, free_contig_range
from shmalloc.kernels.kmalloc import kfree, kmalloc, kmalloc_boot
from shmalloc.kernels.pages import alloc_pages, free_pages
from shmalloc.kernels.pages_bulk import alloc_bulk, free_bulk
from shmalloc.kernels.pages_wait import alloc_pages_wait
from shmalloc.shared_array import SharedArray

OWNER = 7
BULK_BLOCKS = 12
BULK_OBJECTS = 40
RANGE = (128, 192)
LARGE_BYTES = 40_000  # more than one block of the highest order of the sweep's segment
KMALLOC_LARGE = 3000  # larger than a class of kmalloc in the sweep's segment


def _nothing(arena: Arena) -> None:
    return None


@dataclass(frozen=True)
class Operation:
    """``act(arena, prepared)`` returns what ``undo(arena, prepared, given)`` takes.

    ``wanted``: how many the act requests, if it may get fewer; ``given`` is a list or count.
    """

    name: str
    story: str
    act: Callable[[Arena, Any], Any]
    undo: Callable[[Arena, Any, Any], object]
    prepare: Callable[[Arena], Any] = _nothing
    refusals: tuple[int, ...] = (c.E_NOMEM,)
    wanted: int = 0


def _scratch(arena: Arena) -> int:
    return arena.segment.layout.scratch(arena.cpu)


def _block(name: str, order: int) -> Operation:
    return Operation(
        name,
        f"alloc_pages of order {order}",
        lambda arena, _: arena.run(alloc_pages, order, c.MT_MOVABLE, OWNER),
        lambda arena, _, pfn: arena.run(free_pages, pfn, order),
    )


def _cache(arena: Arena) -> Cache:
    return arena.cache("swept", 40)


def _debug_cache(arena: Arena) -> Cache:
    return arena.cache("swept", 40, debug="FZPU")


def _objects_of(cache: Cache) -> list[int]:
    return [cache.alloc() for _ in range(BULK_BLOCKS)]


def _cache_with_objects(arena: Arena) -> tuple[Cache, list[int]]:
    cache = _cache(arena)
    return cache, _objects_of(cache)


def _object(name: str, story: str, prepare: Callable[[Arena], Cache]) -> Operation:
    return Operation(
        name,
        story,
        lambda arena, cache: cache.alloc(),
        lambda arena, cache, address: cache.free(address),
        prepare,
    )


def _objects(name: str, story: str, prepare: Callable[[Arena], Cache]) -> Operation:
    return Operation(
        name,
        f"cache_alloc_bulk of {BULK_OBJECTS} objects{story}",
        lambda arena, cache: arena.run(
            cache_alloc_bulk, cache.number, BULK_OBJECTS, _scratch(arena)
        ),
        lambda arena, cache, n: arena.run(cache_free_bulk, cache.number, n, _scratch(arena)),
        prepare,
    )


def _boot_kmalloc(arena: Arena) -> int:
    return arena.run(kmalloc_boot, cs.CF_EXACT)


def _free_caches(arena: Arena, _: Any, made: Any) -> None:
    """Do nothing: the classes of kmalloc live as long as the segment."""


def _single_pages(arena: Arena) -> list[int]:
    return [arena.alloc_pages() for _ in range(BULK_BLOCKS)]


_PAGES = (
    _block("page", 0),
    _block("block", 3),
    Operation(
        "page-wait",
        "alloc_pages_wait: retries before it sleeps",
        lambda arena, _: arena.run(alloc_pages_wait, 0, c.MT_MOVABLE, OWNER, 2),
        lambda arena, _, pfn: arena.run(free_pages, pfn, 0),
    ),
    Operation(
        "bulk",
        f"alloc_bulk of {BULK_BLOCKS} pages: returns fewer",
        lambda arena, _: arena.run(
            alloc_bulk, 0, c.MT_MOVABLE, OWNER, BULK_BLOCKS, _scratch(arena)
        ),
        lambda arena, _, count: arena.run(free_bulk, 0, count, _scratch(arena)),
        wanted=BULK_BLOCKS,
    ),
    Operation(
        "arena-bulk",
        f"Arena.alloc_pages_bulk of {BULK_BLOCKS} pages and the page for their list",
        lambda arena, _: arena.alloc_pages_bulk(BULK_BLOCKS),
        lambda arena, _, pfns: arena.free_pages_bulk(pfns),
        wanted=BULK_BLOCKS,
    ),
    Operation(
        "arena-free",
        "Arena.free_pages_bulk: without a page for the list, one by one",
        lambda arena, pfns: arena.free_pages_bulk(pfns),
        lambda arena, pfns, _: pfns.__setitem__(slice(None), _single_pages(arena)),
        prepare=_single_pages,
    ),
    Operation(
        "range",
        "alloc_contig_range of a pageblock",
        lambda arena, _: arena.run(alloc_contig_range, *RANGE, OWNER),
        lambda arena, _, __: arena.run(free_contig_range, *RANGE),
        refusals=(c.E_BUSY,),
    ),
)
_OBJECTS = (
    Operation(
        "cache",
        "cache_create: room for its sheaves",
        lambda arena, _: _cache(arena),
        lambda arena, _, cache: cache.destroy(),
    ),
    Operation(
        "cache-ctor",
        "Arena.cache with a constructor: the image, then room for its sheaves",
        lambda arena, _: arena.cache("swept", 40, ctor=bytes(40)),
        lambda arena, _, cache: cache.destroy(),
    ),
    _object("object", "cache_alloc of a cache without a slab", _cache),
    _object("object-debug", "cache_alloc of a debug cache without a slab", _debug_cache),
    _objects("objects", ": several slabs, all or nothing", _cache),
    _objects("objects-debug", " of a debug cache", _debug_cache),
    Operation(
        "arena-objects",
        f"Cache.alloc_bulk of {BULK_OBJECTS} objects and the page for their list",
        lambda arena, cache: cache.alloc_bulk(BULK_OBJECTS),
        lambda arena, cache, addresses: cache.free_bulk(addresses),
        prepare=_cache,
    ),
    Operation(
        "arena-free-objects",
        "Cache.free_bulk: without a page for the list, one by one",
        lambda arena, held: held[0].free_bulk(held[1]),
        lambda arena, held, _: held[1].__setitem__(slice(None), _objects_of(held[0])),
        prepare=_cache_with_objects,
    ),
)
_SIZES = (
    Operation(
        "kmalloc",
        "kmalloc of a size class without a slab",
        lambda arena, _: arena.run(kmalloc, 100),
        lambda arena, _, address: arena.run(kfree, address),
        prepare=_boot_kmalloc,
    ),
    Operation(
        "kmalloc-large",
        "kmalloc of whole pages",
        lambda arena, _: arena.run(kmalloc, KMALLOC_LARGE),
        lambda arena, _, address: arena.run(kfree, address),
    ),
    Operation(
        "kmalloc-boot",
        "kmalloc_boot: the caches of all size classes, each with its sheaves",
        lambda arena, _: _boot_kmalloc(arena),
        _free_caches,
    ),
)


def _drop_arrays(arena: Arena, _: object, arrays: list[SharedArray]) -> None:
    arrays.clear()
    arena.collect()


_ARRAYS = (
    Operation(
        "array",
        "Arena.zeros in one block: two pages of a table of references, then its block",
        lambda arena, _: [arena.zeros(10)],
        _drop_arrays,
    ),
    Operation(
        "array-large",
        "Arena.zeros in a range of pages, after two pages of a table of references",
        lambda arena, _: [arena.zeros(LARGE_BYTES // 8)],
        _drop_arrays,
    ),
)

OPERATIONS = {op.name: op for op in (*_PAGES, *_OBJECTS, *_SIZES, *_ARRAYS)}
