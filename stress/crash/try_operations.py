"""The cases of operations that never wait: on pages, and by others on what those have deferred."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shmalloc.dialect import Kernel, kernel
from shmalloc.units import Claim, Memory
from stress.crash.actions import drain_every_list, page_churn, page_churn_1, zone_rounds
from stress.crash.initial_states import pages
from stress.crash.operation import Operation
from stress.programs.initial_state import InitialState
from stress.programs.reclaim import one_pass, take_below_low
from stress.programs.try_pages import defer, in_a_callback, try_put, try_take

State = Callable[[], InitialState]


@kernel
def try_three(mem: Memory, claim: Claim) -> int:
    """Three pages without waiting, and back: to the list, to the zone, or deferred."""
    try_take(mem, claim, 0, 0)
    try_take(mem, claim, 1, 1)
    try_put(mem, claim, 0)
    return try_put(mem, claim, 1)


def short_lists(**changes: Any) -> InitialState:
    """A per-CPU list has room for one page."""
    return pages(pcp_batch=1, pcp_high=1, **changes)


def with_deferred(**changes: Any) -> InitialState:
    """Two pages on the deferred list, of two CPUs; each of these holds one more."""
    state = pages(**changes).take(0).take(0, 1).take(1).take(1, 1)
    return defer(defer(state, 0, 1), 1, 1)


def with_marked(**changes: Any) -> InitialState:
    """A page that was marked for poison while it was in use is on the deferred list."""
    state = pages(**changes).take(0).mark_held(0)
    return defer(state, 0, 0)


def with_page_of_another(**changes: Any) -> InitialState:
    """A zone whose marks are 4, 5 and 6; CPU 1 keeps pages on its list."""
    state = InitialState.booted(9, max_order=1, min_free_pages=4, pcp_high=2, **changes)
    return state.keep(1, 2).take(1)


def reclaim_operation() -> Operation:
    """A reclaimer dies in its pass."""
    return Operation(
        "reclaim-pass",
        with_page_of_another,
        (one_pass, take_below_low),
        "a pass of the reclaimer beside an allocation below the low mark",
    )


def try_operations() -> list[Operation]:
    """Each dies while it takes, frees or defers; and while it frees what another has deferred."""
    rows: list[tuple[str, State, tuple[Kernel, Kernel], str, int]] = [
        (
            "try-pages",
            short_lists,
            (try_three, zone_rounds),
            "pages are taken and freed while the zone lock is held now and then",
            0,
        ),
        (
            "try-pages-list",
            lambda: short_lists(pcp_form="list", link_store="descriptor"),
            (try_three, zone_rounds),
            "... with links in the descriptors",
            0,
        ),
        (
            "try-pages-zero",
            lambda: short_lists(zero=True),
            (try_three, zone_rounds),
            "... which are zeroed",
            0,
        ),
        (
            "try-callback",
            lambda: short_lists().take(0).take(0, 1),
            (in_a_callback, page_churn),
            "pages are freed and taken by a callback that holds the zone lock itself",
            0,
        ),
        (
            "try-deferred",
            with_deferred,
            (drain_every_list, page_churn),
            "what is deferred is freed by the next holder of the lock",
            0,
        ),
        (
            "try-deferred-list",
            lambda: with_deferred(pcp_form="list", link_store="descriptor"),
            (drain_every_list, page_churn_1),
            "... with links in the descriptors",
            0,
        ),
        (
            "try-deferred-poison",
            lambda: with_deferred(poison=True),
            (drain_every_list, page_churn),
            "... with links where the poison must be again",
            0,
        ),
        (
            "try-deferred-marked",
            with_marked,
            (drain_every_list, page_churn_1),
            "... and leaves service, as it was marked while it was in use",
            1,
        ),
    ]
    return [
        Operation(name, state, threads, story, may_leave=left)
        for name, state, threads, story, left in rows
    ]
