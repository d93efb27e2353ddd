"""modules: caches that are created, used briefly and destroyed, all the time.

Imitates loading and unloading modules. Each step creates a cache of a random kind (with sheaves or
without, exact, or a debug cache), takes some objects, frees them one by one or all at once, and
destroys the cache, of which nothing may be left. All workers do so at the same time::

    work area: W_DATA [cache of the step, id + 1; 0: none] | +16 objects of the step

Hunts: cache descriptors that are taken twice, a destroyer that counts wrongly, sheaves of a cache
that is gone, pages of sheaves and slabs that never come back, an unfinished destruction that
destroys another cache.
Must reach: object alloc and free, new and gone slabs and caches.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel
from shmalloc.kernels.cache import cache_alloc, cache_free
from shmalloc.kernels.cache_bulk import cache_free_bulk
from shmalloc.kernels.cache_set import cache_create, cache_destroy
from shmalloc.kernels.reporting import report
from shmalloc.units import CacheId, Claim, Memory, WordIndex
from stress.workloads.area import W_DATA, draw, stopping, work_at
from stress.workloads.latency import L_CACHE_CREATE, L_CACHE_DESTROY, clock_of, note

MODULE_CACHE = W_DATA
MODULE_OBJECTS = W_DATA + 16
MODULE_MOST_OBJECTS = 48  # more than a sheaf holds
MODULES_WORDS = MODULE_OBJECTS + MODULE_MOST_OBJECTS
MODULE_LEAST_BYTES = 8  # one word, which the step writes
MODULE_MOST_BYTES = 512
MODULE_KINDS = 4


@kernel
def modules(mem: Memory, claim: Claim, steps: int) -> int:
    """Create, use and destroy ``steps`` caches; returns their number."""
    at = work_at(mem, claim)
    done = 0
    for _ in range(steps):
        if stopping(mem):
            break
        module_life(mem, claim, at)
        done += 1
    return done


@kernel
def module_kind(which: int) -> int:
    """Flags of one of the kinds of caches."""
    if which == 0:
        return cs.CF_NO_SHEAVES
    if which == 1:
        return cs.CF_DEBUG
    return cs.CF_EXACT if which == 2 else 0


@kernel
def module_life(mem: Memory, claim: Claim, at: WordIndex) -> None:
    """Create, use and destroy one cache; a failed creation is no error."""
    size = MODULE_LEAST_BYTES + draw(mem, at, MODULE_MOST_BYTES)
    kind = module_kind(draw(mem, at, MODULE_KINDS))
    began = clock_of(mem)
    made = cache_create(mem, claim, size, 0, kind, 0)
    note(mem, claim, L_CACHE_CREATE, began, made)
    if made < 0:
        return
    mem[at + MODULE_CACHE] = made + 1
    got = 0
    for _ in range(draw(mem, at, MODULE_MOST_OBJECTS)):
        address = cache_alloc(mem, claim, made)
        if address < 0:
            break
        mem[address] = address
        mem[at + MODULE_OBJECTS + got] = address
        got += 1
    module_end(mem, claim, at, made, got)


@kernel
def module_end(mem: Memory, claim: Claim, at: WordIndex, cache_id: CacheId, count: int) -> None:
    """Free all objects of a cache, in one of two ways, and destroy it."""
    if draw(mem, at, 2) == 0:
        cache_free_bulk(mem, claim, cache_id, count, at + MODULE_OBJECTS)
    else:
        for i in range(count):
            cache_free(mem, claim, cache_id, mem[at + MODULE_OBJECTS + i])
    began = clock_of(mem)
    code = cache_destroy(mem, claim, cache_id)
    note(mem, claim, L_CACHE_DESTROY, began, code)
    if code != 0:  # no other worker knows this cache
        report(mem, claim, c.M_LEAKED_OBJECTS, c.AT_CACHE | cache_id, 0, code)
    mem[at + MODULE_CACHE] = 0


@kernel
def modules_finish(mem: Memory, claim: Claim) -> int:
    """Nothing outlives its step."""
    return 0
