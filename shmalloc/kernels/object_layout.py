"""The geometry of a cache's objects and slabs: strides, offsets, orders, fixed at creation.

::

    plain     [ object ... ]                   free pointer in its middle, far from both ends, which
                                               an overrun would hit first
    template  [ object ... | free pointer ]    a constructed object must survive being free
    debug     [ red | object ... | red | free pointer | tracks ]          (slab_debug.py)

The order is the smallest that wastes at most 1/16 of the slab, else 1/8, 1/4, 1/2, with enough
objects for the number of CPUs; else the smallest that holds one object (Linux: calculate_order).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel
from shmalloc.kernels.objects import slab_words
from shmalloc.kernels.random import STATE_MASK, next_random
from shmalloc.kernels.slab_format import objects_that_fit
from shmalloc.units import CacheId, CacheWords, Memory, Order
from shmalloc.words import fixed, store_relaxed

MIXING = 8  # steps until the numbers of neighbouring caches have nothing in common


@kernel
def round_up(value: int, multiple: int) -> int:
    return (value + multiple - 1) // multiple * multiple


@kernel
def bit_length(value: int) -> int:
    bits = 0
    while value > 0:
        value >>= 1
        bits += 1
    return bits


@kernel
def lay_out_object(
    mem: Memory, cache: CacheWords, object_bytes: int, align_bytes: int, flags: int, template: int
) -> None:
    """Write everything about one object into the cache descriptor."""
    words = (object_bytes + 7) // 8
    align = max(align_bytes // 8, 1)
    if template != 0:
        flags = flags & ~cs.CF_POISON  # the constructed bytes must stay
    mem[cache + cs.K_OBJECT_BYTES] = object_bytes
    mem[cache + cs.K_OBJECT_WORDS] = words
    mem[cache + cs.K_ALIGN] = align
    mem[cache + cs.K_FLAGS] = flags
    mem[cache + cs.K_TEMPLATE] = template
    mem[cache + cs.K_FIRST] = 0
    mem[cache + cs.K_LINK] = words // 2
    end = words
    mem[cache + cs.K_RED] = end
    if flags & cs.CF_RED_ZONE != 0:
        mem[cache + cs.K_FIRST] = align
        end += 1
    if flags & (cs.CF_RED_ZONE | cs.CF_POISON) != 0 or template != 0:
        mem[cache + cs.K_LINK] = end
        end += 1
    mem[cache + cs.K_TRACK] = end
    if flags & cs.CF_TRACK != 0:
        end += 2 * cs.TR_WORDS
    stride = round_up(mem[cache + cs.K_FIRST] + end, align)
    mem[cache + cs.K_STRIDE] = stride
    mem[cache + cs.K_RECIPROCAL] = (1 << cs.RECIPROCAL_SHIFT) // stride + 1


@kernel
def draw_secret(mem: Memory, cache: CacheWords, cache_id: CacheId) -> None:
    """Give the cache a secret of its own, if the geometry has one (Linux: kmem_cache.random)."""
    at = cache + cs.K_SECRET
    mem[at] = 0
    if fixed(mem, c.H_HARDEN) != 0:
        mem[at] = (fixed(mem, c.H_HARDEN) ^ (cache_id + 1) << 40) & STATE_MASK | 1
        for _ in range(MIXING):  # the output goes back: of the state alone, caches would differ by
            mem[at] = next_random(mem, at) | 1  # the same bits whatever the secret is
        mem[at] = mem[at] & cs.SEAL_MASK | 1


@kernel
def smallest_order(mem: Memory, cache: CacheWords) -> Order:
    """The smallest order that holds one object, or E_INVAL."""
    for order in range(fixed(mem, c.H_MAX_ORDER) + 1):
        if objects_that_fit(mem, cache, order) > 0:
            return order
    return c.E_INVAL


@kernel
def best_order(mem: Memory, cache: CacheWords, smallest: Order) -> Order:
    """Linux's calculate_order: little waste before few pages, and objects for every CPU."""
    largest = max(min(cs.SLAB_MAX_ORDER, fixed(mem, c.H_MAX_ORDER)), smallest)
    wanted = min(4 * (bit_length(fixed(mem, c.H_CPUS)) + 1), objects_that_fit(mem, cache, largest))
    fraction = 16
    while fraction >= 2:
        for order in range(smallest, largest + 1):
            objects = objects_that_fit(mem, cache, order)
            words = slab_words(mem, order)
            waste = words - objects * mem[cache + cs.K_STRIDE]
            if objects >= wanted and waste * fraction <= words:
                return order
        fraction >>= 1
    return smallest


@kernel
def lay_out_slab(mem: Memory, cache: CacheWords) -> Order:
    """Choose orders and the number of empty slabs to keep; E_INVAL for too large an object."""
    smallest = smallest_order(mem, cache)
    if smallest < 0:
        return smallest
    order = best_order(mem, cache, smallest)
    mem[cache + cs.K_MIN_ORDER] = smallest
    mem[cache + cs.K_ORDER] = order
    store_relaxed(mem, cache + cs.K_MIN_PARTIAL, slabs_to_keep(mem, cache))
    return 0


@kernel
def slabs_to_keep(mem: Memory, cache: CacheWords) -> int:
    """K_MIN_PARTIAL of a cache that is not being destroyed.

    Linux keeps 5 to 10 slabs; in a small segment that would be most of the memory.
    """
    keep = min(max(bit_length(mem[cache + cs.K_OBJECT_BYTES]) // 2, 5), 10)
    room = fixed(mem, c.H_PAGES) >> (mem[cache + cs.K_ORDER] + 6)
    return max(min(keep, room), 1)


@kernel
def seal_of(mem: Memory, cache: CacheWords) -> int:
    """A number that follows from all words that cache_create wrote once, never 0.

    Two descriptors that differ in one word, none of which has bits above SEAL_MASK, differ in it.
    """
    seal = 0
    for i in range(cs.K_ID, cs.K_SECRET + 1):
        if i != cs.K_MIN_PARTIAL:
            seal = (seal ^ mem[cache + i]) * cs.SEAL_FACTOR & cs.SEAL_MASK
    return seal | cs.SEALED


@kernel
def sheaf_words(mem: Memory, cache: CacheWords) -> int:
    """Words of a sheaf: few objects if they are large (Linux: calculate_sheaf_capacity)."""
    words = mem[cache + cs.K_OBJECT_WORDS]
    if words >= 1 << fixed(mem, c.H_PAGE_SHIFT):
        return 8
    if words >= 128:
        return 16
    if words >= 32:
        return 32
    return 64


@kernel
def lay_out_sheaves(mem: Memory, cache: CacheWords) -> int:
    """Choose capacity and number of sheaves; returns the words they need, 0: no sheaves.

    All sheaves of a cache lie in one block.
    """
    flags = mem[cache + cs.K_FLAGS]
    mem[cache + cs.K_CAPACITY] = 0
    mem[cache + cs.K_SHEAF_COUNT] = 0
    mem[cache + cs.K_SHEAF_STRIDE] = 0
    if flags & (cs.CF_DEBUG | cs.CF_NO_SHEAVES) != 0:
        return 0
    barn = (flags >> cs.CF_BARN_SHIFT) & cs.CF_FIELD
    if barn == 0:
        barn = cs.BARN_SHEAVES
    count = 2 * fixed(mem, c.H_CPUS) + barn * fixed(mem, c.H_NODES)
    capacity = (flags >> cs.CF_CAPACITY_SHIFT) & cs.CF_FIELD
    if capacity == 0:
        words = sheaf_words(mem, cache)
        largest = slab_words(mem, fixed(mem, c.H_MAX_ORDER))
        limit = min(fixed(mem, c.H_PAGES) << fixed(mem, c.H_PAGE_SHIFT) >> 6, largest)
        while words > 8 and words * count > limit:
            words >>= 1
        if words * count > largest:
            return 0
        capacity = words - cs.SF_OBJECTS
    mem[cache + cs.K_CAPACITY] = capacity
    mem[cache + cs.K_SHEAF_COUNT] = count
    mem[cache + cs.K_SHEAF_STRIDE] = round_up(capacity + cs.SF_OBJECTS, 2)
    return count * mem[cache + cs.K_SHEAF_STRIDE]


@kernel
def order_for(mem: Memory, words: int) -> Order:
    """The smallest order of pages that holds ``words``, or E_NOMEM."""
    for order in range(fixed(mem, c.H_MAX_ORDER) + 1):
        if slab_words(mem, order) >= words:
            return order
    return c.E_NOMEM
