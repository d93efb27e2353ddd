"""What kernels record for people: histories and reports, as numbers and in words."""

import pytest

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.history import History
from shmalloc.image import write_image
from shmalloc.invariants import TABLE
from shmalloc.kernels.bits import pack
from shmalloc.kernels.boot import boot
from shmalloc.kernels.cache import cache_alloc, cache_free
from shmalloc.kernels.cache_bulk import cache_free_bulk
from shmalloc.kernels.cache_set import cache_create
from shmalloc.kernels.pages import alloc_pages, free_pages
from shmalloc.kernels.reporting import report
from shmalloc.layout import Geometry, Layout, ZoneSpec, first_node_part
from shmalloc.memory import Ram
from shmalloc.report_text import ReportText, Stake
from shmalloc.reports import Reports

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


@pytest.mark.parametrize("flags", [0, cs.CF_DEBUG], ids=["plain", "debug"])
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


# --- reports in words ----------------------------------------------------------------------------
OBJECT = LAYOUT.frame(3)
FREE = pack(c.T_FREE, 1, 0, c.MT_MOVABLE, 0, 300)
NODE = LAYOUT.at["caches"] + first_node_part(LAYOUT.geometry)


@pytest.mark.parametrize(
    ("code", "where", "expected", "found", "words"),
    [
        (c.I_TAIL, 5, 1, FREE, "pfn 5, expected one head, found FREE order 1 zone 0 MOVABLE v300"),
        (c.I_TAIL, 5, 1, 0, "pfn 5, expected one head, found TAIL v0"),
        (c.I_TAIL, 5, 4, FREE, "pfn 5, expected a tail of the block at pfn 4, found FREE"),
        (c.I_CONSERVATION, c.AT_WORD | (LAYOUT.zone(0) + c.Z_FREE), 64, 63,
         "zone 0 free, expected 64, found 63"),
        (c.I_SLAB, c.AT_WORD | (NODE + cs.KN_NR_SLABS), 2, 1,
         "cache 0 node 0 nr-slabs, expected 2, found 1"),
        (c.I_FREE_HEAD, c.AT_LIST | 1 << 8 | c.MT_MOVABLE, 3, 2,
         "the free list of zone 0, order 1, MOVABLE, expected 3, found 2"),
        (c.I_FREE_HEAD, 4, c.IS_TYPE | c.T_TAIL, FREE, "pfn 4, expected TAIL, found FREE order 1"),
        (c.I_LIST_LINKS, 4, c.AT_LIST | 1 << 8 | c.MT_MOVABLE, FREE,
         "pfn 4, expected neighbours that link to it on the free list of zone 0, order 1, MOVABLE"),
        (c.I_PCP_COUNT, c.AT_PCP | 3 << 16 | 1 << 8, 7, 6,
         "the page lists of cpu 3, zone 1, expected 7, found 6"),
        (c.I_FREE_HEAD, 4, c.IS_FREE | 1 << 8 | 2, FREE,
         "pfn 4, expected a free block in zone 1, of order 2 or higher, found FREE order 1"),
        (c.I_UNMERGED, 4, 2, 0, "pfn 4, expected one block of order 3, found its buddy, pfn 0,"),
        (c.M_DOUBLE_FREE, 4, 1, FREE,
         "pfn 4, expected an allocated block of order 1, found FREE order 1"),
        (c.M_OUT_OF_RANGE, 4096, 0, -1, "pfn 4096, expected an allocated block of order 0, found"),
        (c.M_OBJECT_FREE, OBJECT, c.AT_CACHE | 1, c.AT_CACHE | 1,
         f"object {OBJECT:#x} (pfn 3), expected a live object of cache 1, found a free one"),
        (c.M_OBJECT_POINTER, 5, c.AT_CACHE | 1, -1, "word 0x5, expected the address of an object"),
        (c.M_LEAKED_OBJECTS, c.AT_CACHE | 1, 0, c.E_BUSY,
         "cache 1, expected no live object, found E_BUSY"),
        (c.X_DOUBLE_ALLOC, 9, 7, 8, "pfn 9, expected owner 7 alone, found owner 8"),
        (c.X_PAYLOAD, 9, 0x51AC0FFEE, c.AT_CACHE | 1, "pfn 9, expected 0x51ac0ffee, found -0x7d"),
    ],
)  # fmt: skip
def test_a_report_is_told_in_words(ram, code, where, expected, found, words):
    report(ram, 0, code, where, expected, found)
    (violation,) = Reports(ram, LAYOUT).violations()
    row = TABLE[code]
    assert str(violation).startswith(f"{row.name}: {row.sentence}: at {words}")
    assert str(violation).endswith("(reported by claim 0)")


def test_a_cache_is_called_by_its_name(ram):
    cache_create(ram, 0, 64, 0, 0, 0)
    at = LAYOUT.at["caches"] + cs.K_NAME
    ram[at], ram[at + 1] = 5, int.from_bytes(b"inode\0\0\0", "little")
    assert ReportText(ram, LAYOUT).cache(0) == "cache 0 'inode'"


def test_a_report_that_its_cpu_did_not_finish_is_told_as_one(ram):
    report(ram, 0, c.I_TAIL, 5, 1, FREE)
    ram[LAYOUT.at["reports"] + c.R_READY] = 0
    (violation,) = Reports(ram, LAYOUT).violations()
    assert violation.invariant == "I_PROGRESS" and "has not finished" in violation.found


# --- the history of what is at stake -------------------------------------------------------------
def played(ram):
    """A block of two pages and an object are allocated and freed."""
    pfn = alloc_pages(ram, 0, 1, c.MT_MOVABLE, 7)
    free_pages(ram, 0, pfn, 1)
    cache = cache_create(ram, 0, 64, 0, cs.CF_NO_SHEAVES, 0)
    address = cache_alloc(ram, 0, cache)
    cache_free(ram, 0, cache, address)
    return pfn, cache, address


def test_the_history_of_a_page_is_that_of_the_blocks_that_cover_it(ram):
    pfn, _, _ = played(ram)
    lines = History(ram, LAYOUT).of(Stake(pfn=pfn + 1))
    assert lines[0] == f"cpu 0: allocated pfn {pfn}, order 1, for owner 7"
    assert lines[1].startswith(f"cpu 0: freed pfn {pfn}, order 1")


def test_the_history_of_an_object_has_no_other_object(ram):
    _, cache, address = played(ram)
    cache_alloc(ram, 0, cache)
    second = cache_alloc(ram, 0, cache)
    lines = History(ram, LAYOUT).of(Stake(address=second, pfn=None))
    assert second != address and len(lines) == 1
    assert lines[0].startswith(f"cpu 0: allocated object {second:#x}") and "of cache 0" in lines[0]


def test_the_history_of_a_cache_has_its_slabs_and_objects(ram):
    _, cache, _ = played(ram)
    lines = History(ram, LAYOUT).of(Stake(cache=cache))
    assert [line.split()[2] for line in lines] == ["made", "allocated", "freed"]


def test_what_is_about_no_page_has_no_history(ram):
    played(ram)
    report(ram, 0, c.I_FREE_HEAD, c.AT_LIST | 1 << 8, 3, 2)
    (violation,) = Reports(ram, LAYOUT).violations()
    assert violation.history == ()


def test_a_refill_of_a_zone_is_no_operation_on_the_page_of_that_number(ram):
    played(ram)
    ram[LAYOUT.at["history"] + c.HI_OP] = c.OP_REFILL << 8
    ram[LAYOUT.at["history"] + c.HI_WHERE] = 50
    assert History(ram, LAYOUT).of(Stake(pfn=50)) == ()


def test_the_first_report_ends_a_history_that_is_to_stop(ram):
    ram[c.H_HISTORY_STOPS] = 1
    report(ram, 0, c.I_TAIL, 5, 1, FREE)
    played(ram)
    assert [line.split()[2] for line in History(ram, LAYOUT).of_cpu(0)] == ["reported"]
