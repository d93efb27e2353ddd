"""The map of the RAM: each page has the state of the block that covers it."""

import itertools
from collections import Counter

import numpy as np
import pytest

from shmalloc import constants as c
from shmalloc import page_states
from shmalloc.arena import Arena
from shmalloc.layout import Geometry, ZoneSpec
from shmalloc.page_states import STATE_NAMES, cell_pages, map_of, states_of
from shmalloc.segment import Segment


@pytest.fixture
def arena():
    with Arena.create(size="8MiB") as arena:
        yield arena


def walked(segment):
    """The state of every page, page by page, from head to head."""
    states, pfn = [], 0
    while pfn < segment.geometry.pages:
        word = segment.ram[segment.layout.descriptor(pfn)]
        order = word >> c.ORDER_SHIFT & c.ORDER_MASK
        states += [word & c.TYPE_MASK] * (1 << order)
        pfn = len(states)
    return states


def test_every_page_of_a_block_has_the_state_of_its_head(arena):
    pfn = arena.alloc_pages(order=3)
    states = states_of(arena.segment.ram, arena.segment.layout)
    assert list(states[pfn : pfn + 8]) == [c.T_ALLOCATED] * 8
    assert states.tolist() == walked(arena.segment)


def test_a_hole_is_reserved():
    geometry = Geometry(zones=(ZoneSpec(512, holes=((100, 7),)),), max_order=4, pageblock_order=3)
    with Segment.create(geometry, None, False, "interpreted") as segment:
        states = states_of(segment.ram, segment.layout)
    assert np.flatnonzero(states == c.T_RESERVED).tolist() == list(range(100, 107))


def test_a_cell_shows_the_state_of_most_of_its_pages(arena):
    for _ in range(300):
        arena.alloc_pages(order=0)
    segment = arena.segment
    states, borders = walked(segment), cell_pages(segment.layout, 10)
    cells = map_of(segment.ram, segment.layout, 10)
    assert len(cells) == 10 and borders[-1] == segment.geometry.pages
    for cell, (start, end) in zip(cells, itertools.pairwise(borders), strict=True):
        counts = Counter(states[start:end])
        assert counts[cell] == max(counts.values())


def test_a_map_in_parts_is_the_map_of_the_whole(arena, monkeypatch):
    arena.alloc_pages(order=9)
    segment = arena.segment
    whole = map_of(segment.ram, segment.layout)
    monkeypatch.setattr(page_states, "CHUNK_PAGES", 100)
    assert map_of(segment.ram, segment.layout) == whole


def test_fewer_pages_than_cells_are_one_cell_each():
    geometry = Geometry(zones=(ZoneSpec(64),), max_order=4, pageblock_order=3)
    with Segment.create(geometry, None, False, "interpreted") as segment:
        assert len(map_of(segment.ram, segment.layout)) == 64


def test_every_state_of_a_page_has_a_name():
    assert sorted(STATE_NAMES) == list(range(c.T_COUNT))
