"""Unaccepted memory: nothing touches it before a page of its pageblock is given out."""

import pytest

from shmalloc import Arena
from shmalloc import constants as c
from shmalloc.errors import MisuseError
from shmalloc.layout import LINK_STORES

SMALL = {"page_bytes": 64, "cpus": 2, "max_order": 5, "pageblock_order": 3, "unaccepted": True}
MARK = 0x5AFE


def accepted(arena):
    """Numbers of the pageblocks that were accepted."""
    layout, ram = arena.segment.layout, arena.segment.ram
    blocks = range(arena.segment.geometry.pages >> 3)
    return {n for n in blocks if not ram[layout.at["blocks"] + n] & c.BLOCK_UNACCEPTED}


@pytest.mark.parametrize("store", [name for name in LINK_STORES if name != "page"])
def test_only_pageblocks_of_which_a_page_was_given_out_are_ever_written_to(store):
    with Arena.create(size="16KiB", link_store=store, **SMALL) as arena:
        at = arena.segment.layout.at["frames"]
        frames = arena.segment.ram.array[at : at + 256 * 8].reshape(32, 64)  # by pageblock
        frames[:] = MARK
        pages = {arena.alloc_pages(order): order for order in (0, 4, 1, 3)}
        arena.alloc_contig_range(100, 103)
        used = {pfn + i >> 3 for pfn, order in pages.items() for i in range(1 << order)} | {12}
        assert used <= accepted(arena) < set(range(32))
        for number in range(32):
            assert (frames[number] == (0 if number in accepted(arena) else MARK)).all()
        left = max(set(range(32)) - accepted(arena))
        arena.isolate(left * 8, left * 8 + 8)
        arena.unisolate(left * 8, left * 8 + 8)
        for pfn, order in pages.items():
            arena.free_pages(pfn, order)
        arena.drain()  # which merges accepted blocks with others
        assert left not in accepted(arena) and (frames[left] == MARK).all()
        assert arena.validate() == []


def test_a_page_in_use_in_an_unaccepted_pageblock_is_reported():
    with Arena.create(size="16KiB", link_store="descriptor", **SMALL) as arena:
        pfn = arena.alloc_pages()
        arena.segment.ram[arena.segment.layout.at["blocks"] + (pfn >> 3)] |= c.BLOCK_UNACCEPTED
        assert arena.validate()


def test_lists_in_unaccepted_pages_are_refused():
    with pytest.raises(MisuseError, match="a list would run through it"):
        Arena.create(size="16KiB", link_store="page", **SMALL)
