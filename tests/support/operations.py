"""Operations of one CPU in a small world, to be killed at any write: preparation, then operation.

``OPERATIONS[name]`` is (prepare(world), operate(mem, world)). The victim is CPU 1; CPU 0 also owns
some blocks and objects; CPUs 2 and 3 recover. Everything runs interpreted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.image import write_image
from shmalloc.kernels import (
    cache,
    cache_bulk,
    cache_set,
    contig,
    hotplug,
    kmalloc,
    pages,
    pages_bulk,
    pages_wait,
    pcp,
    poison,
    reap,
)
from shmalloc.kernels.boot import boot
from shmalloc.layout import Geometry, Layout, ZoneSpec
from shmalloc.memory import Ram

OTHER, VICTIM, DOCTOR, SECOND_DOCTOR = range(4)
MOVABLE, UNMOVABLE, RECLAIMABLE = c.MT_MOVABLE, c.MT_UNMOVABLE, c.MT_RECLAIMABLE
SHEAVES_OF_TWO = 2 << cs.CF_CAPACITY_SHIFT | 1 << cs.CF_BARN_SHIFT
ONLY_CACHE = 0
FIRST_EPOCH = 5  # of slot 0; one more for each


def life(cpu: int) -> int:
    """The life on the slot, as one word: what it writes into locks and objects."""
    return (FIRST_EPOCH + cpu) << c.LIFE_EPOCH_SHIFT | cpu + 1


Prepare = Callable[["RecoverySegment"], Any]
Operate = Callable[[Any, "RecoverySegment"], Any]


class RecoverySegment:
    """64 pages of 256 bytes, four CPUs in the middle of their lives."""

    def __init__(self, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "zones": (ZoneSpec(64),),
            "page_bytes": 256,
            "cpus": 4,
            "max_order": 4,
            "pageblock_order": 2,
            "pcp_batch": 2,
            "pcp_high": 6,
            "scratch_words": 128,
            "work_words": 64,
            "caches": 2,
            "spins": 0,
        }
        self.geometry = Geometry(**{**fields, **changes})
        self.layout = Layout.of(self.geometry)
        self.ram = Ram.of_words(self.layout.words)
        write_image(self.ram, self.layout)
        boot(self.ram)
        for cpu in range(4):
            self.ram[self.layout.cpu(cpu) + c.C_STATE] = c.CPU_ONLINE
            self.ram[self.layout.cpu(cpu) + c.C_EPOCH] = FIRST_EPOCH + cpu
        self.blocks: list[tuple[int, int]] = []
        self.objects: list[int] = []
        self.others: list[int] = []

    @property
    def list_at(self) -> int:
        """Word where the victim keeps lists for bulk operations."""
        return self.layout.work(VICTIM)


def no_preparation(world: RecoverySegment) -> None:
    """All pages are free."""


def blocks(*orders: int) -> Prepare:
    def prepare(world: RecoverySegment) -> None:
        for order in orders:
            world.blocks.append((pages.alloc_pages(world.ram, VICTIM, order, MOVABLE, 77), order))

    return prepare


def objects(count: int = 0, flags: int = SHEAVES_OF_TWO) -> Prepare:
    """A cache; the victim has ``count`` of its objects, the other CPU two."""

    def prepare(world: RecoverySegment) -> None:
        assert cache_set.cache_create(world.ram, OTHER, 24, 0, flags, 0) == ONLY_CACHE
        for _ in range(count):
            world.objects.append(cache.cache_alloc(world.ram, VICTIM, ONLY_CACHE))
        for _ in range(2):
            world.others.append(cache.cache_alloc(world.ram, OTHER, ONLY_CACHE))

    return prepare


def full_sheaves(world: RecoverySegment) -> None:
    objects(8)(world)
    free_objects(world.ram, world)


def no_live_object(world: RecoverySegment) -> None:
    objects()(world)
    for address in world.others:
        cache.cache_free(world.ram, OTHER, ONLY_CACHE, address)


def list_of_other(world: RecoverySegment) -> None:
    """Pages on the per-CPU list of the other CPU."""
    taken = [pages.alloc_pages(world.ram, OTHER, 0, MOVABLE, 5) for _ in range(4)]
    for pfn in taken:
        pages.free_pages(world.ram, OTHER, pfn, 0)


def no_memory(world: RecoverySegment) -> None:
    while pages.alloc_pages(world.ram, OTHER, 3, MOVABLE, 5) >= 0:
        pass


def marked_page(world: RecoverySegment) -> None:
    blocks(0, 0)(world)
    poison.poison_page(world.ram, OTHER, world.blocks[0][0])


def offline(world: RecoverySegment) -> None:
    assert contig.offline_range(world.ram, VICTIM, 8, 16) == 0


def isolated(world: RecoverySegment) -> None:
    assert contig.isolate_range(world.ram, VICTIM, 8, 16) == 0


def unplugged(world: RecoverySegment) -> None:
    hotplug.unplug_cpu(world.ram, VICTIM, OTHER)


def alloc(*wanted: tuple[int, int]) -> Operate:
    def operate(mem: Any, world: RecoverySegment) -> None:
        for order, mt in wanted:
            pages.alloc_pages(mem, VICTIM, order, mt, 7)

    return operate


def free_blocks(mem: Any, world: RecoverySegment) -> None:
    for pfn, order in world.blocks:
        assert pages.free_pages(mem, VICTIM, pfn, order) == 0


def free_blocks_at_once(mem: Any, world: RecoverySegment) -> None:
    for k, (pfn, _) in enumerate(world.blocks):
        world.ram[world.list_at + k] = pfn
    pages_bulk.free_bulk(mem, VICTIM, 0, len(world.blocks), world.list_at)


def alloc_objects(count: int) -> Operate:
    def operate(mem: Any, world: RecoverySegment) -> None:
        for _ in range(count):
            assert cache.cache_alloc(mem, VICTIM, ONLY_CACHE) > 0

    return operate


def free_objects(mem: Any, world: RecoverySegment) -> None:
    for address in world.objects:
        assert cache.cache_free(mem, VICTIM, ONLY_CACHE, address) == 0


def free_objects_at_once(mem: Any, world: RecoverySegment) -> None:
    for k, address in enumerate(world.objects):
        world.ram[world.list_at + k] = address
    cache_bulk.cache_free_bulk(mem, VICTIM, ONLY_CACHE, len(world.objects), world.list_at)


def on_victim(kernel: Callable[..., int], *arguments: int) -> Operate:
    """Any kernel (mem, cpu, ...)."""
    return lambda mem, world: kernel(mem, VICTIM, *arguments)


def on_list(kernel: Callable[..., int], *arguments: int) -> Operate:
    """A kernel whose last argument is a list of words."""
    return lambda mem, world: kernel(mem, VICTIM, *arguments, world.list_at)


PAGES: dict[str, tuple[Prepare, Operate]] = {
    "alloc-0": (no_preparation, alloc(*[(0, MOVABLE)] * 4)),
    "alloc-3": (no_preparation, alloc((3, MOVABLE), (3, MOVABLE))),
    "alloc-types": (no_preparation, alloc((0, UNMOVABLE), (1, RECLAIMABLE), (4, MOVABLE))),
    "free-0": (blocks(*[0] * 9), free_blocks),
    "free-orders": (blocks(0, 1, 2, 3, 4, 0), free_blocks),
    "free-marked": (marked_page, free_blocks),
    "alloc-bulk": (no_preparation, on_list(pages_bulk.alloc_bulk, 0, MOVABLE, 7, 5)),
    "free-bulk": (blocks(*[0] * 5), free_blocks_at_once),
    "wait": (no_memory, on_victim(pages_wait.alloc_pages_wait, 4, MOVABLE, 9, 2)),
    "drain-all": (list_of_other, on_victim(pcp.drain_all)),
    "isolate": (no_preparation, on_victim(contig.isolate_range, 8, 16)),
    "unisolate": (isolated, on_victim(contig.unisolate_range, 8, 16)),
    "contig": (list_of_other, on_victim(contig.alloc_contig_range, 9, 18, 7)),
    "offline": (no_preparation, on_victim(contig.offline_range, 8, 16)),
    "online": (offline, on_victim(contig.online_range, 8, 16)),
    "poison": (no_preparation, on_victim(poison.poison_page, 13)),
    "unplug": (list_of_other, on_victim(hotplug.unplug_cpu, OTHER)),
    "plug": (unplugged, on_victim(hotplug.plug_cpu, OTHER)),
    "adopt": (
        blocks(1),
        lambda mem, world: reap.adopt_pages(mem, VICTIM, world.blocks[0][0], 1, life(VICTIM), 78),
    ),
}
OBJECTS: dict[str, tuple[Prepare, Operate]] = {
    "create": (no_preparation, on_victim(cache_set.cache_create, 24, 0, SHEAVES_OF_TWO, 0)),
    "destroy": (no_live_object, on_victim(cache_set.cache_destroy, ONLY_CACHE)),
    "object-alloc": (objects(), alloc_objects(9)),
    "object-free": (objects(9), free_objects),
    "object-alloc-direct": (objects(0, cs.CF_NO_SHEAVES), alloc_objects(12)),
    "object-free-direct": (objects(12, cs.CF_NO_SHEAVES), free_objects),
    "object-free-exact": (objects(9, SHEAVES_OF_TWO | cs.CF_EXACT), free_objects),
    "object-alloc-debug": (objects(0, cs.CF_DEBUG), alloc_objects(4)),
    "object-free-debug": (objects(5, cs.CF_DEBUG), free_objects),
    "object-alloc-bulk": (objects(2), on_list(cache_bulk.cache_alloc_bulk, ONLY_CACHE, 9)),
    "object-free-bulk": (objects(9), free_objects_at_once),
    "unplug-sheaves": (full_sheaves, on_victim(hotplug.unplug_cpu, OTHER)),
    "shrink": (full_sheaves, on_victim(cache_set.cache_shrink, ONLY_CACHE)),
    "kmalloc-large": (no_preparation, on_victim(kmalloc.kmalloc, 700)),
}
OPERATIONS = PAGES | OBJECTS
