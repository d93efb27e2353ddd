"""The cases of operations on arrays: made, opened, sent, loaded, copied for a fork, reaped."""

from __future__ import annotations

from collections.abc import Callable

from shmalloc.dialect import Kernel
from stress.crash.actions import page_churn
from stress.crash.array_actions import (
    array_round,
    arrays_survive,
    copy_and_end,
    open_round,
    reap_absent_tickets,
    with_absent,
    with_one,
    with_orphan,
)
from stress.crash.initial_states import pages
from stress.crash.operation import Operation
from stress.programs.array_moves import load_noted, run_round, send_round
from stress.programs.arrays import drop_noted
from stress.programs.initial_state import InitialState

State = Callable[[], InitialState]


def array_operations() -> list[Operation]:
    """One case for each operation; the other CPU takes a page, or has the same array."""
    rows: list[tuple[str, State, tuple[Kernel, Kernel], str]] = [
        (
            "arrays-make",
            lambda: pages(12),
            (array_round, page_churn),
            "arrays are made and dropped, and a table grows",
        ),
        (
            "arrays-run",
            lambda: pages(12),
            (run_round, page_churn),
            "an array of more than one block is made and dropped",
        ),
        (
            "arrays-open",
            with_one,
            (drop_noted, open_round),
            "the last reference is dropped while another CPU opens the array",
        ),
        (
            "arrays-send",
            with_one,
            (send_round, load_noted),
            "an array is sent and dropped, and loaded meanwhile",
        ),
        (
            "arrays-load",
            lambda: with_one(sent=True),
            (load_noted, load_noted),
            "two CPUs load one ticket, the only reference",
        ),
        (
            "arrays-copy",
            with_absent,
            (copy_and_end, page_churn),
            "references are copied for a child, and the fork fails",
        ),
        (
            "arrays-reap",
            with_orphan,
            (reap_absent_tickets, page_churn),
            "an orphaned ticket is reaped",
        ),
    ]
    return [
        Operation(name, state, threads, story, check=arrays_survive)
        for name, state, threads, story in rows
    ]
