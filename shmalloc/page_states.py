"""The state of every page of a segment, and a map of the RAM: numbers for pictures.

A page has the state of the block that covers it, as the type in word 0 of the block's head says:
the code of a state is that type, ``T_*`` of constants.py. ``STATE_NAMES`` says each in words.

::

    states_of    one byte for each page of pfn space
    counts_of    pages by state for each of some equal stretches of pfns
    map_of       one byte for each of these stretches: the state of most of its pages

Reads word 0 of the descriptors as they are, in bulk by numpy, takes no lock, and calls no kernel:
any process that is attached may call it at any time. A block that is split or merged meanwhile may
show the state that it had or will have. It changes nothing, and judges nothing: the audit does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from shmalloc import constants as c
from shmalloc.layout import Layout

STATE_NAMES = {
    c.T_TAIL: "without a head",  # no block covers it: a broken segment
    c.T_FREE: "free",
    c.T_PCP: "on a per-CPU list",  # or on its way between two states
    c.T_ALLOCATED: "allocated",
    c.T_SLAB: "slab",
    c.T_ISOLATED: "isolated",
    c.T_OFFLINE: "offline",
    c.T_POISONED: "poisoned",
    c.T_RESERVED: "reserved",
}


class _Slices(Protocol):
    def __getitem__(self, part: slice, /) -> np.ndarray: ...


class Readable(Protocol):
    """A memory whose words are read in bulk: a ``Ram``, or a segment that is only looked at."""

    @property
    def array(self) -> _Slices: ...


CELLS = 1024
CHUNK_PAGES = 1 << 20  # bounds what a map needs beside the segment: 10 bytes a page of a chunk


def states_of(ram: Readable, layout: Layout, start: int = 0, end: int | None = None) -> np.ndarray:
    """The states of the pfns from ``start`` to ``end - 1`` as uint8, of all pages by default.

    A tail looks for its head among the pages from ``start`` on: one in front of it is not seen,
    and such a tail has the code ``T_TAIL``.
    """
    end = layout.geometry.pages if end is None else end
    at = layout.at["memmap"]
    words = ram.array[at + start * c.D_WORDS : at + end * c.D_WORDS : c.D_WORDS]
    types = (words & c.TYPE_MASK).astype(np.uint8)
    heads = np.where(types != c.T_TAIL, np.arange(end - start, dtype=np.int32), 0)
    return types[np.maximum.accumulate(heads)]


def map_of(ram: Readable, layout: Layout, cells: int = CELLS) -> bytes:
    """The map of the RAM: a byte for each of at most ``cells`` stretches of pfns.

    The stretches divide the pfn space evenly; with fewer pages than cells each page is one. Of two
    states with the same number of pages the lower code wins.
    """
    return dominating(counts_of(ram, layout, cells))


def dominating(counts: np.ndarray) -> bytes:
    """The map of these ``counts_of``."""
    return bytes(counts.argmax(axis=1).astype(np.uint8).data)


def counts_of(ram: Readable, layout: Layout, cells: int = CELLS) -> np.ndarray:
    """Pages by stretch and state: int64, at most ``cells`` x ``T_COUNT``."""
    borders = _borders(layout.geometry.pages, cells)
    count = len(borders) - 1
    found = np.zeros((count, c.T_COUNT), dtype=np.int64)
    for start, states in _chunks(ram, layout):
        cell = np.searchsorted(borders, np.arange(start, start + len(states)), side="right") - 1
        known = np.minimum(states, c.T_COUNT - 1)  # a corrupt type counts as the last one
        pairs = np.bincount(cell * c.T_COUNT + known, minlength=count * c.T_COUNT)
        found += pairs.reshape(count, c.T_COUNT)
    return found


def cell_pages(layout: Layout, cells: int = CELLS) -> list[int]:
    """First pfn of each cell of ``map_of``, and the end of the last one."""
    return [int(border) for border in _borders(layout.geometry.pages, cells)]


def _borders(pages: int, cells: int) -> np.ndarray:
    count = max(1, min(cells, pages))
    return np.arange(count + 1, dtype=np.int64) * pages // count


def _chunks(ram: Readable, layout: Layout) -> Iterator[tuple[int, np.ndarray]]:
    """First pfn and states of each part; a part looks back for a head as far as a block reaches."""
    pages, reach = layout.geometry.pages, 1 << layout.geometry.max_order
    for start in range(0, pages, CHUNK_PAGES):
        before = min(start, reach)
        end = min(start + CHUNK_PAGES, pages)
        yield start, states_of(ram, layout, start - before, end)[before:]
