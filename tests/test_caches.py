"""The object face: caches by name, bulk, constructors, debug letters, misuse, destruction."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from shmalloc.arena import Arena
from shmalloc.caches import Cache
from shmalloc.engine import Engine
from shmalloc.errors import CorruptionError, MisuseError, OutOfMemoryError

SMALL = {"page_bytes": 256, "cpus": 2, "max_order": 4, "pageblock_order": 2, "caches": 20}
PAGES = 512


@pytest.fixture
def arena(engine: Engine) -> Iterator[Arena]:
    with Arena.create(size=PAGES * 256, engine=engine.name, **SMALL) as made:
        yield made


@pytest.fixture
def cache(arena: Arena) -> Cache:
    return arena.cache("things", 24)


def test_objects_do_not_overlap(cache: Cache) -> None:
    addresses = [cache.alloc() for _ in range(30)]
    for number, address in enumerate(addresses):
        cache.view(address)[:] = bytes([number]) * 24
    assert [bytes(cache.view(a)) for a in addresses] == [bytes([n]) * 24 for n in range(30)]


def test_statistics_count_live_objects(cache: Cache) -> None:
    addresses = [cache.alloc() for _ in range(5)]
    assert cache.statistics().live_objects == 5
    for address in addresses:
        cache.free(address)
    assert cache.statistics().live_objects == 0


def test_bulk_gives_different_objects_and_takes_them_back(cache: Cache) -> None:
    addresses = cache.alloc_bulk(70)
    assert len(set(addresses)) == 70
    cache.free_bulk(addresses)
    assert cache.statistics().live_objects == 0


def test_bulk_is_all_or_nothing(cache: Cache) -> None:
    with pytest.raises(OutOfMemoryError, match="alloc_bulk"):
        cache.alloc_bulk(PAGES * 256 // 24)
    assert cache.statistics().live_objects == 0


def test_objects_are_aligned(arena: Arena) -> None:
    cache = arena.cache("aligned", 20, align=64)
    assert all(cache.alloc() * 8 % 64 == 0 for _ in range(8))


def test_a_new_object_is_what_the_constructor_made(arena: Arena) -> None:
    def construct(view: memoryview) -> None:
        view[:3] = b"new"

    made = arena.cache("constructed", 16, ctor=construct)
    assert bytes(made.view(made.alloc())) == b"new" + bytes(13)
    image = bytes(range(16))
    copied = arena.cache("copied", 16, ctor=image)
    assert bytes(copied.view(copied.alloc())) == image


def test_a_double_free_of_an_object_is_refused(cache: Cache) -> None:
    address = cache.alloc()
    cache.free(address)
    with pytest.raises(CorruptionError, match="an object may be freed only once"):
        cache.free(address)


def test_a_free_of_another_caches_object_is_refused(arena: Arena, cache: Cache) -> None:
    other = arena.cache("others", 24)
    address = other.alloc()
    with pytest.raises(CorruptionError, match="must be freed into the cache that it came from"):
        cache.free(address)
    other.free(address)


@pytest.mark.parametrize("address", [-1, 0, 1 << 50])
def test_a_free_of_what_is_no_object_is_refused(cache: Cache, address: int) -> None:
    with pytest.raises(CorruptionError, match="only the address of an object"):
        cache.free(address)


def test_a_bulk_free_frees_what_it_can(cache: Cache) -> None:
    good, bad = cache.alloc_bulk(2)
    cache.free(bad)
    with pytest.raises(CorruptionError, match="1 not freed"):
        cache.free_bulk([bad, good])
    assert cache.statistics().live_objects == 0


def test_a_write_behind_an_object_is_found_in_a_debug_cache(arena: Arena) -> None:
    cache = arena.cache("checked", 24, debug="FZPU")
    address = cache.alloc()
    arena.memory(address, 25)[24] = 1
    with pytest.raises(CorruptionError, match="M_OBJECT_BYTES: nothing may write"):
        cache.free(address)


def test_shrink_gives_empty_slabs_back(arena: Arena, cache: Cache) -> None:
    cache.free_bulk(cache.alloc_bulk(60))
    assert cache.shrink() > 0
    assert cache.statistics().slabs == 0


def test_destroy_gives_every_page_back(arena: Arena) -> None:
    before = arena.statistics().used_pages
    cache = arena.cache("short", 16, ctor=bytes(16))
    cache.free(cache.alloc())
    cache.destroy()
    assert arena.statistics().used_pages == before
    assert "short" not in arena.caches()


def test_destroy_with_live_objects_names_them_and_can_be_repeated(cache: Cache) -> None:
    address = cache.alloc()
    with pytest.raises(MisuseError, match=f"objects are live .object {address:#x}"):
        cache.destroy()
    with pytest.raises(MisuseError, match="was destroyed"):
        cache.alloc()
    cache.free(address)
    cache.destroy()


def test_a_name_is_given_once(arena: Arena, cache: Cache) -> None:
    with pytest.raises(MisuseError, match="'things' exists"):
        arena.cache("things", 8)
    assert arena.caches() == {"things": cache.number}


def test_an_unknown_name_is_refused(arena: Arena, cache: Cache) -> None:
    with pytest.raises(MisuseError, match="there are: things"):
        arena.open_cache("nothing")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"name": ""}, "name: ''"),
        ({"name": "x" * 57}, "1 to 56 bytes"),
        ({"object_bytes": 0}, "object_bytes: 0"),
        ({"align": 3}, "power of two"),
        ({"align": 0}, "align: 0"),
        ({"debug": "FX"}, "debug: 'FX'"),
        ({"ctor": b"short"}, "ctor: 5 bytes"),
        ({"ctor": 5}, "ctor: 5;"),
    ],
)
def test_a_wrong_cache_is_refused_and_loses_no_page(
    arena: Arena, wrong: dict[str, object], says: str
) -> None:
    with pytest.raises(MisuseError, match=says):
        arena.cache(**{"name": "wrong", "object_bytes": 16, **wrong})  # type: ignore[arg-type]
    assert arena.statistics().used_pages == 0


def test_the_end_of_cache_numbers_is_told(arena: Arena) -> None:
    with pytest.raises(MisuseError, match="all 20 caches are taken"):
        for number in range(21):
            arena.cache(f"cache {number}", 8, sheaves=False)


# --- kmalloc --------------------------------------------------------------------------------------


def test_kmalloc_gives_at_least_what_was_asked(arena: Arena) -> None:
    for size in (1, 8, 9, 65, 200, 512, 513, 4096):
        address = arena.kmalloc(size)
        assert arena.usable_bytes(address) >= size
        arena.memory(address, size)[:] = bytes([size % 251]) * size
        arena.kfree(address)


def test_kmalloc_objects_do_not_overlap(arena: Arena) -> None:
    sizes = [5, 30, 100, 300, 700, 5, 30, 100]
    addresses = [arena.kmalloc(size) for size in sizes]
    for n, (address, size) in enumerate(zip(addresses, sizes, strict=True)):
        arena.memory(address, size)[:] = bytes([n]) * size
    for n, (address, size) in enumerate(zip(addresses, sizes, strict=True)):
        assert bytes(arena.memory(address, size)) == bytes([n]) * size


def test_a_double_kfree_is_refused(arena: Arena) -> None:
    address = arena.kmalloc(40)
    arena.kfree(address)
    with pytest.raises(CorruptionError, match="an object may be freed only once"):
        arena.kfree(address)


def test_a_kfree_inside_an_object_is_refused(arena: Arena) -> None:
    address = arena.kmalloc(64)
    with pytest.raises(CorruptionError, match="only the address of an object"):
        arena.kfree(address + 1)


@pytest.mark.parametrize("size", [0, -1, 256 << 5, 1.5])
def test_an_impossible_kmalloc_is_refused(arena: Arena, size: int) -> None:
    with pytest.raises(MisuseError, match=f"size: {size}"):
        arena.kmalloc(size)


def test_an_arena_with_objects_is_sound(arena: Arena, cache: Cache) -> None:
    cache.free_bulk(cache.alloc_bulk(40)[:20])
    arena.kmalloc(100)
    assert arena.validate() == []


WORKER = """
import sys
from shmalloc import Arena
with Arena.attach(sys.argv[1]) as arena:
    cache = arena.open_cache("things")
    given = int(sys.argv[2])
    print(bytes(cache.view(given)).decode())
    cache.free(given)
"""


def test_another_process_frees_what_this_one_allocated() -> None:
    with Arena.create(size=PAGES * 256, **SMALL) as arena:
        cache = arena.cache("things", 5)
        address = cache.alloc()
        cache.view(address)[:] = b"hello"
        ended = subprocess.run(
            [sys.executable, "-c", WORKER, arena.name, str(address)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (ended.stdout, ended.stderr) == ("hello\n", "")
        assert cache.statistics().live_objects == 0
        assert arena.validate() == []
