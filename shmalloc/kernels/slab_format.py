"""The pages of a slab and their first image: owner words, list node, objects and free list.

Pages come and go through ``slab_pages`` and ``give_pages_back``, out of line: these are never hot.
The image is written by the only owner of the block, before its descriptor says SLAB. With
CF_SHUFFLE the free list runs through the objects with a fixed step that is coprime to their number;
the secret and the pfn determine start and step: repeatable, and no memory needed.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.objects import is_debug, object_at, set_free_link, slab_words
from shmalloc.kernels.pages import alloc_pages, free_pages_of
from shmalloc.kernels.slab_debug import paint_slab
from shmalloc.kernels.zone import frame_at
from shmalloc.units import CacheWords, Claim, Memory, ObjectAddress, Order, Owner, Pfn
from shmalloc.words import fixed


@kernel
def objects_that_fit(mem: Memory, cache: CacheWords, order: Order) -> int:
    """Objects in a slab of this order, with their owner words; may be 0."""
    words = slab_words(mem, order)
    if words > cs.SLAB_MAX_WORDS:
        return 0
    return min((words - cs.SLAB_NODE_WORDS) // (mem[cache + cs.K_STRIDE] + 1), cs.SLAB_MAX_OBJECTS)


@kernel
def coprime_step(objects: int, seed: int) -> int:
    """A step that visits every index of the slab before it returns to the first."""
    step = seed % objects
    for _ in range(objects):
        a = objects
        b = step
        while b != 0:
            rest = a % b
            a = b
            b = rest
        if a == 1:
            return step
        step = (step + 1) % objects
    return 1


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
    first = 0
    step = 1
    if mem[cache + cs.K_FLAGS] & cs.CF_SHUFFLE != 0:
        seed = (fixed(mem, c.H_HARDEN) ^ pfn * 40503) & 0x3FFFFFFF
        first = seed % objects
        step = coprime_step(objects, seed // objects)
    index = first
    for count in range(objects):
        following = (index + step) % objects
        address = object_at(mem, cache, pfn, index)
        copy_template(mem, cache, address)
        set_free_link(mem, cache, address, 0 if count + 1 == objects else following + 1)
        index = following
    return first + 1


@unit
def slab_pages(mem: Memory, claim: Claim, order: Order, owner: Owner) -> Pfn:
    """Pages for the object allocator: out of line, since this is never on a hot path."""
    return alloc_pages(mem, claim, order, c.MT_UNMOVABLE, owner)


@unit
def give_pages_back(mem: Memory, claim: Claim, pfn: Pfn, order: Order, owner: Owner) -> int:
    """Free pages that ``slab_pages`` gave for ``owner``."""
    return free_pages_of(mem, claim, pfn, order, owner)
