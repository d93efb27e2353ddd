"""``passed-exhausted`` is a proof: programs that fail in a way that a search could leave out."""

from __future__ import annotations

import pytest

from shmalloc.dialect import kernel
from shmalloc.words import expect, fence, load, store, store_relaxed, wait, wake
from stress import Program, explore, replay, returned
from stress.explorer.left_out import left_out
from stress.explorer.searches import Budget
from stress.machine import block as cb
from support.explorations import searching


# --- store buffers --------------------------------------------------------------------------------
@kernel
def stores_then_looks(mem, cpu, stores):
    store_relaxed(mem, 0, 1)
    for k in range(stores):
        store_relaxed(mem, 2, k)
    return load(mem, 1)


@kernel
def stores_and_fences(mem, cpu):
    store_relaxed(mem, 1, 1)
    fence(mem)
    return load(mem, 0)


@kernel
def one_of_the_two_saw_the_other(mem):
    return 0 if returned(mem, 0) + returned(mem, 1) > 0 else 1


def store_buffering(stores: int) -> Program:
    """SB, with more stores between the store and the load of CPU 0."""
    threads = [(stores_then_looks, stores), stores_and_fences]
    return Program("buffers", 4, threads, check=one_of_the_two_saw_the_other)


def test_a_load_may_pass_more_stores_than_a_small_buffer_holds():
    """x86-TSO forbids it for no number of stores, and processors have 40 entries and more."""
    result = explore(store_buffering(cb.TSO_DEPTH - 1), "dpor", "tso", seconds=None)
    assert (result.verdict, result.failure.kind) == ("failed", "check")


def test_where_a_buffer_was_full_a_pass_is_no_proof():
    result = explore(store_buffering(cb.TSO_DEPTH), "dpor", "tso", seconds=None)
    assert (result.verdict, result.guarantee) == ("passed-budget", "")
    assert f"a CPU made more than {cb.TSO_DEPTH} stores" in result.note


# --- sleepers -------------------------------------------------------------------------------------
@kernel
def sets_and_wakes_one(mem, cpu):
    store(mem, 0, 1)
    wake(mem, 0, 1)


@kernel
def hands_the_wake_on(mem, cpu):
    wait(mem, 0, 0)
    wake(mem, 0, 1)


@kernel
def keeps_the_wake(mem, cpu):
    wait(mem, 0, 0)


@pytest.mark.parametrize("strategy", ["dpor", "dfs", "random", "pct", "pos", "surw"])
def test_a_wake_may_take_any_of_the_sleepers(strategy):
    """Linux takes the one that slept first: the lowest CPU alone would hand the wake on."""
    program = Program("hand on", 2, [sets_and_wakes_one, hands_the_wake_on, keeps_the_wake])
    result = explore(program, strategy, schedules=2_000, seconds=None)
    assert (result.verdict, result.failure.kind) == ("failed", "deadlock")
    assert replay(program, result.failure.schedule).reproduced


@kernel
def wakes_half(mem, cpu):
    wake(mem, 0, 6)


def test_where_a_wake_has_more_sets_of_sleepers_than_are_tried_a_pass_is_no_proof():
    """Of 12 sleepers 6 can be chosen in 924 ways; the first schedule of DPOR puts all to sleep."""
    program = Program("many", 2, [*[keeps_the_wake] * 12, wakes_half])
    search = searching(program, "dpor", "sc", "native")
    search.run(Budget(None, 1))
    assert any("60 sets of sleepers" in reason for reason in left_out(search.block, "dpor"))


# --- failures that are passed ---------------------------------------------------------------------
@kernel
def expects_the_store(mem, cpu):
    expect(mem, load(mem, 0) == 1, 5)


@kernel
def makes_the_store(mem, cpu):
    store(mem, 0, 1)


@kernel
def never_holds(mem):
    return 9


@pytest.mark.parametrize("strategy", ["auto", "dfs"])
def test_behind_a_failure_that_is_ignored_another_one_is_found(strategy):
    program = Program("two", 2, [expects_the_store, makes_the_store], check=never_holds)
    result = explore(program, strategy, known=lambda failure: failure.code == 5)
    assert (result.verdict, result.failure.code) == ("failed", 9)


def test_dpor_proves_nothing_where_a_schedule_ended_at_an_ignored_failure():
    program = Program("cut", 2, [expects_the_store, makes_the_store])
    result = explore(program, "dpor", known=lambda failure: True)
    assert (result.verdict, result.guarantee) == ("passed-budget", "")
    assert "1 schedule ended at a failure" in result.note
