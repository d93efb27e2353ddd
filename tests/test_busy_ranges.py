"""Operations on ranges of pages that are busy say which page is in their way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shmalloc import Arena, MisuseError

BLOCK = 8  # pages of a pageblock


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena.create(size="256KiB", cpus=2, max_order=5, pageblock_order=3) as made:
        yield made


def test_a_range_names_the_page_that_is_in_use(arena: Arena) -> None:
    arena.alloc_contig_range(3 * BLOCK + 5, 3 * BLOCK + 6, owner=77)
    with pytest.raises(MisuseError) as caught:
        arena.offline(3 * BLOCK, 4 * BLOCK)
    assert str(caught.value).startswith("offline(24, 32): pfn 29 is allocated to owner 77")


def test_a_range_names_the_block_that_reaches_into_it(arena: Arena) -> None:
    pfn = arena.alloc_pages(order=5)
    with pytest.raises(MisuseError) as caught:
        arena.alloc_contig_range(pfn + 9, pfn + 12)
    assert f": pfn {pfn + 9} is inside the block of pfn {pfn}, allocated to" in str(caught.value)


def test_a_range_names_the_pageblock_that_is_isolated(arena: Arena) -> None:
    with Arena.attach(arena.name, readonly=False) as other:
        other.isolate(BLOCK, 2 * BLOCK)
        for call in (arena.isolate, arena.unisolate, arena.alloc_contig_range):
            with pytest.raises(MisuseError, match="the pageblock at pfn 8 is isolated"):
                call(BLOCK, 2 * BLOCK)
