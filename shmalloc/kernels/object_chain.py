"""Chains: free objects of one slab, linked by their free pointers, on its free list or private.

A private chain is one word (objects.py: slab, first, length) and belongs to the claim that took it,
as its intent says. A free list is also a chain; word 1 of the slab's descriptor holds its first
object. It is walked under the node lock: no CPU takes objects then, and one that puts objects back
only adds in front of what the walker has seen.
"""

from __future__ import annotations

from shmalloc import constants_slab as cs
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
    link_at,
    object_at,
    objects_of,
    owner_at,
)
from shmalloc.kernels.zone import frame_at
from shmalloc.units import CacheWords, Chain, Memory, ObjectAddress, Pfn, Word0, Word1, WordIndex
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
def unmark_chain(
    mem: Memory, cache: CacheWords, pfn: Pfn, w0: Word0, w1: Word1, count: int
) -> ObjectAddress:
    """``last_of_chain`` for who takes them: clears their marks (slot_intent.py); node lock held.

    Negative, too, if one of them is live: a free pointer was overwritten by the index of an object
    in use. One walk, in which what is the cache's is read once.
    """
    objects = objects_of(w1)
    left = objects - inuse_of(w1) - count
    first = object_at(mem, cache, pfn, 0)
    stride = mem[cache + cs.K_STRIDE]
    link = mem[cache + cs.K_LINK]
    secret = mem[cache + cs.K_SECRET]
    marks = owner_at(mem, frame_at(mem, pfn), order_of(w0), 0)
    following = free_of(w1)
    address: ObjectAddress = first
    for _ in range(count):
        if following < 1 or following > objects:
            return -address
        mark: WordIndex = marks - (following - 1)
        owner = load_relaxed(mem, mark)
        address = first + (following - 1) * stride
        if is_live(owner):
            return -address
        if owner != 0:
            store_relaxed(mem, mark, 0)
        following = link_at(mem, address, link, secret)
    if following < 0 or following > objects or (following == 0) != (left == 0):
        return -address
    return address


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
