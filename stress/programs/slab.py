"""Programs about objects: slabs that fill and empty, free lists, sheaves and the barn, destruction.

A slab is one page. Without sheaves every allocation and free goes directly to the slabs and their
two-word swaps; in the programs with sheaves each sheaf holds one object, so that every second
operation exchanges a sheaf.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel
from shmalloc.kernels.cache_set import cache_destroy, cache_shrink
from shmalloc.kernels.lock import owner_word
from shmalloc.kernels.objects import cache_at, cpu_part
from shmalloc.kernels.reporting import cpu_of
from shmalloc.units import CacheWords, Claim, Memory, ObjectAddress
from stress.machine.program import Program
from stress.programs.checks import (
    destroyed_later,
    destroyed_or_busy,
    object_refused_once,
    objects_are_sound,
)
from stress.programs.held import (
    ONLY_CACHE,
    call_off,
    free_shared,
    note_result,
    object_put,
    object_take,
)
from stress.programs.initial_state import InitialState, catalogue

SEVEN_IN_A_SLAB = 8  # bytes of an object, in a page of 128 bytes
THREE_IN_A_SLAB = 8  # ... in a page of 64 bytes
TWO_IN_A_SLAB = 16
ONE_IN_A_SLAB = 32
FOUR_IN_A_SLAB = 48  # in a page of 256 bytes, where five sheaves of one object fit in a page, too
ONE_EACH = (
    1 << cs.CF_CAPACITY_SHIFT | 1 << cs.CF_BARN_SHIFT
)  # a sheaf holds one, the barn one sheaf
EXACT_EACH = ONE_EACH | cs.CF_EXACT
TWO_EACH = 2 << cs.CF_CAPACITY_SHIFT | 1 << cs.CF_BARN_SHIFT


@kernel
def take_object(mem: Memory, claim: Claim) -> ObjectAddress:
    return object_take(mem, claim, 1)


@kernel
def put_object(mem: Memory, claim: Claim) -> int:
    return object_put(mem, claim, 0)


@kernel
def take_and_put(mem: Memory, claim: Claim) -> int:
    object_take(mem, claim, 2)
    return object_put(mem, claim, 2)


@kernel
def idle(mem: Memory, claim: Claim) -> int:
    """A CPU that only owns sheaves."""
    return 0


@kernel
def call_off_sheaves(mem: Memory, claim: Claim) -> int:
    """CPU 0, which waits for the lock of this CPU's sheaves, looks at its stopped process."""
    call_off(mem, 0, cpu_part(mem, cache_at(mem, ONLY_CACHE), cpu_of(mem, claim)) + cs.KC_LOCK)
    return 0


@kernel
def shrink(mem: Memory, claim: Claim) -> CacheWords:
    return cache_shrink(mem, claim, ONLY_CACHE)


@kernel
def destroy(mem: Memory, claim: Claim) -> int:
    return note_result(mem, claim, cache_destroy(mem, claim, ONLY_CACHE))


def full_sheaves(cpus: int = 2, poison: bool = False, flags: int = ONE_EACH) -> InitialState:
    """CPU 1 holds an object and has full sheaves, the others empty ones; the barn has a full one.

    A third CPU holds an object of a second slab; the other objects of that slab are free.
    """
    state = InitialState.booted(4, cpus=cpus, caches=1, page_bytes=256, poison=poison)
    state.with_cache(FOUR_IN_A_SLAB, flags)
    for slot in range(4):
        state.take_object(1, slot)
    if cpus > 2:
        state.take_object(2)
    for slot in (3, 2, 1):
        state.put_object(1, slot)
    return state


# --- slabs ---------------------------------------------------------------------------------------
def alloc_free(name: str) -> Program:
    state = (
        InitialState.booted(1, caches=1).with_cache(THREE_IN_A_SLAB).take_object(0).take_object(1)
    )
    return state.program(
        name,
        (take_object, put_object),
        check=objects_are_sound,
        story="load2 ... cas2 of pop_chain (under the node lock) against cas2 of put_quickly"
        " (without it): the last free object is taken as another comes back",
    )


def free_free(name: str) -> Program:
    state = InitialState.booted(1, caches=1, page_bytes=128).with_cache(SEVEN_IN_A_SLAB)
    state.take_object(0).take_object(0, 1).take_object(1)
    return state.program(
        name,
        (put_object, put_object),
        check=objects_are_sound,
        story="two put_quickly on one slab: set_free_link writes the head that load2 saw, and the"
        " cas2 of the other CPU makes it stale; a swap of one word would lose an object or a count",
    )


def free_free_alloc_3(name: str) -> Program:
    state = InitialState.booted(2, cpus=3, caches=1, page_bytes=128).with_cache(SEVEN_IN_A_SLAB)
    state.take_object(0).take_object(0, 1).take_object(1).take_object(2)
    return state.program(
        name,
        (take_and_put, put_object, put_object),
        check=objects_are_sound,
        story="one CPU takes the first free object and puts it back while two puts hold heads that"
        " they read before: the head may be the same again, while its link and the count differ",
    )


def free_free_same(name: str) -> Program:
    state = InitialState.booted(1, caches=1).with_cache(
        THREE_IN_A_SLAB, cs.CF_NO_SHEAVES | cs.CF_EXACT
    )
    state.take_object(0).take_object(0, 1).share_object(0, 1)
    return state.program(
        name,
        (free_shared, free_shared),
        check=object_refused_once,
        story="two CPUs free one object at once with CF_EXACT: load_relaxed then exchange of"
        " clear_owner_exactly against each other; exactly one M_OBJECT_FREE",
    )


def free_free_sheaf(name: str) -> Program:
    state = InitialState.booted(4, caches=1, page_bytes=256).with_cache(FOUR_IN_A_SLAB, EXACT_EACH)
    state.take_object(0).take_object(0, 1).share_object(0, 1)
    return state.program(
        name,
        (free_shared, free_shared),
        check=object_refused_once,
        story="two CPUs free one object at once with CF_EXACT, each into its own sheaf: the cas of"
        " push_freed decides the winner before the loser can count the object as its own",
    )


def free_free_flush(name: str) -> Program:
    state = full_sheaves(flags=EXACT_EACH).share_object(1)
    return state.program(
        name,
        (free_shared, free_shared),
        check=object_refused_once,
        story="slab-free-free-sheaf while the sheaves of one of the two CPUs are full: it flushes"
        " its spare sheaf, and frees into the sheaf that it is flushing",
    )


def full_partial(name: str) -> Program:
    state = InitialState.booted(2, caches=1).with_cache(TWO_IN_A_SLAB).take_object(0).take_object(1)
    state.take_object(0, 1).put_object(0, 1).shrink(0)  # a page for a second slab at hand
    return state.program(
        name,
        (take_object, put_object),
        check=objects_are_sound,
        story="full to partial against partial to full: on_list and move_slab of put_locked while"
        " take_partial looks at KN_NR_PARTIAL without the lock, then makes a new slab instead",
    )


def full_empty(name: str) -> Program:
    state = InitialState.booted(1, caches=1).with_cache(TWO_IN_A_SLAB).take_object(0).take_object(1)
    return state.program(
        name,
        (put_object, put_object),
        check=objects_are_sound,
        story="two CPUs free both objects of a full slab at once: put_quickly returns 'full' or"
        " 'would be empty' to each from a pair that the other changes; put_locked must look again",
    )


def last_take(name: str) -> Program:
    state = InitialState.booted(3, caches=1).with_cache(TWO_IN_A_SLAB)
    state.take_object(0).take_object(0, 1).take_object(1).take_object(1, 1)
    state.put_object(0, 1).put_object(1, 1)
    return state.program(
        name,
        (take_object, put_object),
        check=objects_are_sound,
        story="the last object of a slab comes back and its pages go (unmake, release) while"
        " pop_chain takes from that slab: one of the two cas2 must fail and retry",
    )


def new_new(name: str) -> Program:
    state = InitialState.booted(2, caches=1).with_cache(ONE_IN_A_SLAB).take_object(0).take_object(1)
    state.put_object(0).put_object(1).shrink(0)  # a page for each on its own per-CPU list
    return state.program(
        name,
        (take_object, take_object),
        check=objects_are_sound,
        story="two CPUs find no slab and make one each (take_new): adopt of one against"
        " take_partial of the other; one hold of the lock keeps it from the object that the slab"
        " was made for",
    )


# --- sheaves -------------------------------------------------------------------------------------
def barn_swap(name: str) -> Program:
    return full_sheaves().program(
        name,
        (take_object, put_object),
        check=objects_are_sound,
        story="one CPU trades an empty sheaf for a full one, the other a full one for an empty one:"
        " trade reads the counts without the barn lock; each sheaf ends in exactly one place, or is"
        " flushed",
    )


def barn_take_take(name: str) -> Program:
    return full_sheaves(cpus=3).program(
        name,
        (take_object, idle, take_object),
        check=objects_are_sound,
        story="two CPUs want the only full sheaf of the barn: barn_pop of one against the count"
        " that the other read; the loser refills from the slabs with its spare taken out",
    )


def shared_refill(name: str) -> Program:
    state = InitialState.booted(4, caches=1, page_bytes=256).with_cache(FOUR_IN_A_SLAB, ONE_EACH)
    state = state.take_object(1, 2).take_object(1, 3).settle(1, 0)
    return state.program(
        name,
        (take_object, take_object),
        check=objects_are_sound,
        story="two claims on one CPU find main empty: one takes the spare out to refill it"
        " (KC_SPARE 0), the other must go past it, and bring_back must not lose a sheaf (bug"
        " S21)",
    )


def shared_flush(name: str) -> Program:
    state = InitialState.booted(4, caches=1, page_bytes=256).with_cache(FOUR_IN_A_SLAB, ONE_EACH)
    for slot in range(4):
        state.take_object(0, slot)
    state.take_object(1)
    for slot in (3, 2, 1):
        state.put_object(0, slot)
    return state.settle(1, 0).program(
        name,
        (put_object, put_object),
        check=objects_are_sound,
        story="two claims on one CPU find main and spare full: flush of the spare outside the"
        " lock against a put_one past it, then bring_back",
    )


# --- shrink and destroy --------------------------------------------------------------------------
def shrink_alloc(name: str) -> Program:
    state = InitialState.booted(2, caches=1).with_cache(TWO_IN_A_SLAB).take_object(0).put_object(0)
    return state.program(
        name,
        (take_object, shrink),
        check=objects_are_sound,
        story="release_empty unmakes the empty slab that take_partial has just counted: the"
        " allocation finds no slab under the lock and must make a new one of the same pages",
    )


def shrink_free(name: str) -> Program:
    state = InitialState.booted(1, caches=1).with_cache(TWO_IN_A_SLAB).take_object(0)
    return state.program(
        name,
        (put_object, shrink),
        check=objects_are_sound,
        story="the last object comes back while release_empty reads the slab's counters: the slab"
        " is kept or given back, never both, and no list keeps a node of pages that are gone",
    )


def shrink_sheaf(name: str) -> Program:
    state = InitialState.booted(3, caches=1, page_bytes=256).with_cache(FOUR_IN_A_SLAB, ONE_EACH)
    state = state.take_object(0).take_object(0, 1).put_object(0, 1)
    return state.program(
        name,
        (take_object, shrink),
        check=objects_are_sound,
        story="drain_part flushes the sheaf that its CPU pops from: try_spin against"
        " spin_or_skip on KC_LOCK, and take_one past a sheaf that is being flushed",
    )


def flush_run(name: str) -> Program:
    state = InitialState.booted(3, caches=1, page_bytes=256).with_cache(FOUR_IN_A_SLAB, TWO_EACH)
    state.take_object(0).take_object(0, 1).take_object(1)
    state = state.put_object(0, 1).put_object(0)
    return state.program(
        name,
        (take_object, shrink),
        check=objects_are_sound,
        story="flush_run puts two objects of one slab back in one swap while their CPU takes"
        " one of them, past its locked sheaf: the chain, its length and the count must agree",
    )


def destroy_free(name: str) -> Program:
    state = InitialState.booted(1, caches=1).with_cache(TWO_IN_A_SLAB).take_object(0)
    return state.program(
        name,
        (put_object, destroy),
        check=destroyed_or_busy,
        story="the last live object is freed while its cache is destroyed: clear_owner, then"
        " put_chain, against release_empty and the count of slabs; 0 only if all objects are back",
    )


def destroy_flush(name: str) -> Program:
    return full_sheaves().program(
        name,
        (destroy, put_object),
        check=destroyed_or_busy,
        story="a free has taken its spare sheaf out (flush, bring_back) while retire_sheaves"
        " collects the sheaves: a missing sheaf makes the destroyer return E_BUSY, and one that"
        " comes back after its last look must be empty",
    )


def destroy_sheaf(name: str) -> Program:
    return full_sheaves(poison=True).program(
        name,
        (destroy, put_object),
        check=destroyed_or_busy,
        story="slab-destroy-flush with poisoned free pages: a CPU that still has a sheaf out when"
        " the page of the sheaf is given back writes to a free page, and the poison shows it",
    )


def destroy_stopped(name: str) -> Program:
    state = full_sheaves()
    lock = int(cpu_part(state.ram, cache_at(state.ram, ONLY_CACHE), 1)) + cs.KC_LOCK
    state.ram[lock] = owner_word(state.ram, 1)
    state.ram[state.layout.cpu(0) + c.C_GIVE_UP] = lock  # of an earlier wait
    return state.program(
        name,
        (destroy, call_off_sheaves),
        check=destroyed_later,
        story="a process has stopped with the lock of its CPU's sheaves: retire_part goes on"
        " without it, the destroyer answers E_AGAIN, and the next destroy finds all that was left",
    )


PROGRAMS = catalogue(
    "slab", alloc_free, free_free, free_free_alloc_3, free_free_same, free_free_sheaf,
    free_free_flush, full_partial, full_empty, last_take, new_new, barn_swap, barn_take_take,
    shared_refill, shared_flush, shrink_alloc, shrink_free, shrink_sheaf, flush_run, destroy_free,
    destroy_flush, destroy_sheaf, destroy_stopped,
)  # fmt: skip
