"""Programs about memory that is asked for zeroed, and was another CPU's a moment before.

CPU 0 has written to what it has, every word of it, and frees it; CPU 1 asks for memory with
GFP_ZERO and looks at every word that it gets. No page is filled by the geometry.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import Kernel, kernel
from shmalloc.kernels.cache_bulk import cache_alloc_bulk_gfp
from shmalloc.kernels.cache_gfp import cache_alloc_gfp
from shmalloc.kernels.kmalloc import kmalloc_gfp
from shmalloc.kernels.pages import alloc_pages
from shmalloc.kernels.pages_bulk import alloc_bulk
from shmalloc.kernels.reporting import report
from shmalloc.kernels.zone import frame_at, pfn_of_word
from shmalloc.units import Claim, Memory, ObjectAddress, Order, Pfn, WordIndex
from shmalloc.words import fixed
from stress.machine.program import Program
from stress.programs.checks import objects_are_sound, pages_are_sound
from stress.programs.filled import LISTED
from stress.programs.held import (
    ONLY_CACHE,
    block_order,
    block_pfn,
    hold,
    hold_object,
    object_put,
    page_put,
    slot_at,
)
from stress.programs.initial_state import InitialState, catalogue
from stress.programs.kmalloc import LARGE_BYTES, must_take_large, put_large, sizes_are_sound

OBJECT_WORDS = 4  # of an object that fills most of a page of 64 bytes
ZEROED = c.MT_MOVABLE | c.GFP_ZERO


# --- the threads ---------------------------------------------------------------------------------
@kernel
def write_all(mem: Memory, at: WordIndex, words: int) -> None:
    """Write to memory as its owner does; its ends keep their signature (written.py)."""
    for i in range(at + 1, at + words - 1):
        mem[i] = i


@kernel
def find_written(mem: Memory, claim: Claim, at: WordIndex, words: int) -> int:
    """1, with a report, if memory that was asked for zeroed is not zero; else 0."""
    for i in range(at, at + words):
        if mem[i] != 0:
            report(mem, claim, c.X_FILLING, c.AT_WORD | i, 0, mem[i])
            return 1
    return 0


@kernel
def words_of(mem: Memory, order: Order) -> int:
    return 1 << (order + fixed(mem, c.H_PAGE_SHIFT))


@kernel
def write_and_put(mem: Memory, claim: Claim) -> int:
    """Writes to the block that it has, and frees it."""
    block = mem[slot_at(mem, claim, 0)]
    write_all(mem, frame_at(mem, block_pfn(block)), words_of(mem, block_order(block)))
    return page_put(mem, claim, 0)


@kernel
def write_and_put_large(mem: Memory, claim: Claim) -> int:
    """The same of whole pages from kmalloc."""
    block = mem[slot_at(mem, claim, 0)]
    write_all(mem, frame_at(mem, block_pfn(block)), words_of(mem, block_order(block)))
    return put_large(mem, claim)


@kernel
def take_zeroed(mem: Memory, claim: Claim, order: Order) -> Pfn:
    pfn = alloc_pages(mem, claim, order, ZEROED, claim + 1)
    if pfn >= 0:
        find_written(mem, claim, frame_at(mem, pfn), words_of(mem, order))
        hold(mem, claim, 0, pfn, order)
    return pfn


@kernel
def take_pair(mem: Memory, claim: Claim) -> Pfn:
    return take_zeroed(mem, claim, 1)


@kernel
def take_list(mem: Memory, claim: Claim) -> int:
    at = slot_at(mem, claim, LISTED)
    got = alloc_bulk(mem, claim, 1, ZEROED, claim + 1, 1, at)
    if got == 1:
        find_written(mem, claim, frame_at(mem, mem[at]), words_of(mem, 1))
        hold(mem, claim, 0, mem[at], 1)
    return got


@kernel
def take_large(mem: Memory, claim: Claim) -> ObjectAddress:
    address = kmalloc_gfp(mem, claim, LARGE_BYTES, c.GFP_ZERO)
    if address > 0:
        find_written(mem, claim, +address, words_of(mem, 0))
        hold(mem, claim, 0, pfn_of_word(mem, address), 0)
    return address


@kernel
def take_object(mem: Memory, claim: Claim) -> ObjectAddress:
    address = cache_alloc_gfp(mem, claim, ONLY_CACHE, c.GFP_ZERO)
    if address > 0:
        find_written(mem, claim, +address, OBJECT_WORDS)
        hold_object(mem, claim, 0, address)
    return address


@kernel
def take_objects(mem: Memory, claim: Claim) -> int:
    at = slot_at(mem, claim, LISTED)
    got = cache_alloc_bulk_gfp(mem, claim, ONLY_CACHE, 1, at, c.GFP_ZERO)
    if got == 1:
        find_written(mem, claim, mem[at], OBJECT_WORDS)
        hold_object(mem, claim, 0, mem[at])
    return got


@kernel
def write_and_put_object(mem: Memory, claim: Claim) -> int:
    """Writes to the object that it has behind its signature, and frees it."""
    address = mem[slot_at(mem, claim, 2)]
    for i in range(address + 1, address + OBJECT_WORDS):
        mem[i] = i
    return object_put(mem, claim, 0)


# --- the programs --------------------------------------------------------------------------------
def blocks(name: str, taker: Kernel, how: str) -> Program:
    return (
        InitialState.booted(2, max_order=1)
        .take(0, order=1)
        .program(
            name,
            (write_and_put, taker),
            check=pages_are_sound,
            story=f"the only pair is freed, and taken zeroed by {how}: all of its words are zero,"
            " and are its new owner's by then",
        )
    )


def pair(name: str) -> Program:
    return blocks(name, take_pair, "an allocation of order 1")


def list_of_pairs(name: str) -> Program:
    return blocks(name, take_list, "a list")


def large(name: str) -> Program:
    state = InitialState.booted(1, caches=1)
    assert must_take_large(state.ram, 0) > 0, "no page"
    return state.program(
        name,
        (write_and_put_large, take_large),
        check=sizes_are_sound,
        story="whole pages of kmalloc change hands: the flags reach the allocation of pages, where"
        " a slab's pages, which are formatted, need none of them",
    )


def objects(name: str, taker: Kernel) -> Program:
    state = InitialState.booted(2, caches=1).with_cache(OBJECT_WORDS * 8).take_object(0)
    return state.program(
        name,
        (write_and_put_object, taker),
        check=objects_are_sound,
        story="an object is freed and taken zeroed: the free pointer in it is zero, too",
    )


def one_object(name: str) -> Program:
    return objects(name, take_object)


def bulk_object(name: str) -> Program:
    return objects(name, take_objects)


PROGRAMS = catalogue("zeroed", pair, list_of_pairs, large, one_object, bulk_object)
