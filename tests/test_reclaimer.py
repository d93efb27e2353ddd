"""The reclaimer, woken below the low watermark, brings back what lists and shrinkers keep."""

import threading

import pytest

from shmalloc import Arena, MisuseError
from shmalloc import constants as c

WATCHDOG_S = 60.0


class Pages:
    """A shrinker that keeps blocks of pages and gives them back when asked."""

    def __init__(self, arena, count, order):
        self.arena, self.order = arena, order
        self.pfns = [arena.alloc_pages(order=order) for _ in range(count)]
        self.asked = threading.Event()

    def count_objects(self):
        return len(self.pfns)

    def scan_objects(self, count):
        given, self.pfns = self.pfns[:count], self.pfns[count:]
        for pfn in given:
            self.arena.free_pages(pfn, order=self.order)
        self.asked.set()
        return len(given)


@pytest.fixture
def arena():
    with Arena.create(size="8MiB", cpus=2) as made:
        yield made


def fill(arena):
    """Take single pages until a zone is below its low mark."""
    at = arena.segment.layout.zone(0)
    pfns = []
    while arena.segment.ram[at + c.Z_FREE] >= arena.segment.ram[at + c.Z_LOW]:
        pfns.append(arena.alloc_pages())
    return pfns


def test_an_allocation_below_the_low_mark_has_shrinkers_called(arena):
    kept = Pages(arena, 4, order=6)
    arena.register_shrinker(kept)
    with arena.reclaimer() as reclaimer:
        pfns = fill(arena)
        assert kept.asked.wait(WATCHDOG_S), "the reclaimer did not call its shrinker"
    assert reclaimer.passes > 0
    assert reclaimer.given > 0
    assert not reclaimer.running
    arena.free_pages_bulk(pfns)
    assert arena.validate() == []


def test_what_a_shrinker_raises_ends_the_reclaimer_and_is_raised_at_its_end(arena):
    kept = Pages(arena, 1, order=6)
    kept.scan_objects = lambda count: (kept.asked.set(), 1 // 0)
    arena.register_shrinker(kept)
    with pytest.raises(ZeroDivisionError), arena.reclaimer():
        fill(arena)
        assert kept.asked.wait(WATCHDOG_S), "the reclaimer did not call its shrinker"


def test_a_shrinker_without_its_methods_is_refused(arena):
    with pytest.raises(MisuseError, match="count_objects"):
        arena.register_shrinker(object())


def test_a_shrinker_is_unregistered_once(arena):
    kept = Pages(arena, 0, order=0)
    arena.register_shrinker(kept)
    arena.unregister_shrinker(kept)
    with pytest.raises(MisuseError, match="not registered"):
        arena.unregister_shrinker(kept)


def test_a_reclaimer_ends_with_its_arena():
    arena = Arena.create(size="8MiB", cpus=2)
    reclaimer = arena.reclaimer().start()
    arena.close()
    reclaimer.stop()
    assert not reclaimer.running
