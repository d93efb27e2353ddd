"""The initial states of the allocator's cases: small, yet they reach every path of an operation.

A split and a merge on several levels, a refill of more than one block, a sheaf that overflows, the
last page.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shmalloc import constants_slab as cs
from shmalloc.kernels.contig import offline_range
from shmalloc.kernels.kmalloc import kmalloc_boot
from stress.programs.held import OBJECTS, WORK_WORDS
from stress.programs.initial_state import SHEAF_PAGE_BYTES, InitialState, reshaped
from stress.programs.ranges import keep_offline
from stress.programs.slab import EXACT_EACH, FOUR_IN_A_SLAB, ONE_EACH, TWO_EACH, TWO_IN_A_SLAB


def pages(count: int = 8, **changes: Any) -> InitialState:
    """Blocks of up to four pages, lists of up to two."""
    shape = {"max_order": 2, "pcp_batch": 2, "pcp_high": 2, **changes}
    return InitialState.booted(count, work_words=WORK_WORDS, **shape)


def kept_offline() -> InitialState:
    """Six pages in service, and a pageblock of two that CPU 1 has taken offline."""
    state = pages(8, pageblock_order=1)
    assert offline_range(state.ram, 1, 2, 4) == 0
    keep_offline(state.ram, 1, 2, 4)
    return state


def many_orders(**changes: Any) -> InitialState:
    return pages(32, max_order=4, **changes)


def objects(
    flags: int, pages_booted: int = 4, object_bytes: int = TWO_IN_A_SLAB, **changes: Any
) -> InitialState:
    """Direct to slabs, one page each, two objects in one; room for a second cache."""
    return InitialState.booted(pages_booted, **{"caches": 2, **changes}).with_cache(
        object_bytes, flags
    )


def sheaves(flags: int = ONE_EACH) -> InitialState:
    """Through sheaves, four objects in a slab."""
    return objects(flags, 6, FOUR_IN_A_SLAB, page_bytes=SHEAF_PAGE_BYTES)


def initialized(made: Callable[..., InitialState], flags: int) -> InitialState:
    """Objects are zeroed when they are allocated and freed."""
    with reshaped(init_on_alloc=True, init_on_free=True):
        return made(flags)


def wide_sheaves() -> InitialState:
    """Sheaves of two objects, CPU 0 with one full of two slabs' objects."""
    state = sheaves(TWO_EACH)
    for slot in range(OBJECTS):
        state.take_object(0, slot)
    state.take_object(1)
    return state.put_object(0).put_object(1)


def room_for_another() -> InitialState:
    """One cache without sheaves, and pages for a second one."""
    return objects(cs.CF_NO_SHEAVES, 6, page_bytes=512)


def without_kmalloc(**changes: Any) -> InitialState:
    return InitialState.booted(16, max_order=2, **{"caches": 8, **changes})


def with_kmalloc() -> InitialState:
    state = without_kmalloc()
    made = kmalloc_boot(state.ram, 0, cs.CF_NO_SHEAVES)
    assert made > 0, f"no caches for kmalloc: {made}"
    return state


def sheaves_of_zero(flags: int = ONE_EACH) -> InitialState:
    """CPU 0 and the barn have full sheaves."""
    state = sheaves(flags)
    for slot in range(OBJECTS):
        state.take_object(0, slot)
    for slot in range(3):
        state.put_object(0, slot)
    return state


def two_slabs(flags: int = TWO_EACH) -> InitialState:
    """The sheaves of CPU 1 hold all used objects of two slabs."""
    state = sheaves(flags)
    for slot in range(OBJECTS):
        state.take_object(1, slot)
    for slot in range(OBJECTS):
        state.take_object(0, slot)
    for cpu in (0, 1):
        for slot in range(OBJECTS):
            state.put_object(cpu, slot)
    return state


def hidden() -> InitialState:
    """The sheaves of CPU 1 hold all objects that can exist: one slab, and no page is left."""
    state = objects(ONE_EACH, 2, FOUR_IN_A_SLAB, page_bytes=SHEAF_PAGE_BYTES)
    for slot in range(3):
        state.take_object(1, slot)
    for slot in range(3):
        state.put_object(1, slot)
    return state


OBJECT_STATES: dict[str, tuple[Callable[[], InitialState], str]] = {
    "slabs": (lambda: objects(cs.CF_NO_SHEAVES), "slabs alone"),
    "exact": (lambda: objects(cs.CF_NO_SHEAVES | cs.CF_EXACT), "exact frees"),
    "shuffled": (lambda: objects(cs.CF_NO_SHEAVES | cs.CF_SHUFFLE), "a shuffled free list"),
    "hardened": (lambda: objects(cs.CF_NO_SHEAVES, harden=12345), "scrambled free pointers"),
    "short": (lambda: objects(cs.CF_NO_SHEAVES, 1), "one slab, and no page for another"),
    "sheaves": (sheaves, "sheaves that overflow"),
    "sheaves-exact": (lambda: sheaves(EXACT_EACH), "sheaves, exact frees"),
    "sheaves-wide": (wide_sheaves, "sheaves with objects of two slabs"),
    "sheaves-full": (sheaves_of_zero, "full sheaves, and a full one in the barn"),
    "sheaves-hidden": (hidden, "all objects lie in the sheaves of the other CPU"),
    "debug": (lambda: objects(cs.CF_DEBUG, page_bytes=512), "poison, red zones and tracks"),
}
