"""Systems whose pages are larger than ours: 16 KiB (Raspberry Pi 5, Asahi) and 64 KiB.

``mmap.PAGESIZE`` is set to theirs, which is read where it is used, and what such a kernel would do
to a range that is no multiple of its page is done: MADV_REMOVE refuses a start inside of a page,
and takes the whole of a page that the end lies in.
"""

import errno
import mmap

import numpy as np
import pytest

from shmalloc import Arena
from shmalloc.errors import MisuseError
from shmalloc.physical import Mapping

SIZES = [16 << 10, 64 << 10]
KEPT = 0x1122334455667788


@pytest.fixture(params=SIZES, ids=["16KiB", "64KiB"])
def system(request, monkeypatch):
    """Bytes of a page of the system; what is discarded is what that system would discard."""
    size = request.param
    remove = Mapping.discard

    def rounding(self, start, length):
        if start % size:
            raise OSError(errno.EINVAL, "start is no page")
        end = min(-(-(start + length) // size) * size, self.size)
        remove(self, start, end - start)

    monkeypatch.setattr(mmap, "PAGESIZE", size)
    monkeypatch.setattr(Mapping, "discard", rounding)
    return size


def test_the_system_destroys_a_neighbour_of_what_is_given_to_it_as_it_is(system):
    with Arena.create(size="2MiB", link_store="table", reporting=True) as arena:
        words = arena.segment.ram.array
        at = -(-arena.segment.layout.at["frames"] * 8 // system) * system // 8
        words[at : at + system // 8] = KEPT
        arena.segment.discard(at, 4096)  # what one of our free pages would be
        assert not words[at : at + system // 8].any()


@pytest.mark.parametrize("link_store", ["descriptor", "table"])
def test_reporting_leaves_every_page_that_is_used(system, link_store):
    with Arena.create(size="4MiB", link_store=link_store, reporting=True) as arena:
        frame = arena.segment.layout.frame
        pages = [arena.alloc_pages() for _ in range(512)]
        kept = [pfn for pfn in pages if pfn % 7 < 2 or pfn % 64 > 40]
        words = arena.segment.ram.array
        for pfn in kept:
            words[frame(pfn) : frame(pfn) + 512] = KEPT + pfn
        for pfn in set(pages) - set(kept):
            arena.free_pages(pfn)
        arena.drain()
        assert arena.report_free() % system == 0
        for pfn in kept:
            assert (words[frame(pfn) : frame(pfn) + 512] == KEPT + pfn).all()
        assert arena.validate() == []


def test_reporting_gives_whole_pages_of_the_system_back(system):
    with Arena.create(size="4MiB", link_store="table", reporting=True) as arena:
        given = arena.report_free()
        assert given % system == 0
        assert given >= (4 << 20) - 2 * 2 * system  # a pageblock loses what its ends cut off


def test_reporting_is_refused_where_a_pageblock_is_less_than_a_page_of_the_system(system):
    with pytest.raises(MisuseError, match=f"less than a page of the system, {system} bytes"):
        Arena.create(size="1MiB", link_store="table", reporting=True, pageblock_order=1)


def test_an_arena_is_used_as_everywhere(system):
    # 1,020 KiB are no whole number of such pages.
    with Arena.create(size="1020KiB", prealloc=True) as arena:
        shared = arena.array(np.arange(5000))
        again = arena.empty(70_000, np.uint8)
        again[:] = 7
        with Arena.attach(arena.name, readonly=True) as reader:
            assert (reader.open_array(shared.handle()) == np.arange(5000)).all()
        assert arena.validate() == []
