"""One kernel that reaches every object operation, so that tests compile the allocator once."""

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.audit import audit
from shmalloc.kernels.boot import boot
from shmalloc.kernels.cache import cache_alloc_at, cache_free_at
from shmalloc.kernels.cache_bulk import cache_alloc_bulk, cache_free_bulk
from shmalloc.kernels.cache_set import (
    cache_create,
    cache_destroy,
    cache_shrink,
    plug_sheaves,
    unplug_sheaves,
)
from shmalloc.kernels.kmalloc import kfree, kmalloc, kmalloc_boot, usable_bytes
from shmalloc.kernels.objects import cache_at
from shmalloc.kernels.pages import alloc_pages, free_pages
from shmalloc.kernels.sheaf import bring_back
from shmalloc.kernels.sheaf_drain import drain_sheaves
from shmalloc.kernels.slab_audit import audit_slabs
from shmalloc.words import exchange, fetch_add, load, relax

BOOT = 0
CREATE = 1
ALLOC = 2
FREE = 3
ALLOC_BULK = 4
FREE_BULK = 5
SHRINK = 6
DESTROY = 7
KMALLOC_BOOT = 8
KMALLOC = 9
KFREE = 10
USABLE = 11
AUDIT_SLABS = 12
AUDIT = 13
ALLOC_PAGES = 14
FREE_PAGES = 15
DRAIN = 16
BRING_BACK = 17
UNPLUG = 18
PLUG = 19
STORM = 20


@kernel
def drive_slab(mem, cpu, op, first, second, third, fourth):
    """Operation ``op`` with its arguments; a result for every one."""
    if op < SHRINK:
        return drive_objects(mem, cpu, op, first, second, third, fourth)
    if op < AUDIT_SLABS:
        return drive_caches(mem, cpu, op, first)
    return drive_rest(mem, cpu, op, first, second, third)


@kernel
def drive_objects(mem, cpu, op, first, second, third, fourth):
    if op == BOOT:
        return boot(mem)
    if op == CREATE:
        return cache_create(mem, cpu, first, second, third, fourth)
    if op == ALLOC:
        return cache_alloc_at(mem, cpu, first, second)
    if op == FREE:
        return cache_free_at(mem, cpu, first, second, third)
    if op == ALLOC_BULK:
        return cache_alloc_bulk(mem, cpu, first, second, third)
    return cache_free_bulk(mem, cpu, first, second, third)


@kernel
def drive_caches(mem, cpu, op, first):
    if op == SHRINK:
        return cache_shrink(mem, cpu, first)
    if op == DESTROY:
        return cache_destroy(mem, cpu, first)
    if op == KMALLOC_BOOT:
        return kmalloc_boot(mem, cpu, first)
    if op == KMALLOC:
        return kmalloc(mem, cpu, first)
    if op == KFREE:
        return kfree(mem, cpu, first)
    return usable_bytes(mem, first)


@kernel
def drive_rest(mem, cpu, op, first, second, third):
    if op == AUDIT_SLABS:
        return audit_slabs(mem, cpu)
    if op == AUDIT:
        return audit(mem, cpu)
    if op == ALLOC_PAGES:
        return alloc_pages(mem, cpu, first, c.MT_UNMOVABLE, 7)
    if op == FREE_PAGES:
        return free_pages(mem, cpu, first, second)
    if op == DRAIN:
        drain_sheaves(mem, cpu, cache_at(mem, first))
        return 0
    if op == BRING_BACK:
        bring_back(mem, cpu, cache_at(mem, first), second)
        return 0
    if op == UNPLUG:
        return unplug_sheaves(mem, cpu, first)
    if op == PLUG:
        return plug_sheaves(mem, cpu, first)
    return storm(mem, cpu, first, second, third)


@kernel
def storm(mem, cpu, cache, rounds, shared):
    """Hand objects round through 16 shared words: each round swaps one in and frees what it got.

    So nearly every free is of an object that another process allocated. Word ``shared`` counts the
    processes that have arrived: none starts alone. Returns what was broken.
    """
    fetch_add(mem, shared, 1)
    while load(mem, shared) < 3:
        relax(mem)
    broken = 0
    seed = cpu * 7919 + 1
    for _ in range(rounds):
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        broken += storm_round(mem, cpu, cache, shared + 2 + ((seed >> 8) & 15))
    return broken


@kernel
def storm_round(mem, cpu, cache, slot):
    """One allocation, one exchange, one free; 1 if the first stamp was not what its owner wrote."""
    address = cache_alloc_at(mem, cpu, cache, 0)
    if address < 0:
        return 1
    mem[address] = address
    mem[address + 7] = address
    other = exchange(mem, slot, address)
    if other == 0:
        return 0
    broken = 0
    if mem[other] != other or mem[other + 7] != other:
        broken = 1
    if cache_free_at(mem, cpu, cache, other, 0) < 0:
        broken = 1
    return broken
