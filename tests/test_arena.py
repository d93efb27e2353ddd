"""The Python face: pages, ranges, hazards, errors, statistics."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.arena import Arena
from shmalloc.arena_geometry import geometry_of
from shmalloc.engine import Engine
from shmalloc.errors import CorruptionError, MisuseError, NotReadyError, OutOfMemoryError
from shmalloc.free_reporting import whole_system_pages
from shmalloc.history import History
from shmalloc.layout import LINK_STORES, Geometry, ZoneSpec
from shmalloc.report_text import Stake

SMALL = {"page_bytes": 64, "cpus": 2, "max_order": 4, "pageblock_order": 2, "history": 16}
PAGES = 128

WATCHDOG_S = 60.0


@pytest.fixture
def arena(engine: Engine) -> Iterator[Arena]:
    with Arena.create(size=PAGES * 64, engine=engine.name, **SMALL) as made:
        yield made


# --- creation -----------------------------------------------------------------------------------


def test_a_fresh_arena_has_all_pages_free(arena: Arena) -> None:
    numbers = arena.statistics()
    assert (numbers.managed_pages, numbers.free_pages, numbers.used_pages) == (PAGES, PAGES, 0)


def test_the_size_is_bytes_of_pages() -> None:
    assert geometry_of("1GiB").pages == 1 << 18


def test_a_number_of_zones_is_one_zone_a_node() -> None:
    zones = geometry_of(10 * 4096, zones=3).zones
    assert [(zone.pages, zone.node) for zone in zones] == [(3, 0), (3, 1), (4, 2)]


def test_zones_are_taken_as_given() -> None:
    zones = (ZoneSpec(pages=64), ZoneSpec(pages=32, node=1, holes=((4, 4),)))
    with Arena.create(zones=zones, engine="interpreted", **SMALL) as arena:
        assert arena.statistics().managed_pages == 92


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"size": "many"}, "size: 'many'"),
        ({"size": 63}, "size: 63; use at least 64 bytes, a page of 64 for each zone"),
        ({"zones": 65}, "zones: 65"),
        ({"size": 4096, "zones": [ZoneSpec(pages=3)]}, "together with zones"),
        ({"size": 4096, "colour": "red"}, "colour: there is no such option"),
        ({"size": 4096, "link_store": "paper"}, "link_store: 'paper'"),
        ({"size": 4096, "engine": "steam"}, "engine: 'steam'"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(MisuseError, match=says):
        Arena.create(**{"engine": "interpreted", **SMALL, **wrong})  # type: ignore[arg-type]


def test_a_closed_arena_refuses_work(arena: Arena) -> None:
    arena.close()
    for work in (arena.alloc_pages, arena.statistics, arena.validate, arena.drain):
        with pytest.raises(MisuseError, match="is closed"):
            work()


def test_close_gives_the_slot_back(arena: Arena) -> None:
    other = Arena.attach(arena.name, engine=arena.engine.name)
    assert [slot.users for slot in arena.slots()] == [1, 1]
    other.close()
    assert [slot.users for slot in arena.slots()] == [1, 0]


def test_leaving_the_block_of_the_owner_removes_the_segment(engine: Engine) -> None:
    with Arena.create(size=4096, engine=engine.name, **SMALL) as made:
        assert (Path("/dev/shm") / made.name).exists()
    assert not (Path("/dev/shm") / made.name).exists()


# --- pages --------------------------------------------------------------------------------------


def test_pages_are_given_and_taken_back(arena: Arena) -> None:
    pfn = arena.alloc_pages(order=2)
    assert arena.statistics().used_pages == 4
    arena.free_pages(pfn, 2)
    assert arena.statistics().used_pages == 0


def test_a_block_is_aligned_to_its_size(arena: Arena) -> None:
    assert all(arena.alloc_pages(order=3) % 8 == 0 for _ in range(4))


def test_the_bytes_of_a_page_are_shared(arena: Arena) -> None:
    pfn = arena.alloc_pages(order=1)
    with Arena.attach(arena.name, engine=arena.engine.name) as other:
        arena.page(pfn, 1)[:5] = b"hello"
        assert bytes(other.page(pfn, 1)[:5]) == b"hello"
        assert len(other.page(pfn, 1)) == 128


def test_the_end_of_memory_is_told(arena: Arena) -> None:
    arena.alloc_pages_bulk(PAGES - 8)
    with pytest.raises(OutOfMemoryError, match=r"alloc_pages\(order=4\).*larger arena"):
        arena.alloc_pages(order=4)


def test_waiting_for_memory_ends_after_its_time(arena: Arena) -> None:
    for _ in range(PAGES >> 4):
        arena.alloc_pages(order=4)
    with pytest.raises(OutOfMemoryError):
        arena.alloc_pages(wait_s=0.01)


def test_bulk_gives_that_many_different_pages(arena: Arena) -> None:
    pfns = arena.alloc_pages_bulk(50)
    assert len(set(pfns)) == 50
    arena.free_pages_bulk(pfns)
    assert arena.statistics().used_pages == 1  # the page that carries the lists of pfns


def test_bulk_gives_fewer_when_memory_runs_out(arena: Arena) -> None:
    assert len(arena.alloc_pages_bulk(PAGES)) == PAGES - 1


def test_closing_frees_the_page_of_the_bulk_lists(arena: Arena) -> None:
    with Arena.attach(arena.name, engine=arena.engine.name) as other:
        other.free_pages_bulk(other.alloc_pages_bulk(3))
        assert arena.statistics().used_pages == 1
    assert arena.statistics().used_pages == 0


def test_everything_freed_merges_again(arena: Arena) -> None:
    blocks = [(arena.alloc_pages(order), order) for order in (0, 2, 1, 0, 3, 0)]
    for pfn, order in blocks:
        arena.free_pages(pfn, order)
    arena.drain()
    assert arena.statistics().zones[0].free_blocks == (0, 0, 0, 0, PAGES >> 4)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"order": 5}, "order: 5; use an int from 0 to 4"),
        ({"order": -1}, "order: -1"),
        ({"order": 1.0}, "order: 1.0"),
        ({"migratetype": "fixed"}, "migratetype: 'fixed'"),
        ({"migratetype": []}, r"migratetype: \[\]; use one of"),
        ({"owner": 0}, "owner: 0"),
        ({"owner": 1 << 62}, "owner: "),
    ],
)
def test_a_wrong_request_for_pages_is_refused(
    arena: Arena, arguments: dict[str, object], says: str
) -> None:
    with pytest.raises(MisuseError, match=says):
        arena.alloc_pages(**arguments)  # type: ignore[arg-type]


def test_what_is_no_dtype_and_no_death_is_refused(arena: Arena) -> None:
    with pytest.raises(MisuseError, match="dtype: 0: "):
        arena.pool(3, 4, 0)  # type: ignore[arg-type]
    with pytest.raises(MisuseError, match="recovered: None; use what recover"):
        arena.reap(None)  # type: ignore[arg-type]


# --- misuse -------------------------------------------------------------------------------------


def test_a_double_free_is_refused_with_the_pages_history(arena: Arena) -> None:
    pfn = arena.alloc_pages()
    arena.free_pages(pfn)
    with pytest.raises(
        CorruptionError, match="M_DOUBLE_FREE: a block may be freed only once"
    ) as caught:
        arena.free_pages(pfn)
    violation = caught.value.violation
    assert violation is not None
    assert any("alloc" in line for line in violation.history)
    assert any("free" in line for line in violation.history)


def test_a_history_keeps_the_order_of_its_ring_within_one_tick_of_the_clock(arena: Arena) -> None:
    """Arm's clock ticks every 8 to 40 ns: the entries of one page may have equal times."""
    ram, at = arena.segment.ram, arena.segment.layout.at["history"]
    for k, operation in enumerate((c.OP_FREE, c.OP_ALLOC, c.OP_FREE)):
        entry = at + k * c.HI_STRIDE
        ram[entry + c.HI_CLOCK], ram[entry + c.HI_WHERE] = 1000, 5
        ram[entry + c.HI_OP] = operation << 8
    ram[arena.segment.layout.cpu(0) + c.C_HISTORY_NEXT] = 3
    history = History(ram, arena.segment.layout)
    said = [line.split()[2] for line in history.of(Stake(pfn=5))]
    assert said == ["freed", "allocated", "freed"]


@pytest.mark.parametrize(
    ("pfn_offset", "order", "says"),
    [(0, 1, "M_WRONG_ORDER"), (1, 0, "M_TAIL_FREE"), (1 << 40, 0, "no such page")],
)
def test_a_wrong_free_is_refused_and_named(
    arena: Arena, pfn_offset: int, order: int, says: str
) -> None:
    pfn = arena.alloc_pages(order=2)
    with pytest.raises(CorruptionError, match=says):
        arena.free_pages(pfn + pfn_offset, order)


def test_a_free_by_a_stranger_is_refused(arena: Arena) -> None:
    pfn = arena.alloc_pages(owner=7)
    with pytest.raises(CorruptionError, match="M_STRANGER: only its owner"):
        arena.free_pages(pfn, owner=8)
    arena.free_pages(pfn, owner=7)


def test_a_misuse_loses_nothing_else(arena: Arena) -> None:
    pfn = arena.alloc_pages(order=1)
    with pytest.raises(CorruptionError):
        arena.free_pages(pfn, 0)
    arena.free_pages(pfn, 1)
    assert arena.statistics().used_pages == 0


def test_a_bulk_free_frees_what_it_can(arena: Arena) -> None:
    bad, good = arena.alloc_pages_bulk(2)
    arena.free_pages(bad)
    with pytest.raises(CorruptionError, match="1 not freed"):
        arena.free_pages_bulk([bad, good])
    assert arena.statistics().used_pages == 1  # the page that carries the lists of pfns


def test_every_misuse_is_kept_as_a_violation(arena: Arena) -> None:
    for _ in range(3):
        with pytest.raises(CorruptionError):
            arena.free_pages(5)
    assert [violation.where for violation in arena.violations()] == ["pfn 5"] * 3


# --- ranges and hazards ---------------------------------------------------------------------------


def test_a_range_is_allocated_page_by_page(arena: Arena) -> None:
    arena.alloc_contig_range(17, 43)
    assert arena.statistics().used_pages == 26
    arena.free_contig_range(17, 43)
    arena.drain()
    assert arena.statistics().zones[0].free_blocks == (0, 0, 0, 0, PAGES >> 4)


def test_a_range_with_a_page_in_use_is_busy(arena: Arena) -> None:
    arena.alloc_contig_range(20, 21)
    with pytest.raises(MisuseError, match="pfn 20 is allocated"):
        arena.alloc_contig_range(16, 32)


def test_nothing_is_allocated_from_an_isolated_range(arena: Arena) -> None:
    arena.isolate(0, 64)
    pfns = arena.alloc_pages_bulk(PAGES)
    assert min(pfns) >= 64
    assert arena.statistics().zones[0].isolated_pages == 64
    arena.unisolate(0, 64)
    assert arena.alloc_pages() < 64


def test_an_offline_range_is_not_managed(arena: Arena) -> None:
    arena.offline(32, 64)
    assert arena.statistics().managed_pages == PAGES - 32
    assert "offline" in arena.describe(40)
    assert arena.online(32, 64) == 32
    assert arena.statistics().free_pages == PAGES


def test_a_poisoned_page_is_never_given_out(arena: Arena) -> None:
    arena.poison_page(9)
    assert 9 not in arena.alloc_pages_bulk(PAGES)
    assert "poisoned" in arena.describe(9)


@pytest.mark.parametrize(
    "word",
    [cs.OWNER_SLAB, cs.OWNER_SHEAVES, cs.OWNER_FROZEN, cs.OWNER_LARGE, c.OWNER_SHARED,
     c.OWNER_ARRAYS + 3, c.OWNER_STRUCTURE + 700],
)  # fmt: skip
def test_owner_words_of_the_allocator_are_refused(arena: Arena, word: int) -> None:
    pfn = arena.alloc_pages(owner=5)
    for call in (
        lambda: arena.alloc_pages(owner=word),
        lambda: arena.alloc_pages_bulk(2, owner=word),
        lambda: arena.alloc_contig_range(8, 9, owner=word),
        lambda: arena.free_pages(pfn, owner=word),
        lambda: arena.adopt_pages(pfn, giver=arena.life, owner=word),
    ):
        with pytest.raises(MisuseError, match="use another"):
            call()
    arena.free_pages(pfn, owner=5)


@pytest.mark.parametrize(
    ("start", "size", "system", "whole"),
    [(4096, 8192, 4096, 8192), (4096, 8192, 16384, 0), (4096, 65536, 16384, 49152),
     (0, 65536, 65536, 65536), (4096, 131072, 65536, 65536), (100, 4096, 4096, 0)],
)  # fmt: skip
def test_blocks_shrink_inward_to_pages_of_the_system(start, size, system, whole) -> None:
    first, end = whole_system_pages(start, size, system)
    assert first % system == end % system == 0
    assert start <= first and max(end - first, 0) == whole and (whole == 0 or end <= start + size)


def test_reporting_needs_its_geometry(arena: Arena) -> None:
    with pytest.raises(MisuseError, match="reporting=True"):
        arena.report_free()


@pytest.mark.parametrize("link_store", [name for name in LINK_STORES if name != "page"])
def test_reporting_gives_memory_back_to_the_system(link_store: str) -> None:
    with Arena.create(size="8MiB", link_store=link_store, reporting=True) as arena:
        file = Path("/dev/shm") / arena.name
        pfn, kept = arena.alloc_pages(order=10), arena.alloc_pages()
        arena.page(pfn, 10)[:] = b"x" * (4 << 20)
        arena.page(kept)[:1] = b"k"
        full = file.stat().st_blocks * 512
        arena.free_pages(pfn, 10)
        assert arena.report_free() >= 7 << 20
        assert file.stat().st_blocks * 512 <= full - (3 << 20)
        assert bytes(arena.page(kept)[:1]) == b"k"
        assert arena.validate() == []


def test_an_unplugged_cpu_keeps_no_pages(arena: Arena) -> None:
    arena.free_pages(arena.alloc_pages())
    assert arena.statistics().pcp_pages > 0
    with Arena.attach(arena.name, engine=arena.engine.name) as other:
        other.unplug(arena.cpu)
        assert other.statistics().pcp_pages == 0
        other.plug(arena.cpu)


# --- what it says ---------------------------------------------------------------------------------


def test_a_page_is_described_in_words(arena: Arena) -> None:
    pfn = arena.alloc_pages(order=1, migratetype="movable", owner=77)
    sentence = arena.describe(pfn)
    assert sentence.startswith(
        f"pfn {pfn} is allocated to owner 77 by claim {arena.claim}: order 1"
    )
    assert "zone 0, movable" in sentence


def test_a_page_inside_a_block_is_described_by_its_head(arena: Arena) -> None:
    pfn = arena.alloc_pages(order=2)
    assert f"inside the block of pfn {pfn}, allocated" in arena.describe(pfn + 3)


def test_every_page_of_a_fresh_arena_is_described_as_free(arena: Arena) -> None:
    assert all("free: order 4" in arena.describe(pfn) for pfn in range(PAGES))


def test_a_hole_is_described_as_reserved() -> None:
    zones = [ZoneSpec(pages=32, holes=((8, 8),))]
    with Arena.create(zones=zones, engine="interpreted", **SMALL) as arena:
        assert "reserved" in arena.describe(9)


def test_events_are_counted(arena: Arena) -> None:
    before = arena.statistics().events
    arena.free_pages(arena.alloc_pages())
    after = arena.statistics().events
    assert (after["alloc"] - before["alloc"], after["free"] - before["free"]) == (1, 1)


def test_a_sound_arena_has_no_violations(arena: Arena) -> None:
    for order in (0, 1, 2):
        arena.free_pages(arena.alloc_pages(order), order)
    assert arena.validate() == []


def test_objects_of_more_processes_than_cpus_are_no_violation():
    with Arena.create(size="4MiB", cpus=1) as arena, Arena.attach(arena.name) as other:
        held = [other.kmalloc(100), arena.kmalloc(100)]
        assert (arena.claim, other.claim, arena.validate()) == (0, 1, [])
        other.kfree(held[0])


def test_a_broken_counter_is_found(arena: Arena) -> None:
    arena.segment.ram[arena.segment.layout.zone(0) + c.Z_FREE] -= 1
    found = arena.validate()
    assert found
    assert any(violation.invariant.startswith("I_CONSERVATION") for violation in found)


def test_import_of_the_package_loads_no_compiler() -> None:
    program = (
        "import sys, shmalloc\nassert shmalloc.Geometry and shmalloc.MisuseError\n"
        "print(sorted({'llvmlite', 'numpy'} & set(sys.modules)))\n"
        "assert shmalloc.Arena and shmalloc.SharedArray\n"
        "print(sorted({'llvmlite'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout.splitlines()[-1] == "[]"


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    import shmalloc

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        shmalloc.nothing  # noqa: B018


ALLOCATOR = """
import sys
from shmalloc import Arena
with Arena.attach(sys.argv[1]) as arena:
    print(arena.cpu, *arena.alloc_pages_bulk(20))
"""


def test_processes_allocate_different_pages() -> None:
    with Arena.create(size=PAGES * 64, **{**SMALL, "cpus": 4}) as arena:
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", ALLOCATOR, arena.name], stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        lines = [worker.communicate(timeout=60)[0].split() for worker in workers]
        pfns = [pfn for line in lines for pfn in line[1:]]
        assert len(pfns) == len(set(pfns)) == 40
        assert arena.validate() == []


def test_a_forked_child_may_also_attach_anew() -> None:
    with Arena.create(size=PAGES * 64, **{**SMALL, "cpus": 3}) as arena:
        child = os.fork()
        if child == 0:
            with Arena.attach(arena.name) as mine:
                os._exit(mine.cpu)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 2
        assert Geometry.from_json(arena.geometry.to_json()) == arena.geometry


def test_attach_waits_until_the_owner_has_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restated from programs whose consumers start first: it is missing, then empty, then there."""
    name, attached, waits = f"shmalloc-test-late-{os.getpid()}", [], threading.Event()
    with pytest.raises(NotReadyError, match="no segment"):
        Arena.attach(name, engine="interpreted", timeout=0.001)

    def nap(seconds: float) -> None:
        waits.set()
        os.sched_yield()

    def attach() -> None:
        with Arena.attach(name, engine="interpreted", timeout=WATCHDOG_S) as arena:
            attached.append(arena.name)

    monkeypatch.setattr("shmalloc.arena.time.sleep", nap)
    thread = threading.Thread(target=attach)
    thread.start()
    for step in (Path("/dev/shm", name).touch, Path("/dev/shm", name).unlink):
        assert waits.wait(WATCHDOG_S), "the thread did not wait for the arena"
        step()
        waits.clear()
    with Arena.create(name, size="1MiB", cpus=2, engine="interpreted"):
        thread.join(WATCHDOG_S)
        assert attached == [name]
