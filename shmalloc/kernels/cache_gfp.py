"""Objects with flags (gfp.py): ``cache_alloc`` for callers that cannot fail, cannot wait, want
zeroes, or memory of their own node.

Slab growth passes on what the flags say of pages. An allocation that waits does so here, and not
where a slab wants pages: a free of any page, or any slab that comes back, ends it. An object that
another process puts into its sheaf wakes no process; the next look, at most 50 ms later, drains it.

A cache's slabs lie wherever they were made, so a limit of the zone is refused (Linux has caches of
their own for it), and so are zeroes in a cache with a constructor, whose objects are its image.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.cache import alloc_slowly, usable_cache
from shmalloc.kernels.fault_injection import is_faulty
from shmalloc.kernels.gfp import is_known_gfp
from shmalloc.kernels.objects import own_part
from shmalloc.kernels.reporting import event
from shmalloc.kernels.slab_debug import tail_mask
from shmalloc.kernels.waiters import leave_seat, take_seat, ticket_of
from shmalloc.units import CacheId, CacheWords, Claim, Gfp, Memory, ObjectAddress
from shmalloc.words import load, wait


@unit
def cache_alloc_gfp(mem: Memory, claim: Claim, cache_id: CacheId, gfp: Gfp) -> ObjectAddress:
    """Word address of a new object, E_NOMEM, or E_INVAL: no such cache, or no such flags.

    With GFP_NOFAIL never E_NOMEM; E_STOPPED if the run ends meanwhile.
    """
    cache = usable_cache(mem, cache_id)
    if cache < 0 or not suits_objects(mem, cache, gfp):
        return c.E_INVAL
    if gfp & c.GFP_NOFAIL == 0 and is_faulty(mem, claim, c.FAULT_OBJECT):
        return c.E_NOMEM
    address = alloc_slowly(mem, claim, cache, own_part(mem, cache, claim), 0, gfp)
    if address == c.E_NOMEM and gfp & c.GFP_NOFAIL != 0:
        address = alloc_object_seated(mem, claim, cache, gfp | c.GFP_HIGH)
    if address >= 0 and gfp & c.GFP_ZERO != 0:
        zero_object(mem, cache, address)
    return address


@kernel
def suits_objects(mem: Memory, cache: CacheWords, gfp: Gfp) -> bool:
    """Whether objects of the cache can be had with these flags."""
    if not is_known_gfp(mem, gfp) or gfp & c.GFP_ZONES != 0:
        return False
    return gfp & c.GFP_ZERO == 0 or mem[cache + cs.K_TEMPLATE] == 0


@kernel
def zero_object(mem: Memory, cache: CacheWords, address: ObjectAddress) -> None:
    """Zero a new object of ours; in its last word only its own bytes."""
    last = address + mem[cache + cs.K_OBJECT_WORDS] - 1
    for i in range(address, last):
        mem[i] = 0
    mem[last] = mem[last] & ~tail_mask(mem, cache)


@unit
def alloc_object_seated(mem: Memory, claim: Claim, cache: CacheWords, gfp: Gfp) -> ObjectAddress:
    """Sleep for memory until there is an object: its address, or E_STOPPED; never E_NOMEM."""
    seat = take_seat(mem, claim)
    address: ObjectAddress = c.E_NOMEM
    while address == c.E_NOMEM:
        ticket = ticket_of(mem, seat)
        address = alloc_slowly(mem, claim, cache, own_part(mem, cache, claim), 0, gfp)
        if address == c.E_NOMEM and load(mem, c.H_STOP) != 0:
            address = c.E_STOPPED
        if address == c.E_NOMEM:
            event(mem, claim, c.EV_WAIT)
            wait(mem, c.H_WAKE, ticket)
            if seat < 0:
                seat = take_seat(mem, claim)
    if seat >= 0:
        leave_seat(mem, seat)
    return address
