"""Programs in which one free pointer was overwritten from outside before the CPUs begin.

The pointer of a slab names another object of it, so nothing but owner words can tell that it is
wrong; that of a free page leads out of its list.
What was written to is reported and leaves service; no object may be given out twice, and nothing
else may be reported, since everything else is sound. Free pointers are plain: a hardened one that
was overwritten is no index at all.

What they do not try: two CPUs that take one free object out of two sheaves at once
(docs/corruption.md). They have no crash cases: a death is not what they are about.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel
from shmalloc.kernels.audit import audit
from shmalloc.kernels.bits import type_of
from shmalloc.kernels.cache_set import cache_shrink
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.objects import cache_at, node_part
from shmalloc.kernels.reporting import report
from shmalloc.kernels.zone import frame_at
from shmalloc.units import CacheWords, Claim, Memory, ObjectAddress, Pfn
from shmalloc.words import fixed
from stress.machine.program import Program
from stress.programs.buddy import take_and_put
from stress.programs.checks import object_locks_held, objects_held_twice, page_locks_held
from stress.programs.held import (
    FIRST_OBJECT,
    ONLY_CACHE,
    SHARED,
    object_put,
    object_take,
    slot_at,
    zone_take,
)
from stress.programs.initial_state import InitialState, catalogue

TWO_IN_A_SLAB = 48  # bytes of an object, in a page of 128 bytes
STRAY_BITS = 1 << 9
EIGHT_IN_A_SLAB = 48  # bytes of an object, in a page of 512 bytes
TWO_EACH = 2 << cs.CF_CAPACITY_SHIFT | 1 << cs.CF_BARN_SHIFT


@kernel
def take_two(mem: Memory, claim: Claim) -> ObjectAddress:
    object_take(mem, claim, 2)
    return object_take(mem, claim, 3)


@kernel
def put_second(mem: Memory, claim: Claim) -> int:
    return object_put(mem, claim, 1)


@kernel
def shrink(mem: Memory, claim: Claim) -> CacheWords:
    return cache_shrink(mem, claim, ONLY_CACHE)


@kernel
def first_but(mem: Memory, one: int, other: int) -> int:
    """Code of the first report that is neither ``one`` nor ``other``, or 0.

    Of the audits only that of pages: what was led past is lost for its slab, and counted there.
    """
    if page_locks_held(mem) + object_locks_held(mem) != 0:
        return c.I_PROGRESS
    objects_held_twice(mem)
    audit(mem, 0)
    for i in range(min(mem[c.H_REPORT_COUNT], c.REPORTS)):
        code = mem[fixed(mem, c.H_AT_REPORTS) + i * c.R_STRIDE + c.R_CODE]
        if code != one and code != other:
            return code
    return 0


@kernel
def list_is_reported(mem: Memory) -> int:
    """0 if no object has two owners, and nothing is reported but a corrupt free list."""
    return first_but(mem, c.M_FREECHAIN, c.M_FREECHAIN)


@kernel
def links_are_reported(mem: Memory) -> int:
    """0 if no object has two owners, and nothing is reported but links of a list."""
    return first_but(mem, c.I_LIST_LINKS, c.I_LIST_LINKS)


@kernel
def place_is_reported(mem: Memory) -> int:
    """0 if no object has two owners, and nothing is reported but an object in two places, or a
    corrupt free list."""
    return first_but(mem, c.M_FREECHAIN, c.I_SHEAF)


@kernel
def page_left_service(mem: Memory) -> int:
    """``links_are_reported``, and the page that was written to is given out no more."""
    found = links_are_reported(mem)
    pfn: Pfn = fixed(mem, slot_at(mem, 0, SHARED))
    if found == 0 and type_of(page_state(mem, pfn)) != c.T_POISONED:
        report(mem, 0, c.M_WRONG_STATE, pfn, c.IS_TYPE | c.T_POISONED, page_state(mem, pfn))
        found = c.M_WRONG_STATE
    return found


def stray_write(state: InitialState, address: ObjectAddress, following: ObjectAddress) -> None:
    """Overwrite the free pointer of the object at ``address``: it leads to ``following``."""
    cache = cache_at(state.ram, ONLY_CACHE)
    frames, page = state.layout.at["frames"], state.layout.geometry.page_words
    offset = (following - frames) % page - state.ram[cache + cs.K_FIRST]
    link = address + state.ram[cache + cs.K_LINK]
    state.ram[link] = offset // state.ram[cache + cs.K_STRIDE] + 1


def held_object(state: InitialState, cpu: int, slot: int) -> ObjectAddress:
    return state.ram[slot_at(state.ram, cpu, FIRST_OBJECT + slot)]


def take(name: str) -> Program:
    state = InitialState.booted(3, caches=1, page_bytes=512).with_cache(EIGHT_IN_A_SLAB)
    state.take_object(0).take_object(0, 1)
    used, second = held_object(state, 0, 0), held_object(state, 0, 1)
    stray_write(state, +(second + (second - used)), used)
    return state.program(
        name,
        (put_second, take_two),
        check=list_is_reported,
        story="the first free object leads to one in use: pop_chain asks the owner words, and"
        " freezes the slab while a put_quickly changes the pair that it read",
    )


def flush(name: str) -> Program:
    state = InitialState.booted(3, caches=1, page_bytes=512)
    state.with_cache(EIGHT_IN_A_SLAB, TWO_EACH).take_object(1).take_object(1, 1)
    one, zero = held_object(state, 1, 0), held_object(state, 1, 1)
    state.put_object(1).put_object(1, 1)
    stray_write(state, +(one + (one - zero)), one)
    state.take_object(0).take_object(0, 1)  # its sheaf got a copy of what CPU 1 has in its own
    assert held_object(state, 0, 0) == one
    return state.program(
        name,
        (take_two, shrink),
        check=place_is_reported,
        story="a sheaf that is flushed has an object that another CPU has given out since: link_run"
        " leaves it to its owner, whose word a mark would overwrite; then a take finds it free",
    )


def shrink_list(name: str) -> Program:
    state = InitialState.booted(3, caches=1, page_bytes=128).with_cache(TWO_IN_A_SLAB)
    state.take_object(0).take_object(0, 1).take_object(1)
    ram = state.ram
    node = ram[node_part(ram, cache_at(ram, ONLY_CACHE), 0) + cs.KN_PARTIAL] >> 3
    ram[node] = node << 3
    return state.program(
        name,
        (put_second, shrink),
        check=links_are_reported,
        story="the node of a slab leads to itself: release_empty compares each link before it"
        " follows it, and relists the slabs, while a free looks at the same slab",
    )


def free_page(name: str) -> Program:
    state = InitialState.booted(4)
    first = int(zone_take(state.ram, 0, 0, 0))
    state.put(0)
    state.ram[frame_at(state.ram, first)] ^= STRAY_BITS
    state.ram[slot_at(state.ram, 0, SHARED)] = first
    return state.program(
        name,
        (take_and_put, take_and_put),
        check=page_left_service,
        story="the links of the first free page are wrong: rmqueue has all lists made anew, and the"
        " mark of the page must live through that, or it is given out again; meanwhile the other"
        " CPU waits for the zone lock, or has one of the pages",
    )


PROGRAMS = catalogue("stray", take, flush, shrink_list, free_page)
