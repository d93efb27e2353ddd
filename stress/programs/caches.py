"""Programs about the set of caches: two that are made, or made and destroyed, at once.

The caches have no sheaves. CPU 0 and CPU 1 note the id of the cache that they made, and the object
that they took from it is their first one.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel
from shmalloc.kernels.cache import cache_alloc
from shmalloc.kernels.cache_set import cache_create, cache_destroy
from shmalloc.kernels.reporting import report
from shmalloc.units import CacheId, Claim, Memory
from shmalloc.words import fixed
from stress.machine.program import Program
from stress.programs.checks import first_violation
from stress.programs.held import ONLY_CACHE, RESULT, hold_object, note_result, slot_at
from stress.programs.initial_state import InitialState, catalogue
from stress.programs.kmalloc import sizes_are_sound
from stress.programs.slab import TWO_IN_A_SLAB, destroy

NEW_BYTES = 16


@kernel
def create(mem: Memory, claim: Claim) -> CacheId:
    """Make a cache, for which there is room, and take an object from it."""
    made = cache_create(mem, claim, NEW_BYTES, 0, cs.CF_NO_SHEAVES, 0)
    if made < 0:
        report(mem, claim, c.I_PROGRESS, c.AT_CPU | claim, 0, made)
    else:
        hold_object(mem, claim, 0, cache_alloc(mem, claim, made))
    note_result(mem, claim, +made)
    return made


@kernel
def destroy_and_create(mem: Memory, claim: Claim) -> CacheId:
    """Destroy the first cache, then make one, in its place perhaps."""
    if cache_destroy(mem, claim, ONLY_CACHE) != 0:
        report(mem, claim, c.M_LEAKED_OBJECTS, c.AT_CACHE | ONLY_CACHE, 0, c.E_BUSY)
    return create(mem, claim)


@kernel
def two_caches(mem: Memory) -> int:
    """``sizes_are_sound``, and the CPUs made two caches."""
    one = mem[slot_at(mem, 0, RESULT)] >> 1
    other = mem[slot_at(mem, 1, RESULT)] >> 1
    if one == other:
        report(mem, 1, c.X_DOUBLE_ALLOC, c.AT_CACHE | one, one, other)
    return sizes_are_sound(mem) if first_violation(mem) == 0 else first_violation(mem)


@kernel
def destroyed_once(mem: Memory) -> int:
    """``sizes_are_sound``, and one of the CPUs destroyed the cache, the other found none."""
    done = 0
    for cpu in range(fixed(mem, c.H_CPUS)):
        done += int(mem[slot_at(mem, cpu, RESULT)] == 1)
    if done != 1:
        report(mem, 0, c.M_LEAKED_OBJECTS, c.AT_CACHE | ONLY_CACHE, 1, done)
    return sizes_are_sound(mem) if first_violation(mem) == 0 else first_violation(mem)


def create_create(name: str) -> Program:
    return InitialState.booted(2, caches=2).program(
        name,
        (create, create),
        check=two_caches,
        story="two caches are made at once: both look for an id whose state is NONE, under the lock"
        " of the set, and the second must see what set_up of the first has published",
    )


def destroy_create(name: str) -> Program:
    state = InitialState.booted(2, caches=3).with_cache(TWO_IN_A_SLAB)
    return state.program(
        name,
        (destroy_and_create, create),
        check=two_caches,
        story="a cache is destroyed and its id taken for a new one, while another CPU looks for a"
        " free id: K_DESTROYER of the old cache and K_STATE of the new one in one word each",
    )


def destroy_destroy(name: str) -> Program:
    state = InitialState.booted(2, caches=1).with_cache(TWO_IN_A_SLAB)
    return (
        state.take_object(0)
        .put_object(0)
        .program(
            name,
            (destroy, destroy),
            check=destroyed_once,
            story="two CPUs destroy one cache with an empty slab: the second finds no cache any"
            " more when it has the lock of the set, and must not take its slabs away again",
        )
    )


PROGRAMS = catalogue("caches", create_create, destroy_create, destroy_destroy)
