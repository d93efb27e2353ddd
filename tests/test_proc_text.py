"""The texts in Linux's formats: columns as the kernel prints them, numbers that add up.

The formats are taken from mm/vmstat.c and mm/slab_common.c; what the numbers have to be follows
from what was allocated.
"""

from __future__ import annotations

import re

import pytest

from shmalloc import Arena
from shmalloc import constants_slab as cs
from shmalloc.kernels.slab_format import objects_that_fit
from shmalloc.layout import ZoneSpec
from shmalloc.proc_text import fragmentation_index, unusable_index
from shmalloc.slab_counts import objects_per_slab
from stress import cli
from support.floors import ROOT

BUDDY = re.compile(r"^Node (\d+), zone ([ \w]{8}) ((?: {0,5}\d{1,6} )+)$")
TYPES = re.compile(r"^Node ([ \d]{4}), zone ([ \w]{8}), type ([ \w]{12}) ((?: {0,5}\d{1,6} )+)$")
BLOCKS = re.compile(r"^Node (\d+), zone ([ \w]{8}) ((?: {0,11}\d{1,12} ){4})$")
SLAB = re.compile(
    r"^(\S{1,17}) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)"
    r" : tunables +(\d+) +(\d+) +(\d+) : slabdata +(\d+) +(\d+) +(\d+)$"
)
TEXTS = ("buddyinfo", "pagetypeinfo", "slabinfo", "vmstat", "extfrag")


@pytest.fixture
def arena():
    """Two nodes with 1,024 pages each."""
    zones = [ZoneSpec(pages=1024, node=node) for node in range(2)]
    with Arena.create(zones=zones, cpus=1, pageblock_order=6, engine="interpreted") as made:
        yield made


def matched(pattern, text):
    found = [pattern.match(line) for line in text.splitlines()]
    assert all(found), text
    return [one.groups() for one in found]


def numbers(text):
    return [int(number) for number in text.split()]


def test_a_fresh_zone_is_one_block_of_the_largest_order(arena):
    rows = matched(BUDDY, arena.buddyinfo())
    assert [(node, zone.strip()) for node, zone, _ in rows] == [("0", "zone0"), ("1", "zone1")]
    assert [numbers(counts) for *_, counts in rows] == [[0] * 10 + [1]] * 2


def test_a_large_block_leaves_one_buddy_of_each_order_above_it(arena):
    arena.alloc_pages(order=7)
    rows = matched(BUDDY, arena.buddyinfo())
    assert sorted(numbers(counts) for *_, counts in rows) == [
        [0] * 10 + [1],
        [0] * 7 + [1, 1, 1, 0],
    ]


def test_migratetypes_are_rows_and_add_up_to_the_free_blocks(arena):
    for _ in range(40):
        arena.alloc_pages(order=1)
    head, *lines = arena.pagetypeinfo().split("\n\n")
    assert head == "Page block order: 6\nPages per block:  64"
    title, *rows = lines[0].splitlines()
    assert title == f"{'Free pages count per migrate type at order':<43} " + "".join(
        f"{order:6} " for order in range(11)
    )
    found = [
        (int(node), kind.strip(), numbers(n))
        for node, _, kind, n in matched(TYPES, "\n".join(rows))
    ]
    assert [kind for _, kind, _ in found[:4]] == ["Unmovable", "Movable", "Reclaimable", "Isolate"]
    sums = [
        [sum(column) for column in zip(*(n for at, _, n in found if at == node), strict=True)]
        for node in range(2)
    ]
    assert sums == [numbers(counts) for *_, counts in matched(BUDDY, arena.buddyinfo())]


def test_each_pageblock_has_one_type(arena):
    arena.alloc_pages(migratetype="unmovable")
    title, *rows = arena.pagetypeinfo().split("\n\n")[2].splitlines()
    assert title == f"{'Number of blocks type ':<23}" + "".join(
        f"{name:>12} " for name in ("Unmovable", "Movable", "Reclaimable", "Isolate")
    )
    counts = [numbers(n) for _, _, n in matched(BLOCKS, "\n".join(rows))]
    assert [sum(one) for one in counts] == [16, 16]
    assert sum(one[0] for one in counts) >= 1


def test_a_range_that_is_offline_is_isolated(arena):
    arena.offline(64, 128)
    rows = arena.pagetypeinfo().split("\n\n")[2].splitlines()[1:]
    assert [numbers(n)[3] for _, _, n in matched(BLOCKS, "\n".join(rows))] == [1, 0]


def slab_rows(arena):
    return "\n".join(arena.slabinfo().splitlines()[2:])


def test_slabinfo_has_a_row_for_each_cache_with_its_objects(arena):
    cache = arena.cache("two words", 100)
    held = [cache.alloc() for _ in range(50)]
    first, second, *rows = arena.slabinfo().splitlines()
    assert first == "slabinfo - version: 2.1"
    assert second == (
        "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>"
        " : tunables <limit> <batchcount> <sharedfactor>"
        " : slabdata <active_slabs> <num_slabs> <sharedavail>"
    )
    found = {row[0]: [int(cell) for cell in row[1:]] for row in matched(SLAB, "\n".join(rows))}
    active, total, size, each, pages, *_, slabs, all_slabs, _ = found["two_words"]
    assert len(held) <= active <= total == each * slabs
    assert size >= 100 and slabs == all_slabs and each * size <= pages * 4096


def test_an_empty_cache_has_the_objects_that_a_slab_of_it_will_have(arena):
    caches = [arena.cache(f"of{size}", size) for size in (8, 100, 500, 3000)]
    empty = {row[0]: [int(n) for n in row[1:]] for row in matched(SLAB, slab_rows(arena))}
    held = [cache.alloc() for cache in caches]
    used = {row[0]: [int(n) for n in row[1:]] for row in matched(SLAB, slab_rows(arena))}
    for cache, _ in zip(caches, held, strict=True):
        assert empty[cache.name][:2] == [0, 0] and empty[cache.name][3] == used[cache.name][3]
        assert used[cache.name][1] == used[cache.name][3] * used[cache.name][-2]


def test_objects_per_slab_are_those_that_the_kernels_cut(arena):
    cache = arena.cache("nodes", 72)
    at = arena._descriptor(cache.number)
    stride = arena.segment.ram[at + cs.K_STRIDE]
    for order in range(11):
        fit = arena.engine.call(objects_that_fit, arena.segment.ram, at, order)
        assert objects_per_slab(arena.segment.layout, stride, order) == fit


def test_the_limit_is_what_the_sheaves_of_a_cpu_hold(arena):
    cache, plain = arena.cache("sheaves", 64), arena.cache("none", 64, sheaves=False)
    rows = {row[0]: [int(n) for n in row[6:9]] for row in matched(SLAB, slab_rows(arena))}
    capacity = arena.segment.ram[arena._descriptor(cache.number) + cs.K_CAPACITY]
    assert rows[cache.name] == [2 * capacity, capacity, 0] and capacity > 0
    assert rows[plain.name] == [0, 0, 0]


def test_vmstat_counts_pages_and_events(arena):
    before = dict(line.split() for line in arena.vmstat().splitlines())
    arena.alloc_pages(order=4)
    after = dict(line.split() for line in arena.vmstat().splitlines())
    assert (before["nr_managed_pages"], before["nr_used_pages"]) == ("2048", "0")
    assert int(after["nr_used_pages"]) == 16
    assert int(after["nr_free_pages"]) + int(after["nr_pcp_pages"]) == 2032
    assert int(after["alloc"]) - int(before["alloc"]) == 1


@pytest.mark.parametrize(
    ("free", "order", "index", "unusable"),
    [
        ((4, 0, 0), 1, 250, 1000),  # 1 - (1 + 4/2) / 4
        ((1, 0, 0), 2, -250, 1000),  # 1 - (1 + 1/4) / 1: memory is missing, not order
        ((0, 3, 1), 2, -1000, 600),  # it would succeed; 6 of 10 pages do not fit
        ((0, 0, 0), 0, 0, 1000),  # no memory at all
    ],
)
def test_the_indexes_are_those_of_the_formulas(free, order, index, unusable):
    """Gorman and Whitcroft, "The what, the why and the where to of anti-fragmentation" (2006)."""
    assert (fragmentation_index(free, order), unusable_index(free, order)) == (index, unusable)


def test_extfrag_prints_thousandths_as_the_kernel_does(arena):
    rows = arena.extfrag().splitlines()
    assert rows[0] == "extfrag_index" and rows[3] == "unusable_index"
    assert rows[1] == "Node 0, zone    zone0 " + "-1.000 " * 11
    assert rows[4] == "Node 0, zone    zone0 " + "0.000 " * 11  # "%d.%03d ", the other "%2d.%03d "


@pytest.mark.parametrize("what", TEXTS)
def test_a_command_prints_the_same_of_another_process_s_segment(arena, capsys, what):
    arena.alloc_pages(order=3)
    assert cli.run((what, arena.name)) == 0
    assert capsys.readouterr().out == getattr(arena, what)()


def test_what_is_no_segment_is_one_line(capsys):
    assert cli.run(("buddyinfo", "there-is-none")) == 4
    assert "there-is-none" in capsys.readouterr().err


def test_unaccepted_pages_are_counted_until_one_of_their_pageblock_is_given_out():
    options = {"link_store": "descriptor", "unaccepted": True, "engine": "interpreted"}
    with Arena.create(zones=[ZoneSpec(256)], cpus=1, pageblock_order=6, **options) as arena:
        before = counters(arena)["nr_unaccepted"]
        arena.alloc_pages()
        assert (before, counters(arena)["nr_unaccepted"]) == ("256", "192")


def counters(arena):
    return dict(line.split() for line in arena.vmstat().splitlines())


def test_the_page_of_counters_has_a_line_for_each_and_for_no_other(arena):
    page = (ROOT / "docs" / "counters.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.MULTILINE)
    assert [name for name, _ in rows] == list(counters(arena))
    assert all(len(meaning) > 8 for _, meaning in rows)
