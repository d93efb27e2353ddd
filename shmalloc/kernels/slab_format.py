"""The pages of a slab and their first image: owner words, list node, objects and free list.

Pages come and go through ``slab_pages`` and ``give_pages_back``, out of line: these are never hot.
The image is written by the only owner of the block, before its descriptor says SLAB. With
CF_SHUFFLE the free list runs through the objects in a random sequence (Linux:
CONFIG_SLAB_FREELIST_RANDOM), which the cache's secret, the pfn and the page's version determine; it
is drawn in the owner words, which are zeroed afterwards.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import version_of
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.objects import is_debug, object_at, owner_at, set_free_link, slab_words
from shmalloc.kernels.pages import alloc_pages, free_pages_of
from shmalloc.kernels.random import STATE_MASK, below, next_random
from shmalloc.kernels.slab_debug import paint_slab
from shmalloc.kernels.zone import frame_at
from shmalloc.units import CacheWords, Claim, Gfp, Memory, ObjectAddress, Order, Owner, Pfn


@kernel
def objects_that_fit(mem: Memory, cache: CacheWords, order: Order) -> int:
    """Objects in a slab of this order, with their owner words; may be 0."""
    words = slab_words(mem, order)
    if words > cs.SLAB_MAX_WORDS:
        return 0
    return min((words - cs.SLAB_NODE_WORDS) // (mem[cache + cs.K_STRIDE] + 1), cs.SLAB_MAX_OBJECTS)


@kernel
def shuffle(mem: Memory, cache: CacheWords, pfn: Pfn, order: Order, objects: int) -> None:
    """Put the numbers of the objects into the owner words in a random sequence (Fisher-Yates)."""
    base = frame_at(mem, pfn)
    state = base + slab_words(mem, order) - 1
    version = version_of(page_state(mem, pfn))
    mem[state] = (mem[cache + cs.K_SECRET] ^ version << 40 ^ pfn << 8) & STATE_MASK | 1
    for index in range(objects):
        mem[owner_at(mem, base, order, index)] = index
    for last in range(objects - 1, 0, -1):
        at = owner_at(mem, base, order, last)
        other = owner_at(mem, base, order, below(mem, next_random(mem, state), last + 1))
        kept = mem[at]
        mem[at] = mem[other]
        mem[other] = kept


@kernel
def copy_template(mem: Memory, cache: CacheWords, address: ObjectAddress) -> None:
    """The constructor: a new object is a copy of the cache's image."""
    template = mem[cache + cs.K_TEMPLATE]
    if template != 0:
        for i in range(mem[cache + cs.K_OBJECT_WORDS]):
            mem[address + i] = mem[template + i]


@unit
def format_slab(mem: Memory, cache: CacheWords, pfn: Pfn, order: Order, objects: int) -> int:
    """Write owner words, node, objects and free list of a block that no other CPU knows.

    Returns index + 1 of the first free object.
    """
    end = frame_at(mem, pfn) + slab_words(mem, order)
    for i in range(end - cs.SLAB_NODE_WORDS - objects, end):
        mem[i] = 0
    if is_debug(mem, cache):
        paint_slab(mem, cache, pfn, order, objects)
    shuffled = mem[cache + cs.K_FLAGS] & cs.CF_SHUFFLE
    if shuffled != 0:
        shuffle(mem, cache, pfn, order, objects)
    following = 0
    for count in range(objects - 1, -1, -1):
        index = count
        if shuffled != 0:
            at = owner_at(mem, frame_at(mem, pfn), order, count)
            index = mem[at]
            mem[at] = 0
        address = object_at(mem, cache, pfn, index)
        copy_template(mem, cache, address)
        set_free_link(mem, cache, address, following)
        following = index + 1
    mem[end - 1] = 0
    return following


@unit
def slab_pages(mem: Memory, claim: Claim, order: Order, gfp: Gfp, owner: Owner) -> Pfn:
    """Pages for the object allocator: out of line, since this is never on a hot path."""
    return alloc_pages(mem, claim, order, gfp | c.MT_UNMOVABLE, owner)


@unit
def give_pages_back(mem: Memory, claim: Claim, pfn: Pfn, order: Order, owner: Owner) -> int:
    """Free pages that ``slab_pages`` gave for ``owner``."""
    return free_pages_of(mem, claim, pfn, order, owner)
