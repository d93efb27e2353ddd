"""init_on_alloc and init_on_free: what one owner wrote is not there for the next one."""

import pytest

from shmalloc import Arena
from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.errors import MisuseError
from support import slab_driver
from support.object_segment import FEW, ObjectSegment
from support.page_segment import PageSegment

SECRET = 0x5EC7E7
SWITCHES = [
    {"init_on_alloc": True},
    {"init_on_free": True},
    {"init_on_alloc": True, "init_on_free": True},
    {"init_on_free": True, "zero": True},
]
IDS = ["alloc", "free", "both", "free, checked"]
DEBUG = cs.CF_CONSISTENCY | cs.CF_RED_ZONE | cs.CF_TRACK
KINDS = {
    "sheaves": FEW,
    "slabs": cs.CF_NO_SHEAVES,
    "exact": FEW | cs.CF_EXACT,
    "shuffled": FEW | cs.CF_SHUFFLE,
    "debug": DEBUG,
}


@pytest.fixture(params=SWITCHES, ids=IDS)
def switches(request):
    return request.param


@pytest.mark.parametrize(
    ("store", "form"), [("page", "array"), ("page", "list"), ("descriptor", "list")]
)
def test_a_page_has_nothing_of_its_last_owner(engine, switches, store, form):
    world = PageSegment(engine, link_store=store, pcp_form=form, **switches)
    words, frame, size = world.mem.array, world.layout.frame, world.geometry.page_words
    for _ in range(2):
        blocks = [(world.alloc(order, 0, 7), order) for order in (0, 0, 1, 3, 0, 2)]
        for pfn, order in blocks:
            block = words[frame(pfn) : frame(pfn) + (size << order)]
            assert not block.any()
            block[:] = SECRET
        for pfn, order in blocks:
            world.free(pfn, order)
        world.drain()
        assert world.audit() == 0
    if "init_on_free" in switches:
        assert SECRET not in words[world.layout.at["frames"] :]


def of_object(world, cache, address):
    return world.mem.array[address : address + world.cache_word(cache, cs.K_OBJECT_WORDS)]


@pytest.mark.parametrize("flags", KINDS.values(), ids=KINDS)
def test_an_object_has_nothing_of_its_last_owner(engine, switches, flags):
    world = ObjectSegment(engine, harden=0x1234567, **switches)
    cache = world.create(64, 0, flags)
    for _ in range(2):
        owned = [world.alloc(cache, cpu) for cpu in (0, 1) for _ in range(9)]
        owned += world.alloc_bulk(cache, 7)
        assert len(set(owned)) == 25
        for address in owned:
            assert not of_object(world, cache, address).any()
            of_object(world, cache, address)[:] = SECRET
        for address in owned[:9]:
            assert world.free(cache, address, 1) == 0
        assert world.free_bulk(cache, owned[9:]) == 16
        assert world.audit() == 0
    if "init_on_free" in switches:
        assert SECRET not in world.mem.array[world.layout.at["frames"] :]


def test_the_image_of_a_constructor_and_poison_come_before(engine):
    world = ObjectSegment(engine, init_on_alloc=True, init_on_free=True)
    image = world.layout.frame(world.do(slab_driver.ALLOC_PAGES, 0))
    world.mem.array[image : image + 8] = 7
    made, poisoned = world.create(64, template=image), world.create(64, 0, cs.CF_POISON)
    for cache, found in ((made, 7), (poisoned, cs.POISON_USE_WORD)):
        address = world.alloc(cache)
        assert (of_object(world, cache, address)[:7] == found).all()
        assert world.free(cache, address) == 0
    assert world.audit() == 0


def test_a_write_to_a_free_object_is_found_by_the_audit(engine):
    world = ObjectSegment(engine, init_on_free=True)
    cache = world.create(64, 0, FEW)
    address = world.alloc(cache)
    assert world.free(cache, address) == 0
    assert world.audit() == 0
    world.mem[address] = SECRET
    assert world.do(slab_driver.AUDIT_SLABS) == 1
    assert world.full_reports() == [(c.I_BYTES, address, 0, SECRET)]


def test_poison_and_zeroes_at_once_are_refused():
    with pytest.raises(MisuseError, match="poison with init_on_alloc or init_on_free"):
        Arena.create(size="1MiB", poison=True, init_on_free=True)


def test_an_arena_takes_the_switches_and_tells_them():
    shape = {"size": "1MiB", "init_on_alloc": True, "init_on_free": True}
    with Arena.create(engine="interpreted", **shape) as arena:
        assert arena.geometry.init_on_alloc and arena.geometry.init_on_free
        cache = arena.cache("plain", 64)
        for asked in (64, 3000, 20_000):
            address = arena.kmalloc(asked)
            words = arena.segment.ram.array[address : address + asked // 8]
            assert not words.any()
            words[:] = SECRET
            arena.kfree(address)
        assert SECRET not in arena.segment.ram.array[arena.segment.layout.at["frames"] :]
        pfn = arena.try_alloc_pages()
        assert not any(arena.page(pfn))
        arena.page(pfn)[:8] = b"written!"
        arena.try_free_pages(pfn)
        assert not any(arena.page(arena.try_alloc_pages()))
        cache.destroy()
        assert arena.validate() == []
