"""What kernels leave behind for people: the histories and reports that they write."""

import pytest

from shmalloc import constants as c
from shmalloc import constants_slab as s
from shmalloc.image import write_image
from shmalloc.kernels.boot import boot
from shmalloc.kernels.cache import cache_alloc, cache_free
from shmalloc.kernels.cache_bulk import cache_free_bulk
from shmalloc.kernels.cache_set import cache_create
from shmalloc.layout import Geometry, Layout, ZoneSpec
from shmalloc.memory import Ram

LAYOUT = Layout.of(Geometry(zones=(ZoneSpec(64),), page_bytes=4096, cpus=1, history=16, caches=2))
OBJECT_OPERATIONS = (c.OP_OBJ_ALLOC, c.OP_OBJ_FREE, c.OP_SLAB_NEW)


@pytest.fixture
def ram():
    """A small segment with one CPU, over which kernels run as plain Python."""
    ram = Ram.of_words(LAYOUT.words)
    write_image(ram, LAYOUT)
    boot(ram)
    ram[LAYOUT.cpu(0) + c.C_STATE] = c.CPU_ONLINE
    return ram


def history(ram):
    """(operation, where, detail) of CPU 0, oldest first."""
    first, count = LAYOUT.at["history"], ram[LAYOUT.cpu(0) + c.C_HISTORY_NEXT]
    words = c.HI_OP, c.HI_WHERE, c.HI_DETAIL
    entries = [[ram[first + n * c.HI_STRIDE + w] for w in words] for n in range(count)]
    return [(op >> 8, where, detail) for op, where, detail in entries]


@pytest.mark.parametrize("flags", [0, s.CF_DEBUG], ids=["plain", "debug"])
def test_the_history_of_an_object_names_its_cache_by_id(ram, flags):
    cache_create(ram, 0, 64, 0, 0, 0)
    cache = cache_create(ram, 0, 64, 0, flags, 0)
    cache_free(ram, 0, cache, cache_alloc(ram, 0, cache))
    named = {(op, detail) for op, _, detail in history(ram) if op in OBJECT_OPERATIONS}
    assert cache == 1 and named == {(op, 1) for op in OBJECT_OPERATIONS}


def test_a_free_of_many_objects_names_their_cache_by_id(ram):
    cache_create(ram, 0, 64, 0, 0, 0)
    cache = cache_create(ram, 0, 64, 0, 0, 0)
    ram[LAYOUT.at["scratch"]] = cache_alloc(ram, 0, cache)
    assert cache_free_bulk(ram, 0, cache, 1, LAYOUT.at["scratch"]) == 1
    assert [detail for op, _, detail in history(ram) if op == c.OP_OBJ_FREE] == [1]
