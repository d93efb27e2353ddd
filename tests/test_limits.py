"""The largest geometries: 64 nodes, and the last byte that a link reaches.

The bits are drawn in docs/geometry.md. The border is computed from the layout alone, without
memory: 256 GiB, header and descriptors included.
"""

import pytest

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.errors import MisuseError
from shmalloc.layout import Geometry, Layout, ZoneSpec
from support import object_segment
from support.page_segment import PageSegment

NODES = 64
REACH_BYTES = 1 << 38
PAGES_EACH = 64
EACH_ITS_NODE = {
    "zones": tuple(ZoneSpec(PAGES_EACH, node) for node in range(NODES)),
    "cpus": NODES,
    "scratch_words": 256,  # boot reads the extents of the zones from there
    "pcp_form": "list",  # arrays for 64 x 64 (CPU, zone) pairs would be most of the segment
}


def layout_of(pages: int) -> Layout:
    return Layout.of(Geometry(zones=(ZoneSpec(pages),), cpus=1))


def largest_pages() -> int:
    """The most pages for which the segment ends before the last byte that a link reaches."""
    fits, too_many = 1, REACH_BYTES // 4096
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        try:
            layout_of(middle)
            fits = middle
        except MisuseError:
            too_many = middle
    return fits


@pytest.fixture
def world(engine):
    return PageSegment(engine, **EACH_ITS_NODE)


def test_each_of_64_nodes_is_used_by_its_own_cpu(world):
    pfns = [world.alloc(order=1, cpu=cpu) for cpu in range(NODES)]
    assert [pfn // PAGES_EACH for pfn in pfns] == list(range(NODES))
    assert [world.free(pfn, 1, cpu=cpu) for cpu, pfn in enumerate(pfns)] == [0] * NODES
    assert (world.booted_pages, world.teardown()) == (NODES * PAGES_EACH, 0)


def test_a_cpu_of_the_last_node_takes_from_all_others_when_its_own_is_empty(world):
    pages = world.alloc_everything(order=4)
    assert sorted(pages) == list(range(0, NODES * PAGES_EACH, 16))
    zones = {world.mem[world.layout.descriptor(pfn)] >> c.ZONE_SHIFT & c.ZONE_MASK for pfn in pages}
    assert zones == set(range(NODES)) and world.audit() == 0


def test_a_cache_has_slabs_on_each_of_64_nodes(engine):
    world = object_segment.ObjectSegment(engine, **EACH_ITS_NODE)
    cache = world.create(48, flags=cs.CF_NO_SHEAVES)  # theirs would fill the first node
    objects = [world.alloc(cache, cpu=cpu) for cpu in range(NODES)]
    pages = [world.slab(address)[0] // PAGES_EACH for address in objects]
    assert pages == list(range(NODES)) and world.audit() == 0


def test_a_node_or_zone_more_is_refused():
    with pytest.raises(MisuseError, match="zones: 65; use 1 to 64"):
        Geometry(zones=tuple(ZoneSpec(1) for _ in range(NODES + 1)))
    with pytest.raises(MisuseError, match=r"zones\[0\].node: 64; use 0 to 63"):
        Geometry(zones=(ZoneSpec(1, NODES),))


def test_the_largest_geometry_is_refused_at_the_page_that_a_link_does_not_reach():
    most = largest_pages()
    end = layout_of(most).bytes
    assert REACH_BYTES - 4096 < end <= REACH_BYTES
    with pytest.raises(
        MisuseError, match=r"size: [\d,]+ bytes in all; use at most 274,877,906,944"
    ):
        layout_of(most + 1)


def test_every_link_of_the_largest_geometry_fits_the_field():
    layout = layout_of(largest_pages())
    last = (layout.words - 2) * 8
    assert last & ~c.LINK_MASK == 0 and layout.frame(layout.geometry.pages) <= layout.words
