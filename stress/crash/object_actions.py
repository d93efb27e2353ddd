"""What the CPUs do with objects and caches in the cases of operations.py (pages: actions.py)."""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel
from shmalloc.kernels.cache import cache_alloc, cache_free
from shmalloc.kernels.cache_bulk import cache_alloc_bulk, cache_free_bulk
from shmalloc.kernels.cache_set import cache_create, cache_destroy
from shmalloc.kernels.kmalloc import kfree, kmalloc, kmalloc_boot
from shmalloc.kernels.lock import owner_word
from shmalloc.kernels.objects import cache_at
from shmalloc.kernels.reap import adopt_object, reap
from shmalloc.kernels.reporting import cpu_at, report
from shmalloc.units import CacheId, Claim, Memory, ObjectAddress
from shmalloc.words import fixed
from stress.crash.actions import LISTED
from stress.programs.bulk import list_at
from stress.programs.held import (
    FIRST_OBJECT,
    OBJECTS,
    ONLY_CACHE,
    hold_object,
    let_go,
    let_go_object,
    object_put,
    object_take,
)

LISTED_MANY = 7
SMALL_BYTES = 24
LARGE_BYTES = 200
NEW_BYTES = 16


@kernel
def object_churn(mem: Memory, claim: Claim) -> int:
    """What the other CPU does: allocates an object and frees it."""
    object_take(mem, claim, 0)
    return object_put(mem, claim, 0)


@kernel
def adopt_one(mem: Memory, claim: Claim) -> int:
    """Adopts the object that CPU 0 passes on, and frees it."""
    address = let_go(mem, 0, FIRST_OBJECT)
    result = adopt_object(mem, claim, 0, address, owner_word(mem, 0))
    if result == 0:
        hold_object(mem, claim, 0, address)
        object_put(mem, claim, 0)
    return result


@kernel
def objects_round(mem: Memory, claim: Claim) -> int:
    """Three objects and back: a new slab, full and partial, or sheaves that overflow."""
    object_take(mem, claim, 0)
    object_take(mem, claim, 1)
    object_take(mem, claim, 2)
    object_put(mem, claim, 1)
    object_put(mem, claim, 0)
    return object_put(mem, claim, 2)


@kernel
def take_zero(mem: Memory, claim: Claim, slot: int) -> ObjectAddress:
    """``object_take`` of an object that must be zero before it is signed."""
    address = cache_alloc(mem, claim, ONLY_CACHE)
    if address >= 0:
        for at in range(address, address + mem[cache_at(mem, ONLY_CACHE) + cs.K_OBJECT_WORDS]):
            if mem[at] != 0:
                report(mem, claim, c.I_BYTES, at, 0, mem[at])
    return hold_object(mem, claim, slot, address)


@kernel
def objects_written(mem: Memory, claim: Claim) -> int:
    """Two objects that are written to, and back."""
    take_zero(mem, claim, 0)
    take_zero(mem, claim, 1)
    object_put(mem, claim, 0)
    return object_put(mem, claim, 1)


@kernel
def objects_bulk(mem: Memory, claim: Claim) -> int:
    count = cache_alloc_bulk(mem, claim, 0, LISTED, list_at(mem, claim))
    return cache_free_bulk(mem, claim, 0, count, list_at(mem, claim))


@kernel
def objects_bulk_many(mem: Memory, claim: Claim) -> int:
    """More objects than the sheaves and the barn take, or than exist: all or nothing."""
    count = cache_alloc_bulk(mem, claim, 0, LISTED_MANY, list_at(mem, claim))
    return count if count < 0 else cache_free_bulk(mem, claim, 0, count, list_at(mem, claim))


@kernel
def reap_absent(mem: Memory, claim: Claim) -> int:
    """Frees all that the last slot owns, on which no process runs."""
    absent = fixed(mem, c.H_CPUS) - 1
    return reap(mem, claim, absent, fixed(mem, cpu_at(mem, absent) + c.C_EPOCH))


@kernel
def object_pair(mem: Memory, claim: Claim) -> int:
    """Two objects: from the main sheaf, then from the spare one."""
    object_take(mem, claim, 0)
    object_take(mem, claim, 1)
    object_put(mem, claim, 1)
    return object_put(mem, claim, 0)


@kernel
def create_with_image(mem: Memory, claim: Claim) -> CacheId:
    """Creates a cache with an object image, allocates one object, and destroys the cache."""
    made = cache_create(
        mem, claim, NEW_BYTES, 0, cs.CF_NO_SHEAVES | cs.CF_DEBUG, +list_at(mem, claim)
    )
    if made < 0:
        return made
    address = cache_alloc(mem, claim, made)
    if address >= 0:
        cache_free(mem, claim, made, address)
    return cache_destroy(mem, claim, made)


@kernel
def create_and_destroy(mem: Memory, claim: Claim) -> CacheId:
    """Creates a second cache with sheaves, allocates one object, and destroys the cache."""
    made = cache_create(
        mem, claim, NEW_BYTES, 0, 1 << cs.CF_CAPACITY_SHIFT | 1 << cs.CF_BARN_SHIFT, 0
    )
    return made if made < 0 else cache_destroy(mem, claim, made)


@kernel
def destroy_cache(mem: Memory, claim: Claim) -> int:
    return cache_destroy(mem, claim, ONLY_CACHE)


@kernel
def create_and_keep(mem: Memory, claim: Claim) -> CacheId:
    """Creates a cache, with the id of a destroyed one if there is one, and an object in it."""
    made = cache_create(mem, claim, NEW_BYTES, 0, cs.CF_NO_SHEAVES, 0)
    if made >= 0:
        hold_object(mem, claim, 0, cache_alloc(mem, claim, made))
    return made


@kernel
def boot_kmalloc(mem: Memory, claim: Claim) -> CacheId:
    return kmalloc_boot(mem, claim, cs.CF_NO_SHEAVES)


@kernel
def kmalloc_small(mem: Memory, claim: Claim) -> ObjectAddress:
    address = kmalloc(mem, claim, SMALL_BYTES)
    return address if address < 0 else kfree(mem, claim, address)


@kernel
def kmalloc_round(mem: Memory, claim: Claim) -> int:
    """Four objects by kmalloc, and back."""
    for slot in range(OBJECTS):
        hold_object(mem, claim, slot, kmalloc(mem, claim, SMALL_BYTES))
    for slot in range(OBJECTS):
        address = let_go_object(mem, claim, slot)
        if address != 0:
            kfree(mem, claim, address)
    return 0


@kernel
def boot_with_sheaves(mem: Memory, claim: Claim) -> CacheId:
    return kmalloc_boot(mem, claim, 1 << cs.CF_CAPACITY_SHIFT | 1 << cs.CF_BARN_SHIFT)


@kernel
def boot_checked(mem: Memory, claim: Claim) -> CacheId:
    return kmalloc_boot(mem, claim, cs.CF_DEBUG)


@kernel
def kmalloc_big(mem: Memory, claim: Claim) -> ObjectAddress:
    address = kmalloc(mem, claim, LARGE_BYTES)
    return address if address < 0 else kfree(mem, claim, address)
