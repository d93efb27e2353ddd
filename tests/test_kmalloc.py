"""kmalloc: size classes, large sizes from pages, and kfree that asks the descriptor."""

from __future__ import annotations

import pytest

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.engine import Engine
from support import slab_driver
from support.object_segment import FEW, ObjectSegment

CLASSES = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024)  # of a world with pages of 512 bytes


@pytest.fixture
def world(engine: Engine) -> ObjectSegment:
    world = ObjectSegment(engine)
    assert world.do(slab_driver.KMALLOC_BOOT, FEW) == len(CLASSES)
    return world


def kmalloc(world: ObjectSegment, size: int, cpu: int = 0) -> int:
    return world.do(slab_driver.KMALLOC, size, cpu=cpu)


def kfree(world: ObjectSegment, address: int, cpu: int = 0) -> int:
    return world.do(slab_driver.KFREE, address, cpu=cpu)


def test_boot_twice_makes_nothing_new(world: ObjectSegment) -> None:
    assert world.do(slab_driver.KMALLOC_BOOT, FEW) == 0


def test_every_size_gets_the_smallest_class_that_holds_it(world: ObjectSegment) -> None:
    for size in range(1, 1025):
        address = kmalloc(world, size)
        expected = next(b for b in CLASSES if b >= size)
        assert world.do(slab_driver.USABLE, address) == expected
        assert kfree(world, address) == 0
    assert world.audit() == 0 and world.reports() == []


@pytest.mark.parametrize("size", [8, 16, 32, 64, 128, 256, 512, 1024])
def test_powers_of_two_are_aligned_to_their_size_or_the_page(
    world: ObjectSegment, size: int
) -> None:
    for _ in range(5):
        offset = (kmalloc(world, size) - world.layout.at["frames"]) * 8
        assert offset % min(size, world.geometry.page_bytes) == 0


def test_large_sizes_are_pages(world: ObjectSegment) -> None:
    before = world.free_pages()
    address = kmalloc(world, 1025)
    assert world.do(slab_driver.USABLE, address) == 2048
    assert kfree(world, address) == 0
    assert world.reports() == [] and world.free_pages() <= before


def test_without_boot_everything_is_pages(engine: Engine) -> None:
    world = ObjectSegment(engine)
    address = kmalloc(world, 8)
    assert world.do(slab_driver.USABLE, address) == 512
    assert kfree(world, address) == 0


@pytest.mark.parametrize("size", [0, -1, -(1 << 40)])
def test_sizes_below_one_are_invalid(world: ObjectSegment, size: int) -> None:
    assert kmalloc(world, size) == c.E_INVAL


@pytest.mark.parametrize("size", [1 << 16, 1 << 40, (1 << 62)])
def test_sizes_beyond_the_largest_block_find_no_memory(world: ObjectSegment, size: int) -> None:
    assert kmalloc(world, size) == c.E_NOMEM


@pytest.mark.parametrize("size", [8, 64, 1000, 5000])
def test_double_kfree_is_refused(world: ObjectSegment, size: int) -> None:
    keep, address = kmalloc(world, size), kmalloc(world, size)
    assert kfree(world, address) == 0
    assert kfree(world, address, cpu=1) == c.E_STATE
    assert world.reports() in ([c.M_OBJECT_FREE], [c.M_OBJECT_POINTER])
    assert kfree(world, keep) == 0


def test_kfree_inside_a_large_block_is_refused(world: ObjectSegment) -> None:
    address = kmalloc(world, 5000)
    for wrong in (address + 1, address + 64, address + 300):
        assert kfree(world, wrong) == c.E_STATE
    assert world.reports() == [c.M_OBJECT_POINTER] * 3
    assert kfree(world, address) == 0


def test_kfree_of_pages_that_kmalloc_did_not_give_is_refused(world: ObjectSegment) -> None:
    pfn = world.do(slab_driver.ALLOC_PAGES, 0)
    assert kfree(world, world.layout.frame(pfn)) == c.E_STATE
    assert world.reports() == [c.M_OBJECT_POINTER]
    assert world.do(slab_driver.FREE_PAGES, pfn, 0) == 0


def test_kfree_takes_objects_of_any_cache(world: ObjectSegment) -> None:
    cache = world.create(72)
    address = world.alloc(cache)
    assert kfree(world, address) == 0 and world.audit() == 0


def test_kmalloc_caches_cannot_be_destroyed(world: ObjectSegment) -> None:
    assert world.destroy(world.mem[cs.H_KMALLOC] - 1) == c.E_INVAL
    assert kmalloc(world, 8) > 0
