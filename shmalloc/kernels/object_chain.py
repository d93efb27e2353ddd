"""Chains: free objects of one slab, linked by their free pointers, on its free list or private.

A private chain is one word (objects.py: slab, first, length) and belongs to the claim that took it,
as its intent says. A free list is also a chain; word 1 of the slab's descriptor holds its first
object. It is walked under the node lock: no CPU takes objects then, and one that puts objects back
only adds in front of what the walker has seen.
"""

from __future__ import annotations

from shmalloc.dialect import kernel
from shmalloc.kernels.bits import order_of
from shmalloc.kernels.objects import (
    chain_count,
    chain_first,
    chain_pfn,
    free_link,
    free_of,
    inuse_of,
    is_live,
    object_at,
    objects_of,
    owner_at,
)
from shmalloc.kernels.zone import frame_at
from shmalloc.units import CacheWords, Chain, Memory, ObjectAddress, Pfn, Word0, Word1
from shmalloc.words import load_relaxed, store_relaxed


@kernel
def last_of_chain(mem: Memory, cache: CacheWords, pfn: Pfn, w1: Word1, count: int) -> ObjectAddress:
    """Address of the ``count``-th free object, or minus that of the object with a bad pointer.

    The pointers cannot change: the caller holds the node lock, so no CPU takes objects, and one
    that puts objects back only adds in front of the head in ``w1``.
    """
    objects = objects_of(w1)
    left = objects - inuse_of(w1) - count
    following = free_of(w1)
    address: ObjectAddress = +frame_at(mem, pfn)
    for _ in range(count):
        if following < 1 or following > objects:
            return -address
        address = object_at(mem, cache, pfn, following - 1)
        following = free_link(mem, cache, address)
    if following < 0 or following > objects or (following == 0) != (left == 0):
        return -address
    return address


@kernel
def clear_marks(mem: Memory, cache: CacheWords, pfn: Pfn, w0: Word0, chain: Chain) -> bool:
    """Clear the marks of the objects of ``chain`` (slot_intent.py); node lock held.

    False if one of them is live: a free pointer was overwritten by the index of an object in use.
    """
    base = frame_at(mem, pfn)
    following = chain_first(chain)
    for _ in range(chain_count(chain)):
        mark = owner_at(mem, base, order_of(w0), following - 1)
        owner = load_relaxed(mem, mark)
        if is_live(owner):
            return False
        if owner != 0:
            store_relaxed(mem, mark, 0)
        following = free_link(mem, cache, object_at(mem, cache, pfn, following - 1))
    return True


@kernel
def last_of(mem: Memory, cache: CacheWords, chain: Chain) -> ObjectAddress:
    """Address of the last object of a private chain that its claim has not used yet."""
    pfn = chain_pfn(chain)
    address = object_at(mem, cache, pfn, chain_first(chain) - 1)
    for _ in range(chain_count(chain) - 1):
        address = object_at(mem, cache, pfn, free_link(mem, cache, address) - 1)
    return address


@kernel
def on_free_list(mem: Memory, cache: CacheWords, pfn: Pfn, w1: Word1, first: int) -> bool:
    """Whether the object with index + 1 = ``first`` is on the slab's free list; node lock held."""
    following = free_of(w1)
    for _ in range(objects_of(w1) - inuse_of(w1)):
        if following == first or following < 1 or following > objects_of(w1):
            return following == first
        following = free_link(mem, cache, object_at(mem, cache, pfn, following - 1))
    return False
