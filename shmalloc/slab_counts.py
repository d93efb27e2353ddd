"""Slabs and their objects, counted from the page descriptors, which say all of it.

The words change while they are copied, so a count may be of no moment; and objects that wait in
sheaves, which are free, count as in use here (kernels/objects.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass

import numpy as np

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.layout import Layout, cache_stride
from shmalloc.page_states import CHUNK_PAGES
from shmalloc.report_text import Words

Read = Callable[[int, int], np.ndarray]  # (first word, how many) -> these words, int64


@dataclass(frozen=True)
class SlabCount:
    """Slabs of one cache: all, those without a free object, those without a used one, bad ones."""

    slabs: int = 0
    full: int = 0
    empty: int = 0
    frozen: int = 0
    pages: int = 0
    objects: int = 0
    in_use: int = 0

    def __add__(self, other: SlabCount) -> SlabCount:
        return SlabCount(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def count_slabs(pairs: np.ndarray) -> dict[int, SlabCount]:
    """Cache -> its slabs among these page descriptors (int64, pages x 2)."""
    heads = pairs[(pairs[:, 0] & c.TYPE_MASK) == c.T_SLAB]
    caches = (heads[:, 0] >> c.LINK_SHIFT) & c.SLAB_CACHE_MASK
    return {int(cache): _count(heads[caches == cache]) for cache in np.unique(caches)}


def _count(heads: np.ndarray) -> SlabCount:
    word0, word1 = heads[:, 0], heads[:, 1]
    objects = (word1 >> c.S_OBJECTS_SHIFT) & c.S_OBJECTS_MASK
    in_use = (word1 >> c.S_INUSE_SHIFT) & c.S_INUSE_MASK
    state = (word0 >> (c.LINK_SHIFT + c.SLAB_LIST_SHIFT)) & c.SLAB_LIST_MASK
    sound = state != cs.SLAB_FROZEN
    return SlabCount(
        slabs=len(heads),
        full=int((sound & (in_use >= objects)).sum()),
        empty=int((sound & (in_use == 0) & (objects > 0)).sum()),
        frozen=int((~sound).sum()),
        pages=int((1 << ((word0 >> c.ORDER_SHIFT) & c.ORDER_MASK)).sum()),
        objects=int(objects.sum()),
        in_use=int(in_use.sum()),
    )


def counts_by_cache(layout: Layout, read: Read) -> dict[int, SlabCount]:
    """Cache -> its slabs in the whole segment, read a stretch of descriptors at a time."""
    total: dict[int, SlabCount] = {}
    pages, at = layout.geometry.pages, layout.at["memmap"]
    for start in range(0, pages, CHUNK_PAGES):
        count = min(CHUNK_PAGES, pages - start)
        words = read(at + start * c.D_WORDS, count * c.D_WORDS)
        for cache, found in count_slabs(words.reshape(count, c.D_WORDS)).items():
            total[cache] = total.get(cache, SlabCount()) + found
    return total


def objects_per_slab(layout: Layout, stride: int, order: int) -> int:
    """Objects that a slab of this order has room for, as ``objects_that_fit`` of the kernels says.

    0 for numbers that no cache has: those of a broken segment.
    """
    words = layout.geometry.page_words << min(max(order, 0), c.ORDERS - 1)
    if words > cs.SLAB_MAX_WORDS or stride < 1:
        return 0
    return min((words - cs.SLAB_NODE_WORDS) // (stride + 1), cs.SLAB_MAX_OBJECTS)


def size_class_name(words: Words, layout: Layout, number: int) -> str:
    """``kmalloc-64`` for a cache of one of its size classes: these have no name of their own."""
    classes = range(cs.H_KMALLOC, cs.H_KMALLOC + cs.KMALLOC_CLASSES)
    if all(words[word] != number + 1 for word in classes):
        return ""
    at = layout.at["caches"] + number * cache_stride(layout.geometry)
    return f"kmalloc-{words[at + cs.K_OBJECT_BYTES]}"
