"""Programs about memory by size: kmalloc and kfree by a class, by whole pages, and their caches."""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel
from shmalloc.kernels.audit import audit, audit_teardown
from shmalloc.kernels.cache_set import cache_destroy
from shmalloc.kernels.kmalloc import kfree, kmalloc, kmalloc_boot
from shmalloc.kernels.objects import cache_at
from shmalloc.kernels.pcp import drain_all
from shmalloc.kernels.reporting import report
from shmalloc.kernels.slab_audit import audit_slabs
from shmalloc.kernels.zone import frame_at, pfn_of_word
from shmalloc.units import Claim, Memory, ObjectAddress, Pfn
from shmalloc.words import fixed
from stress.machine.program import Program
from stress.programs.checks import (
    first_violation,
    object_locks_held,
    objects_held_twice,
    page_locks_held,
    refused_once,
)
from stress.programs.held import (
    OBJECTS,
    SHARED,
    block_pfn,
    hold,
    hold_object,
    let_go_object,
    let_go_signed,
    page_put,
    page_take,
    slot_at,
)
from stress.programs.initial_state import InitialState, catalogue
from stress.programs.slab import TWO_IN_A_SLAB

SMALL_BYTES = 16
LARGE_BYTES = 40  # no class has it in these worlds: whole pages


@kernel
def take(mem: Memory, claim: Claim, slot: int, size_bytes: int) -> ObjectAddress:
    return hold_object(mem, claim, slot, kmalloc(mem, claim, size_bytes))


@kernel
def put(mem: Memory, claim: Claim, slot: int) -> int:
    address = let_go_object(mem, claim, slot)
    return c.E_STATE if address == 0 else kfree(mem, claim, address)


@kernel
def take_small(mem: Memory, claim: Claim) -> ObjectAddress:
    return take(mem, claim, 1, SMALL_BYTES)


@kernel
def put_small(mem: Memory, claim: Claim) -> int:
    return put(mem, claim, 0)


@kernel
def must_take_large(mem: Memory, claim: Claim) -> ObjectAddress:
    """Take a whole page, which is noted as a block; there is one for each CPU."""
    address = kmalloc(mem, claim, LARGE_BYTES)
    if address < 0:
        report(mem, claim, c.I_PROGRESS, c.AT_CPU | claim, 0, address)
    else:
        hold(mem, claim, 0, pfn_of_word(mem, address), 0)
    return address


@kernel
def put_large(mem: Memory, claim: Claim) -> int:
    """Free the page in the first slot, if there is one."""
    block = let_go_signed(mem, claim, 0)
    return c.E_STATE if block == 0 else kfree(mem, claim, +frame_at(mem, block_pfn(block)))


@kernel
def take_and_put_small(mem: Memory, claim: Claim) -> int:
    """A small object, whether there is a class for it by now or not."""
    take(mem, claim, 0, SMALL_BYTES)
    return put(mem, claim, 0)


@kernel
def page_round(mem: Memory, claim: Claim) -> Pfn:
    """Takes the page, if it is free by now, writes to it, and frees it."""
    pfn = page_take(mem, claim, 0, 0)
    page_put(mem, claim, 0)
    return pfn


@kernel
def kfree_shared(mem: Memory, claim: Claim) -> int:
    """Free what the other CPU frees, too."""
    return kfree(mem, claim, fixed(mem, slot_at(mem, 0, SHARED)))


@kernel
def boot_classes(mem: Memory, claim: Claim) -> int:
    """Make the caches of all classes."""
    return +kmalloc_boot(mem, claim, cs.CF_NO_SHEAVES)


@kernel
def give_everything_up(mem: Memory) -> None:
    """Free what the CPUs hold by kfree, and destroy all caches: they must be empty now."""
    for cpu in range(fixed(mem, c.H_CPUS)):
        put_large(mem, cpu)
        for slot in range(OBJECTS):
            put(mem, cpu, slot)
    for size_class in range(cs.KMALLOC_CLASSES):
        mem[cs.H_KMALLOC + size_class] = 0  # a registered class may not be destroyed
    for cache_id in range(fixed(mem, c.H_CACHES)):
        if mem[cache_at(mem, cache_id) + cs.K_STATE] != cs.CACHE_NONE:
            if cache_destroy(mem, 0, cache_id) != 0:
                report(mem, 0, c.M_LEAKED_OBJECTS, c.AT_CACHE | cache_id, 0, c.E_BUSY)


@kernel
def sizes_are_sound(mem: Memory) -> int:
    """As ``objects_are_sound``, of any number of caches, and of whole pages."""
    if mem[c.H_REPORT_COUNT] != 0 or page_locks_held(mem) + object_locks_held(mem) != 0:
        return first_violation(mem)
    if objects_held_twice(mem) == 0 and audit_slabs(mem, 0) == 0 and audit(mem, 0) == 0:
        give_everything_up(mem)
        drain_all(mem, 0)
        audit_teardown(mem, 0)
    return first_violation(mem)


@kernel
def small_refused_once(mem: Memory) -> int:
    """``sizes_are_sound`` after two CPUs freed one object: exactly one free was refused."""
    if not refused_once(mem, c.M_OBJECT_FREE):
        return first_violation(mem)
    return sizes_are_sound(mem)


def with_class(pages: int = 1, flags: int = 0) -> InitialState:
    """The only cache is that of SMALL_BYTES: two objects in a slab of one page."""
    state = InitialState.booted(pages, caches=1)
    return state.with_cache(TWO_IN_A_SLAB, cs.CF_NO_SHEAVES | flags).as_kmalloc(SMALL_BYTES)


def take_free(name: str) -> Program:
    return (
        with_class()
        .take_object(0)
        .take_object(1)
        .program(
            name,
            (put_small, take_small),
            check=sizes_are_sound,
            story="kfree finds the cache of an object in the descriptor of its page, while kmalloc"
            " takes from the same slab: type_of and cache_of_word are of one read of word 0",
        )
    )


def free_same(name: str) -> Program:
    state = with_class(flags=cs.CF_EXACT).take_object(0).take_object(0, 1).share_object(0, 1)
    return state.program(
        name,
        (kfree_shared, kfree_shared),
        check=small_refused_once,
        story="two CPUs kfree one object: the cas on its owner word lets one of them do it; the"
        " other is told of a double free",
    )


def large_large(name: str) -> Program:
    return InitialState.booted(2, max_order=1, caches=1).program(
        name,
        (must_take_large, must_take_large),
        check=sizes_are_sound,
        story="two requests that no class serves, and two pages: each gets a page of its own with"
        " the owner word of large memory, by which kfree knows it",
    )


def large_reuse(name: str) -> Program:
    state = InitialState.booted(1, caches=1)
    assert must_take_large(state.ram, 0) > 0, "no page"
    return state.program(
        name,
        (put_large, page_round),
        check=sizes_are_sound,
        story="kfree of whole pages reads their order and owner, then frees them by these: another"
        " CPU has the page as soon as it is free, under an owner word of its own",
    )


def boot_take(name: str) -> Program:
    return InitialState.booted(16, max_order=2, caches=8).program(
        name,
        (boot_classes, take_and_put_small),
        check=sizes_are_sound,
        story="classes are made while another CPU asks for memory: it gets whole pages until the"
        " cache of its class is published, and kfree must find out which of both it was",
    )


PROGRAMS = catalogue("kmalloc", take_free, free_same, large_large, large_reuse, boot_take)
